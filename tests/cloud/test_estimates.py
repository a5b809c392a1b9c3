"""Hours and dollars: the laws they obey, and that they rest on what is trained."""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import replace
from decimal import ROUND_UP, Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.cloud import estimates
from aquachat.cloud.base import Offer
from aquachat.cloud.estimates import (
    Estimate,
    assumption_lines,
    by_total_cost,
    decode_tokens_per_second,
    estimate,
)
from aquachat.cloud.gpus import gpu_of
from aquachat.cloud.workload import Workload
from aquachat.config.resolve import preset_layers, preset_names, resolve
from aquachat.errors import ConfigError
from aquachat.infer.engine import DEFAULT_MAX_ROWS
from aquachat.model.gpt import GPT
from aquachat.model.scaling import config_for_depth, training_flops_per_token

DOCS = Path(__file__).parents[2] / "docs"
GPUS = ("A10 (24 GB PCIe)", "A100 (80 GB SXM4)", "H100 (80 GB SXM5)", "B200 (180 GB SXM6)")


def offer(gpu_name: str = "H100 (80 GB SXM5)", *, gpus: int = 1, usd: str | None = "3.29") -> Offer:
    price = None if usd is None else Decimal(usd)
    return Offer("lambda", f"gpu_{gpus}x", gpus, gpu_name, price, vcpus=26)


def costs(found: Estimate) -> tuple[float, Decimal]:
    assert found.problem is None
    assert found.hours is not None
    assert found.cost_usd is not None
    return found.hours, found.cost_usd


def test_the_flops_are_those_of_the_model() -> None:
    config = config_for_depth(3, vocab_size=100, max_seq_len=64)
    assert training_flops_per_token(config, 64) == GPT(config).flops_per_token(64)


