"""Each tool's own code accepts the task files: installed from the index, each in its own venv."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aquachat.cloud.task_request import TaskRequest
from aquachat.cloud.templates import HF_FLAVORS, KUBERNETES_PRODUCTS, render

pytestmark = pytest.mark.long

SECRET = "never-to-be-seen"
COMMAND = ("python", "-m", "mine", "$(x)", "two\nlines", "a'b\"c", "é: #")
SKY = """
import json, sys
import sky
for path in sys.argv[1:]:
    task = sky.Task.from_yaml(path)
    print("TASK", json.dumps({
        "name": task.name,
        "run": task.run,
        "setup": task.setup,
        "resources": sorted(
            [str(r.accelerators), r.region or "", r.max_hourly_cost,
             r.autostop_config.idle_minutes, r.autostop_config.down]
            for r in task.resources
        ),
        "mounts": {k: [s.source, str(s.mode.value)] for k, s in task.storage_mounts.items()},
    }))
"""
DSTACK = """
import json, sys, yaml
from dstack._internal.core.models.configurations import parse_run_configuration
for path in sys.argv[1:]:
    task = parse_run_configuration(yaml.safe_load(open(path)))
    print("TASK", json.dumps({
        "name": task.name,
        "type": task.type,
        "commands": task.commands,
        "max_duration": task.max_duration,
        "max_price": task.max_price,
        "gpus": task.resources.gpu.name,
        "count": task.resources.gpu.count.min,
        "env": sorted(task.env),
        "volumes": [str(v.name) for v in task.volumes],
    }))
"""
KUBERNETES = """
import json, sys, yaml, kubernetes_validate
for path in sys.argv[1:]:
    job = yaml.safe_load(open(path))
    version = kubernetes_validate.latest_version()
    kubernetes_validate.validate(job, version, strict=True)
    print("TASK", json.dumps({"kind": job["kind"], "version": version}))
"""

Check = Callable[..., list[dict[str, Any]]]


def requests(**more: Any) -> list[TaskRequest]:
    """A preset, and a command with words that are hard to quote."""
    names = ("WANDB_API_KEY", "HF_TOKEN")
    return [
        TaskRequest(gpus=("h100",), gpu_count=8, max_hours=1.5, env_names=names, **more),
        TaskRequest(command=COMMAND, name="mine"),
    ]


@pytest.fixture(scope="module")
def checker(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Check]:
    """Installs a package in a venv of its own; skips where the index cannot be reached."""

    def install(package: str, program: str) -> Check:
        folder = tmp_path_factory.mktemp(package)
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        python = str(folder / "venv" / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", package]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{package} cannot be installed: {done.stderr.strip()[-200:]}")

        def check(*texts: str) -> list[dict[str, Any]]:
            paths = [folder / f"{number}.yaml" for number in range(len(texts))]
            for path, text in zip(paths, texts, strict=True):
                path.write_text(text, encoding="utf-8")
            environ = {"PATH": os.environ["PATH"], "HOME": str(folder), "WANDB_API_KEY": SECRET}
            call = [python, "-c", program, *map(str, paths)]
            done = subprocess.run(call, env=environ, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            lines = [line for line in done.stdout.splitlines() if line.startswith("TASK ")]
            return [json.loads(line.removeprefix("TASK ")) for line in lines]

        return check

    return install


def test_skypilot_loads_the_task(checker: Callable[[str, str], Check]) -> None:
    asked = requests(regions=("us-east-1",), max_price_usd_per_hour=30.0, results="s3://mine")
    preset, command = checker("skypilot", SKY)(*(render("sky", each) for each in asked))
    assert preset["resources"] == [["{'H100': 8}", "us-east-1", 30.0, 10, True]]
    assert preset["mounts"] == {"/results": ["s3://mine", "MOUNT"]}
    assert preset["name"] == "aquachat-d8"
    assert "timeout --signal=TERM --kill-after=120 5400 aquachat run d8" in preset["run"]
    assert shlex.join(COMMAND) in command["run"]
    assert command["setup"].startswith("set -e\n")


def test_dstack_parses_the_task(checker: Callable[[str, str], Check]) -> None:
    asked = requests(regions=("us-east-1",), max_price_usd_per_hour=30.0, results="mine")
    preset, command = checker("dstack", DSTACK)(*(render("dstack", each) for each in asked))
    assert (preset["type"], preset["gpus"], preset["count"]) == ("task", ["H100"], 8)
    assert (preset["max_duration"], preset["max_price"]) == (5400, 30.0)
    assert preset["env"] == ["AQUACHAT_HOME", "HF_TOKEN", "WANDB_API_KEY"]
    assert preset["volumes"] == ["mine"]
    assert command["commands"][-1] == shlex.join(COMMAND)


def test_the_schema_of_kubernetes_has_every_field(checker: Callable[[str, str], Check]) -> None:
    asked = [
        *requests(results="claim", regions=("eu-1",)),
        *(TaskRequest(gpus=(gpu,)) for gpu in KUBERNETES_PRODUCTS),
    ]
    found = checker("kubernetes-validate", KUBERNETES)(*(render("kubernetes", r) for r in asked))
    assert [job["kind"] for job in found] == ["Job"] * len(asked)


def test_the_hf_program_takes_the_command(tmp_path: Path) -> None:
    """Its dry run resolves a job and submits nothing; it needs neither an account nor a network."""
    hf = shutil.which("hf", path=str(Path(sys.executable).parent))
    if hf is None:
        pytest.skip("there is no `hf` beside this Python")
    results = "hf://buckets/me/runs"
    asked = [
        TaskRequest(env_names=("WANDB_API_KEY",), results=results, gpus=("h200",), max_hours=1.5),
        TaskRequest(command=COMMAND),
        *(
            TaskRequest(gpus=(gpu,), gpu_count=count)
            for gpu in ("a100", "rtx-pro-6000")
            for count in HF_FLAVORS[gpu]
        ),
    ]
    environ = {
        "PATH": f"{Path(hf).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "HF_TOKEN": "hf_none",
        "HF_HUB_OFFLINE": "1",
        "WANDB_API_KEY": SECRET,
        "PYTHONPATH": "",
    }
    for request in asked:
        text = render("hf-jobs", request).replace("hf jobs run ", "hf jobs run --dry-run ")
        done = subprocess.run(
            ["sh", "-c", text], env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Job not submitted" in done.stdout
        assert SECRET not in done.stdout + done.stderr
        flavor = re.search(r"--flavor (\S+)", text)
        assert flavor is not None
        assert re.search(rf"flavor +{re.escape(flavor[1])}\b", done.stdout)
