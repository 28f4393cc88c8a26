"""Commands by which people decide, keep and check."""

# ruff: noqa: PLC0415 - what a command needs is imported when it is called, so that `--help` is quick

from pathlib import Path
from typing import Annotated

import typer

from daemon.commandline.options import ConfigOption, FrameArgument, OutOption


def classify(
    frame: FrameArgument,
    frame_class: Annotated[str, typer.Argument(metavar="CLASS", help="BIAS DARK LFLAT MFFFF MFARC MFOBJECT ...")],
    lamp: Annotated[str | None, typer.Option("--lamp", help="Lamp of an arc")] = None,
    target: Annotated[str | None, typer.Option("--target", help="What was observed")] = None,
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Say what a frame is, over its name and its sidecar.

    Example: kspecdr classify lamp7.fits MFARC --lamp HgAr
    """
    from daemon.commands import deciding

    value = {"frame_class": frame_class, "lamp": lamp, "target": target}
    raise typer.Exit(deciding.decide(out, config, "classify", frame, value))


def retry(
    frame: Annotated[str, typer.Argument(metavar="[FRAME]", help="Without it all that failed")] = "",
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Try again what has failed.

    Example: kspecdr retry object_00001.fits
    """
    from daemon.commands import deciding

    raise typer.Exit(deciding.decide(out, config, "retry", frame, {}))


def mark_bad(
    name: Annotated[str, typer.Argument(metavar="FRAME|PRODUCT", help="A frame, or the path of a product")],
    undo: Annotated[bool, typer.Option("--undo", help="Take it back")] = False,
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Mark a frame or product as bad; what used it is made again.

    Nothing uses it any more; --undo takes it back. What depended on it is listed; it is made again by the
    daemon, or by the next `kspecdr run` or `kspecdr reduce`.

    Example: kspecdr mark-bad bias_00003.fits
    """
    from daemon.commands import deciding

    raise typer.Exit(deciding.decide(out, config, "mark-bad", name, {"bad": not undo}))


def prune(
    older_than: Annotated[float, typer.Option("--older-than", metavar="DAYS", help="Made so long ago")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed")] = False,
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Remove superseded products that nothing uses; never raw frames.

    Example: kspecdr prune --older-than 30 --dry-run
    """
    from daemon.commands import upkeep

    raise typer.Exit(upkeep.prune(out, config, older_than, dry_run=dry_run))


def reproduce(
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="Path of a product, or its link")],
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a product again from raw and compare; exit 1 if other.

    It is made in a temporary directory; arrays and bytes are compared.

    Example: kspecdr reproduce reduced/2026-01-27/object_00001_red.fits
    """
    from daemon.commands import products

    raise typer.Exit(products.reproduce(out, config, product))


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there")] = False,
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy the catalog while it is in use.

    The products are not copied: they can be made again from the raw frames. To go back to a copy, stop the
    daemon and put it in the place of OUT/catalog.db.

    Example: kspecdr backup /safe/catalog.db
    """
    from daemon.commands import upkeep

    upkeep.backup(out, config, file, force=force)
