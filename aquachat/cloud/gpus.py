"""What a GPU can do, by the name that a provider gives it: data sheets, nothing measured."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU, as its maker's data sheet has it."""

    name: str
    bf16_tflops: float
    """10^12 multiply or add operations a second on bfloat16 matrices, dense (a data sheet's figure
    "with sparsity" is twice that); 0 where there are no bfloat16 tensor cores."""
    memory_gb: int
    """10^9 bytes."""
    bandwidth_gb_s: int
    """Of its memory, 10^9 bytes a second."""
    sheet: str
    """Where the figures are from."""


_KINDS: Final[Sequence[tuple[str, Gpu]]] = (
    ("b300", Gpu("B300", 2250, 270, 7700, "NVIDIA HGX B300 data sheet")),
    ("b200|gb200", Gpu("B200", 2250, 180, 7700, "NVIDIA HGX B200 data sheet")),
    ("gh200", Gpu("GH200", 989, 96, 4000, "NVIDIA GH200 data sheet")),
    ("h200 nvl", Gpu("H200 NVL", 835, 141, 4800, "NVIDIA H200 data sheet")),
    ("h200", Gpu("H200", 989, 141, 4800, "NVIDIA H200 data sheet")),
    # Before SXM: a name with both forms means that either may come, and the slower counts.
    ("h100 pcie", Gpu("H100 PCIe", 756, 80, 2000, "NVIDIA H100 PCIe data sheet")),
    ("h100 nvl", Gpu("H100 NVL", 835, 94, 3900, "NVIDIA H100 data sheet")),
    ("h100 sxm|h100 hbm3", Gpu("H100 SXM", 989, 80, 3350, "NVIDIA H100 data sheet")),
    ("h100", Gpu("H100 PCIe", 756, 80, 2000, "NVIDIA H100 PCIe data sheet")),
    ("a100", Gpu("A100", 312, 40, 1555, "NVIDIA A100 data sheet")),
    ("a6000", Gpu("RTX A6000", 155, 48, 768, "NVIDIA RTX A6000 data sheet")),
    ("a40", Gpu("A40", 150, 48, 696, "NVIDIA A40 data sheet")),
    ("a30", Gpu("A30", 165, 24, 933, "NVIDIA A30 data sheet")),
    ("a10g", Gpu("A10G", 70, 24, 600, "NVIDIA A10G data sheet")),
    ("a10", Gpu("A10", 125, 24, 600, "NVIDIA A10 data sheet")),
    ("l40s", Gpu("L40S", 362, 48, 864, "NVIDIA L40S data sheet")),
    ("l40", Gpu("L40", 181, 48, 864, "NVIDIA L40 data sheet")),
    ("l4", Gpu("L4", 121, 24, 300, "NVIDIA L4 data sheet")),
    ("6000 pro", Gpu("RTX PRO 6000", 504, 96, 1792, "NVIDIA RTX Blackwell PRO white paper")),
    ("6000 ada", Gpu("RTX 6000 Ada", 364, 48, 960, "NVIDIA RTX 6000 Ada data sheet")),
    ("5090", Gpu("RTX 5090", 210, 32, 1792, "NVIDIA RTX Blackwell white paper")),
    ("4090", Gpu("RTX 4090", 165, 24, 1008, "NVIDIA Ada white paper")),
    ("3090", Gpu("RTX 3090", 71, 24, 936, "NVIDIA Ampere GA102 white paper")),
    ("v100", Gpu("V100", 0, 16, 900, "NVIDIA V100 data sheet")),
    ("t4", Gpu("T4", 0, 16, 320, "NVIDIA T4 data sheet")),
    ("rtx6000|rtx 6000", Gpu("Quadro RTX 6000", 0, 24, 672, "NVIDIA Quadro RTX 6000 data sheet")),
)
"""Words that a name must have, alternatives divided by `|`, and what it then is; first match."""

_WORD: Final = re.compile(r"[a-z]+[0-9]+[a-z]*|[0-9]+|[a-z]+", re.IGNORECASE)
_MEMORY: Final = re.compile(r"\b([0-9]{1,4}) ?-?G(?:i?B)?\b", re.IGNORECASE)
_LARGE_A100_GB_S: Final = 1935
"""A100 with 80 GB, the PCIe card; the SXM module has 2039 (NVIDIA A100 data sheet)."""


def gpu_of(name: str) -> Gpu | None:
    """The GPU that a provider's name means; None for a name that says nothing to us.

    A name that leaves the form open means the slower one. The memory is the name's own, where it
    names one.

    Example:
        gpu_of("H100 (80 GB SXM5)").bf16_tflops -> 989
        gpu_of("H100 pcie or H100 sxm5").bf16_tflops -> 756
    """
    words = {word.lower() for word in _WORD.findall(name)}
    found = next((gpu for pattern, gpu in _KINDS if _is_named(pattern, words)), None)
    memory = _MEMORY.search(name)
    if found is None or memory is None:
        return found
    found = replace(found, memory_gb=int(memory[1]))
    if found.name == "A100" and found.memory_gb > 40:
        found = replace(found, bandwidth_gb_s=_LARGE_A100_GB_S)
    return found


def _is_named(pattern: str, words: set[str]) -> bool:
    """Whether `words` has all words of an alternative; `sxm` is also `sxm5`."""
    return any(
        all(part in words or (part == "sxm" and _has_sxm(words)) for part in alternative.split())
        for alternative in pattern.split("|")
    )


def _has_sxm(words: set[str]) -> bool:
    return any(re.fullmatch(r"sxm[0-9]?", word) for word in words)
