"""Task files for other schedulers: what `aquachat launch` would run, written in their words.

No file holds a secret: of `--inject-env` only the names are written, and each tool reads the
values from where it keeps them. YAML is written by PyYAML and shell words are quoted by shlex, so
that what a person typed is data wherever it lands. What a tool cannot do (a price limit in Slurm)
is refused.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any, Final

from aquachat.cloud.task_request import TaskRequest, is_word
from aquachat.cloud.task_text import (
    BUCKET_FOLDER,
    body,
    head,
    lines,
    pip_install,
    supervised,
    to_yaml,
)
from aquachat.errors import ConfigError

DEFAULT_IMAGE: Final = "python:3.12"
PYTHON: Final = "3.12"
HOME_FOLDER: Final = "/aquachat"
"""AQUACHAT_HOME on storage that stays, where `--results` names some."""
KUBERNETES_SECRET: Final = "aquachat"
SHARED_MEMORY_GB: Final = 16
IDLE_MINUTES: Final = 10
CPUS_PER_GPU: Final = 8
GRACE_S: Final = 120
"""Time to save a checkpoint between SIGTERM and the end."""
COPY_MINUTES: Final = 5
"""How much before its limit a job ends training, where results are copied afterwards."""

HF_FLAVORS: Final[Mapping[str, Mapping[int, str]]] = {
    "t4": {1: "t4-medium"},
    "l4": {1: "l4x1", 4: "l4x4"},
    "l40s": {1: "l40sx1", 4: "l40sx4", 8: "l40sx8"},
    "a10g": {1: "a10g-large", 2: "a10g-largex2", 4: "a10g-largex4"},
    "a100": {1: "a100-large", 4: "a100x4", 8: "a100x8"},
    "h200": {1: "h200", 2: "h200x2", 4: "h200x4", 8: "h200x8"},
    "rtx-pro-6000": {
        1: "rtx-pro-6000",
        2: "rtx-pro-6000x2",
        4: "rtx-pro-6000x4",
        8: "rtx-pro-6000x8",
    },
}
"""GPU, count: flavor of Hugging Face Jobs (`huggingface_hub.JobHardware` of 2.4)."""
KUBERNETES_PRODUCTS: Final[Mapping[str, tuple[str, ...]]] = {
    "a10": ("NVIDIA-A10",),
    "a100": (
        "NVIDIA-A100-SXM4-40GB",
        "NVIDIA-A100-SXM4-80GB",
        "NVIDIA-A100-PCIE-40GB",
        "NVIDIA-A100-80GB-PCIe",
    ),
    "b200": ("NVIDIA-B200",),
    "h100": ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100-PCIe", "NVIDIA-H100-NVL"),
    "h200": ("NVIDIA-H200", "NVIDIA-H200-NVL"),
    "l4": ("NVIDIA-L4",),
    "l40s": ("NVIDIA-L40S",),
}
"""Values of the label `nvidia.com/gpu.product` that NVIDIA's GPU Feature Discovery sets."""

_WITH_MEMORY: Final = re.compile(r"(.+)-([0-9]+gb)")


def render(tool: str, request: TaskRequest) -> str:
    """The task file of `tool`, one of `TOOLS`, with a new line at its end.

    Raises:
        ConfigError: no such tool, or it cannot do what is asked.
    """
    if tool not in TOOLS:
        raise ConfigError(f"there is no template `{tool}`", hint=f"use {', '.join(TOOLS)}")
    return TOOLS[tool](request)


