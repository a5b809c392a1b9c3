"""The generation engine that evaluation, reinforcement learning, chat and serving share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final

import torch
from torch import Tensor

from aquachat.infer.cache import GroupCache, bytes_per_token, storage_dtype
from aquachat.infer.scheduler import Scheduler, prefill_tokens
from aquachat.infer.shared_prefix import batches_of, groups_of, last_states
from aquachat.infer.types import Completion, Event, Request, SamplingParams
from aquachat.infer.vocabulary import ChatVocabulary
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT
from aquachat.text.render import TextTokenizer

NARROW_WIDTH: Final = 256
DEFAULT_MAX_ROWS: Final = 512
CPU_CACHE_BYTES: Final = 2**30
GPU_CACHE_FRACTION: Final = 0.5
"""Share of the GPU memory that is free when the engine is made."""


class Engine:
    """Generates with one model; the weights are copied in the compute dtype when it is made.

    `refresh` copies them again after training has changed them.

    With one seed a prompt gets the same tokens whatever other prompts are in the batch, up to the
    rounding of the logits: a matrix product of another shape may round its last bit otherwise. In
    float32 that decides a token only where two are all but tied; in bfloat16 it happens, and no
    device promises otherwise.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: TextTokenizer,
        *,
        device: torch.device,
        dtype: torch.dtype,
        max_rows: int = DEFAULT_MAX_ROWS,
        max_cache_bytes: int | None = None,
    ) -> None:
        self.device, self.dtype = device, dtype
        self.max_rows = max_rows
        self.vocabulary = ChatVocabulary.of(tokenizer)
        self._source = model
        self.model = model.compute_copy(dtype)
        self._max_cache_bytes = max_cache_bytes or _default_cache_bytes(device)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the weights of the model the engine was made from."""
        for own, trained in zip(self.model.parameters(), self._source.parameters(), strict=True):
            own.copy_(trained)

    def scheduler(
        self, *, max_prompt_tokens: int, max_new_tokens: int, max_rows: int, max_groups: int
    ) -> Scheduler:
        """A scheduler with a cache of this size, or of fewer rows where memory is short."""
        config, dtype = self.model.config, storage_dtype(self.device, self.dtype)
        tokens = self._max_cache_bytes // bytes_per_token(config, dtype)
        rows = min(max_rows, self.max_rows)
        groups = min(rows, max_groups)
        while rows > 1 and groups * max_prompt_tokens + rows * max_new_tokens > tokens:
            rows = max(1, rows * 3 // 4)
            groups = min(rows, groups)
        cache = GroupCache(
            config,
            max_groups=groups,
            max_rows=rows,
            max_prompt_tokens=max_prompt_tokens,
            max_new_tokens=max_new_tokens,
            dtype=dtype,
            device=self.device,
        )
        return Scheduler(self.model, self.vocabulary, compute_dtype=self.dtype, cache=cache)

    @property
    def context_tokens(self) -> int:
        """The most tokens of prompt and reply together."""
        return self.model.config.max_seq_len

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        params: SamplingParams,
        on_finished: Callable[[int], None] | None = None,
    ) -> list[list[Completion]]:
        """Continue each prompt `params.num_samples` times; the order is that of `prompts`.

        `on_finished` is told how many replies are finished, whenever some are.

        Raises:
            ConfigError: a prompt is empty or fills the model's context.
        """
        if not prompts:
            return []
        scheduler = self._scheduler_for(prompts, params)
        place = {}
        # Prompts of like length decode together, the longest first: less padding, shorter tail.
        for index in sorted(range(len(prompts)), key=lambda i: len(prompts[i]), reverse=True):
            place[scheduler.submit(Request(tuple(prompts[index]), params))] = index
        found: list[dict[int, Completion]] = [{} for _ in prompts]
        num_finished = 0
        while scheduler.is_busy:
            events = scheduler.step()
            for event in events:
                if event.completion is not None:
                    found[place[event.request]][event.sample] = event.completion
            num_finished += len(events)
            if events and on_finished is not None:
                on_finished(num_finished)
        return [[samples[index] for index in range(params.num_samples)] for samples in found]

    def stream(self, prompt: Sequence[int], params: SamplingParams) -> Iterator[Event]:
        """Continue one prompt token by token; closing the iterator ends the generation.

        Raises:
            ConfigError: the prompt is empty or fills the model's context.
        """
        scheduler = self._scheduler_for([prompt], params)
        scheduler.submit(Request(tuple(prompt), params, streams=True))
        while scheduler.is_busy:
            yield from scheduler.step()

    @torch.inference_mode()
    def next_logits(self, prompts: Sequence[Sequence[int]], candidates: Sequence[int]) -> Tensor:
        """The logits of `candidates` as the token after each prompt: (prompts, candidates) float32.

        Batched by length; of the last layer only the last position of each prompt is computed, and
        of the head only the rows of the candidates. What neighbouring prompts have in common at
        their beginning, such as the question in several option orders, is computed once.

        Raises:
            ConfigError: a prompt is longer than the model's context.
        """
        logits = torch.empty(len(prompts), len(candidates))
        columns = torch.tensor(candidates, device=self.device)
        groups = groups_of(prompts)
        most = prefill_tokens(self.model.config, self.device)
        for batch in batches_of([g for g in groups if g.num_shared], prompts, most):
            chosen = [member for group in batch for member in group.members]
            last = last_states(self.model, batch, prompts, device=self.device, dtype=self.dtype)
            logits[chosen] = self.model.logits(last, columns).cpu()
        single = [group.members[0] for group in groups if not group.num_shared]
        order = sorted(single, key=lambda index: len(prompts[index]))
        for places in _batches([len(prompts[index]) for index in order], most):
            chosen = [order[place] for place in places]
            logits[chosen] = self._last_logits([prompts[index] for index in chosen], columns)
        return logits

    def _last_logits(self, prompts: Sequence[Sequence[int]], columns: Tensor) -> Tensor:
        """(prompts, columns) for one batch of prompts that share nothing."""
        lengths = torch.tensor([len(prompt) for prompt in prompts])
        tokens = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.int64)
        for line, prompt in zip(tokens, prompts, strict=True):
            line[: len(prompt)] = torch.tensor(prompt)
        last = self.model(
            tokens.to(self.device),
            compute_dtype=self.dtype,
            places=(lengths - 1).to(self.device),
        )
        return self.model.logits(last, columns).cpu()

    def _scheduler_for(self, prompts: Sequence[Sequence[int]], params: SamplingParams) -> Scheduler:
        context = self.context_tokens
        return self.scheduler(
            max_prompt_tokens=min(max(map(len, prompts)), context),
            max_new_tokens=min(params.max_new_tokens, context),
            max_rows=len(prompts) * params.num_samples,
            max_groups=len(prompts),
        )


def generation_dtype(config: GPTConfig, device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """What to generate in where training computes in `dtype`.

    float32 for a narrow model on a CPU: with a handful of rows bfloat16 products are no faster
    there, and every new number of rows costs oneDNN code and memory of its own.
    """
    is_narrow = config.hidden_size < NARROW_WIDTH
    return torch.float32 if device.type == "cpu" and is_narrow else dtype


def _default_cache_bytes(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * GPU_CACHE_FRACTION)
    return CPU_CACHE_BYTES


def _batches(lengths: Sequence[int], most_tokens: int) -> Iterator[range]:
    """Runs of ascending lengths whose padded size is bounded and whose padding is small."""
    start = 0
    for end in range(1, len(lengths) + 1):
        is_last = end == len(lengths)
        longest = lengths[end] if not is_last else 0
        if is_last or longest * (end + 1 - start) > most_tokens:
            yield range(start, end)
            start = end
