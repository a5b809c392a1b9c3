"""Continuous batching: rows of many prompts decode together, and a row that ends makes room."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from aquachat.errors import ConfigError
from aquachat.infer.cache import GroupCache
from aquachat.infer.rows import NO_TOKEN, Row, RowBuffers, Signal
from aquachat.infer.sampling import stream_key
from aquachat.infer.types import Completion, Event, Request, RequestId, TokenScore
from aquachat.infer.vocabulary import ChatVocabulary
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT
from aquachat.text.render import StopReason

PREFILL_TOKENS: Final = 16_384
"""Most prompt tokens, padding included, in one forward on a GPU."""
CPU_PREFILL_NUMBERS: Final = 2**20
"""Most numbers inside the MLP in one forward of prompts on a CPU.

More do not stay in its cache, and blocks of memory above 4 MB are given back to the system and
zeroed again for every layer: of 254 prompts of AQuA at depth 4, 1,024 tokens at a time take half
the time of 4,096.
"""
REFILL_FRACTION: Final = 0.125
"""Share of the rows that must be free before waiting prompts join rows that are decoding.

Each prefill is a forward of its own, so prompts that join one by one cost more than they gain.
"""


def prefill_tokens(config: GPTConfig, device: torch.device) -> int:
    """Most prompt tokens, padding included, in one forward; a longer prompt goes alone."""
    if device.type != "cpu":
        return PREFILL_TOKENS
    return min(PREFILL_TOKENS, CPU_PREFILL_NUMBERS // config.mlp_size)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A group of rows of one request that is not admitted yet; a request may be several groups."""

    row: Row
    num_rows: int


