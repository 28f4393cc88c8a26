"""A product's path from its frame's: X_converted.fits -> X_im.fits, X_tlm.fits, X_ex.fits, X_red.fits."""

import re
from pathlib import Path

PathLike = str | Path
KINDS = ("converted", "im", "tlm", "ex", "red", "res", "thput", "transfer")
RAW_SUFFIX = re.compile(r"(?:\.(?:fits|fit|fts|spe))?(?:\.(?:gz|fz))?$", re.IGNORECASE)


def stem(path: PathLike) -> str:
    """Return the name of the exposure itself: without suffixes of files and kinds."""
    name = RAW_SUFFIX.sub("", Path(path).name, count=1)
    for kind in KINDS:
        name = name.removesuffix(f"_{kind}")
    return name


def product_path(path: PathLike, kind: str) -> str:
    """Return the path of the product `kind` beside `path`."""
    return str(Path(path).with_name(f"{stem(path)}_{kind}.fits"))
