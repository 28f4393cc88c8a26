"""Commands that make something: the daemon, a batch, and nights to try them with."""

# ruff: noqa: PLC0415 - what a command needs is imported when it is called, so that `--help` is quick

from pathlib import Path
from typing import Annotated

import typer

from daemon.commandline.options import ConfigOption, FibersOption, OutOption, WatchOption, WorkersOption, fibers_of


def run(
    config: ConfigOption = None,
    watch: WatchOption = None,
    out: OutOption = None,
    fibers: FibersOption = None,
    workers: WorkersOption = None,
    until_idle: Annotated[
        float | None,
        typer.Option("--until-idle", metavar="S", help="End after S seconds with nothing left to do"),
    ] = None,
) -> None:
    """Watch directories and reduce what lands: the daemon.

    Example: kspecdr run --watch /data/raw --out /data/reduced --fibers 14
    """
    from daemon.config import load
    from daemon.journal import log_to_stderr
    from daemon.service import serve

    overrides = {
        "paths": {
            "watch": [str(each) for each in watch] if watch else None,
            "out": str(out) if out else None,
        },
        "instrument": {"fibers": fibers_of(fibers)},
        "workers": {"count": workers},
    }
    log_to_stderr()
    settings = load(config, overrides)
    raise typer.Exit(serve(settings, until_idle=until_idle, reload=lambda: load(config, overrides)))


def reduce(
    raw: Annotated[Path, typer.Argument(help="Directory of raw frames")],
    out: OutOption = None,
    fibers: FibersOption = None,
    config: ConfigOption = None,
    workers: WorkersOption = None,
) -> None:
    """Reduce a directory to its end; exit 1 if a frame failed.

    Example: kspecdr reduce night1 --out reduced --fibers fibres.csv
    """
    from daemon.commands.batch import reduce_directory
    from daemon.config import load

    overrides = {
        "paths": {"watch": [str(raw)], "out": str(out) if out else None},
        "instrument": {"fibers": fibers_of(fibers)},
        "workers": {"count": workers},
    }
    raise typer.Exit(reduce_directory(load(config, overrides)))


def demo(
    directory: Annotated[Path | None, typer.Argument(help="Where to work; default a temporary directory")] = None,
) -> None:
    """Simulate a night and watch it become spectra: half a minute.

    Example: kspecdr demo
    """
    from daemon.commands.demo import run_demo

    raise typer.Exit(run_demo(directory))


def replay(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Directory of raw frames")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Watched directory to write them into")],
    speed: Annotated[float, typer.Option("--speed", help="Times real time; 0: as fast as it goes")] = 0.0,
    shuffle: Annotated[int | None, typer.Option("--shuffle", metavar="SEED", help="In another order")] = None,
) -> None:
    """Write a night's frames as LightField does, growing in place.

    Example: kspecdr replay night1 /data/raw --speed 60
    """
    import time

    from daemon.commands import replay as lightfield

    night = lightfield.landings(source)
    for path in lightfield.replay(night, directory, speed=speed, sleep=time.sleep, shuffle=shuffle):
        typer.echo(str(path))


def simulate(
    directory: Annotated[Path | None, typer.Argument(metavar="DIR", help="Where the raw frames go")] = None,
    night: Annotated[str, typer.Option("--night", help="Name of the night; `list` lists them")] = "plain",
    frames: Annotated[int | None, typer.Option("--frames", help="A night of so many files, for replays")] = None,
    truth: Annotated[Path | None, typer.Option("--truth", help="Directory for the truth of every frame")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of all noise")] = 1,
) -> None:
    """Write a simulated night with known truth, and its fibre table.

    Example: kspecdr simulate night1 --night ghost --truth truth1
    """
    from kspecdr.errors import BadOption
    from kspecdr.simulate import PRESETS, long_night, write_night

    if night == "list":
        typer.echo("\n".join(PRESETS))
        return
    if night not in PRESETS:
        raise BadOption(f"night {night!r} is not known; expected one of {', '.join(PRESETS)}")
    if directory is None:
        raise BadOption("no directory is named; give the one where the raw frames go")
    chosen = PRESETS[night] if frames is None else long_night(frames, PRESETS[night].instrument)
    there = sorted(path.name for path in directory.glob("*.fits"))
    if there:
        raise BadOption(f"{directory} holds {len(there)} frames, such as {there[0]}; give a directory without frames")
    for path in write_night(directory, chosen, truth, seed=seed):
        typer.echo(str(path))


def validate(
    nights: Annotated[str, typer.Option("--nights", help="Comma-separated; default the six of the scoreboard")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every figure as JSON")] = None,
    small: Annotated[bool, typer.Option("--small", help="Small frames: seconds instead of minutes")] = False,
    plots: Annotated[Path | None, typer.Option("--plots", metavar="DIR", help="Draw pictures")] = None,
    real: Annotated[Path | None, typer.Option("--real", metavar="DIR", help="Real frames to measure too")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of all noise")] = 1,
    workers: Annotated[int, typer.Option("--workers", help="Processes")] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where a figure falls short")] = False,
) -> None:
    """Measure every precision figure on simulated nights.

    Example: kspecdr validate --nights plain,ghost --plots pictures
    """
    from daemon.commands.refusing import check_file
    from kspecdr.validate.scoreboard import NIGHTS, Campaign, run

    check_file(json_file)
    chosen = tuple(nights.split(",")) if nights else NIGHTS
    raise typer.Exit(run(Campaign(chosen, small, real, plots, seed, workers), json_file, strict=strict))
