"""Where this process runs: rank, number of processes, device, compute dtype, collectives.

One code path for one process and many: with one process the collectives return their input.
Processes are started by torchrun, which sets RANK, WORLD_SIZE, LOCAL_RANK and MASTER_*.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from aquachat.errors import ConfigError, PreflightError

COLLECTIVE_TIMEOUT_S = 1800
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class World:
    """The processes of one run, and the device and compute dtype of this one."""

    rank: int
    size: int
    device: torch.device
    dtype: torch.dtype
    """What matrices are multiplied in; masters and reductions are float32."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def all_reduce_sum(self, value: Tensor) -> Tensor:
        """Sum over processes, in place; returns `value`."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
        return value

    def sum_scalars(self, *values: float) -> tuple[float, ...]:
        """Sum host numbers over processes, in float64."""
        if self.size == 1:
            return values
        device = self.device if self.device.type == "cuda" else torch.device("cpu")
        tensor = torch.tensor(values, dtype=torch.float64, device=device)
        return tuple(self.all_reduce_sum(tensor).tolist())

    def broadcast(self, tensor: Tensor, source: int = 0) -> Tensor:
        """Copy `tensor` of process `source` to all, in place; returns `tensor`."""
        if self.size > 1:
            dist.broadcast(tensor, src=source)
        return tensor

    def gather_objects(self, value: object) -> list[object]:
        """The `value` of every process, in rank order, on every process."""
        if self.size == 1:
            return [value]
        gathered: list[object] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def close(self) -> None:
        """Leave the process group."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


def open_world(
    device: str = "auto", dtype: str = "auto", environ: Mapping[str, str] = os.environ
) -> World:
    """Join the process group that `environ` describes, or make a world of one.

    Args:
        device: `auto`, `cuda`, `mps` or `cpu`.
        dtype: `auto`, `float32` or `bfloat16`; see `choose_dtype`.
        environ: RANK, WORLD_SIZE and LOCAL_RANK are read.

    Raises:
        PreflightError: the device is not there.
        ConfigError: the device or dtype has no such name.
    """
    rank, size = int(environ.get("RANK", "0")), int(environ.get("WORLD_SIZE", "1"))
    chosen = _choose_device(device, int(environ.get("LOCAL_RANK", "0")))
    if size > 1 and not dist.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=COLLECTIVE_TIMEOUT_S))
    return World(rank=rank, size=size, device=chosen, dtype=choose_dtype(dtype, chosen))


def _choose_device(name: str, local_rank: int) -> torch.device:
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    if name not in available:
        raise ConfigError(f"there is no device `{name}`", hint="use auto, cuda, mps or cpu")
    if not available[name]:
        raise PreflightError(
            f"torch {torch.__version__} sees no `{name}` device here",
            hint="use `--device cpu`, or install a torch build for your GPU driver",
        )
    if name == "cuda":
        torch.cuda.set_device(local_rank)
        return torch.device("cuda", local_rank)
    return torch.device(name)


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The compute dtype. `auto` is bfloat16 where the device multiplies it natively, else float32.

    Raises:
        ConfigError: no such dtype.
    """
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise ConfigError(f"there is no dtype `{name}`", hint="use auto, float32 or bfloat16")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu":
        return torch.bfloat16 if _cpu_capabilities().get("avx512_bf16") else torch.float32
    return torch.float32


def _cpu_capabilities() -> Mapping[str, object]:
    """What torch knows of the processor; older versions cannot tell, and float32 is safe."""
    ask = getattr(torch.cpu, "get_capabilities", dict)
    found: Mapping[str, object] = ask()
    return found
