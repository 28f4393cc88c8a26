"""The kspecdr command.

The commands are written in daemon.commandline, in the order in which they are listed here.
"""

import sys
from importlib.metadata import version
from typing import Annotated

import typer

from daemon.arithmetic import one_thread
from daemon.commandline import deciding, reading, working
from daemon.commands.refusing import sentence_of
from daemon.journal import one_line
from kspecdr.errors import KspecError

EXIT_CODES = """
Exit codes: 0 all is well; 1 the work was done, but a frame failed or a check found a fault; 2 the command
could not be understood or carried out, and one sentence on stderr says why.
"""
BEGIN = """
Begin with `kspecdr demo`; each command has an example: `kspecdr reduce --help`.
"""

app = typer.Typer(
    name="kspecdr",
    help="Turn the frames of a fibre spectrograph into spectra, by themselves, as they land.\n\n" + BEGIN + EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """Run the command; a person's mistake ends in one sentence, never in a traceback."""
    one_thread()
    try:
        app()
    except KspecError as error:
        _refuse(str(error))
    except UnicodeEncodeError as error:
        _refuse(f"{error.object}: its bytes are no {error.encoding} text; rename the file")
    except BrokenPipeError:  # the reader of our output has seen enough
        sys.stderr.close()
        raise SystemExit(0) from None
    except OSError as error:
        _refuse(sentence_of(error))


def _refuse(sentence: str) -> None:
    sys.stderr.write(f"kspecdr: {one_line(sentence)}\n")
    raise SystemExit(2)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kspecdr {version('kspecdr')}")
        raise typer.Exit


@app.callback()
def _everything(
    asked: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version")
    ] = False,
) -> None:
    """Hold the group together; the version is said before anything else is looked at."""


COMMANDS = (
    *(working.run, working.reduce, working.demo, working.replay, working.simulate, working.validate),
    *(reading.status, reading.frames, reading.latest, reading.why, reading.needed, reading.show),
    *(deciding.classify, deciding.retry, deciding.mark_bad, deciding.prune, deciding.reproduce, deciding.backup),
    reading.doctor,
)
for command in COMMANDS:
    app.command(command.__name__.replace("_", "-"))(command)


if __name__ == "__main__":
    main()
