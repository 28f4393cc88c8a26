"""What a person does about a light that is not green: one sentence for each figure and for each state.

A remedy says what to do at the telescope or what to type; FRAME stands for the name of the frame.
"""

from daemon.records import FrameState
from daemon.store.rows import INHERITED

OF_FIGURES = {
    "arc_dark": "check the fibers without arc light, or mark them N in the fiber table",
    "arc_held": "take another arc, and see that the lamp is the one that its name tells",
    "arc_lost": "take another arc, and see that the lamp is the one that its name tells",
    "arc_rms": "take another arc, and see that the lamp is the one that its name tells",
    "bad_pixel_fraction": "look at the picture: where many pixels are lost, take these frames again",
    "cosmic_pixels": "look at the picture: a long exposure, a light leak, or spectra that the traces miss",
    "dark_columns_fraction": "check the flat lamp and the grating: part of the columns shows no light",
    "fibers_interpolated": "check these fibers and the flat lamp, or mark them N in the fiber table; check --fibers",
    "flat_signal_to_noise": "take more or longer fiber flats",
    "identity_in_doubt": "check --fibers, or give rows in the fiber table: which fiber is which is a guess",
    "noise_over_expected": "look for a light leak or a warm detector, and take these frames again",
    "pedestal_e": "set scatsub = true in [reduce.extract]: light lies under the spectra",
    "saturated_fraction": "expose shorter",
    "signal_to_noise_best": "check shutter, pointing and fiber feed, then expose again: no fiber shows light",
    "strange_light": "look at the picture: a lamp that is on, a ghost, or light between the fibers",
    "tramline_shift_px": "take a fiber flat and an arc now: the spectra have moved since the last",
}
OF_STATES = {
    FrameState.INCOMPLETE: "nothing, as long as it is being written; else copy it again",
    FrameState.UNCLASSIFIED: "say what it is: kspecdr classify FRAME CLASS",
    FrameState.IGNORED: "nothing; where it is wrong: kspecdr classify FRAME CLASS",
    FrameState.INVALID: "copy the file again, then kspecdr retry FRAME; or take the frame again",
    FrameState.DUPLICATE: "nothing: its twin is reduced",
    FrameState.WAITING: "nothing: it goes on by itself",
    FrameState.QUEUED: "nothing: a worker takes it soon",
    FrameState.RUNNING: "nothing: it is being reduced",
    FrameState.REDUCED: "nothing",
    FrameState.USED: "nothing",
    FrameState.SET_ASIDE: "nothing: the others of its kind serve",
    FrameState.FAILED: "see kspecdr why FRAME; mend the cause or take it again, then kspecdr retry FRAME",
    FrameState.BAD: "nothing; where it is wrong: kspecdr mark-bad FRAME --undo",
    FrameState.ABSENT: "nothing; where it was not meant: put the file back",
}
PROVISIONAL = "take the calibration that the reason names; it is made again by itself"
MISSING = "take what it needs; it is reduced by itself when that is there"
NOTHING = "nothing"
LOOK = "look at the picture and the figures"


def of_state(state: FrameState, reason: str) -> str:
    """Return what to do with a frame; `reason` of its state."""
    return MISSING if state is FrameState.WAITING and reason.startswith("needs ") else OF_STATES[state]


def of_figure(name: str) -> str:
    """Return what to do where a figure is beyond its limit."""
    if name.startswith(INHERITED):
        return f"look at the {name.removeprefix(INHERITED)} on its own page; a better one is taken up by itself"
    return OF_FIGURES.get(name, LOOK)
