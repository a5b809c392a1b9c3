"""Task files: each says what was asked in its tool's words, and what a person typed stays data.

That the tools themselves accept them is for `test_template_tools.py`. Here the shell scripts in the
files are run, with stand-ins for `pip`, `srun` and the container.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import JobHardware
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat import __version__
from aquachat.cloud.task_request import TaskRequest
from aquachat.cloud.templates import HF_FLAVORS, TOOLS, render
from aquachat.errors import ConfigError

ALL = sorted(TOOLS)
GPU = {"hf-jobs": "h200"}
RESULTS = {
    "sky": "s3://bucket/runs",
    "dstack": "volume",
    "hf-jobs": "hf://buckets/me/runs",
    "slurm": "/shared/my runs",
    "kubernetes": "claim",
}
NASTY = (
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "a'b\"c\\",
    "two\nlines",
    "é # {x}: !y",
)
RECORDER = """
import json, os, sys
with open(os.environ["RECORD"], "w") as file:
    json.dump(sys.argv[1:], file)
"""
STAND_INS = {"pip": "exit 0\n", "srun": 'exec "$@"\n'}


def script_of(tool: str, text: str) -> str:
    """The lines that the tool hands to a shell on the machine."""
    if tool == "slurm":
        return text
    if tool == "hf-jobs":
        return shlex.split(text, comments=True)[-1]
    document = yaml.safe_load(text)
    if tool == "sky":
        return str(document["run"])
    if tool == "dstack":
        return " && ".join(document["commands"])
    (container,) = document["spec"]["template"]["spec"]["containers"]
    assert container["command"][:2] == ["bash", "-c"]
    return str(container["command"][2])


class Machine:
    """A folder that stands for the machine a job lands on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.record = folder / "record.json"
        self.log = folder / "log"
        self.bin = folder / "bin"
        self.bin.mkdir()
        (folder / "recorder.py").write_text(RECORDER)
        venv = folder / "venv" / "bin"
        venv.mkdir(parents=True)
        self.program(venv / "aquachat", "exit 0\n")
        for name, body in STAND_INS.items():
            self.program(self.bin / name, body)

    def program(self, path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}")
        path.chmod(0o755)

    @property
    def environ(self) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            "AQUACHAT_VENV": str(self.folder / "venv"),
            "RECORD": str(self.record),
            "WANDB_API_KEY": "given",
        }

    def command(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, str(self.folder / "recorder.py"), *words)

    @property
    def said(self) -> str:
        return self.log.read_text()

    def start(self, script: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.folder,
            env=self.environ,
            stdout=self.log.open("wb"),  # not a pipe, which a command left behind would hold open
            stderr=subprocess.STDOUT,
        )

    def run(self, script: str) -> int:
        return self.start(script).wait(timeout=60)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def gpus(tool: str) -> tuple[str, ...]:
    return (GPU.get(tool, "h100"),)


@pytest.mark.parametrize("tool", ALL)
def test_the_script_of_a_file_runs_exactly_the_words_that_were_typed(
    tool: str, machine: Machine
) -> None:
    request = TaskRequest(
        command=machine.command(*NASTY), package="x'; touch pwned; '", gpus=gpus(tool)
    )
    assert machine.run(script_of(tool, render(tool, request))) == 0, machine.said
    assert json.loads(machine.record.read_text()) == list(NASTY)
    assert not (machine.folder / "pwned").exists()


@settings(max_examples=150, deadline=None)
@given(
    words=st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1),
    tool=st.sampled_from(ALL),
)
def test_any_words_come_back_from_the_file(words: list[str], tool: str) -> None:
    text = render(tool, TaskRequest(command=("run-me", *words), gpus=gpus(tool)))
    script = script_of(tool, text)
    assert shlex.join(["run-me", *words]) in script