def _sky(request: TaskRequest) -> str:
    _refuse(request, "SkyPilot's template", "image")
    gpus = [gpu.upper() for gpu in request.gpus] or ["H100"]
    choices: list[dict[str, Any]] = [
        {"accelerators": f"{_joined(gpu)}:{request.gpu_count}"}
        | ({"infra": f"*/{region}"} if region else {})
        for gpu in gpus
        for region in request.regions or ("",)
    ]
    resources: dict[str, Any] = {"any_of": choices}
    if request.max_price_usd_per_hour is not None:
        resources["max_hourly_cost"] = request.max_price_usd_per_hour
    resources["autostop"] = {"idle_minutes": IDLE_MINUTES, "down": True}
    task: dict[str, Any] = {"name": request.job, "resources": resources}
    if request.results:
        if not re.match(r"(s3|gs|r2|https|cos|oci|nebius)://", request.results):
            raise _bad_results(request, "a bucket: `--results s3://my-bucket`")
        task["file_mounts"] = {BUCKET_FOLDER: {"source": request.results, "mode": "MOUNT"}}
    if request.env_names:
        task["secrets"] = dict.fromkeys(request.env_names)
    task["setup"] = lines(
        "set -e",
        'export PATH="$HOME/.local/bin:$PATH"',
        "command -v uv >/dev/null 2>&1 || curl -LsSf https://astral.sh/uv/install.sh | sh",
        f'uv venv --allow-existing --python {PYTHON} "$HOME/aquachat-venv"',
        f'uv pip install --python "$HOME/aquachat-venv/bin/python" {shlex.quote(request.package)}',
    )
    # SkyPilot has no limit of hours; without work the machine goes down after `idle_minutes`.
    limit = f"timeout --signal=TERM --kill-after={GRACE_S} {request.max_minutes * 60}"
    task["run"] = lines(
        "set -e",
        'export PATH="$HOME/aquachat-venv/bin:$PATH" AQUACHAT_HOME="$HOME/aquachat"',
        *body(f"{limit} {shlex.join(request.words)}", bool(request.results)),
    )
    secrets = "".join(f" --secret {name}" for name in request.env_names)
    fetch = (
        f"In the end the folder of the run is copied to {request.results}."
        if request.results
        else f"Get the results within {IDLE_MINUTES} minutes of the end: "
        f"rsync -av {request.job}:aquachat/runs ."
    )
    return head(
        request,
        f"sky launch -c {request.job}{secrets} FILE",
        f"Training ends after {request.max_minutes} minutes at the latest, and the machine "
        f"{IDLE_MINUTES} minutes after that.",
        fetch,
    ) + to_yaml(task)


def _dstack(request: TaskRequest) -> str:
    gpu: dict[str, Any] = {"count": request.gpu_count}
    parts = [_WITH_MEMORY.fullmatch(name.lower()) for name in request.gpus]
    memories = {part[2] if part else "" for part in parts}
    if len(memories) > 1:
        raise ConfigError(
            "dstack takes one memory for all GPUs", hint="write one template for each `--gpu`"
        )
    names = [part[1] if part else name for part, name in zip(parts, request.gpus, strict=True)]
    gpu["name"] = [_joined(name.upper()) for name in names] or ["H100"]
    if memory := "".join(memories):
        gpu["memory"] = memory.upper()
    task: dict[str, Any] = {"type": "task", "name": request.job}
    task |= {"image": request.image} if request.image else {"python": PYTHON}
    task["commands"] = [pip_install(request), shlex.join(request.words)]
    home = [f"AQUACHAT_HOME={HOME_FOLDER}"] if request.results else []
    if request.env_names or home:
        task["env"] = [*request.env_names, *home]
    task["resources"] = {"gpu": gpu, "shm_size": f"{SHARED_MEMORY_GB}GB"}
    if request.results:
        if not is_word(request.results):
            raise _bad_results(request, "the name of a dstack volume: `--results my-volume`")
        task["volumes"] = [f"{request.results}:{HOME_FOLDER}"]
    if request.regions:
        task["regions"] = list(request.regions)
    if request.max_price_usd_per_hour is not None:
        task["max_price"] = request.max_price_usd_per_hour
    task["max_duration"] = f"{request.max_minutes}m"
    kept = (
        f"AQUACHAT_HOME is on the volume {request.results}."
        if request.results
        else "Results end with the machine: name a volume with `--results` to keep them."
    )
    read = f"dstack reads {', '.join(request.env_names)} from the shell that starts it."
    secrets = [read] if request.env_names else []
    return head(request, "dstack apply -f FILE", *secrets, kept) + to_yaml(task)


