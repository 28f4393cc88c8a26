"""A product as a small picture."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from kspecdr.arrays import Floats
from kspecdr.io.fits import read_image, read_plane, read_spectra, read_tramlines
from kspecdr.products import Spectra, TramlineMap

SIZE = (9.0, 5.2)  # inches at 100 dots
CLIP = (0.5, 99.7)  # percentiles of the brightness shown
LARGEST = 400  # pixels of an image along one side; more are left out
DARK: dict[Any, Any] = {  # colors for a screen in the dome
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "#0c0f12"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#9aa5ad"),
    "axes.prop_cycle": "cycler('color', ['#8fc4f4', '#f2b56b'])",
}


def render_spectrum(red: str | Path, png: Path) -> Path:
    """Draw the spectra of a *_red.fits: all fibers as an image, and the brightest as a curve."""
    png.write_bytes(spectrum_png(read_spectra(red, "red"), Path(red).name))
    return png


def picture(path: Path, kind: str, *, dark: bool = False) -> bytes:
    """Return the picture of a product of any kind as the bytes of a PNG file.

    kind : bias dark lflat converted im tlm ex red fflat
    dark : light lines on a dark ground
    """
    from matplotlib import rc_context  # noqa: PLC0415 - half a second that only a picture costs

    with rc_context(DARK if dark else {}):
        return _PICTURES[kind](path)


def spectrum_png(spectra: Spectra, title: str) -> bytes:
    """Return the picture of spectra: all fibers as an image, the brightest and a middling one as curves."""
    figure = _figure()
    image, curve = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    flux = np.asarray(spectra.flux, dtype=float)
    lit = np.isfinite(flux).any(axis=1)
    level = np.where(lit, np.nanmedian(np.where(lit[:, None], flux, 0.0), axis=1), -np.inf)
    order = np.argsort(level)
    low, high = _range(flux)
    reference = np.asarray(spectra.wave, dtype=float)[order[-1]]
    edges = np.concatenate(([reference[0]], 0.5 * (reference[1:] + reference[:-1]), [reference[-1]]))
    rows = np.arange(flux.shape[0] + 1) + 0.5
    image.pcolormesh(edges, rows, flux, vmin=low, vmax=high, cmap="viridis", rasterized=True)
    image.set_ylabel("fiber")
    image.set_title(_plain(title), fontsize=10)
    for fiber in (order[-1], order[flux.shape[0] // 2]):
        label = f"fiber {fiber + 1} ({spectra.fibers.type[fiber]})"
        curve.plot(spectra.wave[fiber], flux[fiber], lw=0.7, label=label)
    curve.set_xlabel("wavelength in air (Angstrom)")
    curve.set_ylabel("flux (electron)")
    curve.legend(frameon=False, fontsize=8)
    return _png(figure)


def image_png(pixels: Floats, title: str) -> bytes:
    """Return the picture of a two-dimensional image, row 0 below."""
    figure = _figure()
    axes = figure.subplots()
    step = max(1, -(-max(pixels.shape) // LARGEST))
    low, high = _range(pixels)
    extent = (-0.5, pixels.shape[1] - 0.5, -0.5, pixels.shape[0] - 0.5)
    shown = pixels[::step, ::step]
    drawn = axes.imshow(shown, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high, cmap="viridis")
    figure.colorbar(drawn, ax=axes)
    axes.set_xlabel("column")
    axes.set_ylabel("row")
    axes.set_title(_plain(title), fontsize=10)
    return _png(figure)


def tramlines_png(tlm: TramlineMap, title: str) -> bytes:
    """Return the picture of a tramline map: each trace about its own median, which shows what is odd."""
    figure = _figure()
    lines, shape = figure.subplots(1, 2)
    columns = np.arange(tlm.center.shape[1])
    for center, status in zip(tlm.center, tlm.status, strict=True):
        style = {"lw": 0.7} if status == "traced" else {"lw": 1.2, "ls": ":", "color": "tab:red"}
        lines.plot(columns, center, **style)
        shape.plot(columns, center - np.nanmedian(center), **style)
    lines.set_ylabel("row")
    shape.set_ylabel("row about the trace's median")
    for axes in (lines, shape):
        axes.set_xlabel("column")
    odd = int(np.count_nonzero(tlm.status != "traced"))
    figure.suptitle(_plain(f"{title}: {len(tlm.status)} traces, {odd} not traced on light (dotted)"), fontsize=10)
    return _png(figure)


def _figure() -> Any:
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    return Figure(figsize=SIZE, layout="constrained")


def _png(figure: Any) -> bytes:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _range(values: Floats) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite[:: max(1, finite.size // 1_000_000)], CLIP)
    return float(low), float(high if high > low else low + 1.0)


def _plain(title: str) -> str:
    """Keep a dollar sign in a name from being read as a formula."""
    return title.replace("$", r"\$")


def _of_spectra(path: Path) -> bytes:
    return spectrum_png(read_spectra(path, "red"), path.name)


def _of_image(path: Path) -> bytes:
    return image_png(np.asarray(read_image(path).flux, dtype=float), path.name)


def _of_counts(path: Path) -> bytes:
    return image_png(np.asarray(read_plane(path), dtype=float), path.name)


def _of_tramlines(path: Path) -> bytes:
    return tramlines_png(read_tramlines(path), path.name)


_PICTURES: Mapping[str, Callable[[Path], bytes]] = {
    "converted": _of_counts,
    "tlm": _of_tramlines,
    **dict.fromkeys(("bias", "dark", "lflat", "im"), _of_image),
    **dict.fromkeys(("ex", "red", "fflat"), _of_spectra),
}
