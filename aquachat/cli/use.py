"""The Use panel: chat and serve."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import typer

from aquachat.cli import serving
from aquachat.cli.command import (
    Command,
    chosen_run,
    execute,
    open_context,
    recorded_recipe,
    resolve_recipe,
)
from aquachat.cli.options import OUTPUT_OPTIONS, Argument, Settings, recipe_command

if TYPE_CHECKING:
    from aquachat.pipeline.context import RunContext
    from aquachat.pipeline.talk import Talker

PANEL = "Use"


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.command("chat", rich_help_panel=PANEL)(chat)
    app.command("serve", rich_help_panel=PANEL)(serving.serve)


@recipe_command(
    "run",
    common=("run", "from_", "data_dir", *OUTPUT_OPTIONS),
    arguments={
        "question": Argument(
            str | None, None, typer.Argument(help="Ask this and leave; `-` reads standard input")
        ),
        "temperature": Argument(
            float, 0.0, typer.Option("--temperature", min=0.0, help="0 is greedy")
        ),
        "top_k": Argument(int, 0, typer.Option("--top-k", min=0, help="0 is all tokens")),
        "top_p": Argument(
            float, 1.0, typer.Option("--top-p", max=1.0, help="Likeliest tokens with this share")
        ),
        "max_new_tokens": Argument(
            int, 256, typer.Option("--max-new-tokens", min=1, help="Longest reply")
        ),
        "tools": Argument(
            bool, True, typer.Option("--tools/--no-tools", help="Run the calculator calls")
        ),
    },
)
def chat(settings: Settings) -> None:
    """Talk to a trained model, in the terminal or with one question.

    Examples:
        aquachat chat

        aquachat chat "A car drives 60 km per hour for 3 hours. How far is that, in km?"

        aquachat chat "What is 12 times 7?" --temperature 0 --json
    """
    execute(settings, _chat)


def _chat(command: Command) -> None:
    from aquachat.pipeline.talk import Talker

    settings, output = command.settings, command.output
    run = chosen_run(command)
    recipe = resolve_recipe(command, recorded=recorded_recipe(command.home, run)).recipe
    context = open_context(command, recipe, run)
    talker = Talker.open(
        context,
        temperature=settings["temperature"],
        top_k=settings["top_k"],
        top_p=settings["top_p"],
        max_new_tokens=settings["max_new_tokens"],
        tools=settings["tools"],
    )
    question = settings["question"]
    if question == "-" or (question is None and not sys.stdin.isatty()):
        question = sys.stdin.read().strip()
    if question is None:
        return _converse(command, talker, context)
    for piece in talker.ask(question):
        if not output.json:
            _write(piece)
    answer = talker.last_reply()
    if not output.json:
        _write("\n")
    output.result(answer)
    output.next_command(f"aquachat chat --run {run}")


def _converse(command: Command, talker: Talker, context: RunContext) -> None:
    from aquachat.cli.conversation import BANNER, ChatSession
    from aquachat.pipeline.problems import Problems

    with suppress(ImportError):  # lines can be edited and come back with the arrow keys
        import readline  # noqa: F401
    folders = context.folders
    command.output.note(BANNER.format(checkpoint=talker.checkpoint, run=context.run))
    ChatSession(
        talker=talker,
        problems=Problems(folders.data_root, folders.aqua_dir),
        run=context.run,
        read=input,
        write=_write,
        say_error=command.output.error,
    ).converse()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
