"""A `torch` with as many GPUs as FAKE_GPUS says, some of them broken as FAKE_BROKEN says.

FAKE_BROKEN is JSON: `{"3": "wrong"}`, or `raise`, `hang`, `crash`, `802`; or `{"init": "802"}`.
"""

from __future__ import annotations

import json
import os
import signal
import time

import numpy as np

__version__ = "2.9.9+fake"
BROKEN = json.loads(os.environ.get("FAKE_BROKEN", "{}"))
TEXT_802 = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
    "NumCudaDevices() that might have already set an error? Error 802: system not yet initialized"
)
TEXT_RAISE = (
    "CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors might be asynchronously "
    "reported at some other API call"
)


class bfloat16:
    pass


class version:
    cuda = None if "FAKE_NO_CUDA" in os.environ else "12.8"


class Tensor:
    def __init__(self, values: np.ndarray, device: str = "cpu") -> None:
        self.values = values
        self.device = device

    def to(self, where: object) -> Tensor:
        if where is bfloat16:  # keeps the upper half of a float32
            bits = self.values.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)
            return Tensor(bits.view(np.float32), self.device)
        return Tensor(self.values, str(where))

    def cpu(self) -> Tensor:
        return Tensor(self.values)

    def float(self) -> Tensor:
        return Tensor(self.values.astype(np.float32), self.device)

    def __matmul__(self, other: Tensor) -> Tensor:
        result = self.values @ other.values
        what = BROKEN.get(self.device.removeprefix("cuda:"))
        if what == "wrong":
            result[7, 7] += 1
        elif what in ("raise", "802"):
            raise RuntimeError(TEXT_RAISE if what == "raise" else TEXT_802)
        elif what == "hang":
            time.sleep(60)
        elif what == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        return Tensor(result, self.device)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        assert isinstance(other, Tensor)
        return Tensor(self.values != other.values)

    def __sub__(self, other: Tensor) -> Tensor:
        return Tensor(self.values - other.values)

    def __mul__(self, factor: float) -> Tensor:
        return Tensor(self.values * factor)

    def __gt__(self, other: Tensor) -> Tensor:
        return Tensor(self.values > other.values)

    def abs(self) -> Tensor:
        return Tensor(abs(self.values))

    def sum(self) -> Tensor:
        return Tensor(self.values.sum())

    def __int__(self) -> int:
        return int(self.values)


def manual_seed(seed: int) -> None:
    np.random.seed(seed)


def randint(low: int, high: int, size: tuple[int, int]) -> Tensor:
    return Tensor(np.random.randint(low, high, size))


class _Properties:
    total_memory = 80 << 30

    def __init__(self, index: int) -> None:
        self.name = "NVIDIA H100 80GB HBM3"


class cuda:
    @staticmethod
    def init() -> None:
        if "init" in BROKEN:
            raise RuntimeError(TEXT_802)

    @staticmethod
    def device_count() -> int:
        return int(os.environ.get("FAKE_GPUS", "1"))

    get_device_properties = _Properties

    @staticmethod
    def get_device_name(index: int) -> str:
        return _Properties(index).name

    @staticmethod
    def get_device_capability(index: int) -> tuple[int, int]:
        return (9, 0) if index % 2 == 0 else (7, 0)
