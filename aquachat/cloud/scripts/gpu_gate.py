"""Multiplies two matrices on every GPU and compares with the processor; one line of JSON each.

The numbers are small and whole, so in float32 (and TF32) every product and every sum is exact, in
any order: the results are equal, or the GPU is broken. In bfloat16 only the result is rounded.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import torch

SIZE = 1024
LARGEST = 8  # sums stay below 1024 * 8 * 8 = 2^16, and float32 holds whole numbers up to 2^24
BFLOAT16_STEP = 2**-7  # of its value: twice the rounding error
AMPERE = 8  # the first generation that multiplies in bfloat16


def tell(**facts: Any) -> None:
    """Print one line, at once: the reader knows how far this came when it hangs."""
    print(json.dumps(facts), flush=True)


def driver_version() -> str | None:
    """The version of the kernel's driver."""
    file = Path("/sys/module/nvidia/version")
    if file.exists():
        return file.read_text().strip()
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.split("\n")[0].strip() or None if done.returncode == 0 else None


def problem_of(index: int, left: Any, right: Any, expected: Any) -> str | None:
    """What is wrong with a GPU; None if its results are right."""
    device = f"cuda:{index}"
    result = (left.to(device) @ right.to(device)).cpu()
    wrong = int((result != expected).sum())
    if wrong:
        return f"{wrong} of {SIZE * SIZE} results of a float32 product are wrong"
    if torch.cuda.get_device_capability(index)[0] < AMPERE:
        return None
    short = torch.bfloat16
    result = (left.to(device).to(short) @ right.to(device).to(short)).cpu().float()
    wrong = int(((result - expected).abs() > expected.abs() * BFLOAT16_STEP).sum())
    return f"{wrong} of {SIZE * SIZE} results of a bfloat16 product are wrong" if wrong else None


def main() -> None:
    """Check every GPU, also after one that is broken."""
    tell(torch=torch.__version__, cuda=torch.version.cuda, driver=driver_version())
    if torch.version.cuda is None:
        return
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
        count = torch.cuda.device_count()
    except RuntimeError as error:
        tell(error=str(error))
        return
    torch.manual_seed(0)
    left = torch.randint(-LARGEST, LARGEST + 1, (SIZE, SIZE)).float()
    right = torch.randint(-LARGEST, LARGEST + 1, (SIZE, SIZE)).float()
    expected = left @ right
    tell(count=count)
    for index in range(count):
        tell(begun=index)
        try:
            properties = torch.cuda.get_device_properties(index)
            facts = {"name": properties.name, "memory_bytes": properties.total_memory}
            problem = problem_of(index, left, right, expected)
        except RuntimeError as error:  # torch's CUDA and out-of-memory errors
            facts, problem = {}, str(error)
        tell(gpu=index, problem=problem, **facts)
    tell(done=True)


main()
