"""Arguments and options that several commands take."""

from pathlib import Path
from typing import Annotated

import typer

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="Configuration file; default ./config.toml, /etc/kspecdr/config.toml"),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Output directory with products and catalog; default paths.out of the configuration, else ./reduced",
    ),
]
WatchOption = Annotated[list[Path] | None, typer.Option("--watch", help="Directory in which frames land")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON on standard output")]
FibersOption = Annotated[
    str | None, typer.Option("--fibers", metavar="N|TABLE", help="Number of fibres, or a fibre table; default 14")
]
WorkersOption = Annotated[int | None, typer.Option("--workers", help="Worker processes; 0: none")]
FrameArgument = Annotated[str, typer.Argument(help="Path below the watched directory, or a unique end of it")]


def fibers_of(text: str | None) -> int | str | None:
    """Return a number of fibers, or the path of their table."""
    return int(text) if text is not None and text.isdigit() else text
