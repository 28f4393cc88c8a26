"""The errors that a caller may meet, by what they ask of the caller.

KspecError
├── BadFrame              this frame cannot be reduced, now or later: never retry
│   └── NoSolution        an arc without a trustworthy wavelength solution
├── MissingCalibration    something must exist first: wait
└── BadOption             the call or the configuration is wrong: mend it

Each message is one sentence with the file, the value and the expectation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class KspecError(Exception):
    """Base of all errors that kspecdr raises on purpose."""


class BadFrame(KspecError, ValueError):  # noqa: N818 - the word that the catalog and its readers use
    """A frame is damaged, of the wrong kind, or without the light that it needs."""


class NoSolution(BadFrame):
    """The lines of an arc do not determine wavelengths beyond doubt."""


class PoorSolution(UserWarning):
    """Wavelengths are given, but a person should look at what they rest on."""


class MissingCalibration(KspecError, LookupError):  # noqa: N818 - as above
    """A product that this step needs does not exist yet."""


class BadOption(KspecError, ValueError):  # noqa: N818 - as above
    """An argument, a dictionary key or a config value is not understood."""


@contextmanager
def named(*paths: str | Path, together: str = ", ") -> Iterator[None]:
    """Let errors of what is done with some files begin with the files' names, joined by `together`."""
    try:
        yield
    except KspecError as error:
        raise type(error)(f"{together.join(Path(path).name for path in paths)}: {error}") from error
