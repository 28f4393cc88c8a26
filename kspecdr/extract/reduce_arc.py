"""reduce_arc, reduce_arcs: from extracted arcs to a wavelength for every pixel of every fiber."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from kspecdr.errors import BadFrame, BadOption, NoSolution, named
from kspecdr.extract.arc_group import solve_group
from kspecdr.extract.composite import Exposed, composite
from kspecdr.extract.make_ex import make_ex
from kspecdr.extract.saturated import ArcLight, without_saturated
from kspecdr.io.fits import read_spectra, write_spectra
from kspecdr.io.names import PathLike, product_path
from kspecdr.legacy import documented
from kspecdr.options import ArcOptions, recorded
from kspecdr.preproc.make_im import make_im
from kspecdr.products import LIT_TYPES, Note, Provenance, Spectra
from kspecdr.wavecal.arc_frames import ArcFrame
from kspecdr.wavecal.arc_io import load_arc_lines
from kspecdr.wavecal.arc_solution import ArcSolution, fit_warnings
from kspecdr.wavecal.identify import Guess
from kspecdr.wavecal.lamp import joined

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ArcExposure:
    """Extracted spectra of one exposure, with its name and lamps."""

    name: str
    spectra: Spectra
    lamp: str  # such as hgar, HgArNeKrCd
    arc_dir: PathLike | None = None  # where its line table is; None: the packaged ones


@dataclass(frozen=True)
class SolvedArc:
    """A group of arcs with its solution."""

    spectra: Spectra  # all lines in one spectrum a fiber; calibrated wave, shifts, lines
    solution: ArcSolution
    used: tuple[str, ...]  # names of the exposures that the solution rests on
    set_aside: Mapping[int, str]  # index of the exposure -> why it was left out
    warnings: tuple[str, ...]


def solve_arcs(exposures: Sequence[ArcExposure], options: ArcOptions = ArcOptions()) -> SolvedArc:
    """Solve all lamps and exposure times of one setting together.

    An exposure that is saturated beyond use or shows another lamp than its name is set aside where others remain.

    Raises NoSolution with the reason, BadOption for an unknown lamp, BadFrame for shapes that differ.
    """
    kept, aside = without_saturated([ArcLight(each.name, each.lamp, each.spectra) for each in exposures])
    if not kept:
        raise NoSolution("; ".join(dict.fromkeys(aside.values())))
    chosen = [replace(exposures[k], spectra=kept[k]) for k in sorted(kept)]
    first = chosen[0].spectra
    for each in chosen[1:]:
        if each.spectra.flux.shape != first.flux.shape:
            raise BadFrame(f"{each.name} has shape {each.spectra.flux.shape}, expected {first.flux.shape}")
    tables = [lamp_lines(each.lamp, each.arc_dir) for each in chosen]
    frames = [
        ArcFrame(each.spectra.flux, table, each.spectra.variance, each.spectra.mask, each.name)
        for each, table in zip(chosen, tables, strict=True)
    ]
    lit = np.isin(first.fibers.type, list(LIT_TYPES))
    solution, mistaken = solve_group(frames, [each.lamp for each in chosen], guess_of(first, options), lit)
    aside |= {sorted(kept)[k]: why for k, why in mistaken.items()}
    chosen = [each for k, each in enumerate(chosen) if k not in mistaken]
    warnings = [f"{exposures[k].name} set aside: {why}" for k, why in aside.items()]
    warnings += fit_warnings(solution)
    lacking = sorted({name for table in tables for name in table.lacking})
    if lacking:
        warnings.append(f"ARCDIR lacks {', '.join(lacking)}: the packaged tables were read")
    spectra = _calibrated(chosen, solution)
    spectra = replace(spectra, provenance=spectra.provenance.with_options(recorded("arc", options)))
    return SolvedArc(spectra, solution, tuple(each.name for each in chosen), aside, tuple(warnings))


def lamp_lines(lamp: str, arc_dir: PathLike | None = None) -> Any:
    """Return the lines of a lamp, or of several joined by + or a comma."""
    names = [name for name in re.split(r"[+,\s]+", lamp) if name]
    if not names:
        raise BadOption("the lamp of the arc is not known; give LAMPNAME, for example hgar")
    return joined(load_arc_lines(name, arc_dir) for name in names)


def guess_of(spectra: Spectra, options: ArcOptions) -> Guess:
    """Return what the header says of the wavelengths, and how far the truth may be from it."""
    setup, n_column = spectra.setup, spectra.flux.shape[1]
    predicted = spectra.wave[0]
    angles = all((setup.focal_length, setup.inclusion_angle, setup.detector_angle))
    center = float(np.interp((n_column - 1) / 2, np.arange(n_column), predicted))
    dispersion = float(np.abs(predicted[-1] - predicted[0]) / (n_column - 1))
    shape = predicted if angles else None
    return Guess(center, dispersion, max_shift=options.crscgma_ms, shape=shape)


def _calibrated(chosen: Sequence[ArcExposure], solution: ArcSolution) -> Spectra:
    first = chosen[0].spectra
    flux, variance, mask = composite(
        [Exposed(e.spectra.flux, e.spectra.variance, e.spectra.mask, e.spectra.setup.exposure, e.lamp) for e in chosen]
    )
    provenance = Provenance()
    for each in chosen:
        provenance |= each.spectra.provenance
    lines = {name: np.asarray(column) for name, column in vars(solution.lines).items()}
    lines["frame"] = np.array([chosen[k].name for k in solution.lines.frame], dtype=np.str_)
    lines["fiber"] = solution.lines.fiber + 1
    lamps = "+".join(dict.fromkeys(each.lamp for each in chosen))
    return replace(
        first,
        flux=flux,
        variance=variance,
        mask=mask,
        wave=solution.wave,
        wave_error=solution.wave_error,
        shifts=solution.shifts,
        lines=lines,
        setup=replace(first.setup, lamp=lamps, exposure=max(e.spectra.setup.exposure for e in chosen)),
        calibrated=True,
        notes=figures(solution),
        provenance=provenance,
    )


def figures(solution: ArcSolution) -> dict[str, float]:
    """Return the numbers of the solution as cards of the product."""
    return {
        Note.LINES: solution.n_line,
        Note.RMS: round(solution.rms, 5),
        Note.HELD_OUT: round(solution.held_out_rms, 5),
        Note.HELD_OUT_EXPECTED: round(solution.held_out_expected, 5),
        Note.LOST: round(solution.lost, 3),
        Note.FWHM: round(solution.fwhm, 4),
        Note.DARK: int(np.count_nonzero(solution.status != "fitted")),
    }


def summary(solved: SolvedArc) -> str:
    """Say in a few words what was solved."""
    solution = solved.solution
    low, high = np.nanmin(solution.wave), np.nanmax(solution.wave)
    return (
        f"{solution.n_line} lines in {len(solution.status)} fibers, rms {solution.rms:.4f} px "
        f"({solution.held_out_rms:.4f} px on lines left out), {low:.1f} to {high:.1f} A"
    )


@dataclass(frozen=True)
class _Order:
    """What one dictionary of reduce_arc asks for."""

    raw_filename: PathLike | None = None
    image_filename: PathLike | None = None
    tlmap_filename: PathLike | None = None
    extrac_filename: PathLike | None = None
    output_filename: PathLike | None = None
    lampname: str | None = None
    arcdir: PathLike | None = None
    options: ArcOptions = ArcOptions()
    fiber_types: Mapping[int, str] = field(default_factory=dict)

    def extracted(self) -> Path:
        """Return the path of the EX, making it and the image where they do not exist yet."""
        origin = self.extrac_filename or self.image_filename or self.raw_filename
        if origin is None:
            raise BadOption("reduce_arc needs RAW_FILENAME, IMAGE_FILENAME or EXTRAC_FILENAME")
        extracted = Path(self.extrac_filename or product_path(origin, "ex"))
        if extracted.exists():
            return extracted
        image = Path(self.image_filename or product_path(origin, "im"))
        if not image.exists():
            if self.raw_filename is None:
                raise BadOption(f"{image} does not exist; give RAW_FILENAME to make it from")
            make_im(self.raw_filename, image)
        if self.tlmap_filename is None:
            raise BadOption(f"{extracted} does not exist; give TLMAP_FILENAME to extract it along")
        return Path(make_ex(image, self.tlmap_filename, extracted))

    def read(self, extracted: Path) -> "_Asked":
        """Read the EX; return what is to be solved, and where it goes."""
        spectra = read_spectra(extracted)
        spectra = replace(spectra, fibers=spectra.fibers.retyped(self.fiber_types))
        lamp = self.lampname or spectra.setup.lamp
        if not lamp or not isinstance(lamp, str):
            raise BadOption(f"{extracted.name} does not say its lamp; give LAMPNAME, for example hgar")
        output = Path(self.output_filename or product_path(extracted, "red"))
        return _Asked(ArcExposure(extracted.name, spectra, lamp, self.arcdir), output, self.options)


@dataclass(frozen=True)
class _Asked:
    """An exposure to solve, and where its product goes."""

    exposure: ArcExposure
    output: Path
    options: ArcOptions


_ordered = documented(ArcOptions, owner="reduce_arc")(_Order)


def reduce_arc(
    args: Mapping[str, Any] | None = None,
    get_diagnostic: bool = False,
    diagnostic_dir: PathLike | None = None,
    **keywords: Any,
) -> str:
    """Calibrate the wavelengths of one arc; return the path of its *_red.fits.

    Parameters
    ----------
    args : dictionary (or keywords of the same names) with RAW_FILENAME, IMAGE_FILENAME, TLMAP_FILENAME,
        EXTRAC_FILENAME (made where they do not exist), OUTPUT_FILENAME, LAMPNAME, ARCDIR, USE_GENCAL,
        CRSCGMA_MS (largest shift, px), FIBn
    get_diagnostic, diagnostic_dir : also write identified_arcs.dat, global_fit_coefficients.dat and a
        picture, beside the output by default

    Raises
    ------
    NoSolution
        The lines do not determine wavelengths beyond doubt; no product is written.
    """
    return reduce_arcs([{**(args or {}), **keywords}], get_diagnostic, diagnostic_dir)[0]


def reduce_arcs(
    args: Sequence[Mapping[str, Any]], get_diagnostic: bool = False, diagnostic_dir: PathLike | None = None
) -> list[str]:
    """Calibrate arcs of one setting together, all lamps and exposure times in one fit; return their paths.

    args : one dictionary an arc, as reduce_arc takes it. Each arc's RED has its own spectra and the common
        wavelengths.
    """
    if isinstance(args, Mapping) or not args:
        raise BadOption("reduce_arcs got no list of arcs, expected one dictionary for each arc")
    asked = [order.read(order.extracted()) for order in (_ordered(dict(each)) for each in args)]
    names = ", ".join(each.exposure.name for each in asked)
    if any(each.options != asked[0].options for each in asked):
        raise BadOption(f"{names}: CRSCGMA_MS and USE_GENCAL differ, expected the same in all dictionaries")
    with named(names):
        solved = solve_arcs([each.exposure for each in asked], asked[0].options)
    for warning in solved.warnings:
        log.warning("%s", warning)
    if get_diagnostic:
        from kspecdr.extract.arc_report import write_diagnostics  # noqa: PLC0415 - pictures cost a second

        write_diagnostics(Path(diagnostic_dir or asked[0].output.parent), solved.solution, solved.spectra)
    log.info("%s: %s", names, summary(solved))
    return [write_spectra(each.output, _own(each.exposure, solved)) for each in asked]


def _own(exposure: ArcExposure, solved: SolvedArc) -> Spectra:
    """Return one exposure's own spectra with the wavelengths of the group."""
    own = exposure.spectra
    return replace(
        solved.spectra,
        flux=own.flux,
        variance=own.variance,
        mask=own.mask,
        setup=replace(own.setup, lamp=exposure.lamp),
        fibers=own.fibers,
        tramline_shift=own.tramline_shift,
        provenance=solved.spectra.provenance | own.provenance,
    )
