"""What people ask of one product: show and reproduce."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from daemon.commands.reading import home_of, read_catalog
from daemon.commands.refusing import check_file
from daemon.commands.shown import FLAGS, print_json, say, show_products
from daemon.executor import perform
from daemon.lights import product_light
from daemon.planning.fingerprint import recipe_hash
from daemon.records import Calibration, Job, ProductState
from daemon.remedies import NOTHING
from daemon.session import Session
from daemon.store.queries import Product
from daemon.store.reader import Reader
from daemon.tables import product_table
from daemon.worker import run
from kspecdr.errors import BadOption
from kspecdr.io.compare import differences

REMADE = "`kspecdr run` or `reduce` makes it again"  # where all that its job wrote is gone


def show(out: Path | None, path: Path | None, name: str, png: Path | None, *, as_json: bool) -> None:
    """Show what is known of a product, and draw it where a picture is asked for."""
    check_file(png)
    with read_catalog(out or home_of(name), path) as (_, catalog):
        product = _found(catalog, name)
        recipe = catalog.recipe(product.fingerprint)
        used = catalog.main_products(each for _, each in recipe.calibrations) if recipe else {}
    if as_json:
        print_json({**product_table(product), "state": str(product.state), "rule": product.rule})
    else:
        show_products([product], catalog.out)
        remedy = product_light(product).remedy
        if remedy != NOTHING:
            say(f"what to do: {remedy}")
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
    with (
        read_catalog(out or home_of(name), path) as (session, catalog),
        tempfile.TemporaryDirectory(prefix="kspecdr-") as place,
    ):
        product = _found(catalog, name)
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


def _make(catalog: Reader, session: Session, print_: str, place: Path, made: dict[str, Calibration]) -> None:
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


def _compared(catalog: Reader, print_: str, place: Path, *, whole: bool = False) -> Iterator[tuple[bool, str]]:
    """Yield whether each file is the same again, and a sentence; `whole`: only files that other products take."""
    recipe = catalog.recipe(print_)
    for _, path, taken in recipe.paths if recipe else ():
        before, again = catalog.out / path, place / path
        if whole and not (taken and before.is_file()):
            continue
        if not before.is_file():
            yield False, f"{path}: its file is gone; there is nothing to compare with"
        elif not again.is_file():
            yield False, f"{path}: not made again"
        elif before.read_bytes() == again.read_bytes():
            yield True, f"{path}: the same bytes"
        else:
            found = differences(before, again)
            yield False, f"{path}: {'; '.join(found) if found else 'the same arrays, other headers'}"


def _found(catalog: Reader, name: str) -> Product:
    """Return the product that a name means; BadOption where there is none, or its file is gone."""
    path = catalog.find_product(name)
    if not path:
        close = catalog.similar_products(name)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        raise BadOption(f"{name}: no such product in the catalog; {meant}`kspecdr latest` lists them")
    product = catalog.product(path)
    if not product.path.is_file():
        raise BadOption(f"{path} is in the catalog, but its file is gone; {_again(product, path)}")
    return product


def _again(product: Product, path: str) -> str:
    """Say how a product whose file is gone is made again, if it is."""
    if product.state is not ProductState.CURRENT:
        return f"it is {product.state}, and not made again"
    rest = f"remove the rest of {Path(path).parent}, then " if product.path.parent.exists() else ""
    return rest + REMADE
