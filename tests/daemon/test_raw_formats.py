"""One exposure in every format that may land: found, whole, and described alike."""

import gzip
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from astropy.io import fits

from daemon.classify import describe
from daemon.config import Config
from daemon.records import FrameState
from daemon.watching.completeness import Incomplete, check
from daemon.watching.listing import frame_files, sidecars_of
from kspecdr.simulate.lightfield import lightfield_cards, write_frame
from kspecdr.simulate.presets import PRESETS
from kspecdr.simulate.spe import write_spe

LANDED = datetime(2026, 1, 28, tzinfo=UTC)
CARDS = lightfield_cards(PRESETS["small"].instrument, 10.0, datetime(2026, 1, 27, 14, 53, 58, tzinfo=UTC))
SUFFIXES = (".fits", ".fit", ".fts", ".FITS", ".fits.gz", ".fits.fz", ".spe", ".SPE")


@pytest.fixture
def landed(tmp_path, rng):
    """Return the watched directory, with the same two exposures in every format."""
    counts = rng.poisson(700, (2, 20, 30)).astype(np.uint16)
    header = fits.Header()
    for keyword, value in CARDS.items():
        header[keyword if len(keyword) < 9 else f"HIERARCH {keyword}"] = value
    for suffix in SUFFIXES:
        path = tmp_path / suffix[1:] / f"arc_hgar_00001{suffix}"
        path.parent.mkdir()
        if suffix.lower() == ".spe":
            write_spe(path, CARDS, counts)
        elif suffix == ".fits.fz":
            fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts, header)]).writeto(path)
        else:
            write_frame(path, CARDS, counts)
        if suffix == ".fits.gz":
            path.write_bytes(gzip.compress(path.read_bytes()))
    return tmp_path


def test_every_format_is_found_whole_and_described_alike(landed):
    names = [name for name, _ in frame_files(landed, landed, ())]
    assert sorted(names) == sorted(f"{suffix[1:]}/arc_hgar_00001{suffix}" for suffix in SUFFIXES)
    found = set()
    for name in names:
        check(landed / name)
        frames = describe(landed / name, landed, Config(), landed=LANDED).frames
        assert [frame.state for frame in frames] == [FrameState.WAITING] * 2, frames[0].reason
        for frame in frames:
            assert (frame.frame_class, frame.lamp, frame.exposure_s) == ("MFARC", "HgAr", 10.0)
            found.add(str(replace(frame, path="", content_hash="", size=0, mtime_ns=0)))
    assert len(found) == 2


def test_a_file_that_grows_is_waited_for_in_every_format(landed):
    for name, (size, _, _) in list(frame_files(landed, landed, ())):
        data = (landed / name).read_bytes()
        for n_byte in range(0, size - 3000, 97):
            (landed / name).write_bytes(data[:n_byte])
            with pytest.raises(Incomplete):
                check(landed / name)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sidecar_is_named_after_the_file_or_the_exposure(tmp_path, suffix):
    beside = sidecars_of(tmp_path / f"arc.1{suffix}")
    assert [each.name for each in beside] == [f"arc.1{suffix}.toml", "arc.1.toml"]
