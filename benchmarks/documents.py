"""What does `aquachat tokenize` pay for searching documents for evaluation questions?

Prepares every set of a folder with a `data.toml` into a home of its own and writes the corpus of
its text with and without the search, a new process each time, in turn. Counted is the processor
time of writing the corpus, all its processes included. Reading and indexing the questions happens
once whatever the corpus and stands in a row of its own.

    python benchmarks/documents.py --data PATH --repeats 5 --json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import median
from typing import Any

from record import keep, setting

from aquachat.data.corpus_writer import write_corpus
from aquachat.data.document_hygiene import DocumentPolicy
from aquachat.data.document_stream import Rereadable
from aquachat.data.hygiene.prepared import document_guard
from aquachat.data.text_documents import open_text_set
from aquachat.paths import Home
from aquachat.text.tokenizer import Tokenizer

MAX_COST = 1.3
"""Processor time with the search over that without, at most."""
SIDES = ("with", "without")


def main() -> None:
    """Measure, print, and keep the figures where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with a `data.toml`")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--vocab-size", type=int, default=32768)
    parser.add_argument("--num-workers", type=int, default=2)
    parser.add_argument("--copies", type=int, default=4, help="of the text in the corpus")
    parser.add_argument("--json", action="store_true", help="print the document, not a table")
    parser.add_argument("--keep", action="store_true", help="write results/documents.json")
    parser.add_argument("--one", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(write_once(arguments)))
        return
    if arguments.data is None:
        parser.error("--data is required")
    document = measure(arguments)
    if arguments.keep:
        keep("documents", document)
    if arguments.json:
        print(json.dumps(document, indent=1))
        return
    for row in document["rows"]:
        print(f"{row['name']}: {row['ours']:.4g} {row['unit']}, without {row['peer']:.4g}")


def write_once(arguments: argparse.Namespace) -> dict[str, Any]:
    """Write the corpus in this process; what that took."""
    root, side = arguments.home, arguments.one
    home = Home(root)
    text = open_text_set(home.data("text"))
    documents, copies = text.documents, arguments.copies
    tokenizer = Tokenizer.load(home.tokenizer("benchmark"))
    began = processor_seconds()
    policy = None
    if side == "with":
        guard = document_guard(root / "data")
        assert guard is not None, "no evaluation set was prepared"
        policy = DocumentPolicy(guard, ("text",))
    indexed = processor_seconds()
    started = time.perf_counter()
    report = write_corpus(
        root / "corpora" / side,
        {"text": Rereadable(lambda: chain.from_iterable(documents() for _ in range(copies)))},
        tokenizer,
        policy=policy,
        num_workers=arguments.num_workers,
    )
    return {
        "wall_s": time.perf_counter() - started,
        "cpu_s": processor_seconds() - indexed,
        "index_s": indexed - began,
        "documents": report.sources["text"].documents,
        "text_bytes": report.sources["text"].text_bytes,
        "left_out": 0 if report.contamination is None else report.contamination.documents,
        "questions": 0 if policy is None else policy.guard.num_questions,
    }


def processor_seconds() -> float:
    """Of this process and of those of its children that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The document: both sides in turn, each going first every other time."""
    passes: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder), arguments.data, arguments.vocab_size)
        for repeat in range(arguments.repeats):
            for side in SIDES if repeat % 2 == 0 else reversed(SIDES):
                passes[side].append(_in_a_new_process(folder, side, arguments))
                print(side, json.dumps(passes[side][-1]), file=sys.stderr)
    searched, plain = passes["with"], passes["without"]
    return {
        **setting(
            f"python benchmarks/documents.py --num-workers {arguments.num_workers} "
            f"--copies {arguments.copies}"
        ),
        "max_cost": MAX_COST,
        "documents": plain[0]["documents"],
        "text_bytes": plain[0]["text_bytes"],
        "questions": searched[0]["questions"],
        "left_out": searched[0]["left_out"],
        "index_s": median(one["index_s"] for one in searched),
        "rows": [
            _row("processor time of the corpus", "cpu_s", searched, plain),
            _row("time of the corpus", "wall_s", searched, plain),
        ],
    }


def prepare(home: Path, data: Path, vocab_size: int) -> None:
    """Make every set of a folder ready, and a vocabulary of its text."""
    command = [sys.executable, "-m", "aquachat", "prepare", "all", "--data", str(data), "--quiet"]
    environ = {**os.environ, "AQUACHAT_HOME": str(home)}
    subprocess.run(command, env=environ, check=True, stdout=subprocess.DEVNULL)
    text = open_text_set(Home(home).data("text"))
    Tokenizer.train_from_iterator(text.documents(), vocab_size).save(
        Home(home).tokenizer("benchmark")
    )


def _in_a_new_process(home: str, side: str, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", side, "--home", home]
    command += ["--num-workers", str(arguments.num_workers), "--copies", str(arguments.copies)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _row(
    name: str, key: str, ours: Sequence[Mapping[str, float]], peer: Sequence[Mapping[str, float]]
) -> dict[str, Any]:
    ratios = [a[key] / b[key] for a, b in zip(ours, peer, strict=True)]
    return {
        "name": name,
        "unit": "s",
        "ours": median(one[key] for one in ours),
        "peer": median(one[key] for one in peer),
        "peer_name": "without the search",
        "ratio_median": median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "repeats": len(ratios),
    }


if __name__ == "__main__":
    main()
