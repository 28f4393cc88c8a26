"""What people do for a catalog and its products: needed, prune, reproduce, backup and show."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from daemon.catalog import Catalog
from daemon.commands.deciding import decide
from daemon.commands.reading import read_catalog
from daemon.commands.shown import FLAGS, make_console, print_json, say, show_products
from daemon.executor import perform
from daemon.planning.fingerprint import recipe_hash
from daemon.planning.gathering import night_surroundings
from daemon.planning.groups import night_of
from daemon.planning.needed import Lack, needed
from daemon.records import Calibration, Job
from daemon.session import Session
from daemon.store.queries import Product
from daemon.tables import product_table
from daemon.worker import run
from kspecdr.errors import BadOption
from kspecdr.io.compare import differences


def show_needed(out: Path | None, path: Path | None, night: str | None, *, as_json: bool) -> None:
    """Say which calibrations the settings of a night still lack; without a night those of the last with frames."""
    now = datetime.now(UTC)
    with read_catalog(out, path) as (session, catalog):
        book = session.config.rulebook()
        tonight = night_of(now, book.timezone)
        night = night or catalog.last_night() or tonight
        with catalog.excerpts() as ask:
            lacks = needed(night_surroundings(ask, book, now, night), book, now, night)
    if as_json:
        print_json([_lack_table(lack) for lack in lacks])
        return
    if night != tonight:
        say(f"of night {night}", make_console(stderr=True))
    if not lacks:
        say("nothing is missing")
    for setting, some in groupby(lacks, lambda lack: lack.setting):
        say(setting)
        for lack in some:
            waits = (
                f"; {lack.waiting} science frame{'s wait' if lack.waiting != 1 else ' waits'}" if lack.waiting else ""
            )
            say(f"  take {lack.lacks} {lack.frame_class} ({lack.found} found){waits}: {lack.reason}")


def _lack_table(lack: Lack) -> dict[str, Any]:
    return {
        "setup": dict(lack.setup),
        "calibration": lack.rule,
        "frame_class": lack.frame_class,
        "lacks": lack.lacks,
        "found": lack.found,
        "waiting": lack.waiting,
        "reason": lack.reason,
    }


def prune(out: Path | None, path: Path | None, days: float, *, dry_run: bool) -> int:
    """Remove the files of superseded products that nothing uses, or only list them; return the exit code."""
    if days < 0:
        raise BadOption(f"--older-than {days:g}, expected 0 or more days")
    before = datetime.now(UTC) - timedelta(days=days)
    with read_catalog(out, path) as (_, catalog):
        old = catalog.prunable(before)
        directories = [catalog.directory(*each) for each in old]
    if dry_run:
        for directory in directories:
            say(str(directory))
        say(f"{len(directories)} directories would be removed")
        return 0
    return decide(out, path, "prune", "", {"before": before.isoformat()})


def backup(out: Path | None, path: Path | None, target: Path) -> None:
    """Copy the catalog while it is in use."""
    with read_catalog(out, path) as (_, catalog):
        if target.is_dir():
            raise BadOption(f"{target} is a directory; give the file that the copy is to be")
        catalog.backup(target)
    say(f"{target}: {target.stat().st_size} bytes")


def show(out: Path | None, path: Path | None, name: str, png: Path | None, *, as_json: bool) -> None:
    """Show what is known of a product, and draw it where a picture is asked for."""
    with read_catalog(out, path) as (_, catalog):
        product = catalog.product(_known(catalog, name))
        recipe = catalog.recipe(product.fingerprint)
        used = catalog.main_products(each for _, each in recipe.calibrations) if recipe else {}
    if as_json:
        print_json({**product_table(product), "state": str(product.state), "rule": product.rule})
    else:
        show_products([product], catalog.out)
        say(f"state: {product.state}; made by {product.rule}; setup: {_words(product)}")
        for frame in recipe.frames if recipe else ():
            say(f"  raw: {frame.path}")
        for rule, fingerprint in recipe.calibrations if recipe else ():
            made = used.get(fingerprint)
            say(f"  {rule}: {made.path.relative_to(catalog.out).as_posix() if made else fingerprint[:12]}")
        for figure in product.quality:
            limit = "" if figure.limit is None else f" (limit {figure.limit:g})"
            say(f"  {figure.flag:4} {figure.name} = {figure.value:.4g}{limit}", style=FLAGS.get(figure.flag, ""))
    if png is not None:
        from daemon.preview import picture  # noqa: PLC0415 - matplotlib is slow to load, and only pictures need it

        png.write_bytes(picture(product.path, product.kind))
        if not as_json:
            say(f"drawn in {png}")


def _words(product: Product) -> str:
    return ", ".join(f"{name} {value}" for name, value in product.setup.items())


def reproduce(out: Path | None, path: Path | None, name: str) -> int:
    """Make a product again from raw frames alone and compare; return the exit code, 1 where it differs.

    The first calibration that does not come out as it was is told too: it may be the reason.
    """
    with read_catalog(out, path) as (session, catalog), tempfile.TemporaryDirectory(prefix="kspecdr-") as place:
        product = catalog.product(_known(catalog, name))
        made: dict[str, Calibration] = {}
        _make(catalog, session, product.fingerprint, Path(place), made)
        found = list(_compared(catalog, product.fingerprint, Path(place)))
        inputs = (print_ for print_ in made if print_ != product.fingerprint)
        compared = (each for print_ in inputs for each in _compared(catalog, print_, Path(place), whole=True))
        other = next((sentence for same, sentence in compared if not same), "")
    if other:
        say(f"the first of its inputs that comes out otherwise is {other}")
    for _, sentence in found:
        say(sentence)
    return int(not all(same for same, _ in found))


def _make(catalog: Catalog, session: Session, print_: str, place: Path, made: dict[str, Calibration]) -> None:
    """Make a product below another output directory, what it is made from first."""
    if print_ in made:
        return
    recipe = catalog.recipe(print_)
    if recipe is None:
        raise BadOption(f"{print_[:12]}: how it was made is not in the catalog; it may have been pruned")
    for _, calibration in recipe.calibrations:
        _make(catalog, session, calibration, place, made)
    book = session.config.rulebook()
    rule = next(rule for rule in book.rules if rule.name == recipe.rule)
    options = book.options.get(rule.name, {})
    if recipe_hash(rule, options) != recipe.recipe:
        raise BadOption(
            f"the {rule.name} was made with other options or another version than those of now; it cannot be compared"
        )
    job = Job(
        recipe.rule,
        print_,
        recipe.frames,
        {name: replace(made[each], rule=name) for name, each in recipe.calibrations},
        options,
        recipe.night,
        roots=session.roots,
        out=str(place),
        keep=session.config.kinds_kept(),
    )
    outcome = perform(run, job)
    if outcome.error:
        raise BadOption(f"the {recipe.rule} cannot be made again: {outcome.error}")
    paths = {kind: where for kind, where, whole in recipe.paths if whole}
    made[print_] = Calibration(recipe.rule, print_, paths, recipe.exposure_s)


def _compared(catalog: Catalog, print_: str, place: Path, *, whole: bool = False) -> Iterator[tuple[bool, str]]:
    """Yield whether each file is the same again, and a sentence; `whole`: only files that other products take."""
    recipe = catalog.recipe(print_)
    for _, path, taken in recipe.paths if recipe else ():
        if whole and not taken:
            continue
        before, again = catalog.out / path, place / path
        if not again.is_file():
            yield False, f"{path}: not made again"
        elif before.read_bytes() == again.read_bytes():
            yield True, f"{path}: the same bytes"
        else:
            found = differences(before, again)
            yield False, f"{path}: {'; '.join(found) if found else 'the same arrays, other headers'}"


def _known(catalog: Catalog, name: str) -> str:
    found = catalog.find_product(name)
    if not found:
        close = catalog.similar_products(name)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise BadOption(f"{name}: no such product in the catalog; {meant}`kspecdr latest` lists them")
    return found
