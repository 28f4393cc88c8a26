"""The first page: tonight at a glance, for an observer at three in the morning."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlencode

from daemon.explaining import brief
from daemon.lacking import Missing, count, to_take, waits
from daemon.lights import STATE_COLORS, product_light
from daemon.planning.needed import Lack
from daemon.records import FrameState
from daemon.remedies import NOTHING
from daemon.web.html import Markup, document, join, tag
from daemon.web.parts import clock, frame_address, light_shown, picture, section, what_it_is
from daemon.web.site import Night, Row, Times, relative

NAMED = 6  # frames that a reason lists by name
NO_EXPOSURE = (FrameState.IGNORED, FrameState.DUPLICATE, FrameState.ABSENT, FrameState.BAD)
LOW_DISK = 0.05  # of the disk; below it the figure is yellow


def night_page(night: Night, out: Path) -> bytes:
    """Return the first page: tonight at a glance.

    First whether the last exposure was good, then what is still to be taken and looked at, then the rest.
    """
    problems = section("Needs a look", _attention(night, out)) if night.attention else None
    waiting = section("Waits", _waiting(night)) if night.waiting else None
    return document(
        f"{_summary_title(night)} - kspecdr",
        _banner(night),
        _last_exposure(night, out),
        tag(
            "div",
            tag("div", _lacks(night), problems, waiting, class_="todo"),
            tag("div", _last_spectrum(night, out), _speed(night), class_="seen"),
            class_="pair",
        ),
        _tiles(night),
        _earlier(night),
        tag("div", section("Newest frames", _frame_table(night.newest, out)), class_="brief"),
        _footer(),
    )


def _summary_title(night: Night) -> str:
    mark = "✖" if night.trouble else f"{night.n_attention} ✖" if night.attention else "●"
    return f"{mark} {night.name or 'no frames yet'}"


def _banner(night: Night) -> Markup:
    """Say first whether all is well, or what somebody must do before dawn."""
    light, said = _verdict(night)
    last = f"Night {night.name or '-'}; last frame {_ago(night.now - night.landed)} ago" if night.landed else ""
    local = "" if night.local.utcoffset() == night.now.utcoffset() else f" ({night.local:%H:%M %Z})"
    time = tag("span", f"{night.now:%H:%M:%S} UTC{local}", class_="clock")
    doing = night.pulse.line if night.pulse and not night.trouble else ""
    return tag(
        "header",
        tag("p", tag("span", "●", class_=light), " ", tag("strong", said[:1].upper() + said[1:]), class_="state"),
        tag("p", time, last or "No frame has landed yet"),
        tag("p", doing, class_="faint doing") if doing else None,
    )


def _verdict(night: Night) -> tuple[str, str]:
    """Return a light and the sentence that an observer should see first."""
    if night.trouble:
        return "red", night.trouble
    waiting = sum(missing.waiting for missing in night.lacks)
    said = [count(night.n_attention, "frame needs a look", "frames need a look")] if night.attention else []
    if waiting:
        said.append(f"{count(waiting, 'spectrum waits', 'spectra wait')} for calibrations to be taken")
    elif night.lacks:
        said.append("calibrations are still to be taken")
    return ("yellow", "; ".join(said)) if said else ("green", "All is well")


def _last_exposure(night: Night, out: Path) -> Markup | None:
    """Say whether the last exposure was good."""
    row = next((row for row in night.newest if row.frame.state not in NO_EXPOSURE), None)
    if row is None:
        return None
    frame = row.frame
    age = night.now - (frame.obs_time or frame.landed)
    words = (tag("a", frame.name, href=frame_address(frame)), f" {what_it_is(frame)}")
    begun = tag("span", f"{clock(frame.obs_time or frame.landed)}, {_ago(age)} ago", class_="clock")
    judged = tag("p", light_shown(row.light), " ", *words, begun, class_="exposure")
    return section("Last exposure", judged, tag("p", *_said(row, out), class_="faint"), _remedy(row))


def _tiles(night: Night) -> Markup:
    states = [*STATE_COLORS, *(state for state in FrameState if state not in STATE_COLORS)]
    counted = [(state, night.counts[state]) for state in states if state in night.counts]
    shown = [tag("div", tag("b", n, class_=STATE_COLORS.get(state)), tag("span", state)) for state, n in counted]
    used = 1 - night.free_bytes / night.total_bytes if night.total_bytes else 0.0
    low = "yellow" if used > 1 - LOW_DISK else None
    shown.append(tag("div", tag("b", f"{night.free_bytes / 1e9:.0f} GB", class_=low), tag("span", "disk free")))
    return tag("div", *shown, class_="tiles")


def _earlier(night: Night) -> Markup | None:
    """Say what is left of other nights, which this page does not show."""
    if not night.earlier:
        return None
    links = (
        tag("a", f"{number} {state}", href=f"/api/frames?{urlencode({'state': state})}")
        for state, number in night.earlier.items()
    )
    return tag("p", "Of other nights: ", *_spaced(links), class_="faint")


def _attention(night: Night, out: Path) -> Markup:
    more = night.n_attention - len(night.attention)
    return join(
        _frame_table(night.attention, out, remedies=True),
        tag("p", f"and {more} more: `kspecdr frames` lists them", class_="faint") if more > 0 else None,
    )


def _lacks(night: Night) -> Markup | None:
    """Say by setting which frames are still to be taken, and how many spectra wait for them."""
    items = [
        tag(
            "li",
            tag("span", missing.name, class_="name"),
            tag("span", missing.rest) if missing.rest else None,
            *(_lack_words(lack, missing) for lack in missing.lacks),
        )
        for missing in night.lacks
    ]
    if not items:
        return section("Still to be taken tonight", tag("p", "Nothing.", class_="faint")) if night.counts else None
    return section("Still to be taken tonight", tag("ul", *items, class_="reasons"))


def _lack_words(lack: Lack, missing: Missing) -> Markup:
    waiting = waits(lack)
    taking = tag("b", to_take(lack, missing.exposures))
    return tag("span", taking, f" ({waiting})" if waiting else None, class_="take")


def _waiting(night: Night) -> Markup:
    """Say each reason once, with the frames that wait for it."""
    items = []
    for reason, frames in night.waiting.items():
        names = ", ".join(frame.name for frame in frames[:NAMED])
        more = f" and {len(frames) - NAMED} more" if len(frames) > NAMED else ""
        items.append(tag("li", tag("span", f"{names}{more}", class_="name"), tag("span", brief(reason))))
    return tag("ul", *items, class_="reasons")


def _speed(night: Night) -> Markup | None:
    if not night.times:
        return None
    head = tag("tr", *(tag("th", text) for text in ("", "last", "half within", "95 % within")))
    rows = (_speed_row(each) for each in night.times)
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="figures")
    return section("Seconds from landing to product", table)


def _speed_row(times: Times) -> Markup:
    cells = (tag("td", f"{seconds:.1f}") for seconds in (times.last, times.p50, times.p95))
    return tag("tr", tag("td", times.rule), *cells)


def _last_spectrum(night: Night, out: Path) -> Markup:
    if night.last is None:
        return section("Last spectrum", tag("p", "None yet.", class_="faint"))
    what = " ".join(filter(None, (night.last.target or night.last.lamp, night.last.path.name)))
    light = product_light(night.last)
    time = tag("span", clock(night.last.obs_time), class_="clock")
    words = (light_shown(light), f" {what} ", tag("span", light.figure, class_="faint"), time)
    return section("Last spectrum", tag("p", *words), picture(night.last, out))


def _frame_table(rows: Iterable[Row], out: Path, *, remedies: bool = False) -> Markup:
    lines = [_frame_line(row, out, remedies=remedies) for row in rows]
    if not lines:
        return tag("p", "None yet.", class_="faint")
    return tag("ul", *lines, class_="frames")


def _frame_line(row: Row, out: Path, *, remedies: bool) -> Markup:
    """Show a frame as one line that folds on a narrow screen."""
    frame = row.frame
    name = tag("a", frame.name, href=frame_address(frame))
    return tag(
        "li",
        tag("span", clock(frame.obs_time or frame.landed), class_="time"),
        tag("span", light_shown(row.light), class_="light"),
        tag("span", name, class_="name"),
        tag("span", what_it_is(frame), class_="what"),
        tag("span", *_said(row, out), _remedy(row) if remedies else None, class_="said"),
    )


def _said(row: Row, out: Path) -> Iterator[object]:
    """Yield what made the light so, and the way to the product."""
    reason = brief(row.frame.reason.removeprefix(f"{row.frame.name}: "))
    yield "; ".join(filter(None, (row.light.figure, reason)))
    if row.product is not None:
        query = urlencode({"path": relative(row.product, out)})
        yield " "
        yield tag("a", row.product.kind, href=f"/product?{query}", class_="kind")


def _remedy(row: Row) -> Markup | None:
    """Say what to do, where there is something."""
    remedy = row.light.remedy.replace("FRAME", row.frame.name)
    return None if remedy.startswith(NOTHING) else tag("span", f"→ {remedy}", class_="remedy")


def _footer() -> Markup:
    links = ("/api/latest", "/api/frames", "/api/status", "/healthz", "/metrics")
    return tag("footer", *_spaced(tag("a", link, href=link) for link in links))


def _spaced(parts: Iterable[Markup]) -> Iterator[object]:
    for part in parts:
        yield part
        yield " "


def _ago(span: timedelta) -> str:
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"
