"""A product's path from its frame's: X_converted.fits -> X_im.fits, X_tlm.fits, X_ex.fits, X_red.fits."""

from pathlib import Path

KINDS = ("converted", "im", "tlm", "ex", "red")


def stem(path: str | Path) -> str:
    """Return the name of the exposure itself: without suffixes of files and kinds."""
    name = Path(path).name
    for suffix in (".gz", ".fz", ".fits", ".fit", ".fts"):
        name = name.removesuffix(suffix)
    for kind in KINDS:
        name = name.removesuffix(f"_{kind}")
    return name


def product_path(path: str | Path, kind: str) -> str:
    """Return the path of the product `kind` beside `path`."""
    return str(Path(path).with_name(f"{stem(path)}_{kind}.fits"))
