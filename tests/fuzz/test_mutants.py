"""Whatever is done to a raw file, it ends in a product or in one sentence, in bounded memory."""

import gzip
import resource
import warnings
from contextlib import suppress
from datetime import UTC, datetime

import numpy as np
import pytest

from daemon.classify import describe
from daemon.config import Config
from daemon.records import FrameState
from daemon.watching.completeness import Incomplete, check
from kspecdr.errors import KspecError
from kspecdr.inst.isoplane import write_isoplane_converted_image
from kspecdr.io.fits import read_frame

LANDED = datetime(2026, 1, 28, tzinfo=UTC)
MEMORY = 400_000  # KiB by which reading files of some 10 kB may grow the process: a small gzip may hold 64 MiB
N_ORDINARY, N_SOAK = 100, 1000


def converted(path, folder):
    """Return the products of a raw file, or the sentence that refuses it."""
    try:
        return write_isoplane_converted_image(
            path, folder / "object_converted.fits", "MFOBJECT", n_fibers=2, split_frames=True
        ), ""
    except KspecError as error:
        return [], str(error)


def is_one_sentence(text):
    return text.startswith("object_") and text.isprintable() and len(text) < 1000


def check_mutant(suffix, data, folder, name="00001"):
    """Convert and describe a mutant; both agree, and nothing else is left behind."""
    raw, out = folder / "raw", folder / "out"
    raw.mkdir()
    out.mkdir()
    path = raw / f"object_{name}{suffix}"
    path.write_bytes(data)
    products, refusal = converted(path, out)
    for product in products:
        assert np.ndim(read_frame(product).counts) == 2
    assert products or is_one_sentence(refusal), refusal
    with suppress(Incomplete):
        check(path)
    found = describe(path, raw, Config(), landed=LANDED)
    (state,) = {frame.state for frame in found.frames}
    reason = found.frames[0].reason
    assert state in (FrameState.WAITING, FrameState.INVALID)
    if "\udcff" in name:  # a step is given the name as it is; a catalog holds it as an escape, which finds no file
        assert (state, reason) == (FrameState.INVALID, "its name is not UTF-8; rename it, it is then taken in")
    else:
        assert state is FrameState.WAITING or is_one_sentence(reason), reason
        assert state is FrameState.WAITING or not products, f"{reason}, but it was converted"
        assert state is FrameState.INVALID or products, f"nothing was found wrong, but {refusal}"
    for frame in found.frames:
        assert all(text.isprintable() for text in (frame.target, frame.lamp, str(frame.setup)))
    assert path.read_bytes() == data
    assert sorted(out.iterdir()) == sorted(type(out)(product) for product in products)
    assert [each.name for each in folder.iterdir() if each not in (raw, out)] == []


def run(mutant, seeds, tmp_path):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy warns of odd cards
        for seed in seeds:
            suffix, data = mutant(seed)
            folder = tmp_path / str(seed)
            folder.mkdir()
            try:
                check_mutant(suffix, data, folder)
            except Exception as error:
                error.add_note(f"mutant({seed}), a {suffix} file: {folder}")
                raise
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # KiB
    assert grown < MEMORY


def test_the_originals_are_converted(originals, tmp_path):
    for suffix, data in originals.items():
        folder = tmp_path / suffix
        folder.mkdir()
        (folder / "out").mkdir()
        path = folder / f"object_00001{suffix}"
        path.write_bytes(gzip.compress(data) if suffix == ".fits.gz" else data)
        products, refusal = converted(path, folder / "out")
        assert len(products) == 2, refusal


def test_mutants_end_in_a_product_or_a_sentence(mutant, tmp_path):
    run(mutant, range(N_ORDINARY), tmp_path)


@pytest.mark.parametrize(
    "name", ["two\nlines", "'; --", '"><b>', "$(x) `y`", "a\x1b[2Jb", "\udcff", "ümläut", "%s {0}"]
)
def test_hostile_names_end_in_a_product_or_a_sentence(originals, tmp_path, name):
    for suffix, data in originals.items():
        for kept in (len(data), 4000):
            folder = tmp_path / f"{suffix}{kept}"
            folder.mkdir()
            check_mutant(suffix, data[:kept], folder, name)


@pytest.mark.soak
def test_many_mutants_end_in_a_product_or_a_sentence(mutant, tmp_path):
    run(mutant, range(N_ORDINARY, N_ORDINARY + N_SOAK), tmp_path)
