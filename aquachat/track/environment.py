"""Where something was computed: versions, machine, memory. Names no user, host or path."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

from aquachat.log import redact

PACKAGES = ("aquachat", "torch", "numpy", "tiktoken", "safetensors", "datasets", "wandb")


def describe_environment() -> dict[str, str]:
    """Name -> value, ready for a table; nothing is imported to find a version."""
    values = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": str(_num_cores()),
    }
    if memory := memory_bytes():
        values["memory"] = f"{memory / 1e9:.1f} GB"
    for package in PACKAGES:
        try:
            values[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {name: redact(value) for name, value in values.items()}


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _num_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # what a container or taskset leaves us
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    """The memory of this machine, None where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None
