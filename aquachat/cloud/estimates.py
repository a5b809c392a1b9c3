"""Hours and dollars that a run would take on an offer: computed from assumptions, not measured.

Training takes FLOPs / (GPUs x peak x utilisation). Sampling replies is bound by memory and by the
time between kernels, so it is counted apart. Booting, installing and preparing data are billed too.
Nothing here was measured on a GPU; every assumption is printed beside the figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from typing import Final

from aquachat.cloud.base import Offer
from aquachat.cloud.gpus import Gpu, gpu_of
from aquachat.cloud.limits import CENT
from aquachat.cloud.workload import (
    CORE_EXAMPLE_TOKENS,
    PROMPT_TOKENS,
    REPLY_TOKENS,
    StageWork,
    Workload,
)

DEEP_LAYERS: Final = 16
SHALLOW_UTILISATION: Final = 0.25
DEEP_UTILISATION: Final = 0.35
"""Assumed, below what others report for compiled code on an H100 (nanochat 41% at depth 12, 48 to
54% at depth 20 to 26, see docs/cloud-costs.md): our training step is not compiled."""
SEVERAL_GPUS: Final = 0.9
"""Assumed share that is left of each GPU where several exchange gradients."""
BANDWIDTH_SHARE: Final = 0.5
"""Assumed share of the memory's bandwidth that sampling reaches."""
LAYER_DECODE_S: Final = 0.0002
STEP_DECODE_S: Final = 0.003
"""Assumed time of a step of sampling besides reading memory, for each layer and for the step."""
MAX_ROWS: Final = 512
"""Replies that one GPU samples at once; `aquachat.infer.engine.DEFAULT_MAX_ROWS`."""
USABLE_MEMORY: Final = 0.9
"""Assumed share of the GPU's memory that is free for training."""
BOOT_MIN_ONE: Final = 5.0
BOOT_MIN_EIGHT: Final = 15.0
"""Minutes from order to login that others saw at Lambda: 4 to 6 with one GPU, 10 to 15 with 8."""
INSTALL_MIN: Final = 5.0
DOWNLOAD_MB_S: Final = 50.0
TOKENIZE_TOKENS_S_VCPU: Final = 1_000_000.0
"""Assumed; 5.7 to 6.4 million a second were measured on two cores (docs/corpus.md)."""
VOCABULARY_MIN: Final = 5.0
VCPUS_PER_GPU: Final = 8
"""Assumed where an offer names none."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would take on one offer; `problem` says why there are no hours."""

    hours: float | None
    """On the bill, from the order to the end."""
    cost_usd: Decimal | None
    """Rounded up to a cent; None also where the price is not known."""
    tokens: int
    flops: float
    assumptions: tuple[str, ...] = ()
    """Of this offer; `assumption_lines` has those of the workload."""
    problem: str | None = None
    stage_hours: Mapping[str, float] = field(default_factory=dict)
    """`setup`, `prepare`, and each stage; they sum up to `hours`."""
    device_batch_tokens: int | None = None
    """The largest micro-batch, at most the recipe's, that fits the GPU's memory."""
    note: str | None = None
    """Something to do before the run, such as a smaller micro-batch."""


def estimate(offer: Offer, workload: Workload) -> Estimate:
    """Hours and dollars of `workload` on `offer`.

    Example:
        estimate(offer, Workload.of_depth(8)).cost_usd -> Decimal("2.74")
    """
    gpu = gpu_of(f"{offer.gpu_name} {offer.instance_type}")
    problem = _problem(offer, gpu)
    if gpu is None or problem:
        return Estimate(None, None, workload.tokens, workload.flops, problem=problem)
    batch = _fitting_batch(gpu, workload)
    if batch is None:
        problem = _does_not_fit(gpu, workload)
        return Estimate(None, None, workload.tokens, workload.flops, problem=problem)
    stage_hours = _stage_hours(offer, gpu, workload)
    hours = sum(stage_hours.values())
    price = offer.price_usd_per_hour
    cost = None if price is None else (price * Decimal(str(hours))).quantize(CENT, ROUND_UP)
    return Estimate(
        hours=hours,
        cost_usd=cost,
        tokens=workload.tokens,
        flops=workload.flops,
        assumptions=_offer_lines(offer, gpu, workload, batch),
        stage_hours=stage_hours,
        device_batch_tokens=batch,
        note=_batch_note(gpu, workload, batch),
    )


