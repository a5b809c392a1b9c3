"""Batches of conversations from a mixture of data sets, as a pure function of (seed, step)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import torch

from aquachat.data.loader import on_device, share_of
from aquachat.data.mixture import Draw, Mixture, PartUse
from aquachat.data.packing import TrainOn, num_trained, pack
from aquachat.errors import ConfigError
from aquachat.model.batch import Batch, JsonDict
from aquachat.text.conversation import Conversation
from aquachat.text.render import Rendered

OnLong = Literal["truncate", "skip"]
"""What becomes of a conversation that is longer than `max_tokens`."""


class ConversationDataset(Protocol):
    """Conversations by number; a data set may vary them from epoch to epoch."""

    def __len__(self) -> int: ...

    def get(self, index: int, epoch: int) -> Conversation:
        """Conversation `index` as it is in `epoch`: a pure function of both."""
        ...


class Renderer(Protocol):
    """What turns a conversation into ids; `ChatRenderer` is one."""

    def supervised(self, conversation: Conversation, max_tokens: int) -> Rendered:
        """The ids, and which of them are learned."""
        ...


@dataclass(frozen=True, slots=True)
class MixturePart:
    """A data set and its weight in a mixture; only the ratios of weights count."""

    name: str
    dataset: ConversationDataset
    weight: float


@dataclass(frozen=True, slots=True)
class TokenUse:
    """What became of the examples of one part."""

    examples: int = 0
    """Trained on."""
    tokens: int = 0
    """Read, without padding."""
    targets: int = 0
    """Learned."""
    truncated: int = 0
    """Of `examples`, those whose end was cut off."""
    skipped: int = 0
    """Left out: too long with `on_long="skip"`, or without a token to learn."""

    def __add__(self, other: TokenUse) -> TokenUse:
        return TokenUse(
            self.examples + other.examples,
            self.tokens + other.tokens,
            self.targets + other.targets,
            self.truncated + other.truncated,
            self.skipped + other.skipped,
        )


@dataclass(frozen=True, slots=True)
class _HostStep:
    batches: list[Batch]
    by_part: dict[str, TokenUse]


@dataclass
class _Ledger:
    """Token use of the steps from 0 on, as far as it is known."""

    num_steps: int = 0
    by_part: dict[str, TokenUse] = field(default_factory=dict)

    def add_step(self, by_part: Mapping[str, TokenUse]) -> None:
        self.num_steps += 1
        self.add(by_part)

    def add(self, by_part: Mapping[str, TokenUse]) -> None:
        for name, use in by_part.items():
            self.by_part[name] = self.by_part.get(name, TokenUse()) + use


class ChatSource:
    """Training batches of conversations; a `BatchSource` whose only state is the step.

    Each step takes the next `examples_per_step` of the mixture, whatever the number of processes;
    each process renders its own share, sorts it by length and pads it into micro-batches.

    Args:
        parts: the mixture.
        renderer: conversations to ids.
        examples_per_step: over all processes.
        max_tokens: longest example, in tokens.
        device_batch_tokens: positions of a micro-batch (padding included), at most.
        seed: decides the order inside each part.
        rank: this process; `world_size`: how many there are.
        device: where the batches go.
        train_on: which tokens are learned.
        on_long: what becomes of a conversation longer than `max_tokens`.
        pad_multiple: widths are rounded up to a multiple, so that few shapes occur.
        prefetch: steps that a background thread renders ahead, 0 or 1; it changes no batch.
        gather: the given object of every process, on every process; None renders the shares of the
            others anew where they are accounted for.

    Raises:
        ConfigError: a mixture that cannot be, or a micro-batch too small for one example.
    """

    def __init__(
        self,
        parts: Sequence[MixturePart],
        renderer: Renderer,
        *,
        examples_per_step: int,
        max_tokens: int,
        device_batch_tokens: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str = "cpu",
        train_on: TrainOn = "assistant",
        on_long: OnLong = "truncate",
        pad_multiple: int = 32,
        prefetch: int = 1,
        gather: Callable[[object], list[object]] | None = None,
    ) -> None:
        if device_batch_tokens < max_tokens:
            raise ConfigError(
                f"a micro-batch of {device_batch_tokens:,} tokens does not hold one example of "
                f"{max_tokens:,}",
                hint="raise the device batch, or lower the maximum length",
            )
        self.examples_per_step = examples_per_step
        self.mixture = Mixture(
            [part.name for part in parts],
            [len(part.dataset) for part in parts],
            [part.weight for part in parts],
            seed,
        )
        self._parts = tuple(parts)
        self._renderer = renderer
        self._max_tokens = max_tokens
        self._device_batch_tokens = device_batch_tokens
        self._rank, self._world_size = rank, world_size
        self._device = torch.device(device)
        self._train_on: TrainOn = train_on
        self._on_long: OnLong = on_long
        self._pad_multiple = pad_multiple
        if gather is None and world_size == 1:
            gather = _alone
        self._gather = gather
        self._ledger = _Ledger()
        """Of this process's share of each step, and on the first process also of all before."""
        self._pool = ThreadPoolExecutor(1, "chat-render") if prefetch else None
        self._ahead: tuple[int, Future[_HostStep]] | None = None

    def step_batches(self, step: int) -> Sequence[Batch]:
        """The micro-batches of this process at `step`; perhaps none."""
        ready = self._host_step(step)
        if self._gather is not None and step == self._ledger.num_steps:
            self._ledger.add_step(ready.by_part)
        return [on_device(batch, self._device) for batch in ready.batches]

    def state_dict(self) -> JsonDict:
        """The token use so far, so that no step is rendered again to account for it.

        All else is a function of the step. Processes with a `gather` call this together.
        """
        if self._gather is None:
            return {}
        ledger = self._ledger
        by_part = self._over_all(ledger).items()
        return {
            "token_use": {
                "num_steps": ledger.num_steps,
                "by_part": {name: asdict(use) for name, use in by_part},
            }
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over the token use of an earlier session."""
        saved = state.get("token_use")
        if saved is None or self._gather is None:
            return
        by_part = {name: TokenUse(**use) for name, use in saved["by_part"].items()}
        self._ledger = _Ledger(saved["num_steps"], by_part if self._rank == 0 else {})

    def accounting(self, num_steps: int) -> dict[str, PartUse]:
        """Examples, epochs and share of each part in the first `num_steps`, over all processes."""
        return self.mixture.use(num_steps * self.examples_per_step)

    def token_accounting(self, num_steps: int) -> dict[str, TokenUse]:
        """What became of the examples of each part in the first `num_steps`, over all processes.

        A pure function of `num_steps`. Steps that are not in the books are rendered now, once: some
        thousand examples a second. Processes with a `gather` call this together.
        """
        ledger = self._ledger if num_steps >= self._ledger.num_steps else _Ledger()
        for step in range(ledger.num_steps, num_steps):
            first, end = share_of(self.examples_per_step, self._rank, self._world_size)
            if self._gather is None:
                first, end = 0, self.examples_per_step
            base = step * self.examples_per_step
            _, by_part = self._render(range(base + first, base + end))
            ledger.add_step(by_part)
        by_part = self._over_all(ledger)
        return {name: by_part.get(name, TokenUse()) for name in self.mixture.names}

    def _over_all(self, ledger: _Ledger) -> dict[str, TokenUse]:
        if self._gather is None:
            return ledger.by_part
        total = _Ledger()
        for by_part in self._gather(ledger.by_part):
            assert isinstance(by_part, dict)
            total.add(by_part)
        return total.by_part

    def close(self) -> None:
        """End the background thread."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool, self._ahead = None, None

    def _host_step(self, step: int) -> _HostStep:
        if self._pool is None:
            return self._make_host_step(step)
        if self._ahead is None or self._ahead[0] != step:
            self._ahead = (step, self._pool.submit(self._make_host_step, step))
        ready = self._ahead[1].result()
        self._ahead = (step + 1, self._pool.submit(self._make_host_step, step + 1))
        return ready

    def _make_host_step(self, step: int) -> _HostStep:
        first, end = share_of(self.examples_per_step, self._rank, self._world_size)
        base = step * self.examples_per_step
        examples, by_part = self._render(range(base + first, base + end))
        batches = pack(
            examples,
            train_on=self._train_on,
            device_batch_tokens=self._device_batch_tokens,
            pad_multiple=self._pad_multiple,
        )
        return _HostStep(batches, by_part)

    def _render(self, positions: range) -> tuple[list[Rendered], dict[str, TokenUse]]:
        """The examples at these positions of the mixture, without those to be skipped."""
        kept: list[Rendered] = []
        by_part: dict[str, TokenUse] = {}
        for draw in map(self.mixture.draw, positions):
            rendered, use = self._render_one(draw)
            name = self.mixture.names[draw.part]
            by_part[name] = by_part.get(name, TokenUse()) + use
            if use.examples:
                kept.append(rendered)
        return kept, by_part

    def _render_one(self, draw: Draw) -> tuple[Rendered, TokenUse]:
        conversation = self._parts[draw.part].dataset.get(draw.index, draw.epoch)
        rendered = self._renderer.supervised(conversation, self._max_tokens)
        targets = num_trained(rendered, self._train_on)
        if targets == 0 or (rendered.truncated and self._on_long == "skip"):
            return rendered, TokenUse(skipped=1)
        truncated = int(rendered.truncated)
        return rendered, TokenUse(1, len(rendered.ids), targets, truncated)


def _alone(value: object) -> list[object]:
    return [value]


def conversation_batches(
    dataset: ConversationDataset,
    renderer: Renderer,
    *,
    max_tokens: int,
    device_batch_tokens: int,
    max_examples: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    train_on: TrainOn = "assistant",
    pad_multiple: int = 32,
) -> Iterator[Batch]:
    """A data set once, in its own order: what a validation loss is measured on.

    Args:
        dataset: read at epoch 0.
        renderer: conversations to ids.
        max_tokens: longer conversations are cut at the end.
        device_batch_tokens: positions of a batch, at most.
        max_examples: the first so many; None for all.
        rank: this process, which takes its share.
        world_size: how many processes there are.
        device: where the batches go.
        train_on: which tokens are scored.
        pad_multiple: widths are rounded up to a multiple.
    """
    count = len(dataset) if max_examples is None else min(len(dataset), max_examples)
    first, end = share_of(count, rank, world_size)
    batches = pack(
        (renderer.supervised(dataset.get(index, 0), max_tokens) for index in range(first, end)),
        train_on=train_on,
        device_batch_tokens=device_batch_tokens,
        pad_multiple=pad_multiple,
    )
    for batch in batches:
        yield on_device(batch, torch.device(device))
