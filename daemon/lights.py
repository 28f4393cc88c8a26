"""The traffic light of a frame or product: a color, a word, the figure that made it so, and what to do about it.

Terminal and pages show the same light.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from daemon import remedies
from daemon.records import FrameInfo, FrameState, Quality
from daemon.store.queries import Product
from daemon.store.rows import INHERITED

# What a figure is called by a person, and its unit; what is not here is called by its name.
TITLES = {
    "arc_dark": ("fibers without arc light", ""),
    "arc_fwhm": ("line width", "px"),
    "arc_held": ("residual of lines held back", "px"),
    "arc_line": ("arc lines", ""),
    "arc_lost": ("arc lines placed elsewhere", "%"),
    "arc_rms": ("arc residual", "px"),
    "bad_pixel_fraction": ("bad pixels", "%"),
    "cosmic_pixels": ("cosmic-ray pixels", ""),
    "dark_columns_fraction": ("columns without light", "%"),
    "flat_signal_to_noise": ("S/N of the flat", ""),
    "fibers_interpolated": ("fibers without light", ""),
    "fibers_traced": ("fibers traced", ""),
    "identity_in_doubt": ("doubt which fiber is which", ""),
    "level_e": ("level", "e-"),
    "noise_over_expected": ("noise over expected", ""),
    "pedestal_e": ("light under the spectra", "e-"),
    "profile_sigma_px": ("profile sigma", "px"),
    "saturated_fraction": ("saturated", "%"),
    "signal_to_noise": ("S/N", ""),
    "signal_to_noise_best": ("S/N of the best fiber", ""),
    "strange_light": ("light that is no fiber's", "%"),
    "tramline_shift_px": ("traces moved", "px"),
}
# The figure that is shown where all is well, the first that a product has.
HEADLINES = ("signal_to_noise", "arc_rms", "fibers_traced", "noise_over_expected")
# A standard star lights one fiber, so that a typical fiber says nothing of it.
HEADLINES_OF_CLASS = {"MFFLX": ("signal_to_noise_best",)}
COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}
WORDS = {"ok": "good", "warn": "look", "fail": "bad"}
FAULTY = (FrameState.FAILED, FrameState.INVALID, FrameState.UNCLASSIFIED)
UNDONE = (*FAULTY, FrameState.INCOMPLETE)  # what somebody may have to look at
PENDING = (FrameState.WAITING, FrameState.QUEUED, FrameState.RUNNING, FrameState.INCOMPLETE)


# In which order states are counted, and the color of a count.
STATE_COLORS = {
    FrameState.WAITING: "blue",
    FrameState.QUEUED: "blue",
    FrameState.RUNNING: "blue",
    FrameState.INCOMPLETE: "blue",
    FrameState.REDUCED: "green",
    FrameState.USED: "green",
    FrameState.FAILED: "red",
    FrameState.INVALID: "red",
    FrameState.UNCLASSIFIED: "red",
}


@dataclass(frozen=True, slots=True)
class Light:
    """How a frame or product is."""

    color: str  # green, yellow, red, blue (on its way), grey (left out)
    word: str
    figure: str = ""
    remedy: str = remedies.NOTHING  # what a person does about it


def light_of(frame: FrameInfo, products: Iterable[Product]) -> Light:
    """Judge a frame by its state, and by the worst of what it was made into."""
    remedy = remedies.of_state(frame.state, frame.reason)
    if frame.state in FAULTY:
        return Light("red", str(frame.state), remedy=remedy)
    if frame.state in PENDING:
        return Light("blue", str(frame.state), remedy=remedy)
    judged = [product_light(product) for product in products]
    if frame.state in (FrameState.REDUCED, FrameState.USED) and judged:
        return max(judged, key=lambda each: list(COLORS.values()).index(each.color))
    return Light("grey", str(frame.state), remedy=remedy)


def product_light(product: Product) -> Light:
    """Judge a product by the worst of its figures; a provisional one is never better than yellow."""
    headlines = (*HEADLINES_OF_CLASS.get(product.frame_class, ()), *HEADLINES)
    figures = sorted(product.quality, key=lambda each: _rank(each, headlines))
    if product.flag != "ok":
        worst = next((each for each in figures if each.flag == product.flag), None)
        light = flag_light(product.flag)
        return replace(light, figure=figure_words(worst), remedy=remedies.of_figure(worst.name)) if worst else light
    shown = next((each for each in figures if each.name in headlines), None)
    said = figure_words(shown) if shown else ""
    if product.provisional:
        return Light("yellow", "provisional", said, remedies.PROVISIONAL)
    return Light("green", "good", said)


def flag_light(flag: str) -> Light:
    """Return the light of a flag of the quality checklist."""
    remedy = remedies.NOTHING if flag == "ok" else remedies.LOOK
    return Light(COLORS.get(flag, "red"), WORDS.get(flag, flag), remedy=remedy)


def figure_words(figure: Quality, *, limit_always: bool = False) -> str:
    """Say a figure, and its limit where it is beyond: `arc residual 0.12 px (limit 0.1)`."""
    if figure.name.startswith(INHERITED):
        return f"the {figure.name.removeprefix(INHERITED)} that it was made with needs a look"
    title, unit = TITLES.get(figure.name, (figure.name.replace("_", " "), ""))
    told = figure.limit is not None and (limit_always or figure.flag != "ok")
    limit = f" (limit {_number(figure.limit or 0.0, unit)})" if told else ""
    return f"{title} {_number(figure.value, unit)}{f' {unit}' if unit else ''}{limit}"


def _number(value: float, unit: str) -> str:
    if not math.isfinite(value):
        return "not measured"
    shown = value * 100.0 if unit == "%" else value
    if shown and abs(shown) < 1e-3:
        return "0.00"
    return f"{shown:.0f}" if abs(shown) >= 100 else f"{shown:.3g}"


def _rank(figure: Quality, headlines: Sequence[str]) -> int:
    return headlines.index(figure.name) if figure.name in headlines else len(headlines)
