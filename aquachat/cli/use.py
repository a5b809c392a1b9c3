"""The Use panel: chat and serve."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

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
    from aquachat.pipeline.talk import Talker

PANEL = "Use"
BANNER = """chat with {checkpoint} of run {run}
/problem draws a question and grades the reply, /reset starts over, /quit or Ctrl-D leaves
end a line with \\ to go on in the next one"""


def register(app: typer.Typer) -> None:
    """Add the commands of this panel to `app`."""
    app.command("chat", rich_help_panel=PANEL)(chat)
    app.command("serve", rich_help_panel=PANEL)(serving.serve)


@recipe_command(
    "run",
    common=("run", "from_", *OUTPUT_OPTIONS),
    arguments={
        "question": Argument(
            str | None, None, typer.Argument(help="Ask this and leave; `-` reads standard input")
        ),
        "temperature": Argument(
            float, 0.0, typer.Option("--temperature", min=0.0, help="0 is greedy")
        ),
        "top_k": Argument(int, 0, typer.Option("--top-k", min=0, help="0 is all tokens")),
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
    talker = Talker.open(
        open_context(command, recipe, run),
        temperature=settings["temperature"],
        top_k=settings["top_k"],
        max_new_tokens=settings["max_new_tokens"],
        tools=settings["tools"],
    )
    question = settings["question"]
    if question == "-" or (question is None and not sys.stdin.isatty()):
        question = sys.stdin.read().strip()
    if question is None:
        output.note(BANNER.format(checkpoint=talker.checkpoint, run=run))
        return _converse(talker)
    answer: dict[str, Any] = {}
    for piece in talker.ask(question):
        if not output.json:
            sys.stdout.write(piece)
            sys.stdout.flush()
    answer = talker.last_reply()
    if not output.json:
        sys.stdout.write("\n")
        sys.stdout.flush()  # before what comes on stderr, where both go to one file
    output.result(answer)
    output.next_command(f"aquachat chat --run {run}")


def _converse(talker: Talker) -> None:
    """Read questions until the end of input; Ctrl-C ends a reply, not the conversation."""
    from aquachat.tasks.multiple_choice import grade_choice

    num_problems = 0
    while True:
        try:
            question = _read_question()
        except EOFError:
            sys.stdout.write("\n")
            return
        if question in ("/quit", "/exit"):
            return
        if question == "/reset":
            talker.reset()
            continue
        if not question:
            continue
        if question != "/problem":
            _say(talker, question)
            continue
        example = talker.draw_problem(num_problems)
        num_problems += 1
        talker.reset()
        problem = example.conversation.messages[0].text
        sys.stdout.write(f"{problem}\n\n")
        if _say(talker, problem):
            grade = grade_choice(example, talker.last_reply()["text"])
            verdict = "right" if grade.correct else f"wrong, {example.answer} is right"
            sys.stdout.write(f"({verdict})\n")


def _read_question() -> str:
    """A question of one line, or of several whose ends are marked with a backslash."""
    lines = [input("> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1].rstrip()
        lines.append(input("  "))
    return "\n".join(lines).strip()


def _say(talker: Talker, question: str) -> bool:
    """Stream the reply; whether it was finished."""
    try:
        for piece in talker.ask(question):
            sys.stdout.write(piece)
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stdout.write(" [stopped]\n")
        return False
    sys.stdout.write("\n")
    return True
