"""The kspecdr command.

Commands import their modules when they are called, so that `--help` is quick.
"""

# ruff: noqa: PLC0415 - see above

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kspecdr.errors import KspecError

EXIT_CODES = """
Exit codes: 0 all is well; 1 the work was done, but a frame failed or a check found a fault; 2 the command
could not be understood or carried out, and one sentence on stderr says why.
"""

app = typer.Typer(
    name="kspecdr",
    help="Turn the frames of a fibre spectrograph into spectra, by themselves, as they land.\n\n" + EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file; default ./config.toml, /etc/kspecdr/config.toml"),
]
OutOption = Annotated[Path | None, typer.Option("--out", help="Output directory with products and catalog")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output")]
FibersOption = Annotated[
    str | None, typer.Option("--fibers", metavar="N|TABLE", help="Number of fibres, or a fibre table")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="Worker processes; 0: none")]
FrameArgument = Annotated[str, typer.Argument(help="Path below the watched directory, or a unique end of it")]


def main() -> None:
    """Run the command; a person's mistake ends in one sentence, never in a traceback."""
    try:
        app()
    except KspecError as error:
        _refuse(str(error))
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        _refuse(f"{error.filename or 'the system'}: {error.strerror or error}")


def _refuse(sentence: str) -> None:
    sys.stderr.write(f"kspecdr: {sentence}\n")
    raise SystemExit(2)


