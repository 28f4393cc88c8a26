"""What a person wants to see of an arc solution: two tables and a picture."""

from io import BytesIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from kspecdr.io.hdus import write_bytes
from kspecdr.products import Spectra
from kspecdr.wavecal.arc_solution import ArcSolution

COLORS = mpl.colormaps["tab10"]


def write_diagnostics(directory: Path, solution: ArcSolution, spectra: Spectra) -> list[Path]:
    """Write identified_arcs.dat, global_fit_coefficients.dat and arc_solution.png; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    picture = BytesIO()
    draw(solution, spectra).savefig(picture, dpi=110)
    contents = {
        "identified_arcs.dat": _lines(solution).encode(),
        "global_fit_coefficients.dat": _coefficients(solution).encode(),
        "arc_solution.png": picture.getvalue(),
    }
    paths = [directory / name for name in contents]
    for path in paths:
        write_bytes(path, contents[path.name])
    return paths


def _lines(solution: ArcSolution) -> str:
    table = solution.lines
    rows = ["# fiber(1) column(px) error(px) wavelength_air(A) order lamp significance residual(px) why"]
    rows += [
        f"{table.fiber[k] + 1:4d} {table.column[k]:10.4f} {table.column_error[k]:8.4f} "
        f"{table.wavelength[k]:11.4f} {table.order[k]:d} {table.label[k]:4s} "
        f"{table.significance[k]:9.1f} {table.residual[k]:9.4f} "
        f"{str(table.why[k]).replace(' ', '_')}"
        for k in range(len(table))
    ]
    return "\n".join(rows) + "\n"


def _coefficients(solution: ArcSolution) -> str:
    model = solution.dispersion
    rows = [
        "# wavelength(A) = sum c_n P_n(v), Legendre; v = u - (o + t u + q u^2 + ...) / half, u = column / half - 1",
        f"# half = {model.half:.1f} px, rms = {solution.rms:.5f} px",
        f"# rms of lines left out of the fit in turn = {solution.held_out_rms:.5f} px",
        "shape " + " ".join(f"{c:.9e}" for c in model.shape),
        "# fiber o(px) t(px) q(px) ... status",
    ]
    rows += [
        f"{k + 1:4d} " + " ".join(f"{term:10.5f}" for term in terms) + f" {solution.status[k]}"
        for k, terms in enumerate(model.fibers)
    ]
    return "\n".join(rows) + "\n"


def draw(solution: ArcSolution, spectra: Spectra) -> Figure:
    """Draw a fiber's spectrum with its lines named, and the residuals of all lines in all fibers."""
    figure = Figure(figsize=(11, 8), layout="constrained")
    top, middle, bottom = figure.subplots(3, 1, height_ratios=(2, 1.4, 1))
    bright = int(np.argmax(np.nansum(np.nan_to_num(spectra.flux), axis=1)))
    wave, flux = solution.wave[bright], spectra.flux[bright]
    top.plot(wave, np.arcsinh(flux / np.nanpercentile(np.abs(flux), 60)), lw=0.7, color="0.3")
    table = solution.lines
    labels = sorted(set(table.label.tolist()))
    for k, label in enumerate(labels):
        own = table.used & (table.label == label)
        lines = np.unique(table.wavelength[own])
        top.vlines(lines, *top.get_ylim(), color=COLORS(k), lw=0.5, label=f"{label} ({lines.size})")
        middle.plot(table.wavelength[own], table.residual[own], ".", ms=3, color=COLORS(k))
    out = ~table.used
    middle.plot(table.wavelength[out], table.residual[out], "x", ms=3, color="0.7")
    middle.set_ylim(*(np.array([-5, 5]) * max(solution.rms, 0.005)))
    bottom.plot(solution.wave.T, solution.wave_error.T, lw=0.5)
    top.legend(loc="upper right", fontsize=8)
    top.set(title=f"fiber {bright + 1}: rms {solution.rms:.4f} px, left out {solution.held_out_rms:.4f} px")
    top.set_ylabel("arcsinh flux")
    middle.set_ylabel("residual (px)")
    bottom.set(ylabel="error (Angstrom)", xlabel="wavelength in air (Angstrom)", yscale="log")
    return figure
