from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from aquachat.text import Tokenizer

WORDS = (
    *("the", "train", "travels", "sixty", "miles", "in", "1.5", "hours", "how", "far", "12345"),
    *(
        "it's",
        "we'll",
        "THEY'RE",
        "café",
        "naïve",
        "中文字符",
        "текст",
        "😀👍🏽",
        "x^2+3x=10",
        "$4,500.00",
    ),
    *("a\u0301", "\u00a0", "\u0663\u0664", "½", "—", "“quoted”", "#include"),
)
SYLLABLES = ("ka", "lo", "mi", "ter", "ran", "qu", "est", "ion", "ab", "le")


def make_documents(num_documents: int = 300, seed: int = 5) -> list[str]:
    """Seeded documents of words, numbers and symbols with uneven whitespace."""
    rng = random.Random(seed)
    gaps = (" ", " ", " ", "  ", "\n", "\n\n", "\t", " \n ", "\r\n", "   ")

    def word() -> str:
        if rng.random() < 0.5:
            return rng.choice(WORDS)
        return "".join(rng.choices(SYLLABLES, k=rng.randint(1, 4)))

    return [
        "".join(word() + rng.choice(gaps) for _ in range(rng.randint(1, 60)))
        for _ in range(num_documents)
    ]


@pytest.fixture(scope="session")
def documents() -> list[str]:
    return make_documents()


@pytest.fixture(scope="session")
def tokenizer(documents: list[str]) -> Tokenizer:
    return Tokenizer.train_from_iterator(documents, 600)


@pytest.fixture(scope="session")
def real_texts(real_data: Path) -> list[str]:
    """A sample of every kind of real text: questions, rationales, chat, prose, code."""
    texts: list[str] = []
    for path in sorted(
        [*real_data.rglob("*.json*"), *real_data.rglob("*.md"), *real_data.rglob("*.txt")]
    ):
        if path.suffix == ".gz":
            continue
        # JSON escapes hide characters, so rows are parsed and written out again.
        for line in path.read_text(encoding="utf-8").splitlines()[:40]:
            try:
                texts.append(json.dumps(json.loads(line), ensure_ascii=False, indent=1)[:5000])
            except ValueError:
                texts.append(line[:5000])
    return [*texts, *_pretraining_texts(real_data / "pretrain")]


def _pretraining_texts(folder: Path) -> list[str]:
    import pyarrow.parquet as pq

    shard = next(iter(sorted(folder.glob("*.parquet"))))
    rows = pq.ParquetFile(shard).read_row_group(0, columns=["text"]).column("text").to_pylist()
    return [text[:20_000] for text in rows[:60]]
