"""Figures of real frames: lamp spectra with known wavelengths, and frames of a 169-fiber spectrograph.

The frames are not part of the package; see the license files beside them. Without them there are no figures.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from astropy.table import Table

from kspecdr.arrays import Bools, Floats
from kspecdr.errors import KspecError, NoSolution, PoorSolution
from kspecdr.extract.make_ex import extract
from kspecdr.extract.reduce_arc import ArcExposure, solve_arcs
from kspecdr.io.fits import read_raw
from kspecdr.options import ImageOptions
from kspecdr.preproc.make_im import Calibrations, preprocess
from kspecdr.products import Fibers, Frame, Setup, Spectra
from kspecdr.tlm.make_tlm import trace
from kspecdr.validate.figures import NO_GOAL, Measured, at_least, at_most
from kspecdr.wavecal.identify import solve_arc

N_COLUMN = 1340
STEP = 335  # columns from one window of a lamp spectrum to the next
SAMPLINGS = (1.0, 0.7, 1.6)  # pixels for each of the published ones: other instruments have other lines
PUBLISHED = 10_480.0  # Angstrom, the last line of the published solutions; beyond, they are extrapolated
LARGEST_SHIFT = 60.0  # px that the header's center is off
STRETCHES = (0.9, 1.1)  # of the dispersion in the header over the true one
WRONG = 1.0  # px rms, of the published pixels where those are larger: beyond it a solution is a wrong one
LEAST_LIGHT = 1.0e-3  # of the brightest line, where a spectrum begins and ends

LAMPS = {
    "keck_lris_red_R150_7500_ArCdHgNeZn.fits": ("Ar", "Cd", "Hg", "Ne", "Zn"),
    "ldt_deveny_150_HgCdAr.fits": ("Hg", "Cd", "Ar"),
    "ldt_deveny_600_HgCdAr.fits": ("Hg", "Cd", "Ar"),
}

N_FIBER, N_LIT = 169, 166
LINES = (4273.97, 4319.58, 4502.35, 5570.29, 5400.56)  # Kr, Kr, Kr, Kr, Ne; Angstrom in air
ENDS = (3465.0, 5780.0)  # Angstrom


def air_wavelengths(vacuum: Floats) -> Floats:
    """Return wavelengths in standard air for those in vacuum, Angstrom (Ciddor 1996, Appl. Opt. 35, 1566)."""
    wavenumber = (1.0e4 / vacuum) ** 2  # um**-2
    index = 1.0 + 0.05792105 / (238.0185 - wavenumber) + 0.00167917 / (57.362 - wavenumber)
    return np.asarray(vacuum / index)


@dataclass(frozen=True)
class Window:
    """A piece of a lamp spectrum as long as the detector."""

    name: str
    flux: Floats  # (N_COLUMN,)
    wave: Floats  # (N_COLUMN,) Angstrom in air
    lamps: tuple[str, ...]
    sampling: float  # of SAMPLINGS

    def attempt(self, shift: float, stretch: float, *, turned: bool) -> "Attempt":
        """Solve with a header that is off by `shift` px and `stretch`."""
        flux, wave = (self.flux[::-1], self.wave[::-1]) if turned else (self.flux, self.wave)
        step = np.gradient(wave)
        center = wave[len(wave) // 2] + shift * abs(step[len(wave) // 2])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", PoorSolution)
            found, lines = solve_arc(flux, self.lamps, float(center), float(stretch * np.median(np.abs(step))))
        known = lines.column[(lines.order == 1) & (lines.wavelength < PUBLISHED)]
        error = np.interp(known, np.arange(len(wave)), (found - wave) / step)
        rms = float(np.sqrt(np.mean(error**2))) if error.size else 0.0
        return Attempt(rms / max(self.sampling, 1.0), tuple(str(each.message) for each in said))


@dataclass(frozen=True)
class Attempt:
    """How one window was solved."""

    rms: float  # px, at the lines used
    said: tuple[str, ...]  # what the solution says that a person should look at


def lamp_windows(folder: Path) -> Iterator[Window]:
    """Cut the lamp spectra of a folder into windows, without the ends that show no lines."""
    for name, lamps in LAMPS.items():
        path = folder / name
        if not path.exists():
            continue
        spectrum = Table.read(path)
        flux = np.asarray(spectrum["flux"], dtype=float)
        wave = air_wavelengths(np.asarray(spectrum["wave"], dtype=float))
        inside = np.flatnonzero(flux > LEAST_LIGHT * flux.max())
        first, last = int(inside[0]), int(inside[-1]) + 1
        for sampling in SAMPLINGS:
            wave_here, flux_here = _sampled(wave[first:last], flux[first:last], sampling)
            for start in range(0, max(len(wave_here) - N_COLUMN, 0) + 1, STEP):
                part = slice(start, start + N_COLUMN)
                place = f"{path.stem} x {sampling:g} from {start + round(first * sampling)}"
                yield Window(place, flux_here[part], wave_here[part], lamps, sampling)


def _sampled(wave: Floats, flux: Floats, sampling: float) -> tuple[Floats, Floats]:
    """Return a spectrum as a detector with `sampling` times as many pixels sees it: light is kept."""
    if sampling == 1:
        return wave, flux
    edges = np.arange(int(len(flux) * sampling) + 1) / sampling - 0.5
    light = np.interp(edges, np.arange(len(flux) + 1) - 0.5, np.append(0.0, np.cumsum(flux)))
    middle = 0.5 * (edges[1:] + edges[:-1])
    return np.interp(middle, np.arange(len(wave)), wave), np.diff(light) * sampling


def measure_arcs(folder: Path) -> Iterator[Measured]:
    """Solve every window from headers that are off, in both directions."""
    windows = list(lamp_windows(folder))
    if not windows:
        yield Measured("real arcs", "lamp spectra", "arcs1d", np.nan, NO_GOAL, f"skipped: none in {folder}")
        return
    rms, wrong, said, refused, n = [], [], 0, {}, 0
    for number, window in enumerate(windows):
        for shift, stretch, turned in _headers(number, 4 if window.sampling == 1 else 1):
            n += 1
            try:
                attempt = window.attempt(shift, stretch, turned=turned)
            except NoSolution as reason:
                refused[window.name] = str(reason)
                continue
            rms.append(attempt.rms)
            said += bool(attempt.said)
            if attempt.rms > WRONG and not attempt.said:
                wrong.append(f"{window.name} ({shift:+g} px, {stretch:g}): {attempt.rms:.1f} px")
    note = "; ".join(f"{name}: {why}" for name, why in refused.items())
    yield Measured("real arcs", "solved, %", "arcs1d", 100.0 * len(rms) / n, at_least(100.0), f"of {n}; {note}")
    yield Measured("real arcs", "wrong without a flag", "arcs1d", len(wrong), at_most(0), "; ".join(wrong[:5]))
    yield Measured("real arcs", "with a flag, %", "arcs1d", 100.0 * said / n, NO_GOAL)
    right = [each for each in rms if each <= WRONG]
    middle = float(np.median(right)) if right else np.nan
    yield Measured("real arcs", "median rms at the lines, px", "arcs1d", middle, NO_GOAL)


def _headers(number: int, n: int) -> list[tuple[float, float, bool]]:
    """Return what `n` headers of a window are off by: center (px), dispersion (factor), direction."""
    poor = [(shift, stretch) for shift in (-LARGEST_SHIFT, LARGEST_SHIFT) for stretch in STRETCHES]
    headers = [(*header, turned) for turned in (False, True) for header in [(0.0, 1.0), *poor]]
    return [headers[(number + 3 * k) % len(headers)] for k in range(n)]


LLAMAS = {
    "BIAS": ("20200110_133751_Camera00_blue_BIAS.fits", 0.0),
    "DARK": ("20200110_134048_Camera00_blue_DARK_50s.fits", 50.0),
    "MFFFF": ("20200110_134247_Camera00_blue_FLAT_50s.fits", 50.0),
    "MFARC": ("20200110_134641_Camera00_blue_KrNeAr_0.2s_BASELINE.fits", 0.2),
}


def measure_fibers(folder: Path) -> Iterator[Measured]:
    """Trace 169 real fibers of which 166 are lit, and solve their arc."""
    if not all((folder / name).exists() for name, _ in LLAMAS.values()):
        yield Measured("real fibers", "frames", "llamas", np.nan, NO_GOAL, f"skipped: none in {folder}")
        return
    frame = partial(_frame, folder)
    bias = preprocess(frame("BIAS"), Calibrations(), ImageOptions())
    dark = preprocess(frame("DARK"), Calibrations(bias), ImageOptions())
    flat, arc = (preprocess(frame(kind), Calibrations(bias, dark), ImageOptions()) for kind in ("MFFFF", "MFARC"))
    tramlines = trace(flat)
    unlit = int(np.count_nonzero(tramlines.status == "interpolated"))
    ordered = bool(np.all(np.diff(tramlines.center, axis=0) > 0))
    yield Measured("real fibers", "unlit fibers found of 3", "llamas", unlit, at_least(3), f"ordered: {ordered}")
    yield Measured("real fibers", "lit fibers traced of 166", "llamas", N_FIBER - unlit, at_least(N_LIT))
    spectra = extract(arc, tramlines)
    try:
        solved = solve_arcs([ArcExposure("arc", spectra, "KrNeAr")])
    except KspecError as reason:
        yield Measured("real fibers", "fibers with all lines in place", "llamas", np.nan, at_least(160), str(reason))
        return
    lit = tramlines.status != "interpolated"
    yield from _places(spectra, solved.spectra.wave, lit)
    note = f"left out {solved.solution.held_out_rms:.4f} px, {solved.solution.n_line} lines"
    yield Measured("real fibers", "rms of the arc's lines, px", "llamas", solved.solution.rms, NO_GOAL, note)


def _frame(folder: Path, frame_class: str) -> Frame:
    """Read a frame of the spectrograph; gain and read noise are those of a similar detector."""
    name, exposure = LLAMAS[frame_class]
    setup = Setup(
        frame_class=frame_class,
        exposure=exposure,
        start=datetime(2020, 1, 10, 13, 40, tzinfo=UTC),
        gain=4.09,
        read_noise=16.03,
        saturation=65535.0,
        readout="2 MHz LowNoise Low",
        lambda_center=4617.0,
        dispersion=1.84,
        lines_per_mm=300.0,
    )
    return Frame(read_raw(folder / name).cube[0], setup, Fibers.of(N_FIBER))


def _places(spectra: Spectra, wave: Floats, lit: Bools) -> Iterator[Measured]:
    """Measure the known lines by the center of their light in each fiber, and the ends of the range."""
    off = np.full((N_FIBER, len(LINES)), np.nan)
    for fiber in np.flatnonzero(lit):
        for n, line in enumerate(LINES):
            off[fiber, n] = _place(spectra.flux[fiber], wave[fiber], line) - line
    fine = int(np.count_nonzero((np.abs(off) < 0.5).all(axis=1)))
    note = ", ".join(f"{line}: {value:+.3f}" for line, value in zip(LINES, np.nanmedian(off, axis=0), strict=True))
    yield Measured("real fibers", "fibers with all lines within 0.5 A", "llamas", fine, at_least(160), note)
    ends = np.sort(wave[lit][:, [0, -1]], axis=1)
    away = float(np.max(np.abs(ends - np.array(ENDS))))
    yield Measured("real fibers", "ends away from their places, A", "llamas", away, at_most(30.0))


def _place(flux: Floats, wave: Floats, line: float) -> float:
    """Return the wavelength of the center of light of the brightest peak within 4 px of a line's place."""
    order = np.argsort(wave)
    column = float(np.interp(line, wave[order], order))
    near = np.arange(max(int(column) - 4, 3), min(int(column) + 6, flux.size - 3))
    peak = int(near[np.argmax(np.nan_to_num(flux[near]))])
    around = np.arange(peak - 3, peak + 4)
    light = np.nan_to_num(flux[around])
    light = light - light.min()
    return float(np.interp(np.sum(light * around) / np.sum(light), np.arange(wave.size), wave))
