"""A product as a small picture."""

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from kspecdr.arrays import Bools, Floats
from kspecdr.io.fits import read_image, read_plane, read_spectra, read_tramlines
from kspecdr.products import FIBER_TYPES, Spectra, TramlineMap

SIZE = (9.0, 5.2)  # inches at 100 dots
CLIP = (0.5, 99.7)  # percentiles of the brightness shown
OUTLIERS = (0.2, 100.0)  # percentiles of the curves that their axis holds: lines whole, not the dips of an edge
MARGIN = 0.06  # of that range, left free on either side
LIT = 3.0  # median signal to noise from which a fiber shows light
CLEAR = 10.0  # from which it is worth seeing, however bright and so however noisy it is
NOISY = 5.0  # times the typical noise of a sample: the flat has scaled up a fiber with hardly any light
DEAD = ("N", "D")  # fiber types that no light comes through
LARGEST = 400  # pixels of an image along one side; more are left out
DARK: dict[Any, Any] = {  # colors for a screen in the dome
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "#0c0f12"),
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), "#9aa5ad"),
    "image.cmap": "kspecdr dim",
    "axes.prop_cycle": "cycler('color', ['#8fc4f4', '#f2b56b'])",
}
_LOADING = Lock()  # pages are asked for at once
DIM = ("#0c0f12", "#17344f", "#2f6d96", "#6fa9d8", "#b7d3ea")  # of an image, which nowhere becomes white


def render_spectrum(red: str | Path, png: Path) -> Path:
    """Draw the spectra of a *_red.fits: all fibers as an image, the best and a typical one as curves."""
    png.write_bytes(spectrum_png(read_spectra(red, "red"), Path(red).name))
    return png


def picture(path: Path, kind: str, *, dark: bool = False) -> bytes:
    """Return the picture of a product of any kind as the bytes of a PNG file.

    kind : bias dark lflat converted im tlm ex red fflat
    dark : light lines on a dark ground
    """
    load()
    from matplotlib import rc_context  # noqa: PLC0415 - as in `load`

    with rc_context(DARK if dark else {}):
        return _PICTURES[kind](path)


def load() -> None:
    """Load what draws: half a second that only pictures cost, and that the first of them need not wait for."""
    from matplotlib import colormaps  # noqa: PLC0415 - as the first line says
    from matplotlib.colors import LinearSegmentedColormap  # noqa: PLC0415 - as above
    from matplotlib.figure import Figure  # noqa: F401, PLC0415 - as above

    with _LOADING:
        if DARK["image.cmap"] not in colormaps:
            colormaps.register(LinearSegmentedColormap.from_list(DARK["image.cmap"], DIM))


def spectrum_png(spectra: Spectra, title: str) -> bytes:
    """Return the picture of spectra: all fibers as an image, the best and a typical one as curves.

    Both are chosen by signal to noise. Fibers that are dead, or so faint that noise is all they show, are left out.
    """
    shown = _legible(spectra)
    signal = np.where(shown, _signal_to_noise(spectra), -np.inf)
    figure = _figure()
    image, curve = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    flux = np.where(shown[:, None], np.asarray(spectra.flux, dtype=float), np.nan)
    _draw_fibers(figure, image, spectra, flux)
    image.set_title(_plain(title), fontsize=10)
    for fiber in _examples(signal):
        kind = FIBER_TYPES[str(spectra.fibers.type[fiber])]
        label = f"fiber {fiber + 1} ({kind}), S/N {signal[fiber]:.3g}"
        curve.plot(spectra.wave[fiber], flux[fiber], lw=0.8, label=label)
    drawn = flux[_examples(signal)]
    if np.isfinite(drawn).any():
        low, high = np.nanpercentile(drawn, OUTLIERS)
        curve.set_ylim(min(low, 0.0) - MARGIN * (high - low), high + MARGIN * (high - low) or 1.0)
        curve.legend(frameon=False, fontsize=8)
    curve.set_xlabel(f"wavelength in air (Angstrom){'' if spectra.calibrated else ', predicted'}")
    curve.set_ylabel(f"flux ({_unit(spectra)})")
    return _png(figure)


