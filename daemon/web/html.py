"""HTML from parts: every text is escaped unless it is markup already."""

from html import escape


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """Return an element; a trailing underscore of an attribute's name is dropped (`class_`).

    children : markup stays, None is left out, all else is text
    attributes : None is left out
    """
    opening = "".join(
        f' {key.rstrip("_")}="{escape(str(value))}"' for key, value in attributes.items() if value is not None
    )
    if name in ("img", "link", "meta", "br"):
        return Markup(f"<{name}{opening}>")
    return Markup(f"<{name}{opening}>{join(*children)}</{name}>")


def join(*children: object) -> Markup:
    """Return parts one after another, texts escaped."""
    return Markup("".join(each if isinstance(each, Markup) else _text(each) for each in children if each is not None))


def document(title: str, *main: object) -> bytes:
    """Return a whole page; its main part is what the script fetches anew."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="dark"),
        tag("title", title),
        tag("link", rel="stylesheet", href="/style.css"),
        tag("link", rel="icon", href="data:,"),
        tag("script", src="/refresh.js", defer=""),
    )
    body = tag("body", tag("p", id="silent", role="alert", hidden=""), tag("main", *main))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n".encode("utf-8", "replace")


def _text(value: object) -> str:
    """Escape a text; what cannot be seen (control characters, changes of direction) is shown as its escape."""
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in str(value))
    return escape(plain)
