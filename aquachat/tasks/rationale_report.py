"""What the rationales of some rows hold: arithmetic steps, and mentions of the options' letters.

    python -m aquachat.tasks.rationale_report ~/.cache/aquachat/data/aqua/train.jsonl

prints one table with a column a file.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from aquachat.errors import AquachatError
from aquachat.tasks.annotate import Verdict, count_steps
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.choice_task import load_choice_task
from aquachat.tasks.option_order import refers_to_options, rotate
from aquachat.tasks.rationale import split_letter_statement

VERDICT_NAMES = {
    Verdict.EXACT: "right, exact",
    Verdict.ROUNDED: "right, rounded or cut off",
    Verdict.FRACTION: "right, result a fraction (no call)",
    Verdict.WRONG: "wrong as written",
    Verdict.UNCLEAR: "unclear: may mean something else",
}


def rationale_counts(items: Sequence[ChoiceItem]) -> dict[str, int]:
    """Rows, mentions of letters and arithmetic steps of some items, by name.

    "Kept in order" are items whose options refer to each other in words that may mean something
    else; of the others, those are relabelled whose rationale changes with the order.
    """
    bodies = [split_letter_statement(item.rationale, item.letters) for item in items]
    moved = [rotate(item, 1) for item in items]
    steps = count_steps(body for body, _ in bodies)
    return {
        "rows": len(items),
        "closing statement of the letter, left out": sum(
            stated is not None for _, stated in bodies
        ),
        "letters inside the rationale, relabelled": sum(
            new.rationale != body
            for item, new, (body, _) in zip(items, moved, bodies, strict=True)
            if new is not item
        ),
        "options that refer to each other": sum(map(refers_to_options, items)),
        "of these kept in order": sum(new is item for item, new in zip(items, moved, strict=True)),
        "arithmetic steps": steps.steps,
        **{name: getattr(steps, verdict.value) for verdict, name in VERDICT_NAMES.items()},
        "rows with a step": steps.with_step,
        "rows with a call": steps.with_call,
    }


def main(arguments: Sequence[str]) -> int:
    """Print a Markdown table of the files named; the exit code."""
    if not arguments:
        print("usage: python -m aquachat.tasks.rationale_report FILE...", file=sys.stderr)
        return 2
    columns = []
    for argument in arguments:
        path = Path(argument)
        try:
            task = load_choice_task(path, name=path.stem, split="rows", dataset=path.stem)
        except AquachatError as error:
            print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
            return error.exit_code
        columns.append(rationale_counts(task.items))
    names = [Path(argument).name for argument in arguments]
    print(f"| | {' | '.join(names)} |\n|---|{'---:|' * len(names)}")
    for name in columns[0]:
        print(f"| {name} | {' | '.join(f'{column[name]:,}' for column in columns)} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