def by_total_cost(estimates: Sequence[tuple[Offer, Estimate]]) -> list[tuple[Offer, Estimate]]:
    """The cheapest run first; those without an estimate last, in the order they had."""
    infinite = Decimal("Infinity")
    return sorted(
        estimates,
        key=lambda pair: (
            infinite if pair[1].cost_usd is None else pair[1].cost_usd,
            math.inf if pair[1].hours is None else pair[1].hours,
        ),
    )


def assumption_lines(workload: Workload) -> tuple[str, ...]:
    """What the estimates of a workload rest on, whatever the offer; one sentence each."""
    recipe = workload.recipe
    stages = ", ".join(f"{s.name} {_millions(s.tokens)}" for s in workload.stages if s.tokens)
    base_length, rl = recipe.base.seq_len, recipe.rl
    return (
        "computed from these assumptions, not measured",
        f"`{workload.command}`: {workload.config.num_layers} layers, width "
        f"{workload.config.hidden_size}, {workload.num_parameters / 1e6:,.0f}M parameters",
        f"tokens trained on: {stages}; conversations are assumed to have as many tokens as "
        "docs/cloud-costs.md lists",
        "FLOPs of a token in training: 6 for each weight but the embedding's, and 12 x layers x "
        f"width x length for attention (PaLM, appendix B; base has rows of {base_length:,}); "
        f"{workload.flops:.2e} in all",
        f"of the GPU's peak in bfloat16 (dense) {_utilisation(workload):.0%} is used, and of "
        f"several GPUs {SEVERAL_GPUS:.0%} of that: assumed",
        f"RL samples {rl.num_iterations:,} x {rl.prompts_per_step} x {rl.num_generations} replies "
        f"of {min(rl.max_new_tokens, REPLY_TOKENS)} tokens to questions of {PROMPT_TOKENS}, and "
        f"learns from all of them; with evaluations {_millions(workload.sampled_tokens)} tokens "
        "are sampled: assumed",
        f"a step of sampling takes {LAYER_DECODE_S * 1e3:g} ms a layer and "
        f"{STEP_DECODE_S * 1e3:g} ms besides, and {BANDWIDTH_SHARE:.0%} of the memory's "
        f"bandwidth: assumed; up to {MAX_ROWS} replies at once on a GPU",
        f"CORE reads {CORE_EXAMPLE_TOKENS:,} tokens a question: assumed",
        f"{BOOT_MIN_ONE:g} minutes from order to login with one GPU, {BOOT_MIN_EIGHT:g} with "
        f"eight (seen by others), {INSTALL_MIN:g} to install: assumed",
        f"{workload.downloaded_mb / 1000:,.1f} GB are downloaded at {DOWNLOAD_MB_S:g} MB/s, the "
        f"vocabulary takes {VOCABULARY_MIN:g} minutes, and each vCPU encodes "
        f"{TOKENIZE_TOKENS_S_VCPU / 1e6:g} million tokens a second: assumed",
    )


def decode_tokens_per_second(gpu: Gpu, workload: Workload, rows: int) -> float:
    """Tokens that one GPU samples in a second with `rows` replies at once, as assumed.

    Each step reads the weights once, and the keys and values of each reply.
    """
    read = workload.decode_bytes_per_step + rows * workload.cache_bytes_per_row
    reading_s = read / (gpu.bandwidth_gb_s * 1e9 * BANDWIDTH_SHARE)
    other_s = STEP_DECODE_S + LAYER_DECODE_S * workload.config.num_layers
    return rows / (reading_s + other_s)


def setup_minutes(gpus: int) -> float:
    """From the order to the start of the command: the machine boots, and aquachat is installed."""
    share = min(1.0, max(0.0, (gpus - 1) / 7))
    return BOOT_MIN_ONE + share * (BOOT_MIN_EIGHT - BOOT_MIN_ONE) + INSTALL_MIN


def _problem(offer: Offer, gpu: Gpu | None) -> str | None:
    """Why an offer has no estimate, before memory is looked at."""
    if offer.gpus < 1:
        return "it has no GPU"
    if gpu is None:
        return f"the speed of the GPU `{offer.gpu_name}` is not known"
    if not gpu.bf16_tflops:
        return f"the {gpu.name} has no bfloat16 tensor cores"
    return None


