import http.client
import json
import re
import socket
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from urllib.parse import quote, urlencode

import pytest

from daemon.pulse import Pulse, remove_pulse, write_pulse
from daemon.records import FrameState, Setup
from daemon.tables import frame_table, product_table

NOBODYS = ("script", "iframe", "object", "embed", "form", "base", "svg")


COLORS = ("green", "yellow", "red", "blue", "grey")
SETUP_300 = Setup(readout="2 MHz LowNoise Low", shape="1300x1340", binning="1x1", grating=300, center_nm=620)


class Reading(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.links, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.attributes += [name for name, _ in attrs]
        self.links += [value for name, value in attrs if name in ("href", "src")]

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)


def addresses(product_path):
    name = urlencode({"path": "d.fits"})
    return ["/", f"/frame?{name}", f"/product?{urlencode({'path': product_path})}"]


@pytest.mark.usefixtures("night")
def test_no_name_and_no_header_becomes_markup(pages, product_path):
    first = Reading(pages("/").text)
    frames = [link for link in first.links if link.startswith("/frame")]
    for address in [*addresses(product_path), *frames]:
        reply = pages(address)
        page = Reading(reply.text)
        assert reply.status == 200
        scripts = [attributes for tag, attributes in page.tags if tag in NOBODYS]
        assert scripts == [{"src": "/refresh.js", "defer": ""}]
        assert not [name for name in page.attributes if name.startswith("on")]
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u202e]", reply.text.replace("\n", ""))


@pytest.mark.usefixtures("night")
def test_every_link_of_every_page_leads_somewhere(pages, product_path):
    for address in addresses(product_path):
        for link in Reading(pages(address).text).links:
            if link.startswith("/") and not link.startswith("/picture"):
                assert pages(link).status == 200, link


@pytest.mark.usefixtures("night")
def test_tonight_shows_states_reasons_and_the_figure_that_is_out_of_limits(pages):
    text = Reading(pages("/").text).text
    assert "2 frames need a look; 3 spectra wait for calibrations to be taken" in text
    assert "waits for an arc of <script>alert(1)</script>" in text
    assert "traces moved 4.5 px (limit 3)" in text
    assert "no light in" in text
    assert re.search(
        r"Still to be taken tonight\s.*grating 150 lines/mm.*\s3 biases\s+\(\d spectra wait", text, re.DOTALL
    )
    assert "KST" in text
    assert re.search(r"object\s+2\.5\s+2\.5\s+2\.5", text)


@pytest.mark.usefixtures("night")
def test_the_last_exposure_comes_first_with_its_light_and_every_light_with_what_to_do(pages, catalog, frame_of):
    newest = frame_of("newest.fits", "MFOBJECT", 40, landed=datetime.now(UTC), reason="needs an arc (none has come)")
    catalog.add_frames([newest, frame_of("later copy.fits", "IGNORE", 50, state=FrameState.IGNORED)])
    text = Reading(pages("/").text).text
    order = [text.index(title) for title in ("Last exposure", "Still to be taken", "Needs a look", "Last spectrum")]
    assert order == sorted(order)
    first = text[order[0] : order[1]]
    assert re.search(r"Last exposure\s+● waiting\s+newest.fits\s+MFOBJECT", first)
    assert "needs an arc (none has come)" in first
    assert "→ take what it needs; it is reduced by itself when that is there" in first
    assert "→ see kspecdr why d.fits; mend the cause or take it again, then kspecdr retry d.fits" in text
    assert "→ take a fiber flat and an arc now: the spectra have moved since the last" in text
    shown = [attributes for tag, attributes in Reading(pages("/").text).tags if attributes.get("class") in COLORS]
    lights = [attributes["title"] for attributes in shown if "title" in attributes]
    assert len(lights) > 5
    assert all(title.startswith("What to do: ") for title in lights)


@pytest.mark.usefixtures("night")
def test_the_pages_of_a_frame_and_of_a_product_say_what_to_do(pages, product_path):
    assert "What to do: see kspecdr why d.fits" in pages("/frame?path=d.fits").text
    page = pages(f"/product?{urlencode({'path': product_path})}")
    assert "What to do: take a fiber flat and an arc now" in page.text


def test_a_night_without_frames_has_a_page(pages):
    reply = pages("/")
    assert reply.status == 200
    assert "None yet." in reply.text


@pytest.mark.usefixtures("night")
def test_a_frame_that_failed_names_the_error_and_its_inputs(pages):
    text = Reading(pages("/frame?path=d.fits").text).text
    assert "What failed" in text
    assert "arc_red.fits" in text


@pytest.mark.usefixtures("night")
def test_a_frame_names_the_calibrations_that_were_chosen_and_why_others_were_not(pages, catalog, frame_of):
    other = frame_of("later.fits", "MFOBJECT", 30, setup=SETUP_300)
    arcs = [frame_of(f"arc_{n}.fits", "MFARC", 32 + 30 * n, setup=SETUP_300, lamp="Ne") for n in range(2)]
    catalog.add_frames([other, *arcs])
    text = Reading(pages("/frame?path=later.fits").text).text
    assert "Looked at and not taken" in text
    assert re.search(r"arc\s+arc_0.fits\s+needs a bias and a fiber flat itself", text)
    assert re.search(r"arc\s+arc.fits\s+.*needed 300 lines/mm", text)