def _fibers(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdigit() else text


@app.callback()
def _everything() -> None:
    """Hold the group together."""


@app.command()
def run(
    config: ConfigOption = None,
    watch: Annotated[list[Path] | None, typer.Option("--watch", help="Directory in which frames land")] = None,
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
    from daemon.service import log_to_stderr, serve

    overrides = {
        "paths": {
            "watch": [str(each) for each in watch] if watch else None,
            "out": str(out) if out else None,
        },
        "instrument": {"fibers": _fibers(fibers)},
        "workers": {"count": workers},
    }
    log_to_stderr()
    settings = load(config, overrides)
    raise typer.Exit(serve(settings, until_idle=until_idle, reload=lambda: load(config, overrides)))


@app.command()
def reduce(
    raw: Annotated[Path, typer.Argument(help="Directory of raw frames")],
    out: OutOption = None,
    fibers: FibersOption = None,
    config: ConfigOption = None,
    workers: WorkersOption = None,
) -> None:
    """Reduce a directory until nothing is left; exit 1 if a frame failed.

    Example: kspecdr reduce night1 --out reduced --fibers fibres.csv
    """
    from daemon.commands.batch import reduce_directory
    from daemon.config import load

    overrides = {
        "paths": {"watch": [str(raw)], "out": str(out) if out else None},
        "instrument": {"fibers": _fibers(fibers)},
        "workers": {"count": workers},
    }
    raise typer.Exit(reduce_directory(load(config, overrides)))


@app.command()
def demo(
    directory: Annotated[Path | None, typer.Argument(help="Where to work; default a temporary directory")] = None,
) -> None:
    """Simulate a short night, let its frames land and watch them become spectra; takes under a minute.

    Example: kspecdr demo
    """
    from daemon.commands.demo import run_demo

    raise typer.Exit(run_demo(directory))


@app.command()
def replay(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="Directory of raw frames")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Watched directory to write them into")],
    speed: Annotated[float, typer.Option("--speed", help="Times real time; 0: as fast as it goes")] = 0.0,
    shuffle: Annotated[int | None, typer.Option("--shuffle", metavar="SEED", help="In another order")] = None,
) -> None:
    """Write a night's frames as LightField does, growing under their final names.

    Example: kspecdr replay night1 /data/raw --speed 60
    """
    import time

    from daemon.commands import replay as lightfield

    night = lightfield.landings(source)
    for path in lightfield.replay(night, directory, speed=speed, sleep=time.sleep, shuffle=shuffle):
        typer.echo(str(path))


@app.command()
def simulate(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Where the raw frames go")],
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
    chosen = PRESETS[night] if frames is None else long_night(frames, PRESETS[night].instrument)
    for path in write_night(directory, chosen, truth, seed=seed):
        typer.echo(str(path))


@app.command()
def validate(
    nights: Annotated[str, typer.Option("--nights", help="Comma-separated; default the six of the scoreboard")] = "",
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write every figure as JSON")] = None,
    small: Annotated[bool, typer.Option("--small", help="Small frames: seconds instead of minutes")] = False,
    plots: Annotated[Path | None, typer.Option("--plots", metavar="DIR", help="Draw pictures")] = None,
    real: Annotated[Path, typer.Option("--real", metavar="DIR", help="Real frames, where present")] = Path(
        "../shared/real"
    ),
    seed: Annotated[int, typer.Option("--seed", help="Of all noise")] = 1,
    workers: Annotated[int, typer.Option("--workers", help="Processes")] = 2,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 where a figure falls short")] = False,
) -> None:
    """Measure every precision figure of the reduction on simulated nights, beside its goal.

    Example: kspecdr validate --nights plain,ghost --plots pictures
    """
    from kspecdr.validate.scoreboard import NIGHTS, Campaign, run

    chosen = tuple(nights.split(",")) if nights else NIGHTS
    raise typer.Exit(run(Campaign(chosen, small, real, plots, seed, workers), json_file, strict=strict))


@app.command()
def status(out: OutOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what there is: frames and products by state, latencies, what failed.

    Example: kspecdr status --out reduced
    """
    from daemon.commands import reading

    reading.status(out, config, as_json=as_json)


@app.command()
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


@app.command()
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


@app.command()
def why(frame: FrameArgument, out: OutOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Say where a frame stands, what it needs, what was found, and why each candidate was rejected.

    Example: kspecdr why object_00001.fits --out reduced
    """
    from daemon.commands import reading

    reading.why(out, config, frame, as_json=as_json)


@app.command()
def classify(
    frame: FrameArgument,
    frame_class: Annotated[str, typer.Argument(metavar="CLASS", help="BIAS DARK LFLAT MFFFF MFARC MFOBJECT ...")],
    lamp: Annotated[str | None, typer.Option("--lamp", help="Lamp of an arc")] = None,
    target: Annotated[str | None, typer.Option("--target", help="What was observed")] = None,
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Say what a frame is; this decides over its name and its sidecar.

    Example: kspecdr classify lamp7.fits MFARC --lamp HgAr
    """
    from daemon.commands import deciding

    value = {"frame_class": frame_class, "lamp": lamp, "target": target}
    raise typer.Exit(deciding.decide(out, config, "classify", frame, value))


@app.command()
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


@app.command("mark-bad")
def mark_bad(
    name: Annotated[str, typer.Argument(metavar="FRAME|PRODUCT", help="A frame, or the path of a product")],
    undo: Annotated[bool, typer.Option("--undo", help="Take it back")] = False,
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Mark a frame or a product as bad: nothing uses it, and what was made with it is made again.

    Example: kspecdr mark-bad bias_00003.fits
    """
    from daemon.commands import deciding

    raise typer.Exit(deciding.decide(out, config, "mark-bad", name, {"bad": not undo}))


@app.command()
def needed(
    night: Annotated[str | None, typer.Option("--night", help="YYYY-MM-DD; default this night")] = None,
    out: OutOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calibrations that the settings of the night still lack, to be taken before dawn.

    Example: kspecdr needed --out reduced
    """
    from daemon.commands import upkeep

    upkeep.show_needed(out, config, night, as_json=as_json)


@app.command()
def prune(
    older_than: Annotated[float, typer.Option("--older-than", metavar="DAYS", help="Made so long ago")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list what would be removed")] = False,
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Remove superseded products that nothing was made from; never raw frames, never what is in use.

    Example: kspecdr prune --older-than 30 --dry-run
    """
    from daemon.commands import upkeep

    raise typer.Exit(upkeep.prune(out, config, older_than, dry_run=dry_run))


@app.command()
def reproduce(
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="Path of a product, or its link")],
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Make a product again from the raw frames, in a temporary directory, and compare; exit 1 if it differs.

    Example: kspecdr reproduce reduced/2026-01-27/object_00001_red.fits
    """
    from daemon.commands import upkeep

    raise typer.Exit(upkeep.reproduce(out, config, product))


@app.command()
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where the copy goes")],
    out: OutOption = None,
    config: ConfigOption = None,
) -> None:
    """Copy the catalog while it is in use.

    Example: kspecdr backup /safe/catalog.db
    """
    from daemon.commands import upkeep

    upkeep.backup(out, config, file)


@app.command()
def show(
    product: Annotated[str, typer.Argument(metavar="PRODUCT", help="Path of a product, or its link")],
    png: Annotated[Path | None, typer.Option("--png", metavar="FILE", help="Draw it")] = None,
    out: OutOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a product was made from, its state and its quality.

    Example: kspecdr show object_00001_red.fits --png spectrum.png
    """
    from daemon.commands import upkeep

    upkeep.show(out, config, product, png, as_json=as_json)


@app.command()
def doctor(
    config: ConfigOption = None,
    watch: Annotated[list[Path] | None, typer.Option("--watch", help="Directory in which frames land")] = None,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """Check mounts, limits, permissions, space, tables and versions; exit 1 if something is wrong.

    Example: kspecdr doctor --watch /data/raw --out /data/reduced
    """
    from daemon.commands import reading
    from daemon.commands.doctor import examine
    from daemon.config import load

    paths: dict[str, Any] = {
        "watch": [str(each) for each in watch] if watch else None,
        "out": str(out) if out else None,
    }
    findings = examine(load(config, {"paths": paths}))
    reading.show_findings(findings, as_json=as_json)
    raise typer.Exit(int(any(each.flag == "fail" for each in findings)))


if __name__ == "__main__":
    main()
