"""What stays the same through a simulated night: spectrograph, slit, detector, camera settings.

Default numbers are those of K-SPEC's backup spectrograph: an IsoPlane SCT-320 with a PIXIS 1300BX.
"""

from dataclasses import dataclass, field

import numpy as np

REFERENCE_COLUMNS = 1340  # tilts and bows are quoted over the full detector


@dataclass(frozen=True)
class Spectrograph:
    """Grating, its true setting, and what the header says of it."""

    lines_per_mm: int = 150
    blaze_nm: int = 500
    nominal_center: float = 6200.0  # Angstrom, the wavelength that was asked for
    center_offset: float = 27.0  # Angstrom, true central wavelength minus the header's
    focal_length: float = 328.0  # mm, as the header says
    focal_length_error: float = 0.004  # true focal length over the header's, minus 1
    inclusion_angle: float = 17.80  # degrees
    detector_angle: float = 8.46  # degrees
    ascending: bool = True  # wavelength grows with the column of the normalised frame
    line_fwhm: tuple[float, float] = (3.3, 3.7)  # px at the first and last column
    wing_fraction: float = 0.015  # part of a line's light in its wings
    wing_sigma: float = 4.5  # px


@dataclass(frozen=True)
class Slit:
    """The fibers: where they lie, how bright they are, how their light is spread over rows.

    Fiber numbers count from 1 at the lowest row.
    """

    n_fiber: int = 14
    center_row: float = 647.4  # of the middle of the slit at the middle column, overscan rows not counted
    spacing: float = 12.06  # px
    spacing_scatter: float = 0.06  # px, rms of a fiber's place
    tilt: float = -3.6  # px over REFERENCE_COLUMNS
    bow: float = 0.25  # px, sagitta of the traces
    fiber_fwhm: tuple[float, float] = (3.0, 3.5)  # px at the first and last column
    wing_fraction: float = 0.025  # part of a fiber's light in the wings
    wing_sigma: float = 4.0  # px
    offset_scatter: float = 0.25  # px along the dispersion, rms of a fiber's place
    line_tilt: float = 0.5  # px along the dispersion, middle to end of the slit
    curvature: float = 0.8  # px along the dispersion, middle to ends of the slit
    stretch: float = 1.0e-4  # relative change of the dispersion, middle to end of the slit
    outer_throughput: float = 0.015
    color: float = 0.03  # rms of the change of a fiber's throughput from the first to the last column
    faint: tuple[tuple[int, float], ...] = ()  # (fiber, throughput)
    dead: tuple[int, ...] = ()
    known_dead: tuple[int, ...] = ()  # the dead ones that the fiber table marks D
    sky: tuple[int, ...] = (3, 7, 11)

    @property
    def types(self) -> tuple[str, ...]:
        """The fiber table's letters: P program, S sky, D dead."""
        return tuple("D" if n in self.known_dead else "S" if n in self.sky else "P" for n in range(1, self.n_fiber + 1))


@dataclass(frozen=True)
class ReadoutMode:
    """A readout mode as LightField names it, with the gain and noise that it truly has."""

    speed: float  # MHz
    analog_gain: str
    quality: str
    gain: float  # electron per ADU
    read_noise: float  # electron

    @property
    def readout_s(self) -> float:
        """Time to read the whole detector."""
        return 0.9 * 2.0 / self.speed


READOUT_MODES = {  # measured on the instrument
    "low": ReadoutMode(2, "Low", "LowNoise", 4.09, 16.03),
    "medium": ReadoutMode(2, "Medium", "LowNoise", 2.10, 15.88),
    "high": ReadoutMode(2, "High", "LowNoise", 1.12, 15.42),
    "capacity_low": ReadoutMode(2, "Low", "HighCapacity", 15.37, 41.34),
    "capacity_medium": ReadoutMode(2, "Medium", "HighCapacity", 7.73, 37.57),
    "capacity_high": ReadoutMode(2, "High", "HighCapacity", 3.74, 35.08),
    "slow": ReadoutMode(0.1, "High", "LowNoise", 1.12, 4.48),
}


@dataclass(frozen=True)
class Detector:
    """The CCD and its electronics."""

    n_row: int = 1300  # rows that see light
    n_column: int = 1340
    overscan_rows: int = 0  # rows below the others, in the normalised frame, that see none
    pixel_um: float = 20.0
    readout: ReadoutMode = READOUT_MODES["low"]
    full_well: float = 300_000.0  # electron; where it is below the range of the converter it rules
    bias_level: float = 612.0  # ADU
    bias_drift: float = 0.15  # ADU, rms from frame to frame
    dark_rate: float = 0.003  # electron/s/px
    glow_rate: float = 0.02  # electron/s/px at the last column
    n_hot: int = 400
    pixel_response: float = 0.004  # rms from pixel to pixel
    cosmic_rate: float = 1.2  # hits per cm2 and minute


@dataclass(frozen=True)
class Defects:
    """Light that is where it should not be, and fringes."""

    etaloning: float = 0.05  # peak to peak above 7000 Angstrom
    etaloning_period: float = 14.0  # px
    ghost: float = 0.0  # brightness of the ghost band over a fiber's peak
    ghost_rows: tuple[float, float] = (370.0, 415.0)
    second_order: float = 0.0  # a line's light that shows at twice its wavelength
    unlisted_lines: int = 0  # faint lines that no table has, in every lamp
    intensity_scatter: float = 0.2  # dex, of a lamp's lines against the tables


@dataclass(frozen=True)
class Camera:
    """How LightField is set up and what it does to the cards."""

    light_path: str = "FlippedHorizontally, FlippedVertically"  # LIGHTPATHORIENTATIONUNCORRECTED
    result: str = "Normal"  # ACQUISITION ORIENTATION RESULT
    prefix: str = "PI CAMERA"
    writes_quality: bool = True
    writes_angles: bool = True
    ragged_exposure: bool = False  # 999.99999999999989 for 1000
    broken_continue: bool = False  # a CONTINUE chain that no reader can parse

    def flips(self) -> tuple[bool, bool]:
        """Whether the columns and the rows in the file run against the normalised frame.

        Per axis each card counts -1 where it names the flip and +1 where it does not; a product of +1
        means that the file must be flipped.
        """
        return tuple(  # type: ignore[return-value]  # two axes give two answers
            (word in self.light_path) == (word in self.result) for word in ("FlippedHorizontally", "FlippedVertically")
        )


@dataclass(frozen=True)
class Instrument:
    """Everything that makes one instrument differ from another."""

    spectrograph: Spectrograph = field(default_factory=Spectrograph)
    slit: Slit = field(default_factory=Slit)
    detector: Detector = field(default_factory=Detector)
    defects: Defects = field(default_factory=Defects)
    camera: Camera = field(default_factory=Camera)
    seed: int = 1  # of all that differs between two instruments of the same design

    def random(self, what: str) -> np.random.Generator:
        """Return a generator for one fixed property, always in the same state."""
        return np.random.default_rng([self.seed, *what.encode()])
