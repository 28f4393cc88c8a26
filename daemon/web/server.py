"""Pages over HTTP: GET and HEAD alone, nothing that changes anything."""

import logging
import socket
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from daemon.lights import UNDONE
from daemon.records import FrameState
from daemon.rulebook import CLASSES, KINDS
from daemon.session import is_locked
from daemon.store.pages import Making
from daemon.store.queries import Product
from daemon.tables import as_json, frame_table, product_table, status_table
from daemon.web.details import frame_page, message_page, product_page
from daemon.web.metrics import exposition, registry_of
from daemon.web.pictures import Pictures
from daemon.web.site import Places, Site
from daemon.web.tonight import night_page
from kspecdr.errors import KspecError

LOG = logging.getLogger("kspecdr.web")
PATIENCE = 20.0  # s for a client to ask
LONGEST_ADDRESS = 4096
API = "/api/"  # below it programs ask, who are answered in JSON whatever happens
ACCOUNTS_MOST = 20  # frames of a cube that are explained one by one
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent."""

    body: bytes
    kind: str = "text/html; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    keep_s: int = 0  # how long a browser may keep it


class NotFound(KspecError):  # noqa: N818 - as HTTP calls it
    """There is nothing under this address."""


class BadQuery(KspecError):  # noqa: N818 - as HTTP would call it
    """The question after the address is not understood."""


class Pages:
    """Answers for each address."""

    def __init__(self, places: Places) -> None:
        self._site = Site(places)
        self._pictures = Pictures(places.out)
        self._registry = registry_of(self._site)
        self._answers: Mapping[str, Callable[[Query], Answer]] = {
            "/": self._night,
            "/frame": self._frame,
            "/product": self._product,
            "/picture": self._picture,
            "/api/latest": self._latest,
            "/api/frames": self._frames,
            "/api/status": self._status,
            "/healthz": self._health,
            "/metrics": self._metrics,
            "/style.css": lambda _: _file("style.css", "text/css; charset=utf-8"),
            "/refresh.js": lambda _: _file("refresh.js", "text/javascript; charset=utf-8"),
        }

    def close(self) -> None:
        """Close the connections to the catalog."""
        self._site.reader.close()

    def answer(self, address: str) -> Answer:
        """Return the answer for an address; every failure says what is wrong."""
        refused = _refusal if address.startswith(API) else _refusal_page
        try:
            path, query = _understood(address)
            return self._answers.get(path, _no_such_page)(query)
        except NotFound as error:
            return refused("Not found", str(error), HTTPStatus.NOT_FOUND)
        except BadQuery as error:
            return refused("Not understood", str(error), HTTPStatus.BAD_REQUEST)
        except (KspecError, OSError) as error:
            return refused("Not now", f"This cannot be shown now: {error}", HTTPStatus.SERVICE_UNAVAILABLE)

    def _night(self, _: Query) -> Answer:
        return Answer(night_page(self._site.night(), self._site.out))

    def _frame(self, query: Query) -> Answer:
        root = query.get("root", "")
        found = self._site.reader.frame(query.get("path", ""), int(root[:9]) if root.isdecimal() else None)
        if not found:
            raise NotFound("The catalog knows no such frame.")
        made = self._site.reader.products_of(frame.key for frame in found)
        products = {product.path: product for some in made.values() for product in some}.values()
        failure = self._site.reader.failure(found[0].key) if found[0].state is FrameState.FAILED else None
        told = self._site.accounts(found[:ACCOUNTS_MOST], datetime.now(UTC))
        return Answer(frame_page(self._site.rows(found), told, products, failure, self._site.out))

    def _product(self, query: Query) -> Answer:
        product, making = self._known(query)
        return Answer(product_page(product, making, self._site.reader.siblings(product.fingerprint), self._site.out))

    def _picture(self, query: Query) -> Answer:
        product, _ = self._known(query)
        return Answer(self._pictures.png(product), "image/png", keep_s=86400)

    def _known(self, query: Query) -> tuple[Product, Making]:
        """Return a product that the catalog knows; no other path is ever opened."""
        found = self._site.reader.product_and_making(query.get("path", ""))
        if found is None or not found[0].path.resolve().is_relative_to(self._site.out):
            raise NotFound("The catalog knows no such product.")
        return found

    def _latest(self, query: Query) -> Answer:
        kind, frame_class, number = query.get("kind", "red"), query.get("class"), query.get("n", "0")
        if kind not in KINDS or (frame_class is not None and frame_class not in CLASSES) or not number.isdecimal():
            raise BadQuery(
                "Expected kind (red, ...), class (MFOBJECT, ...) and n (a number), as `kspecdr latest` takes."
            )
        return _json([product_table(each) for each in self._site.reader.latest(kind, frame_class, int(number))])

    def _frames(self, query: Query) -> Answer:
        names = {"night": "night", "state": "state", "class": "frame_class"}
        if not query.keys() <= names.keys():
            raise BadQuery("Expected night, state or class, as `kspecdr frames` takes them.")
        found = self._site.reader.frames(**{names[key]: value for key, value in query.items()})
        return _json([frame_table(each) for each in found])

    def _status(self, _: Query) -> Answer:
        reader = self._site.reader
        faulty = [frame for state in UNDONE for frame in reader.frames(state=state)]
        return _json(status_table(reader.summary(), is_locked(self._site.out), faulty))

    def _health(self, _: Query) -> Answer:
        trouble = self._site.trouble(datetime.now(UTC))
        status = HTTPStatus.SERVICE_UNAVAILABLE if trouble else HTTPStatus.OK
        return Answer(f"{trouble or 'ok'}\n".encode("utf-8", "replace"), "text/plain; charset=utf-8", status)

    def _metrics(self, _: Query) -> Answer:
        return Answer(exposition(self._registry), "text/plain; version=0.0.4; charset=utf-8")


class PageServer(ThreadingHTTPServer):
    """Serves the pages of one output directory on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, places: Places) -> None:
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening
        self.pages = Pages(places)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Log what kept an answer from being sent; a client that has gone is nothing to log."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            LOG.error("an answer could not be sent", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    """Answers one client."""

    server: PageServer
    timeout = PATIENCE

    def do_GET(self) -> None:
        """Send the answer."""
        self._send(with_body=True)

    def do_HEAD(self) -> None:
        """Send the answer's headers."""
        self._send(with_body=False)

    def version_string(self) -> str:
        """Name the program and no version, which only an attacker would ask for."""
        return "kspecdr"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name for it
        """Keep requests out of the journal: a page that refreshes itself would fill it."""

    def _send(self, *, with_body: bool) -> None:
        answer = self._answer()
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", f"private, max-age={answer.keep_s}" if answer.keep_s else "no-store")
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body)

    def _is_for_us(self) -> bool:
        """Tell whether a browser asks by a name of this machine; another's name may lead here by its owner's deceit."""
        host = self.headers.get("Host")
        ours = self.server.socket.getsockname()[0]
        return host is None or ours not in LOOPBACK or _host_name(host) in LOOPBACK

    def _answer(self) -> Answer:
        if len(self.path) > LONGEST_ADDRESS:
            return _refusal_page("Not understood", "The address is too long.", HTTPStatus.BAD_REQUEST)
        if not self._is_for_us():
            words = "These pages are for this machine: ask for localhost."
            return _refusal_page("Not here", words, HTTPStatus.MISDIRECTED_REQUEST)
        try:
            return self.server.pages.answer(self.path)
        except Exception:
            LOG.exception("no page for %s", self.path)
            words = "The page could not be made; the log of the daemon says why."
            return _refusal_page("Not now", words, HTTPStatus.INTERNAL_SERVER_ERROR)


def _understood(address: str) -> tuple[str, Query]:
    """Return path and query of an address."""
    try:
        parts = urlsplit(address)
        return parts.path, dict(parse_qsl(parts.query, max_num_fields=20))
    except ValueError as error:
        raise BadQuery(f"The address is not understood: {error}.") from None


def _no_such_page(_: Query) -> Answer:
    raise NotFound("There is no such page.")


def _host_name(host: str) -> str:
    """Return the name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _json(value: object, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    return Answer(as_json(value).encode("utf-8", "replace"), "application/json; charset=utf-8", status)


def _refusal(_title: str, words: str, status: HTTPStatus) -> Answer:
    return _json({"error": words}, status)


def _refusal_page(title: str, words: str, status: HTTPStatus) -> Answer:
    return Answer(message_page(title, words), status=status)


def _file(name: str, kind: str) -> Answer:
    return Answer((files("daemon.web") / name).read_bytes(), kind, keep_s=60)
