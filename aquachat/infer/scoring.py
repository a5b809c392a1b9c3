"""How likely given continuations are: log-probabilities of text that is there, nothing sampled.

A prefix with several continuations is computed once (`branches`). The head runs only where a token
is scored. Requests of like length are computed together.

Shapes: U prefixes, S tokens of the longest, Q tokens of the longest row of continuations, N scored
positions, V vocab, C hidden size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from aquachat.errors import ConfigError
from aquachat.infer.branches import BranchCache, PrefixCache
from aquachat.model.gpt import GPT

CPU_BATCH_TOKENS: Final = 4096
DEVICE_BATCH_TOKENS: Final = 65_536
"""Most tokens of a first forward, padding included."""
MAX_PADDING: Final = 0.2
"""A batch ends where a row would be padded by more than this share."""
WIDTH_MULTIPLE: Final = 32
"""Rows are padded to a multiple: oneDNN keeps code and buffers for every shape it meets."""
CPU_HEAD_ELEMENTS: Final = 1 << 22
DEVICE_HEAD_ELEMENTS: Final = 1 << 26
"""Logits computed at a time."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """Tokens after a prefix, the first `num_given` of which are context and not scored."""

    tokens: tuple[int, ...]
    num_given: int = 0


@dataclass(frozen=True, slots=True)
class ScoringRequest:
    """A prefix of at least one token, and what may come after it."""

    prefix: tuple[int, ...]
    continuations: tuple[Continuation, ...]

    @property
    def num_row_tokens(self) -> int:
        """Tokens that the first forward computes: all but the last where there is one row only."""
        if len(self.continuations) == 1:
            return len(self.prefix) + max(0, len(self.continuations[0].tokens) - 1)
        return len(self.prefix)


@dataclass(frozen=True, slots=True)
class ContinuationScore:
    """What a model makes of the scored tokens of a continuation."""

    nats: float
    """The sum of -log p."""
    greedy: tuple[int, ...]
    """The likeliest token at each scored place, given the true ones before it."""
    is_greedy: bool
    """Whether all scored tokens are the likeliest."""

    @property
    def num_tokens(self) -> int:
        """How many tokens were scored."""
        return len(self.greedy)


@dataclass(frozen=True, slots=True)
class _Site:
    """A scored token: whose, which, and where the hidden state that predicts it is."""

    request: int
    continuation: int
    token: int
    row: int
    column: int
    in_branch: bool


class ContinuationScorer:
    """Scores continuations with one model, whose weights are copied in the compute dtype."""

    def __init__(self, model: GPT, *, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model.compute_copy(dtype)
        self.device, self.dtype = device, dtype

    @property
    def context_tokens(self) -> int:
        """The most tokens of a prefix and a continuation together."""
        return self.model.config.max_seq_len

    @torch.inference_mode()
    def score(
        self,
        requests: Sequence[ScoringRequest],
        on_scored: Callable[[int], None] | None = None,
    ) -> list[list[ContinuationScore]]:
        """The scores of every continuation, in the order given.

        `on_scored` is told how many requests are done, batch by batch.

        Raises:
            ConfigError: a prefix is empty, or does not fit the model's context with its
                continuation.
        """
        for request in requests:
            self._check(request)
        found: list[list[ContinuationScore]] = [[] for _ in requests]
        done = 0
        for batch in self._batches(requests):
            for index, scores in self._score_batch(requests, batch):
                found[index] = scores
            done += len(batch)
            if on_scored is not None:
                on_scored(done)
        return found

    def _check(self, request: ScoringRequest) -> None:
        if not request.prefix:
            raise ConfigError("an empty prefix cannot be continued", hint="start with `<|bos|>`")
        longest = max((len(each.tokens) for each in request.continuations), default=0)
        if len(request.prefix) + longest > self.context_tokens:
            raise ConfigError(
                f"a prefix of {len(request.prefix)} and a continuation of {longest} tokens do not "
                f"fit the model's context of {self.context_tokens}",
                hint="leave out tokens at the start",
            )

    def _batches(self, requests: Sequence[ScoringRequest]) -> Iterator[list[int]]:
        """Requests of like length; the longest come first, so that too little memory shows soon."""
        budget = CPU_BATCH_TOKENS if self.device.type == "cpu" else DEVICE_BATCH_TOKENS
        lengths = [request.num_row_tokens for request in requests]
        batch: list[int] = []
        for index in sorted(range(len(requests)), key=lambda i: lengths[i], reverse=True):
            longest = lengths[batch[0]] if batch else 0
            is_full = longest * (len(batch) + 1) > budget
            if batch and (is_full or lengths[index] < (1 - MAX_PADDING) * longest):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    def _score_batch(
        self, requests: Sequence[ScoringRequest], batch: Sequence[int]
    ) -> Iterator[tuple[int, list[ContinuationScore]]]:
        chosen = [requests[index] for index in batch]
        sites = [site for place, request in enumerate(chosen) for site in _sites(place, request)]
        rows, branches = _rows(chosen), _branches(chosen)
        hidden = [_states_at(state, part) for state, part in self._states(rows, branches, sites)]
        ordered = [s for s in sites if not s.in_branch] + [s for s in sites if s.in_branch]
        nats, greedy = self._head(hidden, [site.token for site in ordered])
        by_continuation: dict[tuple[int, int], list[tuple[float, int, int]]] = {}
        for site, cost, best in zip(ordered, nats, greedy, strict=True):
            key = (site.request, site.continuation)
            by_continuation.setdefault(key, []).append((cost, best, site.token))
        for place, request in enumerate(chosen):
            yield (
                batch[place],
                [
                    _score(by_continuation.get((place, number), []))
                    for number in range(len(request.continuations))
                ],
            )

    def _states(
        self,
        rows: Sequence[Sequence[int]],
        branches: Sequence[Sequence[Sequence[int]]],
        sites: Sequence[_Site],
    ) -> Iterator[tuple[Tensor, list[_Site]]]:
        """The hidden states of each forward, (U, S, C) and (U, Q, C), with what is read of them."""
        in_rows = [site for site in sites if not site.in_branch]
        in_branches = [site for site in sites if site.in_branch]
        packed = [[token for branch in of_row for token in branch] for of_row in branches]
        tokens = self._padded(rows, limit=self.context_tokens)
        cache = PrefixCache(
            self.model.config,
            [len(row) for row in rows],
            width=tokens.shape[1],
            room=_rounded(max(map(len, packed))),
            dtype=self.dtype,
            device=self.device,
        )
        yield self.model(tokens, cache=cache, compute_dtype=self.dtype), in_rows
        if in_branches:
            lengths = [[len(branch) for branch in of_row] for of_row in branches]
            second = BranchCache(cache, lengths)
            tokens = self._padded(packed)
            yield self.model(tokens, cache=second, compute_dtype=self.dtype), in_branches

    def _padded(self, rows: Sequence[Sequence[int]], limit: int | None = None) -> Tensor:
        """(U, S) int64, zeros on the right."""
        width = _rounded(max(map(len, rows)))
        tokens = torch.zeros(len(rows), min(width, limit or width), dtype=torch.int64)
        for line, row in zip(tokens, rows, strict=True):
            line[: len(row)] = torch.tensor(row, dtype=torch.int64)
        return tokens.to(self.device)

    def _head(
        self, hidden: Sequence[Tensor], tokens: Sequence[int]
    ) -> tuple[list[float], list[int]]:
        """-log p of each token, and the likeliest one in its place."""
        states = torch.cat(list(hidden))  # (N, C)
        targets = torch.tensor(tokens, dtype=torch.int64, device=self.device)
        on_cpu = self.device.type == "cpu"
        budget = CPU_HEAD_ELEMENTS if on_cpu else DEVICE_HEAD_ELEMENTS
        size = max(1, budget // self.model.config.vocab_size)
        nats, greedy = [], []
        for start in range(0, len(states), size):
            logits = self.model.logits(states[start : start + size])  # (n, V) float32
            wanted = targets[start : start + size, None]
            nats.append(logits.logsumexp(dim=1) - logits.gather(1, wanted).squeeze(1))
            greedy.append(logits.argmax(dim=1))
        if not nats:
            return [], []
        return torch.cat(nats).tolist(), torch.cat(greedy).tolist()


def _rounded(length: int) -> int:
    return -(-length // WIDTH_MULTIPLE) * WIDTH_MULTIPLE


def _states_at(states: Tensor, sites: Sequence[_Site]) -> Tensor:
    """(U, S, C) -> (N, C)."""
    rows = torch.tensor([site.row for site in sites], dtype=torch.int64)
    columns = torch.tensor([site.column for site in sites], dtype=torch.int64)
    return states[rows.to(states.device), columns.to(states.device)]


def _sites(place: int, request: ScoringRequest) -> Iterator[_Site]:
    """The scored tokens of a request, which is number `place` of its batch."""
    last, is_single = len(request.prefix) - 1, len(request.continuations) == 1
    offset = 0  # of this continuation in the row of continuations
    for number, continuation in enumerate(request.continuations):
        for index in range(continuation.num_given, len(continuation.tokens)):
            token = continuation.tokens[index]
            if is_single or index == 0:
                yield _Site(place, number, token, place, last + index, in_branch=False)
            else:
                column = offset + index - 1
                yield _Site(place, number, token, place, column, in_branch=True)
        offset += max(0, len(continuation.tokens) - 1)


def _rows(requests: Sequence[ScoringRequest]) -> list[tuple[int, ...]]:
    """The tokens of the first forward."""
    return [
        request.prefix + request.continuations[0].tokens[:-1]
        if len(request.continuations) == 1
        else request.prefix
        for request in requests
    ]


def _branches(requests: Sequence[ScoringRequest]) -> list[list[tuple[int, ...]]]:
    """The tokens of the second forward: continuations without their last token."""
    return [
        [each.tokens[:-1] for each in request.continuations]
        if len(request.continuations) > 1
        else []
        for request in requests
    ]


def _score(tokens: Sequence[tuple[float, int, int]]) -> ContinuationScore:
    """From (nats, likeliest token, true token) of each scored place, in order."""
    return ContinuationScore(
        nats=sum(cost for cost, _, _ in tokens),
        greedy=tuple(best for _, best, _ in tokens),
        is_greedy=all(best == token for _, best, token in tokens),
    )
