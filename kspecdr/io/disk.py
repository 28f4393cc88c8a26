"""Waiting for the disk."""

import os
from pathlib import Path


def sync(path: str | Path) -> None:
    """Wait until the disk has what was written to a file or directory, so that the loss of power spares it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
