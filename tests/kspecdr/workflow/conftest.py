"""The documented workflow from raw files to spectra, run once on a small simulated night."""

from functools import partial
from pathlib import Path

import pytest

from kspecdr.extract.make_ex import make_ex
from kspecdr.extract.reduce_arc import reduce_arcs
from kspecdr.inst.isoplane import write_isoplane_converted_image
from kspecdr.preproc.make_im import make_im
from kspecdr.preproc.preproc import reduce_bias, reduce_dark
from kspecdr.simulate import PRESETS, write_night
from kspecdr.simulate.truthfile import read_truth
from kspecdr.tlm.make_tlm import make_tlm

N_FIBER = 6
CLASSES = {"bias": "BIAS", "dark": "DARK", "flat": "MFFFF", "arc": "MFARC", "object": "MFOBJECT"}


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """Return the directory in which the workflow was run."""
    home = tmp_path_factory.mktemp("night")
    write_night(home / "raw", PRESETS["small"], truth_dir=home / "truth")
    work = home / "work"
    work.mkdir()
    converted = {}
    for raw in sorted((home / "raw").glob("*.fits")):
        kind = raw.name.split("_")[0]
        path = work / f"{raw.stem}_converted.fits"
        write_isoplane_converted_image(fpath=str(raw), output_fpath=str(path), ndfclass=CLASSES[kind], n_fibers=N_FIBER)
        converted.setdefault(kind, []).append(str(path))
    bias = reduce_bias(raw_files=converted["bias"], output_file=str(work / "mbias.fits"))
    dark = reduce_dark(raw_files=converted["dark"], output_file=str(work / "mdark.fits"), bias_filename=bias)
    detector = {"use_bias": True, "bias_filename": bias, "use_dark": True, "dark_filename": dark}
    for kind in ("flat", "arc", "object"):
        for path in converted[kind]:
            make_im(raw_filename=path, cosmic_ray_method="NONE", **detector)
    make_tlm({"IMAGE_FILENAME": str(work / "flat_00001_im.fits"), "TLMAP_FILENAME": str(work / "flat_tlm.fits")})
    for kind in ("arc", "object"):
        for path in converted[kind]:
            make_ex(
                {
                    "IMAGE_FILENAME": path.replace("_converted", "_im"),
                    "TLMAP_FILENAME": str(work / "flat_tlm.fits"),
                    "EXTRAC_FILENAME": path.replace("_converted", "_ex"),
                    "EXTR_OPERATION": "SUM",
                    "SUM_WIDTH": 5.0,
                }
            )
    return work


@pytest.fixture(scope="session")
def arc_arguments(work):
    """The arguments of reduce_arc for a lamp."""
    return partial(_arc_arguments, work)


def _arc_arguments(work, lamp="hgar"):
    return {
        "RAW_FILENAME": str(work / f"arc_{lamp}_00001_converted.fits"),
        "IMAGE_FILENAME": str(work / f"arc_{lamp}_00001_im.fits"),
        "TLMAP_FILENAME": str(work / "flat_tlm.fits"),
        "EXTRAC_FILENAME": str(work / f"arc_{lamp}_00001_ex.fits"),
        "OUTPUT_FILENAME": str(work / f"arc_{lamp}_00001_red.fits"),
        "LAMPNAME": lamp,
        "ARCDIR": str(Path("data/arc_tables")),
        "USE_GENCAL": True,
    }


@pytest.fixture(scope="session")
def arc(arc_arguments):
    """Return the RED of the first arc, calibrated with all lamps."""
    return reduce_arcs([arc_arguments("hgar"), arc_arguments("ne")])[0]


@pytest.fixture(scope="session")
def truth_of(work):
    """The truth of a frame, by its name."""
    return lambda name: read_truth(work.parent / "truth" / f"{name}.npz")
