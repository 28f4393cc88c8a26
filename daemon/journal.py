"""Log lines: one event, one line, whatever a file name or a header holds.

Under systemd a line begins with its level as sd-daemon(3) says, and journald adds the time.
"""

import logging
import os
import sys
from collections.abc import Mapping
from typing import TextIO

# Syslog's numbers, which `journalctl -p` selects by.
PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def one_line(text: str) -> str:
    """Write every character that is not printable as its escape: no line ends early, no terminal obeys."""
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


class OneLine(logging.Formatter):
    """Formats a record as a single printable line, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        return one_line(super().format(record))


class _ForJournal(OneLine):
    def format(self, record: logging.LogRecord) -> str:
        level = max((each for each in PRIORITIES if each <= record.levelno), default=logging.DEBUG)
        return f"<{PRIORITIES[level]}>{super().format(record)}"


def log_to_stderr(level: int = logging.INFO) -> None:
    """Write one line an event to standard error."""
    logging.basicConfig(level=logging.WARNING, handlers=[line_handler()], force=True)
    logging.getLogger("kspecdr").setLevel(level)


def line_handler(stream: TextIO | None = None, environment: Mapping[str, str] | None = None) -> logging.Handler:
    """Return a handler that writes one line an event to standard error, or to `stream`."""
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    if _is_journal(stream, os.environ if environment is None else environment):
        handler.setFormatter(_ForJournal("%(message)s"))
    else:
        handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(message)s"))
    return handler


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Tell whether a stream leads to journald: the service manager names its device and inode."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode("ascii")