class Scheduler:
    """Decodes requests as they come; used by `Engine.generate`, chat, serving and rollouts.

    Not thread-safe: submit, step and cancel from one thread.

    Example:
        request = scheduler.submit(Request(prompt, SamplingParams(num_samples=4)))
        while scheduler.is_busy:
            for event in scheduler.step(): ...
    """

    def __init__(
        self,
        model: GPT,
        vocabulary: ChatVocabulary,
        *,
        compute_dtype: torch.dtype,
        cache: GroupCache,
    ) -> None:
        self._model, self._vocabulary = model, vocabulary
        self._compute_dtype = compute_dtype
        self._cache = cache
        self._device = cache.prompts.keys.device
        self._prefill_tokens = prefill_tokens(model.config, self._device)
        self._buffers = RowBuffers(
            cache.max_rows, cache.max_new_tokens, model.config.vocab_size, self._device
        )
        self._waiting: deque[_Waiting] = deque()
        self._events: list[Event] = []
        self._next_id = 0

    @property
    def is_busy(self) -> bool:
        """Whether `step` has anything left to do or to report."""
        return bool(self._waiting or self._buffers.rows or self._events)

    @property
    def max_rows(self) -> int:
        """Rows that can decode together."""
        return self._cache.max_rows

    @property
    def num_active_rows(self) -> int:
        """Rows that decode now."""
        return len(self._buffers.rows)

    def submit(self, request: Request) -> RequestId:
        """Queue a request; its rows join when there is room.

        Raises:
            ConfigError: the prompt is empty, or too long for the model's context or this cache.
        """
        row = self._first_row(request)
        remaining = request.params.num_samples
        while remaining:
            size = min(remaining, self._cache.max_rows)
            first = request.params.num_samples - remaining
            self._waiting.append(_Waiting(replace(row, sample=first), size))
            remaining -= size
        return row.id

    def cancel(self, request: RequestId, sample: int | None = None) -> None:
        """End what is left of a request; its replies so far come with the next `step`.

        A request that is finished or unknown is ignored. With `sample`, only that reply is ended,
        and only if it has begun.
        """
        waiting = [group for group in self._waiting if group.row.id == request]
        for group in waiting if sample is None else ():
            self._waiting.remove(group)
            empty = Completion((), (), (), StopReason.CANCELLED)
            for offset in range(group.num_rows):
                sample = group.row.sample + offset
                self._events.append(Event(request, sample, completion=empty))
        slots = [
            slot
            for slot, row in enumerate(self._buffers.rows)
            if row.id == request and sample in (None, row.sample)
        ]
        self._finish(dict.fromkeys(slots, StopReason.CANCELLED))

    @torch.inference_mode()
    def step(self) -> list[Event]:
        """Admit what fits, then decode one token in every row."""
        for groups in self._admissible():
            self._prefill(groups)
        if self._buffers.rows:
            self._decode()
        events, self._events = self._events, []
        return events

    def _first_row(self, request: Request) -> Row:
        cache, params = self._cache, request.params
        context, length = self._model.config.max_seq_len, len(request.prompt)
        if not length:
            raise ConfigError("an empty prompt cannot be continued", hint="start with `<|bos|>`")
        if length >= context:
            raise ConfigError(
                f"a prompt of {length} tokens leaves no room in the model's context of {context}",
                hint="shorten the prompt, or train with a larger `--max-seq-len`",
            )
        limit = min(params.max_new_tokens, context - length)
        if length > cache.max_prompt_tokens or limit > cache.max_new_tokens:
            raise ConfigError(
                f"a prompt of {length} and a reply of {limit} tokens do not fit a cache made for "
                f"{cache.max_prompt_tokens} and {cache.max_new_tokens}",
                hint="shorten the prompt, or lower `--max-new-tokens`",
            )
        vocabulary, self._next_id = self._vocabulary, self._next_id + 1
        stop_ids = vocabulary.stop_ids if params.stop_ids is None else params.stop_ids
        calculator = vocabulary.calculator if params.tools else None
        return Row(
            id=RequestId(self._next_id - 1),
            request=request,
            sample=0,
            key=stream_key(params.seed, request.prompt),
            limit=limit,
            stop_ids=stop_ids,
            end_ids=(*stop_ids, *vocabulary.misplaced_ids),
            call_id=NO_TOKEN if calculator is None else calculator.end_id,
        )

    def _admissible(self) -> list[list[_Waiting]]:
        """Waiting groups that fit now, in prefill batches of bounded size."""
        cache = self._cache
        free_rows = cache.max_rows - cache.num_rows
        free_groups = cache.max_groups - cache.num_groups
        if cache.num_rows and free_rows < self._refill_rows():
            return []
        batches: list[list[_Waiting]] = []
        longest = 0
        while self._waiting and free_groups and self._waiting[0].num_rows <= free_rows:
            group = self._waiting.popleft()
            longest = max(longest, len(group.row.request.prompt))
            if not batches or longest * (len(batches[-1]) + 1) > self._prefill_tokens:
                batches.append([])
                longest = len(group.row.request.prompt)
            batches[-1].append(group)
            free_rows -= group.num_rows
            free_groups -= 1
        return batches

    def _refill_rows(self) -> int:
        wanted = int(self._cache.max_rows * REFILL_FRACTION)
        waiting = 0
        for group in self._waiting:
            waiting += group.num_rows
            if waiting >= wanted:
                return wanted
        return waiting

    def _prefill(self, groups: Sequence[_Waiting]) -> None:
        """Run the prompts of `groups` once each, and sample the first token of all their rows."""
        prompts = [group.row.request.prompt for group in groups]
        sizes = [group.num_rows for group in groups]
        padded = np.zeros((len(prompts), max(map(len, prompts))), dtype=np.int64)
        for line, prompt in zip(padded, prompts, strict=True):
            line[: len(prompt)] = prompt
        cache = self._cache.prefill(list(map(len, prompts)), sizes)
        tokens = torch.from_numpy(padded).to(self._device)
        last = self._model(
            tokens, cache=cache, compute_dtype=self._compute_dtype, places=cache.last_places
        )
        logits = self._model.logits(last)  # (P, V)
        repeats = torch.tensor(sizes, device=self._device)
        rows = [
            replace(group.row, sample=group.row.sample + offset)
            for group in groups
            for offset in range(group.num_rows)
        ]
        slots = self._buffers.add(rows)
        self._advance(logits.repeat_interleave(repeats, dim=0), slots)

    def _decode(self) -> None:
        hidden = self._model(
            self._buffers.last_tokens,
            cache=self._cache.decode(),
            compute_dtype=self._compute_dtype,
        )
        self._advance(self._model.logits(hidden[:, 0]), slice(0, len(self._buffers.rows)))

    def _advance(self, logits: torch.Tensor, slots: slice) -> None:
        signals = self._buffers.advance(logits, slots)
        self._stream(slots, logits)
        finished: dict[int, StopReason] = {}
        for slot, row in enumerate(self._buffers.rows[slots], start=slots.start):
            if row.count >= row.limit:
                finished[slot] = StopReason.LENGTH
        self._obey(signals, slots.start, finished)
        self._finish(finished)

    def _obey(
        self, signals: npt.NDArray[np.int64], first: int, finished: dict[int, StopReason]
    ) -> None:
        """Note the rows that end, and answer the calculator calls of the others."""
        for offset in np.flatnonzero(signals).tolist():
            slot, row = first + offset, self._buffers.rows[first + offset]
            reply = self._buffers.tokens_of(slot)
            if signals[offset] & Signal.ENDS:
                is_stop = reply[-1] in row.stop_ids
                finished[slot] = StopReason.STOP if is_stop else StopReason.MALFORMED
            elif slot not in finished and self._vocabulary.calculator is not None:
                self._buffers.force(slot, self._vocabulary.calculator.forced_tokens(reply))

    def _stream(self, slots: slice, logits: torch.Tensor) -> None:
        rows = self._buffers.rows[slots]
        if not any(row.request.streams for row in rows):
            return
        tokens: list[int] = self._buffers.last_tokens[slots, 0].tolist()
        for place, (row, token) in enumerate(zip(rows, tokens, strict=True)):
            if row.request.streams:
                most = row.request.num_alternatives
                scores = () if most is None else (_score(logits[place], token, most),)
                self._events.append(Event(row.id, row.sample, tokens=(token,), scores=scores))

    @torch.inference_mode()
    def _finish(self, slots: dict[int, StopReason]) -> None:
        if not slots:
            return
        for slot, finish in sorted(slots.items()):
            row = self._buffers.rows[slot]
            completion = self._buffers.completion(slot, finish)
            self._events.append(Event(row.id, row.sample, completion=completion))
        self._buffers.move(self._cache.remove(list(slots)))


def _score(logits: torch.Tensor, token: int, num_alternatives: int) -> TokenScore:
    """Of one row's logits (V,) float32."""
    total = logits.logsumexp(dim=0)
    best = logits.topk(min(num_alternatives, len(logits)))
    nats = (best.values - total).tolist()
    alternatives = tuple(zip(best.indices.tolist(), nats, strict=True))
    return TokenScore(float(logits[token] - total), alternatives)
