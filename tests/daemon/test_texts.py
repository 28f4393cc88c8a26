import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from daemon.records import Job, Outcome
from daemon.store.texts import dumps, storable

HOSTILE = "a\0b \udcff \N{GREEK SMALL LETTER ALPHA} \N{GRINNING FACE}"  # half a pair: a byte of a name that is no UTF-8
TAME = "a\\x00b \\udcff \N{GREEK SMALL LETTER ALPHA} \N{GRINNING FACE}"


@pytest.mark.parametrize(
    ("text", "stored"),
    [("", ""), ("M 31", "M 31"), ("\0", "\\x00"), (HOSTILE, TAME), (TAME, TAME), ("Grün\n", "Grün\n")],
)
def test_only_what_a_database_refuses_is_changed(text, stored):
    assert storable(text) == stored
    assert json.loads(dumps([text, {text: (text, 1.5, None, True)}])) == [stored, {stored: [stored, 1.5, None, True]}]


def test_no_text_of_a_catalog_holds_what_a_database_refuses(catalog, frame_of):
    """Frames, jobs, errors, warnings, events and requests; what was stored is found by its hostile name too."""
    write_hostile(catalog, frame_of)
    (frame,) = catalog.find_frames(f"{HOSTILE}.fits")
    assert (frame.target, frame.lamp, frame.setup["readout"]) == (TAME, TAME, TAME)
    texts = [text for table in texts_of(catalog) for text in table]
    assert sum(TAME in text or json.dumps(TAME)[1:-1] in text for text in texts) > 10
    assert not any("\0" in text or "\\u0000" in text or "\udcff" in text for text in texts)


def texts_of(catalog):
    with closing(sqlite3.connect(catalog.out / "catalog.db")) as connection:
        names = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]
        for name in names:
            rows = connection.execute(f"select * from {name}").fetchall()  # noqa: S608 - its own tables
            yield [value for row in rows for value in row if isinstance(value, str)]


def write_hostile(catalog, frame_of):
    setup = frame_of("x", "BIAS", 0).setup
    frame = frame_of(f"{HOSTILE}.fits", "MFARC", 0, content="x", lamp=HOSTILE, target=HOSTILE)
    frame = replace(frame, setup=type(setup)({**setup, "readout": HOSTILE}), fibers=HOSTILE, reason=HOSTILE)
    catalog.add_frames([frame])
    catalog.request("classify", f"{HOSTILE}.fits", {"frame_class": "BIAS", "target": HOSTILE}, frame.landed)
    catalog.record("told", HOSTILE, HOSTILE, frame.landed)
    (stored,) = catalog.frames()
    job = job_of(stored)
    assert catalog.claim(job, HOSTILE, frame.landed)
    catalog.finish(job, Outcome(job.fingerprint, error=HOSTILE, warnings=(HOSTILE,)), frame.landed)
    assert catalog.frames()[0].target == TAME


def job_of(frame):
    return Job("arc", "ab" * 32, (frame,), {}, {}, frame.night, provisional=(HOSTILE,))
