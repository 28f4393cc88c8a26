from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from daemon.commands.replay import landings, replay
from kspecdr.errors import BadOption
from kspecdr.simulate import PRESETS
from kspecdr.simulate.lightfield import lightfield_cards, write_frame

BEGIN = datetime(2026, 1, 27, 9, 0, 0, tzinfo=UTC)


@pytest.fixture
def night(tmp_path):
    """Four frames, named against the order of their times, one without a time."""
    source = tmp_path / "night"
    (source / "arcs").mkdir(parents=True)
    for name, minute, seconds in (("c.fits", 0, 10.0), ("arcs/b.fits", 1, 1.0), ("a.fits", 2, 60.0)):
        cards = lightfield_cards(PRESETS["small"].instrument, seconds, BEGIN + timedelta(minutes=minute))
        write_frame(source / name, cards, np.full((1, 20, 30), minute + 600))
    (source / "0.fits").write_bytes(b"no FITS file")
    (source / "c.fits.toml").write_text('class = "DARK"\n')
    (source / "notes.txt").write_text("none of ours")
    return source


def names(paths, target):
    return [path.relative_to(target).as_posix() for path in paths]


def test_frames_are_written_in_the_order_of_the_night(night, tmp_path):
    written = names(replay(landings(night), tmp_path / "raw", speed=0, sleep=None), tmp_path / "raw")
    assert written == ["c.fits", "arcs/b.fits", "a.fits", "0.fits"]
    for name in written:
        assert (tmp_path / "raw" / name).read_bytes() == (night / name).read_bytes()
    assert (tmp_path / "raw" / "c.fits.toml").is_file()
    assert not (tmp_path / "raw" / "notes.txt").exists()


def test_pauses_are_those_of_the_night_at_the_given_speed(night, tmp_path):
    pauses = []
    list(replay(landings(night), tmp_path / "raw", speed=10, sleep=pauses.append))
    between = [pause for pause in pauses if pause > 0.05]
    assert between == pytest.approx([(61 - 10) / 10, (180 - 61) / 10])


def test_a_frame_grows_under_its_final_name(night, tmp_path):
    sizes = []

    def look(_seconds):
        path = tmp_path / "raw" / "c.fits"
        sizes.append(path.stat().st_size if path.exists() else 0)

    next(replay(landings(night), tmp_path / "raw", speed=1, sleep=look))
    assert sizes[0] == 0
    assert 0 < sizes[1] < sizes[2] < sizes[-1] == (night / "c.fits").stat().st_size


def test_a_shuffled_night_is_another_order_of_the_same_frames(night, tmp_path):
    orders = [
        names(
            replay(landings(night), tmp_path / f"raw{k}", speed=0, sleep=None, shuffle=k),
            tmp_path / f"raw{k}",
        )
        for k in range(6)
    ]
    again = names(replay(landings(night), tmp_path / "again", speed=0, sleep=None, shuffle=3), tmp_path / "again")
    assert {tuple(sorted(order)) for order in orders} == {("0.fits", "a.fits", "arcs/b.fits", "c.fits")}
    assert len({tuple(order) for order in orders}) > 1
    assert again == orders[3]


def test_nothing_is_written_over(night, tmp_path):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "a.fits").write_text("precious")
    with pytest.raises(BadOption, match=r"raw/a\.fits exists; replay into a directory without"):
        list(replay(landings(night), tmp_path / "raw", speed=0, sleep=None))
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["a.fits"]


def test_an_empty_source_and_a_negative_speed_are_refused(night, tmp_path):
    with pytest.raises(BadOption, match="holds no frames"):
        landings(tmp_path / "none")
    with pytest.raises(BadOption, match="speed = -1, expected 0"):
        list(replay(landings(night), tmp_path / "raw", speed=-1, sleep=None))