def _hf_jobs(request: TaskRequest) -> str:
    _refuse(request, "Hugging Face Jobs", "max_price", "region")
    gpu = _only(request, "Hugging Face Jobs", "h200").lower()
    flavors = HF_FLAVORS.get({"a10": "a10g"}.get(gpu, gpu))
    if flavors is None:
        raise ConfigError(
            f"Hugging Face Jobs has no `{gpu}`", hint=f"use `--gpu` {', '.join(HF_FLAVORS)}"
        )
    if request.gpu_count not in flavors:
        raise ConfigError(
            f"Hugging Face Jobs has no {request.gpu_count} x `{gpu}`",
            hint=f"use `--gpu-count` {', '.join(map(str, flavors))}",
        )
    words = ["hf", "jobs", "run", "--detach", "--name", request.job]
    options = [
        ["--flavor", flavors[request.gpu_count]],
        ["--timeout", f"{request.max_minutes}m"],
        *(["--secrets", name] for name in request.env_names),
    ]
    command = shlex.join(request.words)
    if request.results:
        if not request.results.startswith("hf://buckets/"):
            raise _bad_results(request, "a bucket: `--results hf://buckets/me/runs`")
        options.append(["--volume", f"{request.results}:{BUCKET_FOLDER}"])
        # The limit of a job is not known to leave time, so training ends before it.
        seconds = 60 * max(1, request.max_minutes - COPY_MINUTES)
        command = f"timeout --signal=TERM --kill-after={GRACE_S} {seconds} {command}"
    script = "; ".join(
        (
            "set -e",
            pip_install(request),
            "export AQUACHAT_HOME=/tmp/aquachat",
            *body(command, bool(request.results)),
        )
    )
    kept = (
        f"In the end the folder of the run is copied to {request.results}."
        if request.results
        else "Results end with the job: name a bucket with `--results` to keep them."
    )
    calls = [
        shlex.join(words),
        *map(shlex.join, options),
        shlex.quote(request.image or DEFAULT_IMAGE),
    ]
    call = " \\\n  ".join([*calls, shlex.join(["bash", "-c", script])])
    read = f"`hf` reads {', '.join(request.env_names)} from the shell that starts it."
    secrets = [read] if request.env_names else []
    return head(request, "sh FILE", *secrets, kept) + call + "\n"


def _slurm(request: TaskRequest) -> str:
    _refuse(request, "Slurm", "max_price", "region", "image")
    gpu = _only(request, "Slurm", "h100").lower()
    hours, minutes = divmod(request.max_minutes, 60)
    directives = (
        f"--job-name={request.job}",
        "--nodes=1",
        "--ntasks=1",
        f"--cpus-per-task={CPUS_PER_GPU * request.gpu_count}",
        f"--gres=gpu:{gpu}:{request.gpu_count}",
        f"--time={hours:02d}:{minutes:02d}:00",
        f"--signal=B:TERM@{GRACE_S}",
        "--requeue",
        "--open-mode=append",
        f"--output={request.job}-%j.log",
    )
    home = [f"export AQUACHAT_HOME={shlex.quote(request.results)}"] if request.results else []
    needed = [
        f': "${{{name}:?set it in the shell that calls sbatch}}"' for name in request.env_names
    ]
    return (
        "#!/bin/bash\n"
        + head(
            request,
            "sbatch FILE",
            "AQUACHAT_HOME (or `--results`) must be on a file system that every node has.",
            f"{GRACE_S} s before its limit training saves and ends; a job that Slurm puts back "
            "into the queue goes on from there.",
        )
        + lines(
            *(f"#SBATCH {directive}" for directive in directives),
            "",
            "set -euo pipefail",
            *needed,
            *home,
            'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-1}"',
            "venv=${AQUACHAT_VENV:-$HOME/aquachat-venv}",
            'if [ ! -x "$venv/bin/aquachat" ]; then',
            '  python3 -m venv "$venv"',
            f'  "$venv/bin/python" -m pip install {shlex.quote(request.package)}',
            "fi",
            'export PATH="$venv/bin:$PATH"',
            *supervised(f"srun {shlex.join(request.words)}"),
            'exit "$status"',
        )
    )


