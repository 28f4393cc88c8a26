"""What was made with a frame or a product, by whatever way; part of the catalog."""

from collections.abc import Iterable

from sqlalchemy import ColumnElement, Connection, select

from daemon.records import FrameInfo, ProductState
from daemon.store.rows import slices
from daemon.store.schema import jobs, product_inputs, products


def of_frames(connection: Connection, frames: Iterable[FrameInfo]) -> set[str]:
    """Return the fingerprints of the current products that frames are part of."""
    keys = {frame.key for frame in frames}
    raw = product_inputs.c
    query = select(raw.fingerprint, raw.input, raw.part).where(raw.role == "raw", *_current())
    found = (
        row
        for some in slices(content for content, _ in keys)
        for row in connection.execute(query.where(raw.input.in_(some)))
    )
    return {row.fingerprint for row in found if (row.input, row.part) in keys}


def of_product(connection: Connection, path: str) -> set[str]:
    """Return the fingerprint of the product of a path, which is relative to the output directory."""
    return set(connection.execute(select(products.c.fingerprint).where(products.c.path == path)).scalars())


def made_with(connection: Connection, prints: Iterable[str]) -> set[str]:
    """Return the fingerprints of the current products that took some products, also by way of others."""
    found: set[str] = set()
    level = set(prints)
    query = select(product_inputs.c.fingerprint).where(product_inputs.c.role != "raw", *_current())
    while level:
        level = {
            print_
            for some in slices(level)
            for print_ in connection.execute(query.where(product_inputs.c.input.in_(some))).scalars()
        } - found
        found |= level
    return found


def _current() -> tuple[ColumnElement[bool], ...]:
    """Keep what was superseded out: it is not made again."""
    return product_inputs.c.fingerprint == jobs.c.fingerprint, jobs.c.product_state == ProductState.CURRENT
