"""Writes a corpus, keeping progress often; a test kills it: `python -m tests.data.writing_program`.

After `--stall-after` documents it says so and waits to be killed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aquachat.data import corpus_writer, encoding_pool
from aquachat.data.corpus_writer import write_corpus
from aquachat.data.document_hygiene import DocumentPolicy
from aquachat.data.document_stream import Rereadable
from aquachat.data.hygiene.document_guard import DocumentGuard
from aquachat.data.hygiene.guard import EvaluationGuard
from aquachat.text.long_text import in_parts
from tests.data.byte_tokenizer import byte_tokenizer

NUM_DOCUMENTS = 600
WORDS = ("train", "speed", "of", "60", "km", "ratio\n", "profit,", "é", "中文")
STALLED = "stalled"


def documents(stall_after: int | None = None, changed: bool = False) -> Iterator[str]:
    """Texts of very different lengths, some in parts; 170 KB."""
    random = np.random.default_rng(7)
    for number in range(NUM_DOCUMENTS):
        if number == stall_after:
            print(STALLED, flush=True)
            time.sleep(600)
        count = int(random.integers(0, 6) ** 3)
        text = " ".join(WORDS[i] for i in random.integers(0, len(WORDS), count))
        if changed and number == 5:
            text += "changed"
        yield from in_parts([text], part_chars=300)


def guard() -> EvaluationGuard:
    """Questions that hold the last words of every seventh document, long ones too."""
    found = EvaluationGuard()
    text, number = "", 0
    for part in documents():
        text += part
        if type(part) is str:
            words = text.split()
            if number % 7 == 0 and len(words) > 20:
                found.add("made/test", number, " ".join(words[-60:]))
            text, number = "", number + 1
    return found


def write(
    directory: Path, *, num_workers: int = 1, stall_after: int | None = None, changed: bool = False
) -> list[str]:
    """Write the corpus; returns what it noted."""
    notes: list[str] = []
    write_corpus(
        directory,
        {
            "a": Rereadable(lambda: documents(stall_after, changed)),
            "b": ["another source", "  "],
        },
        byte_tokenizer(),
        shard_tokens=20_000,
        validation_fraction=0.1,
        validation_sources={"c": ["for validation"]},
        policy=DocumentPolicy(DocumentGuard(guard(), []), ("a",)),
        num_workers=num_workers,
        note=notes.append,
    )
    return notes


def set_small_sizes() -> None:
    """Keep progress every few documents, and use other processes from the first batch on."""
    corpus_writer.KEEP_TOKENS = 5_000  # type: ignore[misc]
    corpus_writer.BATCH_BYTES = 2_000  # type: ignore[misc]
    encoding_pool.START_BYTES = 0  # type: ignore[misc]


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--stall-after", type=int)
    arguments = parser.parse_args()
    set_small_sizes()
    write(
        arguments.directory,
        num_workers=arguments.num_workers,
        stall_after=arguments.stall_after,
    )
