from dataclasses import replace
from pathlib import Path

import pytest

from daemon.agreement import Agreement
from daemon.config import load
from daemon.session import RECORD, Session, remember


@pytest.fixture
def config(tmp_path):
    (tmp_path / "out").mkdir()

    def make(**changes):
        return load(None, {"paths": {"watch": [str(tmp_path)], "out": str(tmp_path / "out")}, **changes})

    return make


def test_who_goes_by_what_is_recorded_is_in_agreement(config):
    own, agreement = config(), Agreement()
    assert agreement.trouble(own) == ""  # nothing is recorded yet
    remember(Session(own))
    assert agreement.trouble(own) == ""


def test_settings_that_another_daemon_has_recorded_are_told_until_they_are_followed(config):
    own, other, agreement = config(), config(plan={"like_wait": 2.5}), Agreement()
    remember(Session(own))
    agreement.trouble(own)
    remember(Session(other))
    said = agreement.trouble(own)
    assert said.startswith("another daemon has taken this catalog to other settings (plan.like_wait: 30.0 becomes 2.5)")
    assert "SIGHUP" in said
    assert agreement.trouble(own) == said
    assert agreement.trouble(other) == ""


def test_what_changes_no_product_needs_no_agreement(config):
    own, agreement = config(), Agreement()
    remember(Session(config(web={"port": 0}, workers={"count": 1})))
    assert agreement.trouble(own) == ""


def test_a_record_that_is_gone_changes_nothing(config):
    own, agreement = config(), Agreement()
    remember(Session(config(plan={"like_wait": 2.5})))
    said = agreement.trouble(own)
    assert said
    Path(own.paths.out, RECORD).unlink()
    assert agreement.trouble(own) == said
    remember(replace(Session(own), roots=("/elsewhere",)))
    assert agreement.trouble(own) == ""
