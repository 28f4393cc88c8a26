from datetime import UTC, datetime, timedelta

import pytest

from daemon.pulse import PULSE, STALE, Pulse, read_pulse, remove_pulse, write_pulse

NOW = datetime(2026, 1, 27, 18, 0, tzinfo=UTC)


def test_what_is_written_is_read(tmp_path):
    pulse = Pulse(NOW, 7, "at work", ("/data/raw",), "the disk is full", 3, idle=False)
    assert write_pulse(tmp_path, pulse) == ""
    assert read_pulse(tmp_path) == pulse
    assert [path.name for path in tmp_path.iterdir()] == [PULSE]


def test_a_directory_that_takes_nothing_is_told(tmp_path):
    assert "cannot be written (No such file or directory)" in write_pulse(tmp_path / "gone", Pulse(NOW, 7))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"time": 5}', '{"time": "2026-01-27T18:00:00+00:00"}'])
def test_a_file_that_says_nothing_is_no_sign_of_life(tmp_path, text):
    (tmp_path / PULSE).write_text(text)
    assert read_pulse(tmp_path) is None


def test_after_the_end_there_is_none(tmp_path):
    write_pulse(tmp_path, Pulse(NOW, 7))
    remove_pulse(tmp_path)
    remove_pulse(tmp_path)
    assert read_pulse(tmp_path) is None


def test_trouble_is_an_old_sign_a_lost_directory_or_a_pause():
    assert Pulse(NOW, 7).trouble(NOW + timedelta(seconds=1)) == ""
    assert "has not finished a turn for 31 s" in Pulse(NOW, 7).trouble(NOW + timedelta(seconds=STALE + 1))
    assert Pulse(NOW, 7, lost=("/data/raw",)).trouble(NOW) == "/data/raw is not there; mount it, or check the share"
    assert Pulse(NOW, 7, paused="out: 5 MB free").trouble(NOW) == "no job begins: out: 5 MB free"