def _fitting_batch(gpu: Gpu, workload: Workload) -> int | None:
    """The recipe's micro-batch, halved until it fits; None where not even one row does."""
    usable = gpu.memory_gb * 1e9 * USABLE_MEMORY
    batch = workload.device_batch_tokens
    while workload.memory_bytes(batch) > usable:
        if batch // 2 < workload.smallest_batch_tokens:
            return None
        batch //= 2
    return batch


def _does_not_fit(gpu: Gpu, workload: Workload) -> str:
    least = min(workload.device_batch_tokens, workload.smallest_batch_tokens)
    needed = workload.memory_bytes(least) / 1e9
    return (
        f"does not fit: training needs at least {needed:,.0f} GB a GPU, and of the {gpu.memory_gb} "
        f"GB of the {gpu.name} {USABLE_MEMORY:.0%} are counted on"
    )


def _batch_note(gpu: Gpu, workload: Workload, batch: int) -> str | None:
    wanted = workload.device_batch_tokens
    if batch == wanted:
        return None
    sets = " ".join(
        f"--set {stage}.device_batch_tokens={batch}" for stage in ("base", "mid", "sft", "rl")
    )
    return (
        f"micro-batches of {wanted:,} tokens need {workload.memory_bytes(wanted) / 1e9:,.0f} GB, "
        f"which do not fit the {gpu.memory_gb} GB of the {gpu.name}; run it with `{sets}`"
    )


def _stage_hours(offer: Offer, gpu: Gpu, workload: Workload) -> dict[str, float]:
    hours = {"setup": setup_minutes(offer.gpus) / 60, "prepare": _prepare_hours(offer, workload)}
    for stage in workload.stages:
        seconds = stage.flops / _flops_per_second(gpu, offer.gpus, workload)
        hours[stage.name] = (seconds + _sampling_s(gpu, offer.gpus, workload, stage)) / 3600
    return hours


def _prepare_hours(offer: Offer, workload: Workload) -> float:
    """Nothing for generated data, which takes seconds."""
    if not workload.num_shards:
        return 0.0
    vcpus = offer.vcpus or VCPUS_PER_GPU * offer.gpus
    encoding_s = workload.stages[0].tokens / (TOKENIZE_TOKENS_S_VCPU * vcpus)
    return (workload.downloaded_mb / DOWNLOAD_MB_S + encoding_s + 60 * VOCABULARY_MIN) / 3600


def _flops_per_second(gpu: Gpu, gpus: int, workload: Workload) -> float:
    scaling = SEVERAL_GPUS if gpus > 1 else 1.0
    return gpu.bf16_tflops * 1e12 * gpus * _utilisation(workload) * scaling


def _utilisation(workload: Workload) -> float:
    deep = workload.config.num_layers >= DEEP_LAYERS
    return DEEP_UTILISATION if deep else SHALLOW_UTILISATION


def _sampling_s(gpu: Gpu, gpus: int, workload: Workload, stage: StageWork) -> float:
    if not stage.sampled_tokens:
        return 0.0
    rows = min(MAX_ROWS, max(1, stage.num_rows // gpus))
    return stage.sampled_tokens / (gpus * decode_tokens_per_second(gpu, workload, rows))


def _offer_lines(offer: Offer, gpu: Gpu, workload: Workload, batch: int) -> tuple[str, ...]:
    scaling = f" x {SEVERAL_GPUS:.0%}" if offer.gpus > 1 else ""
    rl = next(stage for stage in workload.stages if stage.name == "rl")
    rows = min(MAX_ROWS, max(1, rl.num_rows // offer.gpus))
    rate = offer.gpus * decode_tokens_per_second(gpu, workload, rows)
    cores = "" if offer.vcpus else f", {VCPUS_PER_GPU} vCPUs a GPU assumed"
    return (
        f"{offer.gpus} x {gpu.name}: {gpu.bf16_tflops:g} TFLOP/s bfloat16 dense, "
        f"{gpu.bandwidth_gb_s:,} GB/s ({gpu.sheet}) x {_utilisation(workload):.0%}{scaling}",
        f"RL samples {rate:,.0f} tokens a second",
        f"{setup_minutes(offer.gpus):.0f} minutes to boot and install{cores}",
        f"training needs {workload.memory_bytes(batch) / 1e9:,.0f} of {gpu.memory_gb} GB a GPU, "
        f"with micro-batches of {batch:,} tokens",
    )


def _millions(tokens: int) -> str:
    """Example: `_millions(1_170_000_000) -> "1,170M"`."""
    return f"{tokens / 1e6:,.0f}M"