@pytest.mark.parametrize("tool", ["sky", "hf-jobs"])
def test_a_job_with_a_bucket_gives_back_the_exit_code_of_its_command(
    tool: str, machine: Machine
) -> None:
    results = machine.folder / "results"
    work = f'mkdir -p "$AQUACHAT_HOME/runs/mine" && echo {"weights"} >"$AQUACHAT_HOME/runs/mine/w"'
    command = ("bash", "-c", f"{work}; exit 7")
    request = TaskRequest(command=command, results=RESULTS[tool], gpus=gpus(tool))
    script = script_of(tool, render(tool, request))
    script = script.replace("/results", str(results)).replace("/tmp/aquachat", "$HOME/aquachat")
    assert machine.run(script) == 7, machine.said
    assert (results / "runs" / "mine" / "w").read_text() == "weights\n"


@pytest.mark.parametrize("tool", ["slurm", "sky", "kubernetes", "hf-jobs"])
def test_sigterm_reaches_the_command_and_the_job_waits_for_it(tool: str, machine: Machine) -> None:
    ready, saved = machine.folder / "ready", machine.folder / "saved"
    body = (
        f"trap 'sleep 0.3; echo ok >{saved}; exit 143' TERM; echo >{ready}; "
        "while :; do sleep 0.05; done"
    )
    request = TaskRequest(
        command=("bash", "-c", body),
        gpus=gpus(tool),
        results=RESULTS[tool] if tool == "hf-jobs" else "",
    )
    script = script_of(tool, render(tool, request)).replace("/results", str(machine.folder / "r"))
    process = machine.start(script)
    limit_s = time.monotonic() + 30
    while not ready.exists():
        assert time.monotonic() < limit_s
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=30) == 143
    assert saved.read_text() == "ok\n"


def test_slurm_says_which_variable_is_missing(machine: Machine) -> None:
    text = render("slurm", TaskRequest(env_names=("HF_TOKEN",), command=machine.command()))
    assert machine.run(text) != 0
    assert "HF_TOKEN: set it in the shell that calls sbatch" in machine.said
    assert not machine.record.exists()


@pytest.mark.parametrize("tool", ALL)
def test_a_preset_runs_under_the_name_of_the_job_and_can_go_on(tool: str) -> None:
    request = TaskRequest(preset="d12", name="mine", gpu_count=8, gpus=gpus(tool))
    words = "aquachat run d12 --run mine --resume --gpus 8"
    text = render(tool, request)
    assert words in script_of(tool, text)
    assert f"aquachat=={__version__}" in text
    single = render(tool, TaskRequest(gpus=gpus(tool)))
    assert "aquachat run d8 --run aquachat-d8 --resume" in script_of(tool, single)
    assert "--gpus" not in single


@pytest.mark.parametrize("tool", ALL)
@pytest.mark.parametrize("has_results", [False, True])
def test_of_an_environment_only_names_are_written(
    tool: str, has_results: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "never-to-be-seen")
    results = RESULTS[tool] if has_results else ""
    text = render(tool, TaskRequest(env_names=("WANDB_API_KEY", "HF_TOKEN"), results=results))
    assert "never-to-be-seen" not in text
    assert "WANDB_API_KEY" in text
    assert "HF_TOKEN" in text


def test_sky_takes_any_of_gpus_and_regions_in_order() -> None:
    request = TaskRequest(
        gpus=("h100", "a100-80gb"),
        gpu_count=8,
        regions=("us-east-1", "us-west-2"),
        max_price_usd_per_hour=30.0,
        env_names=("WANDB_API_KEY",),
        max_hours=1.5,
    )
    task = yaml.safe_load(render("sky", request))
    assert [list(choice.values()) for choice in task["resources"]["any_of"]] == [
        ["H100:8", "*/us-east-1"],
        ["H100:8", "*/us-west-2"],
        ["A100-80GB:8", "*/us-east-1"],
        ["A100-80GB:8", "*/us-west-2"],
    ]
    assert task["resources"]["max_hourly_cost"] == 30.0
    assert task["resources"]["autostop"] == {"idle_minutes": 10, "down": True}
    assert task["secrets"] == {"WANDB_API_KEY": None}
    assert "timeout --signal=TERM --kill-after=120 5400 " in task["run"]


