"""What several pages are made of."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from daemon.lights import Light
from daemon.records import FrameInfo
from daemon.store.queries import Product
from daemon.web.html import Markup, tag
from daemon.web.site import relative


def what_it_is(frame: FrameInfo) -> str:
    """Return class, lamp and target of a frame, as far as they are known."""
    known = frame.frame_class if frame.frame_class != "UNCLASSIFIED" else ""
    return " ".join(filter(None, (known, frame.lamp, frame.target)))


def light_shown(light: Light) -> Markup:
    """Return a light as colored text; what to do about it is shown to who points at it."""
    return tag("span", f"● {light.word}", class_=light.color, title=f"What to do: {light.remedy}")


def section(title: str, *content: object) -> Markup:
    """Return a framed part of a page."""
    return tag("section", tag("h2", title), *content)


def way_home() -> Markup:
    """Return the link to the first page."""
    return tag("nav", tag("a", "← tonight", href="/"))


def picture(product: Product, out: Path) -> Markup:
    """Return the picture of a product, which leads to its page."""
    query = urlencode({"path": relative(product, out)})
    image = tag("img", src=f"/picture?{query}", alt=f"Picture of {product.path.name}", width="900", height="520")
    return tag("a", image, href=f"/product?{query}", class_="picture")


def moment(time: datetime) -> str:
    """Return a time with its date."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def clock(time: datetime) -> str:
    """Return a time of tonight."""
    return f"{time.astimezone(UTC):%H:%M:%S}"


def frame_address(frame: FrameInfo) -> str:
    """Return the address of a frame's page."""
    return f"/frame?{urlencode({'path': frame.path, 'root': frame.root})}"
