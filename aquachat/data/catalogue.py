"""The data sets that `aquachat prepare` knows: where they come from, their licence, their rows."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from aquachat.errors import ConfigError
from aquachat.tasks.arc import read_arc_row
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.chat_rows import read_conversation_row
from aquachat.tasks.gsm8k import NumberProblem, read_gsm8k_row
from aquachat.tasks.mmlu import read_mmlu_row
from aquachat.tasks.rows import (
    MAX_ROW_CHARS,
    ChoiceRow,
    RowReason,
    choice_row,
    read_choice_row,
)

Split = Literal["train", "validation", "test", "heldout"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "test")
HELDOUT: Final = "heldout"
"""Split off AQuA's training pool; see `aquachat.data.heldout`."""
ALL_SPLITS: Final[tuple[Split, ...]] = (*SPLITS, HELDOUT)

SYNTHETIC: Final = "synthetic"
TEXT: Final = "text"
CORE: Final = "core"
IDENTITY: Final = "identity"


@dataclass(frozen=True, slots=True)
class PreparedRow:
    """A row as it will stand on disk, and what is wrong with it."""

    value: Mapping[str, Any] | None
    """None where nothing usable is in it."""
    reasons: tuple[str, ...] = ()
    question: str | None = None
    """What must not be in training and in an evaluation split; None for chat."""
    item: ChoiceItem | None = None
    """Of a multiple-choice row."""

    @property
    def letter(self) -> str | None:
        """The gold letter of a multiple-choice row."""
        return None if self.item is None else self.item.answer_letter

    @property
    def text(self) -> str:
        """All words that are learned from the row, the question included."""
        if self.item is not None:
            return "\n".join([self.item.question, *self.item.options, self.item.rationale])
        return "\n".join(_strings_of(self.value))


RowReader = Callable[[Mapping[str, Any]], PreparedRow]


def _strings_of(value: object) -> Iterator[str]:
    """The strings in a JSON value, keys left out, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings_of(inner)


@dataclass(frozen=True, slots=True)
class HubSplit:
    """A configuration and a split as the hub names them."""

    config: str | None
    split: str


@dataclass(frozen=True, slots=True)
class HubSet:
    """A data set on the hub."""

    repo: str
    splits: Mapping[Split, HubSplit]


@dataclass(frozen=True, slots=True)
class DatasetSpec:
    """A data set of rows."""

    name: str
    licence: str
    read_row: RowReader
    hub: HubSet | None
    """None for a set that comes from files only."""

    @property
    def default_split(self) -> Split:
        """What one file whose name tells no split is for."""
        return "test" if self.hub is not None and "train" not in self.hub.splits else "train"


def _aqua_row(row: Mapping[str, Any]) -> PreparedRow:
    read = read_choice_row(row)
    if read.item is None:
        return PreparedRow(None, read.reasons)
    item = read.item
    value = {**choice_row(item), **item.attributes}
    return PreparedRow(value, read.reasons, item.question, item)


def _choice_reader(read_row: Callable[[Mapping[str, object], str], ChoiceRow]) -> RowReader:
    """A reader that keeps the row in its set's own form."""

    def read(row: Mapping[str, Any]) -> PreparedRow:
        inner = row.get("train")  # the hub wraps MMLU's auxiliary training rows once more
        row = inner if isinstance(inner, Mapping) else row
        found = read_row(row, "")
        if found.item is None:
            return PreparedRow(None, found.reasons)
        reasons = (*found.reasons, *_if_too_long(found.item))
        return PreparedRow(row, reasons, found.item.question, found.item)

    return read


def _if_too_long(item: ChoiceItem) -> tuple[RowReason, ...]:
    num_chars = len(item.question) + sum(map(len, item.options))
    return (RowReason.TOO_LONG,) if num_chars > MAX_ROW_CHARS else ()


def _gsm8k_row(row: Mapping[str, Any]) -> PreparedRow:
    problem = read_gsm8k_row(row, "")
    if not isinstance(problem, NumberProblem):
        return PreparedRow(None, (problem,))
    reasons = [] if problem.rationale else [RowReason.EMPTY_RATIONALE]
    if len(problem.question) + len(problem.rationale) > MAX_ROW_CHARS:
        reasons.append(RowReason.TOO_LONG)
    return PreparedRow(row, tuple(reasons), problem.question)


def _chat_row(row: Mapping[str, Any]) -> PreparedRow:
    conversation = read_conversation_row(row)
    if isinstance(conversation, RowReason):
        return PreparedRow(None, (conversation,))
    return PreparedRow(row)


