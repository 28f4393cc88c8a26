"""OUT/<night>/X_red.fits, the link to the product that is current; the products themselves never change."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath


def point(out: Path, product: str) -> None:
    """Let the name of a product lead to it, whatever it led to before; to one that is gone no link is made.

    product : path relative to `out`, <night>/<fingerprint>/<name>
    """
    link, target = _link(out, product)
    if _reads(link) == target or not (out / product).exists():
        return
    if link.exists() and not link.is_symlink():
        return  # a file that somebody put there is not ours to replace
    fresh = out / f".link.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(link)


def unpoint(out: Path, product: str) -> None:
    """Remove the link to a product where it leads to that one."""
    link, target = _link(out, product)
    if _reads(link) == target:
        link.unlink()


def repair(out: Path, products: Iterable[tuple[str, bool]]) -> None:
    """Make links agree with (path, whether it is current)."""
    known = list(products)
    for path, current in known:
        if not current:
            unpoint(out, path)
    for path, current in known:
        if current:
            point(out, path)


def _link(out: Path, product: str) -> tuple[Path, str]:
    path = PurePosixPath(product)
    return out / path.parent.parent / path.name, f"{path.parent.name}/{path.name}"


def _reads(link: Path) -> str:
    return str(link.readlink()) if link.is_symlink() else ""
