from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest
from prometheus_client.parser import text_string_to_metric_families

from daemon.store.pages import Done
from daemon.web.metrics import BUCKETS, Latencies

NOW = datetime(2026, 1, 27, 18, 0, tzinfo=UTC)


def done(name, seconds, revision, after=0.0):
    return Done(name, "object", NOW + timedelta(seconds=after), seconds, revision)


@pytest.fixture
def figures(pages):
    def read():
        families = text_string_to_metric_families(pages("/metrics").text)
        return {
            (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
        }

    return read


@pytest.mark.usefixtures("night")
def test_the_figures_are_those_of_the_catalog(figures):
    found = figures()
    assert found["kspecdr_frames", "waiting"] == 1
    assert found["kspecdr_jobs", "done"] == 2
    assert found["kspecdr_jobs", "failed"] == 1
    assert found["kspecdr_up",] == 1
    assert found["kspecdr_build_info", version("kspecdr")] == 1
    assert found["kspecdr_latency_seconds_count", "object"] == 1
    assert found["kspecdr_latency_seconds_sum", "object"] == 2.5
    assert found["kspecdr_latency_seconds_bucket", "2.0", "object"] == 0
    assert found["kspecdr_latency_seconds_bucket", "5.0", "object"] == 1
    assert found["kspecdr_latency_seconds_bucket", "+Inf", "object"] == 1
    assert 299 < found["kspecdr_last_frame_age_seconds",] < 400
    assert found["kspecdr_disk_free_bytes",] > 0


@pytest.mark.usefixtures("night")
def test_a_job_is_counted_once_however_often_it_is_asked_and_its_row_changes(figures, supersede):
    figures()
    supersede()
    assert figures()["kspecdr_latency_seconds_count", "object"] == 1


def test_jobs_that_end_at_one_moment_are_all_counted():
    latencies = Latencies()
    latencies.add([done("a", 0.1, 1)])
    latencies.add([done("b", 0.3, 2), done("a", 0.1, 3)])
    latencies.add([done("c", BUCKETS[-1] + 1, 4, after=5.0), done("b", 0.3, 5)])
    counts = latencies.counts["object"]
    assert (counts[0], counts[1], counts[-1], sum(counts)) == (1, 1, 1, 3)
    assert latencies.revision == 5


def test_without_frames_there_are_figures_too(figures):
    assert figures()["kspecdr_frames", "waiting"] == 0
