"""Training data by name: the parts of a mixture, and the documents of a corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aquachat.config.recipes import ChatRecipe
from aquachat.data.conversations import FixedConversations, TaskConversations
from aquachat.errors import ConfigError, MissingFileError
from aquachat.paths import Home
from aquachat.tasks.base import Task
from aquachat.tasks.chat_rows import load_conversations
from aquachat.tasks.multiple_choice import choice_conversation
from aquachat.tasks.registry import task_by_name
from aquachat.tasks.synthetic import generate_documents, generate_drills, generate_items
from aquachat.text.conversation import Conversation, PartKind

if TYPE_CHECKING:
    from aquachat.data.chat import ConversationDataset, MixturePart
    from aquachat.data.text_documents import TextSet

PROBLEM_STRIDE = 10_000_000
"""Each consumer of training problems reads its own stretch of the endless sequence."""
STRETCHES = ("tokenize", "base", "mid", "sft", "rl", "validation")


@dataclass(frozen=True, slots=True)
class DataFolders:
    """Where prepared data sets are."""

    data_root: Path
    """`AQUACHAT_HOME/data`."""
    aqua_dir: Path
    """AQuA's own folder, which `--data-dir` or the environment may name."""

    def task(
        self, name: str, split: str | None = None, *, seed: int = 0, max_examples: int | None = None
    ) -> Task:
        """A task by the name a user types; see `aquachat.tasks.registry.task_by_name`."""
        return task_by_name(
            name,
            split,
            data_root=self.data_root,
            aqua_dir=self.aqua_dir,
            seed=seed,
            max_examples=max_examples,
        )


SYNTHETIC = "synthetic"
DRILLS = "drills"


@dataclass(frozen=True, slots=True)
class SyntheticConversations:
    """Freshly generated problems: epoch e continues where epoch e - 1 ended, nothing repeats."""

    seed: int
    count: int
    start: int
    tiers: Mapping[str, float]

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, epoch: int) -> Conversation:
        """Problem `index` of an epoch."""
        start = self.start + epoch * self.count + index
        return choice_conversation(
            next(generate_items("train", self.seed, 1, self.tiers, start=start))
        )


@dataclass(frozen=True, slots=True)
class DrillConversations:
    """Freshly generated drills: looking options up, and plain arithmetic."""

    seed: int
    count: int
    start: int

    def __len__(self) -> int:
        return self.count

    def get(self, index: int, epoch: int) -> Conversation:
        """Drill `index` of an epoch."""
        start = self.start + epoch * self.count + index
        return next(generate_drills(self.seed, 1, start=start))


def stretch_start(consumer: str) -> int:
    """Where a consumer's stretch of training problems begins, so that no two stages share one."""
    return STRETCHES.index(consumer) * PROBLEM_STRIDE


def make_parts(
    recipe: ChatRecipe, *, stage: str, seed: int, folders: DataFolders
) -> list[MixturePart]:
    """The mixture of a stage.

    Raises:
        ConfigError: a part has no such name, or the mixture is empty.
        MissingFileError: a part was not prepared.
    """
    from aquachat.data.chat import MixturePart  # loads torch, which a dry run does without

    if not recipe.mixture:
        raise ConfigError(
            f"`{stage}.mixture` names no data", hint="give it sources and weights in a TOML file"
        )
    weights = {name: weight for name, weight in recipe.mixture.items() if weight > 0}
    requests = [PartRequest(name, recipe, stage, seed, folders) for name in weights]
    return [
        MixturePart(asked.name, part_source(asked.name).build(asked), weights[asked.name])
        for asked in requests
    ]


@dataclass(frozen=True, slots=True)
class PartRequest:
    """A part of a mixture, as a recipe asks for it."""

    name: str
    recipe: ChatRecipe
    stage: str
    seed: int
    folders: DataFolders

    def prepared_file(self, dataset: str, split: str) -> Path:
        """The rows of a prepared split; of AQuA also DeepMind's own file."""
        root = self.folders.aqua_dir if dataset == "aqua" else self.folders.data_root / dataset
        prepared, original = root / f"{split}.jsonl", root / f"{split}.json"
        is_original = dataset == "aqua" and original.is_file() and not prepared.is_file()
        return original if is_original else prepared


@dataclass(frozen=True, slots=True)
class PartSource:
    """Where the conversations of a part come from."""

    build: Callable[[PartRequest], ConversationDataset]
    dataset: str | None
    """The prepared set that is read; None where conversations are generated."""
    limit: Callable[[ChatRecipe], int] = lambda recipe: 0
    """The most rows that a recipe takes of it, 0 for all."""


def part_source(name: str) -> PartSource:
    """The source that a name in a mixture stands for: one of `PARTS`, or a task."""
    known = PARTS.get(name.lower())
    return PartSource(_task_part, name.lower()) if known is None else known


def train_split(request: PartRequest, dataset: str) -> str:
    """The split a part is trained on.

    MMLU is trained on `auxiliary_train` where that was prepared, and else on its validation split,
    which has 5 questions a subject: the files that `--data` names often lack the former.
    """
    is_small = dataset == "mmlu" and not request.prepared_file(dataset, "train").is_file()
    return "validation" if is_small else "train"


def _synthetic_part(request: PartRequest) -> ConversationDataset:
    recipe, start = request.recipe, stretch_start(request.stage)
    tiers = dict(recipe.synthetic_tiers)
    return SyntheticConversations(request.seed, recipe.synthetic_rows, start, tiers)