def _humaneval_row(row: Mapping[str, Any]) -> PreparedRow:
    if not isinstance(row.get("prompt"), str):
        return PreparedRow(None, (RowReason.MISSING_QUESTION,))
    if not all(isinstance(row.get(key), str) for key in ("test", "entry_point")):
        return PreparedRow(None, (RowReason.MISSING_ANSWER,))
    return PreparedRow(row, question=row["prompt"])


def _same_names(config: str, *splits: Split) -> dict[Split, HubSplit]:
    return {split: HubSplit(config, split) for split in splits}


DATASETS: Final[Mapping[str, DatasetSpec]] = {
    spec.name: spec
    for spec in (
        DatasetSpec(
            "aqua",
            "Apache-2.0",
            _aqua_row,
            HubSet("deepmind/aqua_rat", _same_names("raw", *SPLITS)),
        ),
        DatasetSpec(
            "gsm8k", "MIT", _gsm8k_row, HubSet("openai/gsm8k", _same_names("main", "train", "test"))
        ),
        DatasetSpec(
            "arc-easy",
            "CC-BY-SA-4.0",
            _choice_reader(read_arc_row),
            HubSet("allenai/ai2_arc", _same_names("ARC-Easy", *SPLITS)),
        ),
        DatasetSpec(
            "arc-challenge",
            "CC-BY-SA-4.0",
            _choice_reader(read_arc_row),
            HubSet("allenai/ai2_arc", _same_names("ARC-Challenge", *SPLITS)),
        ),
        DatasetSpec(
            "mmlu",
            "MIT",
            _choice_reader(read_mmlu_row),
            HubSet(
                "cais/mmlu",
                {
                    "train": HubSplit("auxiliary_train", "train"),
                    "validation": HubSplit("all", "validation"),
                    "test": HubSplit("all", "test"),
                },
            ),
        ),
        DatasetSpec(
            "humaneval",
            "MIT",
            _humaneval_row,
            HubSet("openai/openai_humaneval", {"test": HubSplit(None, "test")}),
        ),
        DatasetSpec("chat", "as its sources say", _chat_row, None),
        DatasetSpec(
            IDENTITY, "MIT where generated; of other sources, as they say", _chat_row, None
        ),
        DatasetSpec(
            "smoltalk",
            "Apache-2.0",
            _chat_row,
            HubSet(
                "HuggingFaceTB/smol-smoltalk",
                {"train": HubSplit(None, "train"), "validation": HubSplit(None, "test")},
            ),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class ShardedText:
    """Text for base training on the hub: parquet shards in random order, the last held out."""

    name: str
    repo: str
    last_shard: int
    licence: str

    def file_name(self, index: int) -> str:
        """The name of a shard: `shard_00007.parquet`."""
        return f"shard_{index:05d}.parquet"


SHARDED_TEXTS: Final[Mapping[str, ShardedText]] = {
    text.name: text
    for text in (
        ShardedText("fineweb", "karpathy/fineweb-edu-100b-shuffle", 1822, "ODC-By-1.0"),
        ShardedText("climbmix", "karpathy/climbmix-400b-shuffle", 6542, "CC-BY-NC-4.0"),
    )
}

KNOWN_NAMES: Final = (*DATASETS, TEXT, *SHARDED_TEXTS, SYNTHETIC, CORE)
"""What `aquachat prepare` knows; `data.toml` may name all but the generated one."""

GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "arc": ("arc-easy", "arc-challenge"),
    "all": (
        *(name for name, spec in DATASETS.items() if spec.hub is not None),
        IDENTITY,
        SYNTHETIC,
        CORE,
        "fineweb",
    ),
}
"""Names for several sets; `all` leaves out what only the user has, and the second text."""


def dataset_spec(name: str) -> DatasetSpec:
    """The data set of rows that `name` stands for.

    Raises:
        ConfigError: there is none, with the closest name as the hint.
    """
    if name in DATASETS:
        return DATASETS[name]
    raise unknown_name("data set", name, (*KNOWN_NAMES, *GROUPS))


def unknown_name(kind: str, name: str, known: tuple[str, ...], where: str = "") -> ConfigError:
    """The error for a name that is not among `known`; `where` ends the sentence."""
    closest = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean `{closest[0]}`?" if closest else f"use one of {', '.join(known)}"
    return ConfigError(f"there is no {kind} `{name}`{where}", hint=hint)
