"""Jobs that go wrong in any stage, run out of memory or time: each has a state and a sentence, the rest goes on."""

import json
import time

import pytest

LAST = {"bias.combine", "dark.combine", "tlm.trace", "arc.wavelengths", "fflat.flat", "object.wavelengths"}
UNDONE = "select 1 from frames where state not in ('used', 'reduced') or reason like '%injected%'"


def injected(site, kind, *stages):
    """Return the environment in which each stage, or each of those named, goes wrong once in every recipe."""
    marks = site.place / "marks"
    marks.mkdir(exist_ok=True)
    return {"RAISE_ONCE": ":".join([str(marks), kind, ",".join(stages)])}


def test_a_defect_in_any_stage_is_told_and_can_be_tried_again(night, calm, site):
    """Every stage of every recipe raises once; a person retries what has failed, until nothing fails."""
    site.land(night)
    marks, end = site.place / "marks", time.monotonic() + 250.0
    with site.daemon(environment=injected(site, "defect")) as process:
        while not ({path.name for path in marks.iterdir()} >= LAST and not site.sql(UNDONE)):
            assert time.monotonic() < end
            for (path,) in site.wait_for("select path from frames where reason like '%injected%'", 1.0):
                site.request("retry", path)
        assert process.poll() is None
    told = [message for (message,) in site.sql("select message from events where kind = 'failed'")]
    assert len(told) >= 7
    assert all(message.endswith("unexpected RuntimeError: injected") for message in told)
    site.finish()
    assert site.content() == calm


@pytest.mark.soak
def test_a_disk_that_fails_once_in_every_stage_costs_attempts_alone(night, calm, site):
    site.land(night)
    site.finish(environment=injected(site, "disk"), workers={"attempts": 20})
    assert len(list((site.place / "marks").iterdir())) > 20
    assert site.content() == calm


def test_a_worker_out_of_memory_is_replaced_and_the_job_tried_again(night, calm, site):
    site.land(night)
    site.finish(environment=injected(site, "memory", "combine", "extract"))
    assert site.content() == calm
    told = site.sql("select message from events where kind = 'retry'")
    assert len(told) >= 3
    assert all("needed more memory than workers.memory_mb allows" in message for (message,) in told)


def test_a_job_beyond_its_time_is_ended_and_tried_again(night, calm, site):
    site.land(night)
    site.finish(environment=injected(site, "hang", "trace"), workers={"timeout": 4.0})
    assert site.content() == calm
    ((message,),) = site.sql("select message from events where kind = 'retry'")
    assert message == "flat_00001.fits: the job took longer than workers.timeout allows"


def test_what_never_fits_fails_after_its_attempts_and_the_rest_goes_on(night, site):
    site.land(night)
    environment = {**injected(site, "memory", "trace"), "ALWAYS": "1"}
    site.finish(environment=environment, workers={"attempts": 2})
    ((state, reason),) = site.sql("select state, reason from frames where path = 'flat_00001.fits'")
    assert state == "failed"
    assert reason.startswith("flat_00001.fits: the job needed more memory than workers.memory_mb allows")
    assert {s for (s,) in site.sql("select state from frames where frame_class in ('BIAS', 'DARK')")} == {"used"}
    listed = json.loads(site.command("frames", "--json", "--class", "MFOBJECT"))
    assert all("fiber flat" in frame["reason"] for frame in listed)