def test_a_preset_is_counted_by_hand() -> None:
    workload = Workload.of_preset("d8")
    matrices, head, width = 8 * 12 * 512**2, 32768 * 512, 512
    steps = (matrices + 2 * head) * 20 // 524_288
    base, mid, sft, rl, _ = workload.stages
    assert base.tokens == steps * 524_288
    per_token = 6 * (matrices + head) + 12 * 8 * width * 2048
    validated = (steps // 250 + 1) * 262_144
    core = (steps // 2000 + 1) * 22 * 500 * 2000
    assert base.flops == pytest.approx(per_token * (base.tokens + (validated + core) / 3))
    assert sft.tokens > 47_500 * 90
    assert mid.tokens > 600_000 * 400
    assert rl.sampled_tokens >= 400 * 32 * 16 * 128
    assert workload.tokens == sum(stage.tokens for stage in workload.stages)


def test_d20_reads_as_many_tokens_as_the_speedrun_of_nanochat() -> None:
    assert Workload.of_preset("d20").stages[0].tokens == pytest.approx(11.2e9, rel=0.01)


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_can_be_estimated(name: str) -> None:
    workload = Workload.of_preset(name)
    hours, cost = costs(estimate(offer("B200 (180 GB SXM6)"), workload))
    assert hours > 0
    assert cost > 0
    assert workload.command == f"aquachat run {name}"
    assert assumption_lines(workload)[0].endswith("not measured")


def test_the_command_of_a_depth_without_a_preset_trains_what_was_counted() -> None:
    workload = Workload.of_depth(16)
    words = workload.command.split()
    assert words[:5] == ["aquachat", "run", "d12", "--depth", "16"]
    shards = int(words[-1].removeprefix("prepare.shards="))
    assert 0 <= shards * 50_000_000 - workload.stages[0].tokens < 50_000_000
    recipe = resolve([*preset_layers("d12"), ("flag", {"model": {"depth": 16}})]).recipe
    assert workload.recipe == recipe


def test_text_is_needed_as_the_presets_have_it() -> None:
    """So that what is downloaded for other depths is estimated by the same rule."""
    for name in ("d12", "d20", "d26"):
        workload = Workload.of_preset(name)
        assert workload.num_shards == pytest.approx(workload.stages[0].tokens / 50e6, rel=0.05)
    assert Workload.of_preset("tiny").downloaded_mb == 0


def test_an_impossible_depth_is_refused() -> None:
    with pytest.raises(ConfigError, match="depth 0"):
        Workload.of_depth(0)


@settings(max_examples=40, deadline=None)
@given(
    depth=st.integers(1, 30),
    gpu=st.sampled_from(GPUS),
    gpus=st.sampled_from([1, 2, 4, 8]),
    cents=st.integers(1, 5000),
)
def test_the_laws_of_hours_and_dollars(depth: int, gpu: str, gpus: int, cents: int) -> None:
    usd = Decimal(cents) / 100
    here = replace(offer(gpu, gpus=gpus), price_usd_per_hour=usd)
    found = estimate(here, Workload.of_depth(depth))
    if found.problem is not None:
        assert "does not fit" in found.problem
        assert found.hours is found.cost_usd is None
        return
    hours, cost = costs(found)
    assert hours == pytest.approx(sum(found.stage_hours.values()))
    assert cost == (usd * Decimal(str(hours))).quantize(Decimal("0.01"), ROUND_UP)
    assert all(value >= 0 for value in found.stage_hours.values())
    deeper = estimate(here, Workload.of_depth(depth + 8))
    assert deeper.hours is None or deeper.hours > hours
    twice = estimate(replace(here, gpus=2 * gpus), Workload.of_depth(depth))
    assert twice.hours is not None
    assert twice.stage_hours["base"] < found.stage_hours["base"]
    assert twice.stage_hours["base"] >= found.stage_hours["base"] / 2


def test_training_takes_its_flops_at_the_assumed_speed() -> None:
    workload = Workload.of_depth(20)
    found = estimate(offer(gpus=8, usd="25.52"), workload)
    speed = 989e12 * 8 * estimates.DEEP_UTILISATION * estimates.SEVERAL_GPUS
    assert 3600 * found.stage_hours["base"] * speed == pytest.approx(workload.stages[0].flops)


def test_the_assumed_speed_is_below_what_others_measured_and_not_absurdly() -> None:
    """186k tokens a second: nanochat's d20 on one H100 in FP8, 54% of the peak in bfloat16."""
    workload = Workload.of_depth(20)
    seconds = 3600 * estimate(offer(), workload).stage_hours["base"]
    assert 186_000 / 3 < workload.stages[0].tokens / seconds < 186_000


def test_sampling_is_slower_than_its_memory_allows_and_faster_with_more_rows() -> None:
    workload, gpu = Workload.of_preset("d8"), gpu_of("H100 (80 GB SXM5)")
    assert gpu is not None
    rates = [decode_tokens_per_second(gpu, workload, rows) for rows in (1, 8, 64, 512)]
    assert rates == sorted(rates)
    read = workload.decode_bytes_per_step + 512 * workload.cache_bytes_per_row
    assert rates[-1] < 512 * gpu.bandwidth_gb_s * 1e9 / read
    assert estimates.MAX_ROWS == DEFAULT_MAX_ROWS


@pytest.mark.parametrize(
    ("gpu_name", "gpus", "reason"),
    [
        ("MI300X", 1, "`MI300X` is not known"),
        ("Tesla V100 (16 GB)", 8, "no bfloat16"),
        ("N/A", 0, "no GPU"),
        ("A10 (24 GB PCIe)", 1, "does not fit"),
    ],
)
def test_an_offer_without_an_estimate_says_why(gpu_name: str, gpus: int, reason: str) -> None:
    found = estimate(offer(gpu_name, gpus=gpus), Workload.of_preset("d26"))
    assert found.hours is found.cost_usd is None
    assert found.problem is not None
    assert reason in found.problem


@pytest.mark.parametrize("depth", [16, 20])
def test_a_micro_batch_that_does_not_fit_is_halved_and_named(depth: int) -> None:
    workload = Workload.of_depth(depth)
    found = estimate(offer("A10 (24 GB PCIe)"), workload)
    batch = found.device_batch_tokens
    assert batch is not None
    usable = 24e9 * estimates.USABLE_MEMORY
    assert workload.memory_bytes(batch) <= usable < workload.memory_bytes(2 * batch)
    assert found.note is not None
    for stage in ("base", "mid", "sft", "rl"):
        assert f"--set {stage}.device_batch_tokens={batch}" in found.note
    assert estimate(offer(), workload).note is None


def test_hours_are_known_where_the_price_is_not() -> None:
    found = estimate(offer(usd=None), Workload.of_depth(8))
    assert found.hours is not None
    assert found.cost_usd is None


def test_a_dear_machine_that_is_cheaper_in_all_comes_first() -> None:
    workload = Workload.of_preset("d8")
    slow, fast = offer("A10 (24 GB PCIe)", usd="0.86"), offer(usd="3.29")
    unknown = offer("MI300X", usd="0.10")
    pairs = [(each, estimate(each, workload)) for each in (unknown, slow, fast)]
    assert [pair[0] for pair in by_total_cost(pairs)] == [fast, slow, unknown]


def test_the_cloud_layer_estimates_without_torch() -> None:
    code = (
        "import sys; from aquachat.cloud.workload import Workload; import aquachat.cloud.estimates;"
        "Workload.of_depth(8).memory_bytes(2048); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_page_of_costs_is_up_to_date() -> None:
    written = (DOCS / "cloud-costs.md").read_text(encoding="utf-8")
    generated = runpy.run_path(str(DOCS / "generate_costs.py"))["render"]()
    assert written == generated, "run `python docs/generate_costs.py`"
