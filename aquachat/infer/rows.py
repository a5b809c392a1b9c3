"""The replies being written: one slot per row, on the device, advanced together.

Shapes: N rows, V vocab, T reply tokens, K stop tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aquachat.infer.cache import Moves
from aquachat.infer.sampling import SamplingTable, sample, stream_uniforms
from aquachat.infer.types import Completion, Request, RequestId, SamplingParams
from aquachat.text.render import StopReason

NO_TOKEN: Final = -1


class Signal(IntFlag):
    """What the host must look at after a step."""

    ENDS = 1
    CALLS = 2


@dataclass(slots=True)
class Row:
    """The host's view of one slot."""

    id: RequestId
    request: Request
    sample: int
    key: tuple[int, int]
    limit: int
    """Most tokens this reply may have."""
    stop_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    """Stop tokens, and the misplaced ones that end a reply too."""
    call_id: int
    """The token that ends a calculator call, NO_TOKEN where tools are off."""
    count: int = 0
    """Tokens so far."""

    @property
    def params(self) -> SamplingParams:
        """How the row is sampled."""
        return self.request.params


class RowBuffers:
    """Tokens, log-probabilities and random numbers of up to `max_rows` replies.

    Slots 0..n-1 are in use, in the order of `rows`.
    """

    def __init__(
        self, max_rows: int, max_new_tokens: int, vocab_size: int, device: torch.device
    ) -> None:
        shape = (max_rows, max_new_tokens)
        self.rows: list[Row] = []
        self._tokens = torch.zeros(shape, dtype=torch.int64, device=device)
        self._logprobs = torch.zeros(shape, dtype=torch.float32, device=device)
        self._is_forced = torch.zeros(shape, dtype=torch.bool, device=device)
        self._uniforms = torch.zeros(shape, dtype=torch.float32, device=device)
        self._counts = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._last = torch.zeros(max_rows, dtype=torch.int64, device=device)
        self._vocab_size, self._device = vocab_size, device
        self._forced_left = 0
        self._table: SamplingTable | None = None
        self._end_ids = torch.empty(0, 0, dtype=torch.int64)
        self._call_ids = torch.empty(0, dtype=torch.int64)

    @property
    def last_tokens(self) -> Tensor:
        """(N, 1) int64: what each row feeds to the model next."""
        return self._last[: len(self.rows), None]

    def add(self, rows: Sequence[Row]) -> slice:
        """Take rows into the next slots."""
        start = len(self.rows)
        self.rows.extend(rows)
        added = slice(start, len(self.rows))
        width = self._uniforms.shape[1]
        uniforms = np.zeros((len(rows), width), dtype=np.float32)
        for values, row in zip(uniforms, rows, strict=True):
            if row.params.temperature > 0.0:
                values[: row.limit] = stream_uniforms(row.key, row.sample, row.limit)
        self._uniforms[added] = torch.from_numpy(uniforms).to(self._device)
        self._is_forced[added] = False
        self._counts[added] = 0
        self._table = None
        return added

    def advance(self, logits: Tensor, slots: slice) -> npt.NDArray[np.int64]:
        """Give each row of `slots` its next token, from `logits` (N, V) float32.

        Returns:
            (N,) `Signal` of each row: the one thing that is copied to the host in a step.
        """
        table = self._tables(slots)
        counts = self._counts[slots]
        places = counts[:, None]
        uniforms = self._uniforms[slots].gather(1, places).squeeze(1)
        tokens, logprobs = sample(logits, table, uniforms)
        signals = (tokens[:, None] == self._end_ids[slots]).any(dim=1) * int(Signal.ENDS)
        signals += (tokens == self._call_ids[slots]) * int(Signal.CALLS)
        # Rows that a prefill adds come after those that decode, and have nothing forced yet: their
        # first token must not use up the wait of the others.
        if self._forced_left and slots.start == 0:
            is_forced = self._is_forced[slots].gather(1, places).squeeze(1)
            forced = self._tokens[slots].gather(1, places).squeeze(1)
            tokens = torch.where(is_forced, forced, tokens)
            logprobs = logprobs.masked_fill(is_forced, 0.0)
            signals = signals.masked_fill(is_forced, 0)
            self._forced_left -= 1
        self._tokens[slots].scatter_(1, places, tokens[:, None])
        self._logprobs[slots].scatter_(1, places, logprobs[:, None])
        self._last[slots] = tokens
        counts += 1
        for row in self.rows[slots]:
            row.count += 1
        found: npt.NDArray[np.int64] = signals.cpu().numpy()
        return found

    def force(self, slot: int, tokens: Sequence[int]) -> None:
        """Let the row's next tokens be these, as far as its limit allows."""
        row = self.rows[slot]
        tokens = tokens[: row.limit - row.count]
        place = slice(row.count, row.count + len(tokens))
        self._tokens[slot, place] = torch.tensor(tokens, dtype=torch.int64, device=self._device)
        self._is_forced[slot, place] = True
        self._forced_left = max(self._forced_left, len(tokens))

    def tokens_of(self, slot: int) -> list[int]:
        """The reply so far."""
        tokens: list[int] = self._tokens[slot, : self.rows[slot].count].tolist()
        return tokens

    def completion(self, slot: int, finish: StopReason) -> Completion:
        """The reply in `slot`, as the caller gets it."""
        used = slice(self.rows[slot].count)
        return Completion(
            tokens=tuple(self.tokens_of(slot)),
            logprobs=tuple(self._logprobs[slot, used].tolist()),
            sampled=tuple((~self._is_forced[slot, used]).tolist()),
            finish=finish,
        )

    def move(self, moves: Moves) -> None:
        """Follow the cache: copy slots onto others and forget the rest."""
        if moves.targets:
            for buffer in (
                *(self._tokens, self._logprobs, self._is_forced, self._uniforms),
                *(self._counts, self._last),
            ):
                buffer[moves.targets] = buffer[moves.sources]
            for target, source in zip(moves.targets, moves.sources, strict=True):
                self.rows[target] = self.rows[source]
        del self.rows[moves.remaining :]
        self._table = None

    def _tables(self, slots: slice) -> SamplingTable:
        if self._table is None:
            most = max(len(row.end_ids) for row in self.rows)
            padded = [(*row.end_ids, *[NO_TOKEN] * (most - len(row.end_ids))) for row in self.rows]
            self._end_ids = torch.tensor(padded, dtype=torch.int64, device=self._device)
            self._call_ids = torch.tensor([row.call_id for row in self.rows], device=self._device)
            self._table = self._sampling_table(self.rows)
        if slots == slice(0, len(self.rows)):
            return self._table
        return self._sampling_table(self.rows[slots])

    def _sampling_table(self, rows: Sequence[Row]) -> SamplingTable:
        return SamplingTable.build([row.params for row in rows], self._vocab_size, self._device)