def _drills_part(request: PartRequest) -> ConversationDataset:
    start = stretch_start(request.stage)
    return DrillConversations(request.seed, request.recipe.synthetic_rows, start)


def _chat_part(request: PartRequest) -> ConversationDataset:
    path = request.prepared_file(request.name, "train")
    if not path.is_file():
        raise MissingFileError(
            f"{request.name} is not prepared: there is no `{path}`",
            hint=f"run `aquachat prepare {request.name}`",
        )
    return FixedConversations(load_conversations(path).conversations)


def _aqua_part(request: PartRequest) -> ConversationDataset:
    return TaskConversations(
        _train_task(request, request.recipe.aqua_train_examples),
        request.seed,
        calculator=request.recipe.calculator,
    )


def _task_part(request: PartRequest) -> ConversationDataset:
    return TaskConversations(_train_task(request, 0), request.seed)


def _generated_task_part(request: PartRequest) -> ConversationDataset:
    return TaskConversations(_train_task(request, request.recipe.synthetic_rows), request.seed)


def _train_task(request: PartRequest, limit: int) -> Task:
    split = train_split(request, request.name.lower())
    return request.folders.task(request.name, split, seed=request.seed, max_examples=limit or None)


PARTS: Mapping[str, PartSource] = {
    SYNTHETIC: PartSource(_synthetic_part, None),
    DRILLS: PartSource(_drills_part, None),
    "spelling": PartSource(_generated_task_part, None),
    "aqua": PartSource(_aqua_part, "aqua", lambda recipe: recipe.aqua_train_examples),
    "chat": PartSource(_chat_part, "chat"),
    "smoltalk": PartSource(_chat_part, "smoltalk"),
    "identity": PartSource(_chat_part, "identity"),
}
"""What a name in a mixture stands for; any other name is a task's, for example `arc-easy`."""


def as_document(conversation: Conversation) -> str:
    r"""A conversation as plain text, calculator calls written as `60*3=180`.

    Example:
        "A car drives 60 km ...\n180 B\n...\nDistance: 60*3=180\n180 B\nAnswer: B"
    """
    turns = []
    for message in conversation.messages:
        text = ""
        for part in message.parts:
            # The result is repeated in the text after a call, so the output itself is left out.
            text += (
                f"{part.text}="
                if part.kind is PartKind.PYTHON
                else (part.text if part.kind is PartKind.TEXT else "")
            )
        turns.append(text)
    return "\n".join(turns)


def corpus_documents(
    sources: Mapping[str, int], *, seed: int, consumer: str, home: Home
) -> tuple[dict[str, Callable[[], Iterable[str]]], dict[str, Callable[[], Iterable[str]]]]:
    """Readers of the training and validation documents of each source; each call reads anew.

    Args:
        sources: `expository`, `problems`, `drills` (generated), or a prepared text set, and how
            many documents of it, 0 for all.
        seed: of the generated documents.
        consumer: whose stretch of the generated problems is used.
        home: where prepared text sets are.

    Raises:
        ConfigError: a source has no such name, or a generated one has no number.
        MissingFileError: a text set was not prepared.
    """
    start = stretch_start(consumer)
    training: dict[str, Callable[[], Iterable[str]]] = {}
    validation: dict[str, Callable[[], Iterable[str]]] = {}
    for name, count in sources.items():
        if name in _GENERATED:
            if count == 0:
                raise ConfigError(
                    f"`tokenize.sources` asks for all of `{name}`, which is endless",
                    hint=f"give a number of documents, for example {name} = 8000",
                )
            training[name] = _reader(_GENERATED[name], seed, count, start)
        else:
            text = _text_set(home, name)
            training[name] = _limited(text.documents, "train", count)
            if text.has("validation"):
                validation[name] = _limited(text.documents, "validation", -(-count // 50))
    return training, validation


def text_sources(sources: Mapping[str, int]) -> tuple[str, ...]:
    """Those corpus sources that are prepared text, not generated."""
    return tuple(name for name in sources if name not in _GENERATED)


def _reader(
    generate: Callable[[int, int, int], Iterator[str]], seed: int, count: int, start: int
) -> Callable[[], Iterable[str]]:
    return lambda: generate(seed, count, start)


def _limited(
    read: Callable[[str], Iterable[str]], split: str, count: int
) -> Callable[[], Iterable[str]]:
    from aquachat.data.text_documents import first_documents

    return lambda: first_documents(read(split), count)


def _problems(seed: int, count: int, start: int) -> Iterator[str]:
    for item in generate_items("train", seed, count, start=start):
        yield as_document(choice_conversation(item))


def _drills(seed: int, count: int, start: int) -> Iterator[str]:
    return map(as_document, generate_drills(seed, count, start=start))


def _expository(seed: int, count: int, start: int) -> Iterator[str]:
    return generate_documents(seed, count)


_GENERATED: Mapping[str, Callable[[int, int, int], Iterator[str]]] = {
    "problems": _problems,
    "drills": _drills,
    "expository": _expository,
}


def _text_set(home: Home, name: str) -> TextSet:
    from aquachat.data.text_documents import open_text_set

    folder: Path = home.data(name)
    if not folder.is_dir():
        raise MissingFileError(
            f"corpus source `{name}` is not prepared",
            hint=f"run `aquachat prepare {name}`, or use {', '.join(_GENERATED)}",
        )
    return open_text_set(folder)
