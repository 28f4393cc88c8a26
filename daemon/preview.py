"""A product as a small picture."""

from io import BytesIO
from pathlib import Path

import numpy as np

from kspecdr.io.fits import read_spectra
from kspecdr.products import Spectra

SIZE = (9.0, 5.2)  # inches at 100 dots
CLIP = (0.5, 99.7)  # percentiles of the brightness shown


def render_spectrum(red: str | Path, png: Path) -> Path:
    """Draw the spectra of a *_red.fits: all fibers as an image, and the brightest as a curve."""
    png.write_bytes(spectrum_png(read_spectra(red, "red"), Path(red).name))
    return png


def spectrum_png(spectra: Spectra, title: str) -> bytes:
    """Return the picture of reduced spectra as the bytes of a PNG file."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - half a second that only a picture costs

    flux = np.asarray(spectra.flux, dtype=float)
    figure = Figure(figsize=SIZE, layout="constrained")
    image, curve = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    lit = np.isfinite(flux).any(axis=1)
    level = np.where(lit, np.nanmedian(np.where(lit[:, None], flux, 0.0), axis=1), -np.inf)
    order = np.argsort(level)
    finite = flux[np.isfinite(flux)]
    low, high = np.percentile(finite, CLIP) if finite.size else (0.0, 1.0)
    reference = np.asarray(spectra.wave, dtype=float)[order[-1]]
    edges = np.concatenate(([reference[0]], 0.5 * (reference[1:] + reference[:-1]), [reference[-1]]))
    rows = np.arange(flux.shape[0] + 1) + 0.5
    image.pcolormesh(edges, rows, flux, vmin=low, vmax=high, cmap="viridis", rasterized=True)
    image.set_ylabel("fiber")
    image.set_title(title, fontsize=10)
    for fiber in (order[-1], order[flux.shape[0] // 2]):
        label = f"fiber {fiber + 1} ({spectra.fibers.type[fiber]})"
        curve.plot(spectra.wave[fiber], flux[fiber], lw=0.7, label=label)
    curve.set_xlabel("wavelength in air (Angstrom)")
    curve.set_ylabel("flux (electron)")
    curve.legend(frameon=False, fontsize=8)
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
