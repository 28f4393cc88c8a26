"""Commands that show what there is, and change nothing."""

# ruff: noqa: PLC0415 - what a command needs is imported when it is called, so that `--help` is quick

from pathlib import Path
from typing import Annotated, Any

import typer

from daemon.commandline.options import (
    ConfigOption,
    FibersOption,
    FrameArgument,
    JsonOption,
    OutOption,
    WatchOption,
    fibers_of,
)


def status(out: OutOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show frames and products by state, latencies, what failed.

    Example: kspecdr status --out reduced
    """
    from daemon.commands import reading

    reading.status(out, config, as_json=as_json)


def frames(
    out: OutOption = None,
    config: ConfigOption = None,
    night: Annotated[str | None, typer.Option("--night", help="YYYY-MM-DD of the preceding local noon")] = None,
    state: Annotated[str | None, typer.Option("--state", help="Only frames of this state")] = None,
    frame_class: Annotated[str | None, typer.Option("--class", help="Only frames of this class")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the frames with their state and its reason.

    Example: kspecdr frames --state waiting
    """
    from daemon.commands import reading

    reading.frames(out, config, {"night": night, "state": state, "frame_class": frame_class}, as_json=as_json)


def latest(
    out: OutOption = None,
    config: ConfigOption = None,
    kind: Annotated[str, typer.Option("--kind", help="bias dark lflat converted im tlm ex red fflat")] = "red",
    frame_class: Annotated[str | None, typer.Option("--class", help="Such as MFOBJECT")] = None,
    number: Annotated[int, typer.Option("-n", help="How many; 0: all")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Show the latest products of a kind, the newest last.

    Example: kspecdr latest --kind red --class MFOBJECT -n 5 --json
    """
    from daemon.commands import reading

    reading.latest(out, config, kind, frame_class, number, as_json=as_json)


def why(frame: FrameArgument, out: OutOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say why a frame stands where it does.

    What it became and needs, which calibrations were found, how old and how good they are, and why each other
    candidate was rejected.

    Example: kspecdr why object_00001.fits --out reduced
    """
    from daemon.commands import reading

    reading.why(out, config, frame, as_json=as_json)


def needed(
    night: Annotated[str | None, typer.Option("--night", help="YYYY-MM-DD; default the last with frames")] = None,
    out: OutOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calibrations that are still to be taken before dawn.

    Example: kspecdr needed --out reduced
    """
    from daemon.commands import upkeep

    upkeep.show_needed(out, config, night, as_json=as_json)


def show(
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="Path of a product, or its link")],
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw it")] = None,
    out: OutOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a product was made from, its state and its quality.

    The output directory is found from the product's path, where that lies in one.

    Example: kspecdr show reduced/2026-01-27/object_00001_red.fits --png spectrum.png
    """
    from daemon.commands import products

    products.show(out, config, product, png, as_json=as_json)


def doctor(
    config: ConfigOption = None,
    watch: WatchOption = None,
    out: OutOption = None,
    fibers: FibersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check mounts, limits, space, versions; exit 1 if a check fails.

    It goes by --config, else by the settings that OUT was last reduced with, else by the defaults.

    Example: kspecdr doctor --watch /data/raw --out /data/reduced
    """
    from daemon.commands import reading
    from daemon.commands.doctor import examine
    from daemon.session import session_to_read

    given: dict[str, dict[str, Any]] = {
        "paths": {"watch": [str(each) for each in watch] if watch else None},
        "instrument": {"fibers": fibers_of(fibers)},
    }
    findings = examine(session_to_read(out, config, given).config)
    reading.show_findings(findings, as_json=as_json)
    raise typer.Exit(int(any(each.flag == "fail" for each in findings)))