@pytest.mark.usefixtures("night")
def test_a_product_names_where_it_comes_from(pages, product_path, supersede):
    supersede()
    text = Reading(pages(f"/product?{urlencode({'path': product_path})}").text).text
    assert "superseded, observed 2026-01-27 10:14:00 UTC" in text
    assert "arc_red.fits" in text
    assert "object_im.fits" in text
    assert "2.50 s" in text


@pytest.mark.parametrize(
    "path",
    ["../../../etc/passwd", "/etc/passwd", "catalog.db", "2026-01-27/../catalog.db", "", "%00", "settings.json"],
)
@pytest.mark.usefixtures("night")
def test_no_path_leaves_what_the_catalog_knows(pages, path):
    for address in ("/product", "/picture", "/frame"):
        assert pages(f"{address}?path={quote(path)}").status == 404


def test_a_product_that_leads_out_of_the_output_directory_is_not_read(pages, night, product_path, tmp_path):
    target = night.out / product_path
    target.parent.mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    target.symlink_to(tmp_path / "secret")
    assert pages(f"/picture?{urlencode({'path': product_path})}").status == 404


@pytest.mark.usefixtures("night")
def test_a_picture_that_cannot_be_drawn_is_a_sentence(pages, product_path):
    reply = pages(f"/picture?{urlencode({'path': product_path})}")
    assert reply.status == 503
    assert "does not exist" in reply.text


@pytest.mark.usefixtures("night")
def test_every_answer_bears_the_headers_that_keep_a_browser_safe(pages, product_path):
    for address in (*addresses(product_path), "/api/latest", "/metrics", "/healthz", "/none", "/style.css"):
        headers = pages(address).headers
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Server"] == "kspecdr"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(pages, method):
    assert pages("/", method).status == 501


def test_head_has_no_body(pages):
    reply = pages("/", "HEAD")
    assert (reply.status, reply.body) == (200, b"")
    assert int(reply.headers["Content-Length"]) > 500


def test_the_api_says_what_the_commands_say(pages, night):
    found = json.loads(pages("/api/latest?kind=red&class=MFOBJECT&n=1").text)
    assert found == [product_table(each) for each in night.latest("red", "MFOBJECT", 1)]
    frames = json.loads(pages("/api/frames?state=waiting").text)
    assert frames == [frame_table(each) for each in night.frames(state="waiting")]
    status = json.loads(pages("/api/status").text)
    assert status["frames"] == {"failed": 1, "reduced": 1, "used": 1, "waiting": 1}
    assert [fault["frame"] for fault in status["faults"]] == ["d.fits"]


@pytest.mark.parametrize(
    "address", ["/api/latest?kind=x", "/api/latest?n=-1", "/api/latest?class=x", "/api/frames?path=x"]
)
def test_a_question_that_is_not_understood_is_told(pages, address):
    reply = pages(address)
    assert reply.status == 400
    assert "Expected" in json.loads(reply.text)["error"]


def test_a_program_that_asks_for_nothing_that_there_is_hears_so_in_json(pages):
    reply = pages("/api/nothing")
    assert (reply.status, json.loads(reply.text)) == (404, {"error": "There is no such page."})


def test_health_is_bad_with_a_reason(pages, catalog):
    now = datetime.now(UTC)
    assert (pages("/healthz").status, pages("/healthz").text) == (200, "ok\n")
    write_pulse(catalog.out, Pulse(now, 1, lost=("/data/raw",)))
    assert pages("/healthz").status == 503
    assert pages("/healthz").text == "/data/raw is not there; mount it, or check the share\n"
    assert "/data/raw is not there" in pages("/").text
    write_pulse(catalog.out, Pulse(now - timedelta(seconds=90), 1))
    assert "has not finished a turn for 9" in pages("/healthz").text
    remove_pulse(catalog.out)
    assert "does not run" in pages("/healthz").text


def test_a_catalog_that_is_gone_is_a_sentence_and_not_made_anew(pages, catalog):
    for path in catalog.out.glob("catalog.db*"):
        path.unlink()
    reply = pages("/api/status")
    assert reply.status == 503
    assert "unable to open database file" in reply.text
    assert not list(catalog.out.glob("catalog.db"))


@pytest.mark.parametrize(
    ("host", "status"), [("evil.example", 421), ("[", 421), ("localhost:1", 200), ("[::1]:1", 200)]
)
def test_a_name_that_only_leads_here_gets_nothing(pages, host, status):
    connection = http.client.HTTPConnection("127.0.0.1", pages.port)
    connection.request("GET", "/", headers={"Host": host})
    assert connection.getresponse().status == status
    connection.close()


def test_a_client_that_sends_nonsense_or_hangs_up_harms_nobody(pages):
    for nonsense in (b"\x00\xff\r\n\r\n", b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\n"):
        with socket.create_connection(("127.0.0.1", pages.port)) as client:
            client.sendall(nonsense)
    connection = http.client.HTTPConnection("127.0.0.1", pages.port)
    connection.putrequest("GET", "/?" + "x=1&" * 30)
    connection.endheaders()
    assert connection.getresponse().status == 400
    connection.close()
    assert pages("/").status == 200
