"""One exposure as it is asked for, and the truth about the frame that it gives."""

from dataclasses import dataclass
from typing import Literal

from kspecdr.arrays import Bools, Floats, Ints

Kind = Literal["bias", "dark", "lflat", "flat", "arc", "object", "sky", "standard"]


@dataclass(frozen=True)
class Exposure:
    """What the observer asks for."""

    kind: Kind
    exposure_s: float = 0.0
    lamp: str = ""  # of an arc: hgar, ne, HgArNeKrCd...
    target: str = ""
    level: float = 0.0  # electron/s in the brightest column of a lamp; 0 means the kind's default
    trace_shift: float = 0.0  # px, of the traces against their place in the first flat
    n_frames: int = 1  # frames in one file


@dataclass(frozen=True)
class Truth:
    """What is known of a simulated frame and no observer can know.

    Coordinates are those of the normalised frame, overscan rows included.
    """

    exposure: Exposure
    tramlines: Floats  # (n_fiber, n_column) row of each fiber's center
    wavelength: Floats  # (n_fiber, n_column) Angstrom in air, of pixel centers
    flux: Floats  # (n_fiber, n_column) electron that the detector collects, noise-free
    sky: Floats  # (n_fiber, n_column) electron, the part of `flux` that is night sky
    fiber_sigma: Floats  # (n_fiber, n_column) px, core of the profile across the dispersion
    wing_fraction: float  # part of a fiber's light in the wings
    wing_sigma: float  # px
    throughput: Floats  # (n_fiber, n_column) relative, without fringes; 0 is a dead fiber
    line_wavelength: Floats  # (n_line,) Angstrom in air
    line_column: Floats  # (n_fiber, n_line) column of each line's center
    line_flux: Floats  # (n_fiber, n_line) electron, before fringes and pixel response
    electrons: Floats  # (n_row, n_column) noise-free light and dark, without cosmic rays and saturation
    variance: Floats  # (n_row, n_column) electron**2, of light, dark, read noise and digitisation
    bias: Floats  # (n_row, n_column) ADU
    saturated: Bools  # (n_row, n_column) the pixel or the converter was full
    cosmic_rays: Ints  # (n_pixel, 2) row, column
    cosmic_electrons: Floats  # (n_pixel,)
    overscan_rows: int  # below the others
    gain: float  # electron per ADU
    read_noise: float  # electron