def _kubernetes(request: TaskRequest) -> str:
    _refuse(request, "Kubernetes", "max_price")
    mounts = [{"name": "shared-memory", "mountPath": "/dev/shm"}]
    memory = {"medium": "Memory", "sizeLimit": f"{SHARED_MEMORY_GB}Gi"}
    volumes: list[dict[str, Any]] = [{"name": "shared-memory", "emptyDir": memory}]
    mounts.append({"name": "home", "mountPath": HOME_FOLDER})
    if request.results:
        if re.fullmatch(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", request.results) is None:
            raise _bad_results(request, "the name of a claim: `--results my-claim`")
        claim = {"claimName": request.results}
        volumes.append({"name": "home", "persistentVolumeClaim": claim})
    else:
        volumes.append({"name": "home", "emptyDir": {}})
    env: list[dict[str, Any]] = [{"name": "AQUACHAT_HOME", "value": HOME_FOLDER}]
    env += [
        {
            "name": name,
            "valueFrom": {"secretKeyRef": {"name": KUBERNETES_SECRET, "key": name}},
        }
        for name in request.env_names
    ]
    script = lines("set -e", pip_install(request), f"exec {shlex.join(request.words)}")
    container: dict[str, Any] = {
        "name": "aquachat",
        "image": request.image or DEFAULT_IMAGE,
        "command": ["bash", "-c", script],
        "env": env,
        "resources": {"limits": {"nvidia.com/gpu": request.gpu_count}},
        "volumeMounts": mounts,
    }
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_S,
        **_affinity(request),
        "containers": [container],
        "volumes": volumes,
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": request.job},
        "spec": {
            "backoffLimit": 0,
            "activeDeadlineSeconds": request.max_minutes * 60,
            "template": {"spec": pod},
        },
    }
    secret = f"kubectl create secret generic {KUBERNETES_SECRET} --from-env-file=.env"
    kept = (
        f"AQUACHAT_HOME is on the claim {request.results}."
        if request.results
        else "Results end with the pod: name a claim with `--results` to keep them."
    )
    made = f"The secret with {', '.join(request.env_names)} is made by: {secret}"
    secrets = [made] if request.env_names else []
    return head(request, "kubectl apply -f FILE", *secrets, kept) + to_yaml(job)


def _affinity(request: TaskRequest) -> dict[str, Any]:
    """Which nodes will do, where GPUs or regions are named."""
    products: list[str] = []
    for gpu in request.gpus:
        if gpu.upper().startswith("NVIDIA-"):
            products.append(gpu)
        elif gpu.lower() in KUBERNETES_PRODUCTS:
            products += KUBERNETES_PRODUCTS[gpu.lower()]
        else:
            raise ConfigError(
                f"the label of nodes with a `{gpu}` is not known",
                hint=f"use {', '.join(KUBERNETES_PRODUCTS)}, or the value of the label "
                "`nvidia.com/gpu.product`, such as `--gpu NVIDIA-L40S`",
            )
    wanted = {"nvidia.com/gpu.product": products, "topology.kubernetes.io/region": request.regions}
    matches = [
        {"key": key, "operator": "In", "values": list(values)}
        for key, values in wanted.items()
        if values
    ]
    if not matches:
        return {}
    terms = {"nodeSelectorTerms": [{"matchExpressions": matches}]}
    return {"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}}


TOOLS: Final[Mapping[str, Callable[[TaskRequest], str]]] = {
    "sky": _sky,
    "dstack": _dstack,
    "hf-jobs": _hf_jobs,
    "slurm": _slurm,
    "kubernetes": _kubernetes,
}
"""What there are templates for."""


def _only(request: TaskRequest, tool: str, default: str) -> str:
    """The one GPU that is asked for."""
    if len(request.gpus) > 1:
        raise ConfigError(f"{tool} takes one kind of GPU", hint="give `--gpu` once")
    return request.gpus[0] if request.gpus else default


def _refuse(request: TaskRequest, tool: str, *flags: str) -> None:
    """What the tool has no word for must not be ignored.

    Raises:
        ConfigError: one of `max_price`, `region` and `image` is asked for.
    """
    given = {
        "max_price": request.max_price_usd_per_hour is not None,
        "region": bool(request.regions),
        "image": bool(request.image),
    }
    for flag in flags:
        if given[flag]:
            shown = flag.replace("_", "-")
            raise ConfigError(f"{tool} has no `--{shown}`", hint=f"leave `--{shown}` out")


def _bad_results(request: TaskRequest, wanted: str) -> ConfigError:
    return ConfigError(f"`--results {request.results}` is no storage here", hint=f"name {wanted}")


def _joined(gpu: str) -> str:
    """`RTX-PRO-6000` as SkyPilot and dstack write it."""
    return gpu.replace("-", "") if gpu.startswith("RTX-") else gpu
