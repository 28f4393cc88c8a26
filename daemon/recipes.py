"""Recipes: which calls of kspecdr make the product of a job. Runs in a worker.

Each recipe is a straight list of steps on products in memory; no file that it writes is read back.
"""

import resource
from collections.abc import Callable, Mapping
from dataclasses import replace

from daemon.bench import Bench
from daemon.outage import judge
from daemon.records import FrameInfo, Job, Outcome, Quality
from kspecdr import quality
from kspecdr.extract.make_ex import extract
from kspecdr.extract.reduce_arc import ArcExposure, solve_arcs
from kspecdr.io.fits import image_content, spectra_content, tramlines_content
from kspecdr.options import (
    ArcOptions,
    ExtractOptions,
    FlatOptions,
    ImageOptions,
    ObjectOptions,
    TramlineOptions,
)
from kspecdr.preproc.preproc import combine_images, normalise_response
from kspecdr.preproc.reject import reject_cosmics
from kspecdr.products import Image, Provenance, Spectra
from kspecdr.reduce_fflat import respond
from kspecdr.reduce_object import SpectralCalibrations, calibrate
from kspecdr.tlm.make_tlm import missing_warning, trace
from kspecdr.tlm.placement import place


def run(job: Job) -> Outcome:
    """Make the product of a job; what goes wrong is told in the outcome, never raised.

    An error that kspecdr raises on purpose lies in the frames and is not tried again; an OSError lies
    in the machine and is.
    """
    bench = Bench(job)
    error, retry, blocked = "", False, False
    try:
        with bench.writer:
            RECIPES[job.rule](bench)
        bench.finish()
    except MemoryError:
        raise  # it ends the worker, as it must
    except Exception as failure:  # noqa: BLE001 - the worker must live; the sentence names the defect
        error, retry, blocked = judge(job, failure)
    return Outcome(
        job.fingerprint,
        tuple(bench.written),
        tuple(Quality(f.name, f.value, f.limit, f.flag) for f in bench.figures),
        tuple(dict.fromkeys(bench.warnings)),
        bench.set_aside,
        bench.times,
        error,
        retry,
        blocked,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0,
    )


def bias(bench: Bench) -> None:
    """Combine bias frames."""
    _master(bench, "bias", bench.images())


def dark(bench: Bench) -> None:
    """Combine dark frames of one exposure time."""
    _master(bench, "dark", bench.images())


def lflat(bench: Bench) -> None:
    """Combine long-slit flats to the response of the pixels."""
    images = bench.images()
    with bench.stage("combine"):
        combined = combine_images(images, calibrations=bench.detector(), adjust_levels=True)
        response = normalise_response(combined)
    bench.figures += quality.of_master(response)
    bench.write("lflat", None, image_content, response)


def _master(bench: Bench, kind: str, images: list[Image]) -> None:
    with bench.stage("combine"):
        master = combine_images(images, calibrations=bench.detector())
    bench.figures += quality.of_master(master)
    bench.write(kind, None, image_content, master)


def tlm(bench: Bench) -> None:
    """Combine fiber flats and trace the fibers."""
    images = bench.lit_images()
    with bench.stage("combine"):
        flat = combine_images(images, calibrations=bench.detector(), adjust_levels=len(images) > 1)
    bench.write("im", None, image_content, flat)
    with bench.stage("trace"):
        tramlines = trace(flat, bench.options(TramlineOptions, "tlm"))
    bench.warnings += filter(None, (missing_warning(tramlines), tramlines.doubt))
    bench.figures += quality.of_tramlines(tramlines, flat)
    bench.write("tlm", None, tramlines_content, tramlines)


def _extracted(bench: Bench, info: FrameInfo) -> tuple[Image, Spectra]:
    image, tramlines = bench.image(info), bench.calibration("tlm")
    if tramlines.doubt:
        bench.warnings.append(f"{info.name}: {tramlines.doubt}")
    options = bench.options(ExtractOptions, "extract")
    with bench.stage("place"):
        placed = place(image, tramlines, options.tlm_shift)
    if placed.alarm:
        bench.warnings.append(f"{info.name}: {placed.alarm}")
    with bench.stage("cosmics"):
        image = reject_cosmics(image, bench.options(ImageOptions, "image"), placed=placed)
    bench.write("im", info, image_content, image)
    with bench.stage("extract"):
        spectra = extract(image, tramlines, options, placed=placed)
    bench.write("ex", info, spectra_content, spectra)
    return image, spectra


def arc(bench: Bench) -> None:
    """Extract the arcs of a group and solve them together."""
    spectra = bench.of_whole(lambda info: _extracted(bench, info)[1])
    exposures = [ArcExposure(info.name, each, info.lamp) for info, each in spectra.items()]
    with bench.stage("wavelengths"):
        solved = solve_arcs(exposures, bench.options(ArcOptions, "arc"))
    taken = list(spectra)
    bench.set_aside |= {taken[k].key: why for k, why in solved.set_aside.items()}
    bench.warnings += solved.warnings
    bench.figures += quality.of_arc(solved.spectra)
    bench.write("red", None, spectra_content, solved.spectra)


def fflat(bench: Bench) -> None:
    """Extract fiber flats along the arc's tramlines and measure the response of fibers and pixels."""
    images = bench.lit_images()
    with bench.stage("combine"):
        flat = combine_images(images, calibrations=bench.detector(), adjust_levels=len(images) > 1)
    with bench.stage("extract"):
        spectra = extract(flat, bench.calibration("tlm"), bench.options(ExtractOptions, "extract"))
    with bench.stage("flat"):
        response = respond(spectra, bench.calibration("arc"), bench.options(FlatOptions, "flat"))
    bench.figures += quality.of_spectra(spectra)
    bench.write("fflat", None, spectra_content, response)


def science(bench: Bench) -> None:
    """Reduce an object, sky or standard-star frame to spectra on one wavelength grid.

    Without an arc the grid is the one that the tramline map predicts from the grating, and the product says
    that no arc has measured it (WAVECAL = F).
    """
    (info,) = bench.job.frames
    image, spectra = _extracted(bench, info)
    arc = bench.calibration("arc")
    predicted = replace(spectra, calibrated=True, provenance=Provenance())
    by = SpectralCalibrations(predicted if arc is None else arc, bench.calibration("fflat"))
    with bench.stage("wavelengths"):
        reduced = calibrate(spectra, by, bench.options(ObjectOptions, "object"))
    if arc is None:
        reduced = replace(reduced, calibrated=False)
        bench.warnings.append(f"{info.name}: wavelengths are predicted from the grating, no arc has measured them")
    bench.figures += quality.of_spectra(spectra)
    kept = not bench.options(ExtractOptions, "extract").scatsub
    bench.figures += quality.of_exposure(image, scattered_kept=kept)
    bench.write("red", None, spectra_content, reduced)


RECIPES: Mapping[str, Callable[[Bench], None]] = {
    "bias": bias,
    "dark": dark,
    "lflat": lflat,
    "tlm": tlm,
    "arc": arc,
    "fflat": fflat,
    "object": science,
}
