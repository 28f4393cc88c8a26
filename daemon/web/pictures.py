"""Pictures of products, drawn when somebody first asks and kept below the output directory."""

import os
import threading
from contextlib import suppress
from pathlib import Path

from daemon.preview import picture
from daemon.store.queries import Product

FOLDER = ".pictures"
KEPT = 500  # pictures; the oldest go


class Pictures:
    """Draws one picture at a time, so that the pages never take more than one core."""

    def __init__(self, out: Path) -> None:
        self._folder = out / FOLDER
        self._drawing = threading.Lock()

    def png(self, product: Product) -> bytes:
        """Return the picture of a product; products never change, so neither does a picture.

        Raises
        ------
        OSError
            The product cannot be read.
        """
        kept = self._folder / f"{product.fingerprint[:16]}_{product.path.stem}.png"
        with suppress(OSError):
            return kept.read_bytes()
        with self._drawing:
            with suppress(OSError):
                return kept.read_bytes()  # another has drawn it meanwhile
            drawn = picture(product.path, product.kind, dark=True)
            with suppress(OSError):  # a full disk keeps no picture, and shows it all the same
                self._keep(kept, drawn)
            return drawn

    def _keep(self, kept: Path, drawn: bytes) -> None:
        self._folder.mkdir(exist_ok=True)
        fresh = kept.with_name(f".{kept.name}.{os.getpid()}")
        fresh.write_bytes(drawn)
        fresh.replace(kept)
        by_age = sorted(self._folder.glob("*.png"), key=lambda path: path.stat().st_mtime_ns)
        for old in by_age[:-KEPT]:
            old.unlink(missing_ok=True)
