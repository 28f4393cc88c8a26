from dataclasses import replace
from datetime import timedelta

import pytest

from daemon.commands.shown import show_account
from daemon.explaining import HELD, Account, accounts, age_words, as_interrupted
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
