"""Nights by name, from the plain one to the hard ones."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle, islice
from types import MappingProxyType

from kspecdr.simulate.exposure import Exposure
from kspecdr.simulate.instrument import (
    READOUT_MODES,
    Camera,
    Defects,
    Detector,
    Instrument,
    Slit,
    Spectrograph,
)
from kspecdr.simulate.naming import ALL_LAMPS
from kspecdr.simulate.night import Night

LAMPS = ("hgar", "ne", "kr", "cd")


def calibrations(
    *, n_bias: int = 5, darks: tuple[float, ...] = (300.0, 300.0, 300.0, 60.0, 60.0), n_flat: int = 2
) -> tuple[Exposure, ...]:
    """Return what is taken before the sky is dark: biases, darks of given times, flats."""
    return (
        *(Exposure("bias") for _ in range(n_bias)),
        *(Exposure("dark", seconds) for seconds in darks),
        *(Exposure("flat", 1.0) for _ in range(n_flat)),
    )


def arcs(
    lamps: tuple[str, ...] = LAMPS, *, seconds: float = 10.0, shift: float = 0.0, level: float = 0.0
) -> tuple[Exposure, ...]:
    """Return one arc of each lamp."""
    return tuple(Exposure("arc", seconds, lamp=lamp, trace_shift=shift, level=level) for lamp in lamps)


def targets(n: int, *, seconds: float = 300.0, shift: float = 0.0) -> tuple[Exposure, ...]:
    """Return `n` exposures of different fields, tile_001 and so on."""
    return tuple(Exposure("object", seconds, target=f"tile_{k:03d}", trace_shift=shift) for k in range(1, n + 1))


def whole_night(*, arc_shift: float = 0.1, object_shift: float = 0.2, arc_level: float = 0.0) -> tuple[Exposure, ...]:
    """Return a short night with frames of every kind; shifts (px) are of the traces against the flats."""
    return (
        *calibrations(),
        Exposure("lflat", 1.0),
        Exposure("sky", 10.0, trace_shift=object_shift),
        *arcs(shift=arc_shift, level=arc_level),
        Exposure("standard", 60.0, target="standard", trace_shift=object_shift),
        *targets(3, shift=object_shift),
        *arcs(("hgar", "ne"), shift=object_shift, level=arc_level),
    )


def long_night(n_files: int, instrument: Instrument) -> Night:
    """Return a night of `n_files` files: calibrations, then fields with two arcs after every eight.

    For replays; with the instrument of `PRESETS["small"]` a file has 0.23 MB.
    """
    first = (*calibrations(darks=(300.0, 300.0, 300.0)), *arcs(("hgar", "ne")))
    period = (*targets(8, seconds=60.0), *arcs(("hgar", "ne")))
    return Night(instrument, (*first, *islice(cycle(period), max(n_files - len(first), 0)))[:n_files])


SMALL = Instrument(
    spectrograph=Spectrograph(nominal_center=6250.0),
    slit=Slit(n_fiber=6, center_row=109.5, sky=(3,)),
    detector=Detector(n_row=220, n_column=512, n_hot=25),
)

SIXTEEN = Slit(
    n_fiber=16,
    dead=(5, 12),
    known_dead=(5,),
    faint=((9, 0.05),),
    line_tilt=-1.2,
    curvature=2.0,
    sky=(3, 8, 13),
)

PRESETS: Mapping[str, Night] = MappingProxyType(
    {
        "plain": Night(exposures=whole_night()),
        "ghost": Night(  # ghost band, second order, shifted traces
            Instrument(
                spectrograph=Spectrograph(center_offset=-38.0, focal_length_error=-0.005),
                slit=Slit(faint=((6, 0.06),)),
                defects=Defects(ghost=0.28, second_order=0.033, unlisted_lines=3),
                camera=Camera(
                    light_path="FlippedHorizontally",
                    result="FlippedVertically",
                    prefix="PI CAMERA EXPERIMENT",
                ),
                seed=2,
            ),
            whole_night(arc_shift=1.1, object_shift=-0.7),
        ),
        "grating300": Night(
            Instrument(
                spectrograph=Spectrograph(lines_per_mm=300, nominal_center=5400.0, center_offset=-16.0),
                detector=Detector(readout=READOUT_MODES["medium"], full_well=250_000.0),
                camera=Camera(light_path="Normal", result="Normal"),
                seed=3,
            ),
            whole_night(),
        ),
        "grating600": Night(
            Instrument(
                spectrograph=Spectrograph(
                    lines_per_mm=600, nominal_center=6800.0, center_offset=9.0, focal_length_error=0.006
                ),
                slit=Slit(curvature=1.5, line_tilt=-0.8),
                detector=Detector(readout=READOUT_MODES["high"], bias_level=598.0),
                seed=4,
            ),
            whole_night(object_shift=0.6),
        ),
        "dead_fibers": Night(  # 16 fibers, two dead, one of them not known to be; saturated arcs
            Instrument(
                slit=SIXTEEN,
                detector=Detector(readout=READOUT_MODES["capacity_low"], full_well=700_000.0),
                camera=Camera(light_path="FlippedHorizontally", result="FlippedHorizontally", writes_angles=False),
                seed=5,
            ),
            # the strongest lines are saturated in 10 s, too much to be of use in 120 s
            (*whole_night(arc_level=4.0e5), *arcs(("hgar", "ne"), seconds=120.0, level=4.0e5)),
        ),
        "descending_overscan": Night(  # wavelength falls along the columns, 1330 rows, cubes, odd cards
            Instrument(
                spectrograph=Spectrograph(ascending=False, center_offset=44.0),
                detector=Detector(overscan_rows=30, bias_level=571.0, bias_drift=0.5),
                camera=Camera(
                    light_path="FlippedVertically",
                    result="Normal",
                    writes_quality=False,
                    ragged_exposure=True,
                    broken_continue=True,
                ),
                seed=6,
            ),
            (
                Exposure("bias", n_frames=5),
                *calibrations(n_bias=0),
                *arcs((*LAMPS, ALL_LAMPS), shift=0.4),
                Exposure("object", 300.0, target="tile_001", trace_shift=0.4, n_frames=2),
                *targets(2, shift=0.4),
            ),
            naming="kspec",
        ),
        "small": Night(
            SMALL,
            (
                *calibrations(n_bias=3, darks=(300.0, 300.0), n_flat=1),
                *arcs(("hgar", "ne")),
                *targets(2),
            ),
        ),
        "demo": Night(
            exposures=(
                *calibrations(n_bias=3, darks=(300.0, 300.0), n_flat=1),
                *arcs(("hgar", "ne"), shift=0.1),
                *targets(3, shift=0.2),
            )
        ),
    }
)


def with_seed(night: Night, seed: int) -> Night:
    """Return the same night with another instrument of the same design."""
    return replace(night, instrument=replace(night.instrument, seed=seed))
