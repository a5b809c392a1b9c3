"""Does the meter work? Engines whose accuracy is known, asked all of AQuA dev.

    python benchmarks/meter.py --data ../shared/data

Writes `benchmarks/results/meter.json` and the table in `docs/evaluation.md`.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pages import fill, percent, table
from record import RESULTS, setting

from aquachat.eval.chat import evaluate_task
from aquachat.eval.meter import KnownEngine
from aquachat.tasks.aqua import load_aqua
from aquachat.tasks.base import Task
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer

LETTERS = "ABCDE"
PROTOCOLS = ("generative", "categorical")
ORDERS = (5, 1)
SEED = 0


def main() -> None:
    """Ask every engine, and write both files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder with aqua/dev.json")
    parser.add_argument("--json", action="store_true", help="print the document too")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dev.json").symlink_to((arguments.data / "aqua" / "dev.json").resolve())
        task = load_aqua(Path(folder), "validation")
    document = {**setting("benchmarks/meter.py"), "rows": measure(task)}
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "meter.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    fill("meter", meter_table(document))
    if arguments.json:
        print(json.dumps(document, indent=1))


def engines() -> dict[str, tuple[str, Callable[[str], str]]]:
    """Name -> what it must score over five orders, and how it answers."""
    dice = random.Random(SEED)
    found: dict[str, tuple[str, Callable[[str], str]]] = {
        "oracle": ("100%", lambda gold: gold),
        "never right": ("0%", lambda gold: LETTERS[(LETTERS.index(gold) + 1) % 5]),
    }
    for letter in LETTERS:
        found[f"always {letter}"] = ("exactly 20%", lambda gold, letter=letter: letter)
    found["guesses"] = ("20% in its interval", lambda gold: dice.choice(LETTERS))
    return found


def measure(task: Task) -> list[dict[str, Any]]:
    """The rows of the document."""
    texts = [f"{task[index].conversation.messages[0].text}\n" for index in range(len(task))]
    texts += [f"12 {letter}\nAnswer: {letter}\n" * 50 for letter in LETTERS]
    tokenizer = Tokenizer.train_from_iterator(texts, 1024)
    renderer = ChatRenderer(tokenizer)
    rows = []
    for name, (expected, choose) in engines().items():
        engine = KnownEngine(renderer, tokenizer, task, choose)
        for protocol in PROTOCOLS:
            for orders in ORDERS:
                result = evaluate_task(
                    engine, renderer, task, protocol=protocol, option_orders=orders
                )
                rows.append(
                    {
                        "engine": name,
                        "expected_over_all_orders": expected,
                        "protocol": protocol,
                        "option_orders": orders,
                        "num_questions": result.num_scored,
                        "num_replies": result.num_replies,
                        "num_fixed_order": result.num_fixed_order,
                        "accuracy": result.accuracy,
                        "ci95": list(result.ci95),
                        "majority_letter": result.majority_letter,
                    }
                )
    return rows


def meter_table(document: Mapping[str, Any]) -> list[str]:
    """The lines of the table, both protocols beside each other where they agree."""
    rows = []
    for first in document["rows"]:
        if first["protocol"] != PROTOCOLS[0]:
            continue
        key = (first["engine"], first["option_orders"])
        both = [r for r in document["rows"] if (r["engine"], r["option_orders"]) == key]
        shown = [f"{percent(r['accuracy'])} {_interval(r['ci95'])}" for r in both]
        expected = first["expected_over_all_orders"] if first["option_orders"] == 5 else "-"
        rows.append(
            [first["engine"], first["option_orders"], first["num_replies"], *shown, expected]
        )
    header = ["engine", "orders", "replies", *(f"{p} [95%]" for p in PROTOCOLS), "must be"]
    setting_line = (
        f"AQuA dev, {document['rows'][0]['num_questions']} questions, of which "
        f"{document['rows'][0]['num_fixed_order']} keep their order; revision "
        f"{document['revision'][:12]}, {document['date']}."
    )
    return [setting_line, "", *table(header, rows)]


def _interval(ends: list[float]) -> str:
    return f"[{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"


if __name__ == "__main__":
    main()
