"""Makes a large file, tokenizes it, and prints the memory that took, in a process of its own.

python -m tests.data.memory_program KIND MEGABYTES FOLDER NUM_WORKERS
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from aquachat.data.corpus import Corpus
from aquachat.data.corpus_writer import write_corpus
from aquachat.data.document_hygiene import DocumentPolicy
from aquachat.data.hygiene.document_guard import DocumentGuard
from aquachat.data.hygiene.guard import EvaluationGuard
from aquachat.data.text_documents import read_documents
from aquachat.text.tokenizer import Tokenizer

LINE = "A train that covers 240 km in 3 hours travels at 80 km per hour, or so. "
MEGABYTE = 1 << 20
MERGES = (b"th", b"tr", b"in", b"ra", b"tra", b"train", b" c", b" h", b" k", b"ou", b"our")


def blocks(num_bytes: int) -> Iterator[str]:
    """The same text again and again, about a megabyte at a time."""
    block = LINE * (MEGABYTE // len(LINE))
    for _ in range(num_bytes // len(block)):
        yield block


def make_file(kind: str, num_bytes: int, folder: Path) -> Path:
    """One line of text, one line of rows, rows of a kilobyte, or parquet with one row group."""
    if kind == "line.txt":
        path = folder / kind
        with path.open("w") as file:
            file.writelines(blocks(num_bytes))
    elif kind == "spaces.txt":
        path = folder / kind
        with path.open("w") as file:
            file.writelines(" " * len(block) for block in blocks(num_bytes))
    elif kind == "rows.jsonl":
        path = folder / kind
        row = json.dumps({"text": LINE * 14}) + "\n"
        with path.open("w") as file:
            for block in blocks(num_bytes):
                file.write(row * (len(block) // len(row)))
    else:
        path = folder / "rows.parquet"
        _write_parquet(path, num_bytes)
    return path


def _write_parquet(path: Path, num_bytes: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [f"{number}. {LINE * 14}" for number in range(num_bytes // (14 * len(LINE)))]
    table = pa.table({"text": texts})
    pq.write_table(table, path, row_group_size=len(texts), use_dictionary=False)


def policy() -> DocumentPolicy:
    """Half a million runs of words to search for, about as many as those of MMLU."""
    random = np.random.default_rng(3)
    guard = EvaluationGuard()
    for row in range(20_000):
        words = " ".join(f"w{number}" for number in random.integers(0, 30_000, 38))
        guard.add("made/test", row, words)
    return DocumentPolicy(DocumentGuard(guard, []), ("a",))


def own_peak_kilobytes() -> int:
    """Our peak; `ru_maxrss` would begin with what the process that started us has."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1])


def main() -> None:
    """Make the file, then tokenize it in a fresh copy of this program, and print a JSON object."""
    kind, megabytes, folder, workers = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
    if not workers.isdigit():
        make_file(kind, megabytes * MEGABYTE, folder)
        return
    path = next(folder.glob("*.*"))
    tokenizer = Tokenizer(tokens=(*(bytes([byte]) for byte in range(256)), *MERGES))
    documents = (text for text in read_documents(path) if text is not None)
    report = write_corpus(
        folder / "corpus", {"a": documents}, tokenizer, policy=policy(), num_workers=int(workers)
    )
    own = own_peak_kilobytes()
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    count = report.sources["a"]
    print(
        json.dumps(
            {
                "peak_bytes": (own + child * int(workers)) * 1024,
                "documents": count.documents,
                "text_bytes": count.text_bytes,
                "longest": int(Corpus.open(folder / "corpus").lengths.max()),
            }
        )
    )


if __name__ == "__main__":
    main()
