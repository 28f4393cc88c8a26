"""A catalog of a night whose names and headers are hostile, and the pages that show it."""

import threading
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from socket import create_server

import pytest

from daemon.planning.fingerprint import directory_name
from daemon.pulse import Pulse, write_pulse
from daemon.records import Calibration, FrameState, Job, Mark, Outcome, ProductState, Quality, Waiting, Written
from daemon.rulebook import Rulebook
from daemon.web.server import PageServer
from daemon.web.site import Places

HOSTILE = "<script>alert(1)</script>\"'&\n\x1b[31m\u202e"
NAME = f"night/object {HOSTILE} ../../x.fits"
REASON = f"waits for an arc of {HOSTILE}"


@dataclass
class Reply:
    status: int
    headers: dict
    text: str
    body: bytes


@pytest.fixture
def night(catalog, frame_of):
    """One object that is reduced, one that waits, one that failed; returns the catalog."""
    ago = datetime.now(UTC) - timedelta(minutes=5)
    good = frame_of(NAME, "MFOBJECT", 14, target=HOSTILE, landed=ago)
    waits = frame_of("b & c.fits", "MFOBJECT", 15, landed=ago)
    failed = frame_of("d.fits", "MFOBJECT", 16, landed=ago)
    arc = frame_of("arc.fits", "MFARC", 12, lamp="HgAr", landed=ago)
    catalog.add_frames([good, waits, failed, arc])
    arc_job = Job("arc", "a" * 64, (arc,), {}, {}, arc.night)
    _finish(catalog, arc_job, Outcome(arc_job.fingerprint, (Written("red", "arc_red.fits"),)))
    calibrations = {"arc": Calibration("arc", arc_job.fingerprint, {})}
    job = Job("object", "f" * 64, (good,), calibrations, {}, good.night, provisional=(f"until {HOSTILE}",))
    quality = (Quality("tramline_shift_px", 4.5, 3.0, "fail"), Quality("signal_to_noise", 20.0))
    written = (Written("red", "object_red.fits"), Written("im", "object_im.fits", good.key))
    _finish(catalog, job, Outcome(job.fingerprint, written, quality, (f"look at {HOSTILE}",)))
    lost = Job("object", "e" * 64, (failed,), calibrations, {}, failed.night)
    _finish(catalog, lost, Outcome(lost.fingerprint, error=f"no light in {HOSTILE}"))
    standings = [
        Waiting(good, "", state=FrameState.REDUCED),
        Waiting(arc, "", state=FrameState.USED),
        Waiting(waits, REASON),
        Waiting(failed, f"no light in {HOSTILE}", state=FrameState.FAILED),
    ]
    catalog.apply(standings, {})
    return catalog


def _finish(catalog, job, outcome):
    landed = job.frames[0].landed
    assert catalog.claim(replace(job, out=str(catalog.out)), "me", landed)
    catalog.finish(job, outcome, landed + timedelta(seconds=2.5))


@pytest.fixture
def pages(catalog):
    """Ask for an address; the daemon gives a sign of life."""
    write_pulse(catalog.out, Pulse(datetime.now(UTC), 1, "idle"))
    server = PageServer(
        create_server(("127.0.0.1", 0)), Places(catalog.out, str(catalog.out), "Asia/Seoul", Rulebook())
    )
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()

    def ask(address, method="GET"):
        url = f"http://127.0.0.1:{server.socket.getsockname()[1]}{address}"
        request = urllib.request.Request(url, method=method)
        try:
            answer = urllib.request.urlopen(request, timeout=30)  # noqa: S310 - as above
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = answer.read()
            return Reply(answer.status, dict(answer.headers), body.decode("utf-8", "replace"), body)

    ask.port = server.socket.getsockname()[1]
    yield ask
    server.shutdown()
    server.server_close()
    server.pages.close()


@pytest.fixture
def product_path():
    """The path of the object's spectrum, relative to the output directory."""
    return f"{directory_name('2026-01-27', 'f' * 64)}/object_red.fits"


@pytest.fixture
def supersede(night):
    """Let something better take the place of the spectrum."""
    return lambda: night.apply([], {"f" * 64: Mark(ProductState.SUPERSEDED)})
