import io
import logging
import os

import pytest

from daemon.journal import line_handler, one_line


@pytest.fixture
def logger():
    found = logging.getLogger("test_journal")
    found.propagate = False
    yield found
    found.handlers.clear()


def test_a_record_is_one_printable_line_whatever_it_holds(logger):
    stream = io.StringIO()
    logger.addHandler(line_handler(stream, {}))
    try:
        int("first\nsecond")
    except ValueError:
        logger.exception("%s: bad", "a\nERROR forged \x1b[31m\u202e.fits")
    text = stream.getvalue()
    assert text.count("\n") == 1
    assert r"ERROR a\nERROR forged \x1b[31m\u202e.fits: bad\nTraceback" in text
    assert r"ValueError: invalid literal" in text


def test_text_that_can_be_seen_stays():
    assert one_line("Größe 5 µm, 한국어.fits") == "Größe 5 µm, 한국어.fits"


def test_under_journald_a_line_begins_with_its_level_and_bears_no_time(logger, tmp_path):
    with (tmp_path / "journal").open("w+") as stream:
        status = os.fstat(stream.fileno())
        logger.addHandler(line_handler(stream, {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}))
        logger.setLevel(logging.DEBUG)
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL):
            logger.log(level, "x")
        stream.seek(0)
        assert stream.read() == "<7>x\n<6>x\n<4>x\n<3>x\n<2>x\n"
