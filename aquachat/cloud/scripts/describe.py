"""Says in one line of JSON what a Python environment is, and which packages it lacks.

python describe.py PATH, where PATH is the name under which the environment is called.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import re
import sys


def missing_packages() -> list[str]:
    """The names of what aquachat needs and what is not installed."""
    missing = []
    for need in importlib.metadata.requires("aquachat") or []:
        requirement, _, marker = need.partition(";")
        name = re.split(r"[^A-Za-z0-9._-]", requirement.strip())[0]
        if "extra" not in marker and not is_there(name):
            missing.append(name)
    return missing


def is_there(name: str) -> bool:
    """Whether a package is installed, or at least a module of its name can be imported."""
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return importlib.util.find_spec(name.replace("-", "_")) is not None
    return True


def gpu_names(torch: object) -> list[str]:
    """What the GPUs are called; none where CUDA cannot start, which the GPU gate looks into."""
    cuda = torch.cuda  # type: ignore[attr-defined]
    try:
        return [cuda.get_device_name(index) for index in range(cuda.device_count())]
    except RuntimeError:
        return []


def main() -> None:
    """Print the description."""
    found: dict[str, object] = {
        "python": sys.argv[1],
        "python_version": platform.python_version(),
        "missing": missing_packages(),
    }
    if not found["missing"]:
        import torch

        found |= {
            "torch_version": torch.__version__,
            "cuda": torch.version.cuda,
            "num_gpus": torch.cuda.device_count(),
            "gpu_names": gpu_names(torch),
        }
    print(json.dumps(found))


main()