def test_dstack_holds_price_hours_and_regions() -> None:
    request = TaskRequest(
        gpus=("a100-80gb",),
        gpu_count=2,
        regions=("us-east-1",),
        max_price_usd_per_hour=2.5,
        max_hours=0.5,
        env_names=("WANDB_API_KEY",),
        results="volume",
    )
    task = yaml.safe_load(render("dstack", request))
    assert task["type"] == "task"
    assert task["resources"]["gpu"] == {"count": 2, "name": ["A100"], "memory": "80GB"}
    assert (task["max_price"], task["max_duration"]) == (2.5, "30m")
    assert task["env"] == ["WANDB_API_KEY", "AQUACHAT_HOME=/aquachat"]
    assert task["volumes"] == ["volume:/aquachat"]
    assert task["regions"] == ["us-east-1"]


def test_a_job_of_hugging_face_is_one_command() -> None:
    request = TaskRequest(gpus=("a10",), gpu_count=4, max_hours=2, env_names=("HF_TOKEN",))
    text = render("hf-jobs", request).replace("\\\n", "")  # as a shell joins lines
    words = shlex.split(text, comments=True)
    assert words[:3] == ["hf", "jobs", "run"]
    pairs = dict(zip(words[4:-4:2], words[5:-4:2], strict=True))
    assert pairs["--flavor"] == "a10g-largex4"
    assert pairs["--timeout"] == "120m"
    assert pairs["--secrets"] == "HF_TOKEN"
    assert words[-4:-1] == ["python:3.12", "bash", "-c"]


def test_flavors_are_those_of_the_library() -> None:
    known = {str(hardware.value) for hardware in JobHardware}
    ours = {flavor for flavors in HF_FLAVORS.values() for flavor in flavors.values()}
    assert ours <= known


def test_slurm_asks_for_its_gpus_and_a_warning_before_the_end() -> None:
    text = render("slurm", TaskRequest(gpu_count=8, max_hours=26.5))
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH ")]
    for wanted in ("--gres=gpu:h100:8", "--time=26:30:00", "--signal=B:TERM@120", "--requeue"):
        assert f"#SBATCH {wanted}" in directives
    first_command = next(
        number for number, line in enumerate(text.splitlines()) if line and not line.startswith("#")
    )
    assert all(text.splitlines().index(line) < first_command for line in directives)


