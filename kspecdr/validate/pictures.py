"""Pictures of what the figures sum up."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kspecdr.arrays import Floats
from kspecdr.products import MaskBit, Spectra, flagged
from kspecdr.reduce_fflat import respond
from kspecdr.validate.cosmics import charge_of, windows
from kspecdr.validate.extraction import OPERATIONS, compare
from kspecdr.validate.nights import ReducedNight
from kspecdr.validate.response import blank_fields, residual_of
from kspecdr.validate.wavelengths import error_px


def draw(directory: Path, night: ReducedNight, arc: Spectra | None, seed: int) -> list[Path]:
    """Write the pictures of a night; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    figures = {"traces": _traces(night), "pulls": _pulls(night), "cosmics": _cosmics(night)}
    if arc is not None:
        figures["wavelengths"] = _wavelengths(night, arc)
        figures["sky"] = _sky(night, arc, seed)
    paths = []
    for name, figure in figures.items():
        paths.append(directory / f"{night.source}_{name}.png")
        figure.savefig(paths[-1], dpi=90)
    return paths


def _rows(n: int, height: float = 3.0) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(13, height * n), layout="constrained")
    return figure, list(np.atleast_1d(figure.subplots(n, 1)))


def _each_fiber(axes: Axes, night: ReducedNight, values: Callable[[int], Floats]) -> None:
    for k in night.alive:
        axes.plot(values(int(k)), lw=0.6, label=str(k + 1))
    axes.axhline(0.0, color="k", lw=0.5)


def _traces(night: ReducedNight) -> Figure:
    figure, (above, below) = _rows(2, 4.5)
    image = np.arcsinh(night.flats[0].image.flux / 100.0)
    above.imshow(image, origin="lower", aspect="auto", cmap="gray", interpolation="nearest")
    above.plot(night.tramlines.center.T, lw=0.4, color="tab:orange")
    center = night.tramlines.center[:, night.tramlines.center.shape[1] // 2]
    above.set_ylim(center[0] - 20, center[-1] + 20)
    _each_fiber(below, night, lambda k: night.tramlines.center[k] - night.true_center[k])
    below.set(ylabel="map - truth (px)", xlabel="column")
    below.legend(ncols=8, fontsize=7)
    return figure


def _pulls(night: ReducedNight) -> Figure:
    figure, axes = _rows(len(OPERATIONS))
    places = np.linspace(-6, 6, 121)
    edges = places.tolist()
    for panel, operation in zip(axes, OPERATIONS, strict=True):
        compared = compare(night, night.objects, OPERATIONS[operation])
        panel.hist(compared.pull, edges, density=True, histtype="step", label="objects")
        panel.hist(
            compare(night, night.flats, OPERATIONS[operation]).pull, edges, density=True, histtype="step", label="flats"
        )
        panel.plot(places, np.exp(-0.5 * places**2) / np.sqrt(2 * np.pi), "k", lw=0.6)
        bias, error = compared.bias()
        said = ", ".join(f"{bias[k]:+.3f}({error[k]:.3f})" for k in night.alive)
        panel.set_title(f"{operation}: {said}", fontsize=7)
        panel.legend(fontsize=7)
    return figure


def _cosmics(night: ReducedNight) -> Figure:
    """Show hits found and missed over strength and brightness, and where pixels are marked without one."""
    figure, (panel, other) = _rows(2, 4.5)
    for shot in night.lit:
        sigma, inside = charge_of(shot) / np.sqrt(shot.truth.variance), windows(night, shot)
        marked = flagged(shot.image.mask, MaskBit.COSMIC)
        for strong, style in ((inside & (sigma > 5) & marked, "k."), (inside & (sigma > 5) & ~marked, "rx")):
            panel.plot(np.log10(sigma[strong]), np.log10(shot.truth.variance[strong]), style, ms=4)
        row, column = np.nonzero(inside & marked & (sigma == 0))
        if row.size:
            other.plot(column, row, "x", label=shot.name)
    panel.set(xlabel="log strength (sigma)", ylabel="log variance (electron**2)", title="found, red: missed")
    other.set(xlabel="column", ylabel="row", title="marked falsely")
    if other.lines:
        other.legend(fontsize=7)
    return figure


def _wavelengths(night: ReducedNight, arc: Spectra) -> Figure:
    figure, (above, below) = _rows(2, 4.5)
    error = error_px(arc.wave, night.arcs[0].truth.wavelength)
    _each_fiber(above, night, lambda k: error[k])
    above.set(ylim=(-0.1, 0.1), ylabel="wavelength - truth (px)", xlabel="column")
    above.legend(ncols=8, fontsize=7)
    lines = arc.lines or {}
    used = np.asarray(lines["why"]) == "used"
    for name in dict.fromkeys(np.asarray(lines["label"]).tolist()):
        own = used & (np.asarray(lines["label"]) == name)
        below.plot(np.asarray(lines["column"])[own], np.asarray(lines["residual"])[own], ".", ms=3, label=name)
    below.set(ylim=(-0.15, 0.15), ylabel="line - fit (px)", xlabel="column")
    below.legend(fontsize=7)
    return figure


def _sky(night: ReducedNight, arc: Spectra, seed: int) -> Figure:
    figure, (above, below) = _rows(2, 4.5)
    response = respond(night.spectra(night.flats[0]), arc)
    residual = residual_of(night, blank_fields(night, seed)[0], arc, response)
    if residual is None:
        return figure
    for k in np.flatnonzero(residual.good.any(axis=1)):
        above.plot(arc.wave[k], residual.sky[k], lw=0.5)
        below.plot(arc.wave[k], np.where(residual.good[k], residual.left[k] / residual.sigma[k], np.nan), lw=0.5)
    above.set(ylabel="sky (electron)")
    below.set(ylabel="left over noise", xlabel="wavelength (Angstrom)", ylim=(-8, 8))
    return figure
