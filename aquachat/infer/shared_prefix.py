"""Prompts that begin alike, such as one question in several option orders, computed once as far.

Shapes: U groups, S tokens of the longest shared beginning, Q tokens of the longest row of rests,
N prompts, C hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from aquachat.infer.branches import BranchCache, PrefixCache
from aquachat.model.gpt import GPT

MIN_SHARED_TOKENS: Final = 16
"""A second forward for fewer saved tokens costs more than it gains."""
WIDTH_MULTIPLE: Final = 32
"""Rows are padded to a multiple: oneDNN keeps code and buffers for every shape it meets."""


@dataclass(frozen=True, slots=True)
class PromptGroup:
    """Neighbouring prompts whose first `num_shared` tokens are the same; 0 for a single one."""

    members: tuple[int, ...]
    num_shared: int


def groups_of(prompts: Sequence[Sequence[int]]) -> list[PromptGroup]:
    """Neighbours that are cheaper together, in order; each prompt is in one group.

    A group of n prompts that share s tokens saves (n - 1) s. A prompt joins where that grows: the
    five orders of a question stay together, and the next question, which begins alike by chance,
    stays out.
    """
    groups: list[PromptGroup] = []
    for index, prompt in enumerate(prompts):
        joined = _joined(groups[-1], prompts, index) if groups else None
        if joined is not None:
            groups[-1] = joined
        elif prompt:
            groups.append(PromptGroup((index,), 0))
        else:
            raise ValueError("an empty prompt has no next token")
    return groups


def _joined(group: PromptGroup, prompts: Sequence[Sequence[int]], index: int) -> PromptGroup | None:
    """The group with one prompt more; None where that saves nothing."""
    first, prompt = prompts[group.members[0]], prompts[index]
    size = len(group.members)
    most = min(len(prompt), *(len(prompts[member]) for member in group.members)) - 1
    limit = min(most, group.num_shared) if size > 1 else most
    shared = 0
    while shared < limit and first[shared] == prompt[shared]:
        shared += 1
    if shared < MIN_SHARED_TOKENS or size * shared <= (size - 1) * group.num_shared:
        return None
    return PromptGroup((*group.members, index), shared)


def batches_of(
    groups: Sequence[PromptGroup], prompts: Sequence[Sequence[int]], most_tokens: int
) -> Iterator[list[PromptGroup]]:
    """Groups of like length, together at most `most_tokens`, padding included."""
    sizes = {group: _size(group, prompts) for group in groups}
    batch: list[PromptGroup] = []
    shared = rest = 0
    for group in sorted(groups, key=sizes.__getitem__):
        wider = max(shared, sizes[group][0]), max(rest, sizes[group][1])
        if batch and sum(wider) * (len(batch) + 1) > most_tokens:
            yield batch
            batch, wider = [], sizes[group]
        batch.append(group)
        shared, rest = wider
    if batch:
        yield batch


def _size(group: PromptGroup, prompts: Sequence[Sequence[int]]) -> tuple[int, int]:
    """Positions of the two forwards for a group, padded."""
    rest = sum(len(prompts[member]) - group.num_shared for member in group.members)
    return _rounded(group.num_shared), _rounded(rest)


def last_states(
    model: GPT,
    groups: Sequence[PromptGroup],
    prompts: Sequence[Sequence[int]],
    *,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """The hidden state of the last token of each prompt, group by group: (N, C).

    Args:
        model: in the compute dtype.
        groups: of two prompts or more.
        prompts: all of them.
        device: of the model.
        dtype: the compute dtype.
    """
    shared = [list(prompts[group.members[0]][: group.num_shared]) for group in groups]
    rests = [[prompts[member][group.num_shared :] for member in group.members] for group in groups]
    lengths = [[len(rest) for rest in of_group] for of_group in rests]
    context = model.config.max_seq_len
    tokens = _padded(shared, min(_rounded(max(map(len, shared))), context), device)
    room = _rounded(max(map(sum, lengths)))
    cache = PrefixCache(
        model.config,
        [len(row) for row in shared],
        width=tokens.shape[1],
        room=room,
        dtype=dtype,
        device=device,
    )
    model(tokens, cache=cache, compute_dtype=dtype)
    packed = [[token for rest in of_group for token in rest] for of_group in rests]
    branches = BranchCache(cache, lengths)
    hidden = model(_padded(packed, room, device), cache=branches, compute_dtype=dtype)  # (U, Q, C)
    rows = [row for row, of_group in enumerate(lengths) for _ in of_group]
    ends = [end for of_group in lengths for end in _ends(of_group)]
    last: Tensor = hidden[torch.tensor(rows, device=device), torch.tensor(ends, device=device)]
    return last


def _ends(lengths: Sequence[int]) -> Iterator[int]:
    """Where each of several runs, laid end to end, has its last place."""
    end = -1
    for length in lengths:
        end += length
        yield end


def _padded(rows: Sequence[Sequence[int]], width: int, device: torch.device) -> Tensor:
    """(U, width) int64, zeros on the right."""
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    for line, row in zip(tokens, rows, strict=True):
        line[: len(row)] = torch.tensor(row, dtype=torch.int64)
    return tokens.to(device)


def _rounded(length: int) -> int:
    return -(-length // WIDTH_MULTIPLE) * WIDTH_MULTIPLE
