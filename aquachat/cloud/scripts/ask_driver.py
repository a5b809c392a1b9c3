"""Asks the NVIDIA driver for its GPUs, and says what it answers in one line of JSON.

Runs on the Python of the system (3.6 and later), before anything is installed: the functions of
the CUDA Driver API are called in `libcuda.so.1`, which comes with the driver.
"""

import ctypes
import json


def called(cuda: ctypes.CDLL, code: int) -> dict:  # type: ignore[type-arg]
    """What a result code means (CUDA Driver API, CUresult)."""
    text = ctypes.c_char_p()
    cuda.cuGetErrorString(code, ctypes.byref(text))
    return {"code": code, "error": (text.value or b"unknown error").decode("utf-8", "replace")}


def ask() -> dict:  # type: ignore[type-arg]
    """The number of GPUs, or the error that the driver names."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        return {"code": None, "error": str(error)}
    code = cuda.cuInit(0)
    if code != 0:
        return called(cuda, code)
    count = ctypes.c_int()
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
    return called(cuda, code) if code != 0 else {"count": count.value}


print(json.dumps(ask()))
