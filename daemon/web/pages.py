"""The pages as HTML: tonight, a frame, a product."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

from daemon.records import FrameInfo, FrameState, ProductState, Quality
from daemon.rulebook import describe_setting
from daemon.store.queries import Product
from daemon.store.reader import Making
from daemon.web.html import Markup, document, join, tag
from daemon.web.lights import STATE_COLORS, Light, figure_words, flag_light, product_light
from daemon.web.site import Night, Row, Times, relative

NAMED = 6  # frames that a reason lists by name
LOW_DISK = 0.05  # of the disk; below it the figure is yellow


def night_page(night: Night, out: Path) -> bytes:
    """Return the first page: tonight at a glance."""
    problems = _section("Needs a look", _frame_table(night.attention, out)) if night.attention else None
    waiting = _section("Waits", _waiting(night)) if night.waiting else None
    return document(
        f"{_summary_title(night)} - kspecdr",
        _banner(night),
        _tiles(night),
        problems,
        tag("div", _last_spectrum(night, out), tag("div", waiting, _speed(night)), class_="pair"),
        tag("div", _section("Newest frames", _frame_table(night.newest, out)), class_="brief"),
        _footer(),
    )


def frame_page(rows: Sequence[Row], products: Iterable[Product], failure: Making | None, out: Path) -> bytes:
    """Return the page of a file: its frames, why each stands where it does, what was made of it."""
    first = rows[0].frame
    return document(
        f"{first.path} - kspecdr",
        _home(),
        tag("h1", first.path),
        *(_frame_facts(row) for row in rows),
        _section("Products", _product_list(products, out)),
        _making("What failed", failure) if failure else None,
    )


def product_page(product: Product, making: Making, siblings: Iterable[Product], out: Path) -> bytes:
    """Return the page of a product: picture, quality, and where it comes from."""
    path = relative(product, out)
    title = " ".join(filter(None, (product.target or product.lamp, product.path.name)))
    others = [each for each in siblings if each.path != product.path]
    return document(
        f"{product.path.name} - kspecdr",
        _home(),
        tag("h1", title),
        tag("p", _light(product_light(product)), f" {product.state}, observed {_time(product.obs_time)}"),
        tag("p", f"Provisional: {product.reason}", class_="note") if product.provisional else None,
        _picture(product, out),
        _section("Quality", _quality(product.quality)),
        _making("Where it comes from", making),
        _section("Other files of the same job", _product_list(others, out)) if others else None,
        tag("p", "File: ", tag("code", str(product.path)), class_="faint"),
        tag("p", "Fingerprint: ", tag("code", product.fingerprint), class_="faint", title=path),
    )


def message_page(title: str, sentence: str) -> bytes:
    """Return a page that says one thing."""
    return document(f"{title} - kspecdr", _home(), tag("h1", title), tag("p", sentence))


def _summary_title(night: Night) -> str:
    mark = "✖" if night.trouble else f"{len(night.attention)} ✖" if night.attention else "●"
    return f"{mark} {night.name or 'no frames yet'}"


def _banner(night: Night) -> Markup:
    """Say first whether all is well."""
    light = "red" if night.trouble else "yellow" if night.attention else "green"
    said = night.trouble or ("All is well" if not night.attention else _count(night.attention, "needs a look"))
    last = f"; last frame {_ago(night.now - night.landed)} ago" if night.landed else ""
    local = "" if night.local.utcoffset() == night.now.utcoffset() else f" ({night.local:%H:%M %Z})"
    doing = night.pulse.line if night.pulse and not night.trouble else ""
    return tag(
        "header",
        tag("p", tag("span", "●", class_=light), " ", tag("strong", said[:1].upper() + said[1:]), class_="state"),
        tag("p", f"Night {night.name or '-'}{last}", tag("span", f"{night.now:%H:%M:%S} UTC{local}", class_="clock")),
        tag("p", doing, class_="faint") if doing else None,
    )


def _count(rows: Sequence[Row], words: str) -> str:
    return f"1 frame {words}" if len(rows) == 1 else f"{len(rows)} frames {words.replace('needs', 'need')}"


def _tiles(night: Night) -> Markup:
    states = [*STATE_COLORS, *(state for state in FrameState if state not in STATE_COLORS)]
    counted = [(state, night.counts[state]) for state in states if state in night.counts]
    shown = [tag("div", tag("b", n, class_=STATE_COLORS.get(state)), tag("span", state)) for state, n in counted]
    used = 1 - night.free_bytes / night.total_bytes if night.total_bytes else 0.0
    low = "yellow" if used > 1 - LOW_DISK else None
    shown.append(tag("div", tag("b", f"{night.free_bytes / 1e9:.0f} GB", class_=low), tag("span", "disk free")))
    return tag("div", *shown, class_="tiles")


def _waiting(night: Night) -> Markup:
    """Say each reason once, with the frames that wait for it."""
    items = []
    for reason, frames in night.waiting.items():
        names = ", ".join(frame.name for frame in frames[:NAMED])
        more = f" and {len(frames) - NAMED} more" if len(frames) > NAMED else ""
        parts = (tag("span", part) for part in reason.split("; "))
        items.append(tag("li", tag("span", f"{names}{more}", class_="name"), *parts))
    return tag("ul", *items, class_="reasons")


def _speed(night: Night) -> Markup | None:
    if not night.times:
        return None
    head = tag("tr", *(tag("th", text) for text in ("", "last", "half within", "95 % within")))
    rows = (_speed_row(each) for each in night.times)
    table = tag("table", tag("thead", head), tag("tbody", *rows), class_="figures")
    return _section("Seconds from landing to product", table)


def _speed_row(times: Times) -> Markup:
    cells = (tag("td", f"{seconds:.1f}") for seconds in (times.last, times.p50, times.p95))
    return tag("tr", tag("td", times.rule), *cells)


def _last_spectrum(night: Night, out: Path) -> Markup:
    if night.last is None:
        return _section("Last spectrum", tag("p", "None yet.", class_="faint"))
    what = " ".join(filter(None, (night.last.target or night.last.lamp, night.last.path.name)))
    light = product_light(night.last)
    time = tag("span", _clock(night.last.obs_time), class_="clock")
    words = (_light(light), f" {what} ", tag("span", light.figure, class_="faint"), time)
    return _section("Last spectrum", tag("p", *words), _picture(night.last, out))


def _picture(product: Product, out: Path) -> Markup:
    query = urlencode({"path": relative(product, out)})
    image = tag("img", src=f"/picture?{query}", alt=f"Picture of {product.path.name}", width="900", height="520")
    return tag("a", image, href=f"/product?{query}", class_="picture")


def _frame_table(rows: Iterable[Row], out: Path) -> Markup:
    lines = [_frame_line(row, out) for row in rows]
    if not lines:
        return tag("p", "None yet.", class_="faint")
    return tag("ul", *lines, class_="frames")


def _frame_line(row: Row, out: Path) -> Markup:
    """Show a frame as one line that folds on a narrow screen."""
    frame = row.frame
    said = "; ".join(filter(None, (row.light.figure, frame.reason)))
    name = tag("a", frame.name, href=_frame_address(frame))
    product = None
    if row.product is not None:
        query = urlencode({"path": relative(row.product, out)})
        product = tag("a", row.product.kind, href=f"/product?{query}", class_="kind")
    return tag(
        "li",
        tag("span", _clock(frame.obs_time or frame.landed), class_="time"),
        tag("span", _light(row.light), class_="light"),
        tag("span", name, class_="name"),
        tag("span", _what(frame), class_="what"),
        tag("span", said, product and " ", product, class_="said"),
    )


def _frame_facts(row: Row) -> Markup:
    frame = row.frame
    setting = ", ".join(describe_setting(name, value) for name, value in frame.setup.items())
    facts = (
        ("frame of the cube", frame.part or None),
        ("class", _what(frame) or "not known"),
        ("observed", _time(frame.obs_time) if frame.obs_time else None),
        ("landed", _time(frame.landed)),
        ("exposure", f"{frame.exposure_s:g} s" if frame.obs_time else None),
        ("night", frame.night or None),
        ("setting", setting or None),
        ("fibers", frame.fibers or None),
        ("size", f"{frame.size / 1e6:.1f} MB"),
        ("content", tag("code", frame.content_hash) if frame.content_hash else None),
    )
    state = "" if row.light.word == frame.state else str(frame.state)
    said = "; ".join(filter(None, (state, row.light.figure, frame.reason)))
    return tag("section", tag("p", _light(row.light), f" {said}"), _facts(facts))


def _facts(facts: Iterable[tuple[str, object]]) -> Markup:
    return tag(
        "dl", *(join(tag("dt", name), tag("dd", value)) for name, value in facts if value is not None), class_="facts"
    )


def _quality(figures: Iterable[Quality]) -> Markup:
    rows = [tag("li", _light(flag_light(each.flag)), f" {figure_words(each, limit_always=True)}") for each in figures]
    return tag("ul", *rows, class_="plain") if rows else tag("p", "Nothing was measured.", class_="faint")


def _making(title: str, making: Making) -> Markup:
    """Show the inputs of a job, what it said, and how long its stages took."""
    inputs = (tag("li", tag("span", role, class_="role"), " ", _input_link(role, path)) for role, path in making.inputs)
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in making.stage_times.items() if name != "worker")
    facts = (
        ("made", _time(making.finished) if making.finished else None),
        ("after landing", f"{making.latency_s:.2f} s" if making.latency_s is not None else None),
        ("stages", f"{stages} s" if stages else None),
        ("memory", f"{making.memory_mb:.0f} MB" if making.memory_mb else None),
    )
    said = [tag("p", making.error, class_="note")] if making.error else []
    said += [tag("p", warning, class_="note") for warning in making.warnings]
    return _section(title, *said, tag("ul", *inputs, class_="plain"), _facts(facts))


def _input_link(role: str, path: str) -> Markup:
    if role == "raw":
        return tag("a", path, href=f"/frame?{urlencode({'path': path})}")
    name = path.rsplit("/", 1)[-1]
    return tag("a", name, href=f"/product?{urlencode({'path': path})}", title=path)


def _product_list(products: Iterable[Product], out: Path) -> Markup:
    lines = [_product_line(product, out) for product in products]
    return tag("ul", *lines, class_="plain") if lines else tag("p", "None.", class_="faint")


def _product_line(product: Product, out: Path) -> Markup:
    query = urlencode({"path": relative(product, out)})
    light = product_light(product)
    name = tag("a", product.path.name, href=f"/product?{query}")
    state = None if product.state is ProductState.CURRENT else f" ({product.state})"
    return tag("li", _light(light), " ", tag("span", product.kind, class_="role"), " ", name, state)


def _what(frame: FrameInfo) -> str:
    known = frame.frame_class if frame.frame_class != "UNCLASSIFIED" else ""
    return " ".join(filter(None, (known, frame.lamp, frame.target)))


def _light(light: Light) -> Markup:
    return tag("span", f"● {light.word}", class_=light.color)


def _section(title: str, *content: object) -> Markup:
    return tag("section", tag("h2", title), *content)


def _home() -> Markup:
    return tag("nav", tag("a", "← tonight", href="/"))


def _footer() -> Markup:
    links = ("/api/latest", "/api/frames", "/api/status", "/healthz", "/metrics")
    return tag("footer", *_spaced(tag("a", link, href=link) for link in links))


def _spaced(parts: Iterable[Markup]) -> Iterator[object]:
    for part in parts:
        yield part
        yield " "


def _frame_address(frame: FrameInfo) -> str:
    return f"/frame?{urlencode({'path': frame.path, 'root': frame.root})}"


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ago(span: timedelta) -> str:
    seconds = max(span.total_seconds(), 0.0)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%H:%M:%S}"