def _draw_fibers(figure: Any, axes: Any, spectra: Spectra, flux: Floats) -> None:
    """Draw all fibers over the wavelengths of the middle one; what is left out shows the ground."""
    low, high = _range(flux)
    reference = np.asarray(spectra.wave, dtype=float)[len(flux) // 2]
    edges = np.concatenate(([reference[0]], 0.5 * (reference[1:] + reference[:-1]), [reference[-1]]))
    rows = np.arange(len(flux) + 1) + 0.5
    drawn = axes.pcolormesh(edges, rows, flux, vmin=low, vmax=high, rasterized=True)
    figure.colorbar(drawn, ax=axes, label=_unit(spectra), pad=0.01)
    axes.set_xlim(edges[0], edges[-1])
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("fiber")


def _signal_to_noise(spectra: Spectra) -> Floats:
    """Return the median signal to noise of each fiber; 0 where nothing is known, (n_fiber,)."""
    known = (spectra.mask == 0) & (spectra.variance > 0) & np.isfinite(spectra.flux)
    ratio = np.where(known, spectra.flux / np.sqrt(np.where(known, spectra.variance, 1.0)), np.nan)
    return np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else 0.0 for row in ratio])


def _legible(spectra: Spectra) -> Bools:
    """Tell which fibers are alive and no noisier than `NOISY` times the typical one, (n_fiber,)."""
    known = (spectra.variance > 0) & np.isfinite(spectra.flux)
    alive = known.any(axis=1) & ~np.isin(spectra.fibers.type, DEAD)
    rows = zip(spectra.variance, known, strict=True)
    noise = np.array([np.sqrt(np.median(row[there])) if there.any() else np.inf for row, there in rows])
    typical = np.median(noise[alive]) if alive.any() else np.inf
    clear = _signal_to_noise(spectra) > CLEAR
    return np.asarray(alive & (clear | (noise <= NOISY * typical)), dtype=bool)


def _examples(signal: Floats) -> list[int]:
    """Return the fiber with the best signal to noise, and a typical one of the others that show light."""
    order = np.argsort(signal)[::-1]
    lit = [int(fiber) for fiber in order if signal[fiber] > LIT]
    best = [int(order[0])] if np.isfinite(signal[order[0]]) else []
    return best + lit[1:][len(lit[1:]) // 2 :][:1]


def _unit(spectra: Spectra) -> str:
    """Return the unit of the flux of a sample."""
    return {"electron": "electron per sample", "": "relative", "1": "relative"}.get(spectra.unit, spectra.unit)


def image_png(pixels: Floats, title: str, unit: str) -> bytes:
    """Return the picture of a two-dimensional image, row 0 below; `unit` of its pixels."""
    figure = _figure()
    axes = figure.subplots()
    step = max(1, -(-max(pixels.shape) // LARGEST))
    low, high = _range(pixels)
    extent = (-0.5, pixels.shape[1] - 0.5, -0.5, pixels.shape[0] - 0.5)
    shown = pixels[::step, ::step]
    drawn = axes.imshow(shown, origin="lower", aspect="auto", extent=extent, vmin=low, vmax=high)
    figure.colorbar(drawn, ax=axes, label=unit, pad=0.01)
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
    return image_png(np.asarray(read_image(path).flux, dtype=float), path.name, "electron")


def _of_counts(path: Path) -> bytes:
    return image_png(np.asarray(read_plane(path), dtype=float), path.name, "ADU")


def _of_tramlines(path: Path) -> bytes:
    return tramlines_png(read_tramlines(path), path.name)


_PICTURES: Mapping[str, Callable[[Path], bytes]] = {
    "converted": _of_counts,
    "tlm": _of_tramlines,
    **dict.fromkeys(("bias", "dark", "lflat", "im"), _of_image),
    **dict.fromkeys(("ex", "red", "fflat"), _of_spectra),
}
