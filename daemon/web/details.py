"""The pages of a frame and of a product."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import urlencode

from daemon.explaining import Account, age_words, brief
from daemon.lights import figure_words, flag_light, product_light
from daemon.records import Candidate, ProductState, Quality
from daemon.remedies import NOTHING
from daemon.rulebook import describe_setting
from daemon.store.pages import Making
from daemon.store.queries import Product
from daemon.web.html import Markup, document, join, tag
from daemon.web.parts import light_shown, moment, picture, section, way_home, what_it_is
from daemon.web.site import Row, relative


def frame_page(
    rows: Sequence[Row], told: Iterable[Account], products: Iterable[Product], failure: Making | None, out: Path
) -> bytes:
    """Return the page of a file: its frames, why each stands where it does, what was made of it."""
    first = rows[0].frame
    return document(
        f"{first.path} - kspecdr",
        way_home(),
        tag("h1", first.path),
        *(_frame_facts(row) for row in rows),
        _making("What failed", failure) if failure else None,
        section("Products", _product_list(products, out)),
        *(_choices(account, out) for account in told),
    )


def product_page(product: Product, making: Making, siblings: Iterable[Product], out: Path) -> bytes:
    """Return the page of a product: picture, quality, and where it comes from."""
    path = relative(product, out)
    title = " ".join(filter(None, (product.target or product.lamp, product.path.name)))
    others = [each for each in siblings if each.path != product.path]
    return document(
        f"{product.path.name} - kspecdr",
        way_home(),
        tag("h1", title),
        tag("p", light_shown(product_light(product)), f" {product.state}, observed {moment(product.obs_time)}"),
        tag("p", f"Provisional: {product.reason}", class_="note") if product.provisional else None,
        _what_to_do(product_light(product).remedy),
        picture(product, out),
        section("Quality", _quality(product.quality)),
        _making("Where it comes from", making),
        section("Other files of the same job", _product_list(others, out)) if others else None,
        tag("p", "File: ", tag("code", str(product.path)), class_="faint"),
        tag("p", "Fingerprint: ", tag("code", product.fingerprint), class_="faint", title=path),
    )


def message_page(title: str, sentence: str) -> bytes:
    """Return a page that says one thing."""
    return document(f"{title} - kspecdr", way_home(), tag("h1", title), tag("p", sentence))


def _frame_facts(row: Row) -> Markup:
    frame = row.frame
    setting = ", ".join(describe_setting(name, value) for name, value in frame.setup.items())
    facts = (
        ("frame of the cube", frame.part or None),
        ("class", what_it_is(frame) or "not known"),
        ("observed", moment(frame.obs_time) if frame.obs_time else None),
        ("landed", moment(frame.landed)),
        ("exposure", f"{frame.exposure_s:g} s" if frame.obs_time else None),
        ("night", frame.night or None),
        ("setting", setting or None),
        ("fibers", frame.fibers or None),
        ("size", f"{frame.size / 1e6:.1f} MB"),
        ("content", tag("code", frame.content_hash) if frame.content_hash else None),
    )
    state = "" if row.light.word == frame.state else str(frame.state)
    short = brief(frame.reason)
    said = "; ".join(filter(None, (state, row.light.figure, short)))
    whole = tag("p", frame.reason, class_="faint") if frame.reason != short else None
    remedy = row.light.remedy.replace("FRAME", frame.name)
    return tag("section", tag("p", light_shown(row.light), f" {said}"), _what_to_do(remedy), _facts(facts), whole)


def _what_to_do(remedy: str) -> Markup | None:
    return None if remedy == NOTHING else tag("p", f"What to do: {remedy}")


def _choices(account: Account, out: Path) -> Markup | None:
    """Show which calibrations were chosen for a frame, and why each other one was not."""
    found = [_found(account, candidate, calibration, out) for candidate, calibration in account.found]
    rejected = [_candidate_line(each, each.criterion) for each in account.rejected]
    if not (found or rejected or account.answer.needs):
        return None
    part = f" of frame {account.answer.frame.part}" if account.answer.frame.part else ""
    needs = tag("p", f"Needs: {', '.join(account.answer.needs)}", class_="note") if account.answer.needs else None
    return section(
        f"Calibrations{part}",
        needs,
        tag("ul", *found, class_="plain"),
        tag("h2", "Looked at and not taken") if rejected else None,
        tag("ul", *rejected, class_="plain") if rejected else None,
    )


def _found(account: Account, candidate: Candidate, calibration: Product | None, out: Path) -> Markup:
    if calibration is None:
        return _candidate_line(candidate, candidate.criterion or "not made yet")
    age = account.age(calibration)
    query = urlencode({"path": relative(calibration, out)})
    light = product_light(calibration)
    return tag(
        "li",
        tag("span", candidate.rule, class_="role"),
        " ",
        tag("a", candidate.name, href=f"/product?{query}"),
        f" {age_words(age)} " if age is not None else " ",
        light_shown(light),
        tag("span", f" {light.figure}", class_="faint"),
        tag("span", f" {candidate.criterion}", class_="note") if candidate.criterion else None,
    )


def _candidate_line(candidate: Candidate, words: str) -> Markup:
    name = (tag("span", candidate.rule, class_="role"), f" {candidate.name} ")
    return tag("li", *name, tag("span", words, class_="faint"))


def _facts(facts: Iterable[tuple[str, object]]) -> Markup:
    return tag(
        "dl", *(join(tag("dt", name), tag("dd", value)) for name, value in facts if value is not None), class_="facts"
    )


def _quality(figures: Iterable[Quality]) -> Markup:
    rows = [
        tag("li", light_shown(flag_light(each.flag)), f" {figure_words(each, limit_always=True)}") for each in figures
    ]
    return tag("ul", *rows, class_="plain") if rows else tag("p", "Nothing was measured.", class_="faint")


def _making(title: str, making: Making) -> Markup:
    """Show the inputs of a job, what it said, and how long its stages took."""
    inputs = (tag("li", tag("span", role, class_="role"), " ", _input_link(role, path)) for role, path in making.inputs)
    stages = ", ".join(f"{name} {seconds:.2f}" for name, seconds in making.stage_times.items() if name != "worker")
    facts = (
        ("made", moment(making.finished) if making.finished else None),
        ("after landing", f"{making.latency_s:.2f} s" if making.latency_s is not None else None),
        ("stages", f"{stages} s" if stages else None),
        ("memory", f"{making.memory_mb:.0f} MB" if making.memory_mb else None),
    )
    said = [tag("p", making.error, class_="note")] if making.error else []
    said += [tag("p", warning, class_="note") for warning in making.warnings]
    return section(title, *said, tag("ul", *inputs, class_="plain"), _facts(facts))


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
    return tag("li", light_shown(light), " ", tag("span", product.kind, class_="role"), " ", name, state)
