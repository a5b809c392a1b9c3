from __future__ import annotations

import pytest

from aquachat.cloud.gpus import gpu_of


@pytest.mark.parametrize(
    ("name", "kind", "memory_gb"),
    [
        ("A10 (24 GB PCIe)", "A10", 24),
        ("A100 (40 GB SXM4)", "A100", 40),
        ("A100 (80 GB SXM4)", "A100", 80),
        ("H100 (80 GB SXM5)", "H100 SXM", 80),
        ("H100 (80 GB PCIe)", "H100 PCIe", 80),
        ("NVIDIA-H100-80GB-HBM3", "H100 SXM", 80),
        ("H100 pcie or H100 sxm5", "H100 PCIe", 80),
        ("H100", "H100 PCIe", 80),
        ("H200 sxm5", "H200", 141),
        ("GH200 (96 GB)", "GH200", 96),
        ("B200 (180 GB SXM6)", "B200", 180),
        ("RTX A6000 (48 GB)", "RTX A6000", 48),
        ("RTX-6000-PRO", "RTX PRO 6000", 96),
        ("RTX 6000 Ada", "RTX 6000 Ada", 48),
        ("RTX 6000 (24 GB) gpu_1x_rtx6000", "Quadro RTX 6000", 24),
        ("L40S", "L40S", 48),
        ("L4", "L4", 24),
        ("RTX-4090", "RTX 4090", 24),
        ("Tesla V100 (16 GB)", "V100", 16),
    ],
)
def test_names_of_providers_are_understood(name: str, kind: str, memory_gb: int) -> None:
    gpu = gpu_of(name)
    assert gpu is not None
    assert (gpu.name, gpu.memory_gb) == (kind, memory_gb)


@pytest.mark.parametrize("name", ["", "N/A", "MI300X", "A1000", "TPU v5e", "H1000", "4 x cpu"])
def test_an_unknown_name_is_not_guessed_at(name: str) -> None:
    assert gpu_of(name) is None


def test_a_name_that_leaves_the_form_open_means_the_slower_one() -> None:
    either, fast = gpu_of("H100 pcie or H100 sxm5"), gpu_of("H100 sxm5")
    assert either is not None
    assert fast is not None
    assert either.bf16_tflops < fast.bf16_tflops


def test_the_large_a100_has_the_faster_memory() -> None:
    small, large = gpu_of("A100 (40 GB)"), gpu_of("A100 (80 GB)")
    assert small is not None
    assert large is not None
    assert large.bandwidth_gb_s > small.bandwidth_gb_s
