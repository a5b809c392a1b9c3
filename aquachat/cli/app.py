"""The `aquachat` command: its panels, its version, its one way out."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aquachat import __version__
from aquachat.cli import inspect, launch, pipeline, share, use

HELP = """From plain text to a small language model that reasons about algebra word problems.

Start with `aquachat run tiny`: the whole pipeline on a laptop, no GPU, no network, in minutes.
"""


def make_app() -> typer.Typer:
    """The Typer application with every command."""
    app = typer.Typer(
        name="aquachat",
        help=HELP,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback(help=HELP)(_options)
    for panel in (pipeline, use, launch, share, inspect):
        panel.register(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aquachat {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version", is_eager=True, callback=_print_version),
    ] = False,
) -> None:
    """Take the options of the program itself; `--version` ends it by its callback."""


def main() -> None:
    """Entry point of the `aquachat` script."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that is not UTF-8 shows a question mark, not a traceback.
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
    make_app()()
