from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.commands.shown import show_account
from daemon.explaining import HELD, LONGEST, Account, accounts, age_words, as_interrupted, brief, brief_of
from daemon.records import FrameState, Job, Outcome, Written
from daemon.rulebook import Rulebook
from daemon.rules import plan


@pytest.fixture
def made(catalog, night_of):
    """A small night of which everything is made, without pixels; returns the catalog and its frames."""
    frames = night_of()
    catalog.add_frames(frames)
    now, book = frames[-1].landed + timedelta(hours=1), Rulebook()
    while jobs := plan(catalog.neighbourhood(), book, now, batch=True).jobs:
        for job in jobs:
            make(catalog, job, now)
    catalog.apply(plan(catalog.neighbourhood(), book, now, batch=True).standings, {})
    return catalog, frames, now


def make(catalog, job: Job, now):
    assert catalog.claim(replace(job, out=str(catalog.out)), "me", now)
    kind = {"arc": "red", "object": "red"}.get(job.rule, job.rule)
    catalog.finish(job, Outcome(job.fingerprint, (Written(kind, f"{job.rule}_{kind}.fits"),)), now)


def told(made, name) -> Account:
    catalog, _, now = made
    frames = [frame for frame in catalog.frames() if frame.path == name]
    return accounts(catalog, catalog.neighbourhood(), Rulebook(), now, frames, batch=True)[0]


def test_a_reduced_frame_names_its_product_and_the_age_of_each_calibration(made):
    account = told(made, "object_1.fits")
    assert [product.kind for product in account.products] == ["red"]
    ages = {each.rule: account.age(product) for each, product in account.found if product}
    assert ages["arc"] == timedelta(minutes=-4)
    assert ages["dark"] == timedelta(minutes=-10)  # of the later of the two, which is nearer
    assert set(ages) >= {"bias", "dark", "tlm", "arc"}


def test_the_terminal_says_it_in_words(made, capsys):
    show_account(told(made, "object_1.fits"), made[0].out)
    out = capsys.readouterr().out
    assert "object_1.fits: reduced\n  became 2026-01-27/" in out
    assert "  found arc: arc_0.fits\n    4 min before, good\n    2026-01-27/" in out


def test_a_frame_that_a_dead_process_had_waits(frame_of):
    for state in HELD:
        left = as_interrupted(frame_of("a.fits", "MFOBJECT", 0, state=state))
        assert left.state is FrameState.WAITING
        assert left.reason.startswith("its job was interrupted")
    done = frame_of("a.fits", "MFOBJECT", 0, state=FrameState.REDUCED)
    assert as_interrupted(done) is done


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-5, "5 s before"),
        (119, "119 s after"),
        (-700, "12 min before"),
        (4 * 3600, "4 h after"),
        (-4e5, "4.6 days before"),
    ],
)
def test_ages_are_said_in_the_unit_that_tells(seconds, words):
    assert age_words(timedelta(seconds=seconds)) == words


FOUND = "6 of 14 fibers found; expected more than half of them to be lit in a fiber flat"
PLACES = (
    "the slit has places for 6 fibers, 3 were expected: light at rows 79, 91, 139 would be nobody's; "
    "give the number of fibers in the slit, or rows in the fiber table"
)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("", ""),
        ("needs an arc (none has come)", "needs an arc (none has come)"),
        (
            f"{FOUND}; fflat: needs a fiber flat (flat_1.fits: failed: {FOUND}); needs an arc (none has come)",
            f"{FOUND}; check --fibers",
        ),
        (
            f"needs a fiber flat (flat_1.fits: failed: {FOUND})",
            "needs a fiber flat (flat_1.fits failed: 6 of 14 fibers found); check --fibers",
        ),
        (PLACES, f"{PLACES.split('; ', maxsplit=1)[0]}; check --fibers"),
        (
            "needs a dark (d_1.fits: other readout (a; b); d_2.fits: 9.0 days away); needs an arc (none has come)",
            "needs a dark (d_1.fits: other readout (a; b)); needs an arc (none has come)",
        ),
        ("name (1.fits: not complete: 9 bytes", "name (1.fits: not complete: 9 bytes"),
        (
            "provisional: 1 of 3 bias frames, until an arc of a.fits",
            "provisional: 1 of 3 bias frames, until an arc of a.fits",
        ),
    ],
)
def test_a_list_tells_what_its_reader_needs_first(reason, words):
    assert brief(reason) == words


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        (FrameState.INVALID, "a.fits: it is empty; expected a FITS file", "it is empty; expected a FITS file"),
        (FrameState.INCOMPLETE, "not complete: 9 bytes on disk", "9 bytes on disk"),
        (FrameState.FAILED, "not complete: 9 fibers", "not complete: 9 fibers"),
    ],
)
def test_a_list_says_name_and_state_once(frame_of, state, reason, words):
    assert brief_of(frame_of("night/a.fits", "MFOBJECT", 0, state=state, reason=reason)) == words


def test_a_reason_without_end_is_cut_at_a_word():
    said = brief("dark " * 100)
    assert said.endswith(" dark ...")
    assert len(said) < LONGEST + 5
    assert brief("a/long/path" * 20).startswith("a/long/path")