def test_a_kubernetes_job_is_not_repeated_and_ends_in_time() -> None:
    request = TaskRequest(
        gpus=("h100", "NVIDIA-L40S"),
        gpu_count=2,
        regions=("eu-1",),
        max_hours=3,
        env_names=("HF_TOKEN",),
        results="claim",
    )
    job = yaml.safe_load(render("kubernetes", request))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    assert (spec["backoffLimit"], spec["activeDeadlineSeconds"]) == (0, 10_800)
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 2}
    secret = {"secretKeyRef": {"name": "aquachat", "key": "HF_TOKEN"}}
    assert {"name": "HF_TOKEN", "valueFrom": secret} in container["env"]
    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes[mounted["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
    assert volumes[mounted["/aquachat"]]["persistentVolumeClaim"]["claimName"] == "claim"
    (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    values = {match["key"]: match["values"] for match in term["matchExpressions"]}
    assert "NVIDIA-H100-80GB-HBM3" in values["nvidia.com/gpu.product"]
    assert values["nvidia.com/gpu.product"][-1] == "NVIDIA-L40S"
    assert values["topology.kubernetes.io/region"] == ["eu-1"]


@pytest.mark.parametrize("tool", ["slurm", "hf-jobs"])
def test_a_shell_reads_the_file(tool: str, tmp_path: Path) -> None:
    file = tmp_path / "job"
    request = TaskRequest(env_names=("A",), results=RESULTS[tool])
    file.write_text(render(tool, request))
    subprocess.run(["bash", "-n", str(file)], check=True)
    if shutil.which("shellcheck") is None:
        pytest.skip("there is no shellcheck")
    # SC2016: `hf-jobs` hands `$HOME` on to the machine, and means it
    checked = ["shellcheck", "--shell=bash", "--exclude=SC2016", str(file)]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("tool", "wrong", "said"),
    [
        ("slurm", {"max_price_usd_per_hour": 2.0}, "Slurm has no `--max-price`"),
        ("kubernetes", {"max_price_usd_per_hour": 2.0}, "no `--max-price`"),
        ("hf-jobs", {"max_price_usd_per_hour": 2.0}, "no `--max-price`"),
        ("hf-jobs", {"regions": ("eu-1",)}, "no `--region`"),
        ("slurm", {"regions": ("eu-1",)}, "no `--region`"),
        ("slurm", {"image": "python:3.12"}, "no `--image`"),
        ("sky", {"image": "python:3.12"}, "no `--image`"),
        ("slurm", {"gpus": ("h100", "a100")}, "one kind of GPU"),
        ("hf-jobs", {"gpus": ("h100",)}, "has no `h100`"),
        ("hf-jobs", {"gpus": ("h200",), "gpu_count": 3}, "has no 3 x `h200`"),
        ("kubernetes", {"gpus": ("gtx970",)}, "`gtx970` is not known"),
        ("dstack", {"gpus": ("a100-80gb", "h100")}, "one memory"),
        ("sky", {"results": "my-volume"}, "`--results my-volume`"),
        ("dstack", {"results": "a:b"}, "`--results a:b`"),
        ("hf-jobs", {"results": "/mnt"}, "`--results /mnt`"),
        ("kubernetes", {"results": "A_b"}, "`--results A_b`"),
        ("nomad", {}, "no template `nomad`"),
    ],
)
def test_what_a_tool_cannot_do_is_refused_with_a_way_out(
    tool: str, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        render(tool, TaskRequest(**wrong))
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"preset": "d9"}, "no preset `d9`"),
        ({"preset": "d8", "command": ("ls",)}, "and a command"),
        ({"name": "Bad Name"}, "name of a job"),
        ({"name": "a\n#SBATCH --exclusive"}, "name of a job"),
        ({"gpus": ("h100; ls",)}, "--gpu"),
        ({"gpus": ("$(ls)",)}, "--gpu"),
        ({"regions": ("us\nx",)}, "--region"),
        ({"gpu_count": 0}, "--gpu-count"),
        ({"max_hours": 0.0}, "--max-hours"),
        ({"max_hours": float("nan")}, "--max-hours"),
        ({"max_price_usd_per_hour": -1.0}, "--max-price"),
        ({"max_price_usd_per_hour": float("inf")}, "--max-price"),
        ({"env_names": ("A B",)}, "--inject-env"),
        ({"package": "a\n#SBATCH --exclusive"}, "--package"),
        ({"package": ""}, "--package"),
        ({"package": "--index-url=x"}, "--package"),
        ({"image": "a\x85b"}, "--image"),
        ({"results": "a\rb"}, "--results"),
    ],
)
def test_a_value_that_cannot_be_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TaskRequest(**wrong)
    assert said in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "wrong",
    [
        {"env_names": ("WANDB_API_KEY=hunter2",)},
        {"package": "git+https://hunter2@example.com/a.git"},
        {"package": "git+ssh://me:hunter2@example.com/a.git"},
        {"image": "https://me:hunter2@example.com/image"},
    ],
)
def test_a_secret_that_was_typed_is_refused_and_not_repeated(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        TaskRequest(**wrong)
    assert "hunter2" not in f"{caught.value.message} {caught.value.hint}"


def test_an_address_without_a_secret_is_taken() -> None:
    text = render("sky", TaskRequest(package="git+ssh://git@example.com/aquachat.git"))
    assert "git+ssh://git@example.com/aquachat.git" in text
