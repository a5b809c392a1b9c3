from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquachat.cloud.bootstrap import program
from aquachat.cloud.errors import BootError
from aquachat.cloud.gpu_gate import Gpus, check_driver, check_gpus
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.ssh_errors import CommandError, DroppedError
from aquachat.errors import PreflightError
from tests.cloud.proxy import Proxy
from tests.cloud.sshd import PATH, Sshd, running_sshd

LIBRARY = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <signal.h>
static int number(const char *name) { char *v = getenv(name); return v ? atoi(v) : 0; }
int cuInit(unsigned flags) {
  if (getenv("CU_HANG")) sleep(60);
  if (getenv("CU_CRASH")) raise(SIGSEGV);
  const char *file = getenv("CU_READY_FILE");
  if (file && access(file, F_OK) == 0) return 0;
  return number("CU_INIT");
}
int cuDeviceGetCount(int *count) { *count = number("CU_COUNT"); return 0; }
int cuGetErrorString(int code, const char **text) {
  *text = code == 802 ? "system not yet initialized" : "no CUDA-capable device is detected";
  return 0;
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as made:
        yield made


@pytest.fixture
def machine(server: Sshd, tmp_path: Path) -> Iterator[RemoteMachine]:
    server.set_session()
    with server.machine(tmp_path / "job") as made:
        yield made


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `libcuda.so.1` that answers as its environment says."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("libcuda")
    (folder / "cuda.c").write_text(LIBRARY)
    out = str(folder / "libcuda.so.1")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", out, f"{folder}/cuda.c"], check=True)
    return folder


def with_driver(server: Sshd, library: Path, **variables: object) -> None:
    values = {name: str(value) for name, value in variables.items()}
    server.set_session(variables={"LD_LIBRARY_PATH": str(library), **values})


def test_the_driver_counts_its_gpus(server: Sshd, machine: RemoteMachine, library: Path) -> None:
    with_driver(server, library, CU_COUNT=8)
    assert check_driver(machine, expected=8) == 8
    assert check_driver(machine) == 8
    assert check_driver(machine, expected=1) == 8


@pytest.mark.parametrize(
    ("variables", "expected", "sentence"),
    [
        ({"CU_INIT": 100}, None, "CUDA error 100: no CUDA-capable device is detected"),
        ({"CU_COUNT": 0}, None, "there is no GPU that can be used"),
        ({"CU_COUNT": 7}, 8, "1 of 8 GPUs are missing"),
        ({"CU_CRASH": 1}, None, "it ended the program that asked it"),
        ({"CU_HANG": 1}, None, "does not answer within 1 s"),
    ],
)
def test_a_driver_that_cannot_be_used_is_named(
    server: Sshd,
    machine: RemoteMachine,
    library: Path,
    variables: dict[str, int],
    expected: int | None,
    sentence: str,
) -> None:
    with_driver(server, library, **variables)
    with pytest.raises(BootError, match=sentence):
        check_driver(machine, expected=expected, deadline_s=1 if "CU_HANG" in variables else 30)


def test_error_802_is_given_time_to_pass(server: Sshd, library: Path, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with_driver(server, library, CU_INIT=802, CU_COUNT=8, CU_READY_FILE=ready)
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        if seconds < 1:
            return
        waits.append(seconds)
        if len(waits) == 3:
            ready.touch()

    with server.machine(tmp_path / "job", now=lambda: sum(waits), sleep=sleep) as machine:
        assert check_driver(machine, expected=8) == 8
        assert waits == [5, 5, 5]
        ready.unlink()
        with pytest.raises(BootError, match="CUDA error 802: system not yet initialized"):
            check_driver(machine, expected=8, deadline_s=20)
    assert waits == [5, 5, 5, 5, 5, 5]


def test_a_machine_without_a_driver_is_named(machine: RemoteMachine) -> None:
    if shutil.which("nvidia-smi"):
        pytest.skip("this computer has a driver")
    with pytest.raises(BootError, match=r"no NVIDIA driver that answers: libcuda\.so\.1"):
        check_driver(machine)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'; echo 'GPU 1: NVIDIA H100 (UUID: GPU-2)'", 2),
        (
            "echo 'NVIDIA-SMI has failed because it could not communicate with the driver'; exit 9",
            "NVIDIA-SMI has failed because",
        ),
        (None, "neither python3 nor nvidia-smi is there"),
    ],
)
def test_without_python_nvidia_smi_is_asked(
    server: Sshd, machine: RemoteMachine, answer: str | None, outcome: int | str, tmp_path: Path
) -> None:
    path = server.path_with(without=["python3", "nvidia-smi"])
    if answer is not None:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    server.set_session(path=f"{tmp_path}:{path}")
    if isinstance(outcome, int):
        assert check_driver(machine, expected=outcome) == outcome
        return
    with pytest.raises(BootError, match=outcome):
        check_driver(machine)


@pytest.fixture(scope="module")
def torch_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch")
    shutil.copy(Path(__file__).with_name("fake_torch.py"), folder / "torch.py")
    return folder


def with_torch(server: Sshd, folder: Path, **variables: str) -> None:
    known = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    server.set_session(path=PATH, variables={**known, **variables})


def test_gpus_that_multiply_correctly_pass(
    server: Sshd, machine: RemoteMachine, torch_folder: Path
) -> None:
    with_torch(server, torch_folder, FAKE_GPUS="2")
    said: list[str] = []
    found = check_gpus(machine, sys.executable, expected=2, say=said.append)
    name = "NVIDIA H100 80GB HBM3"
    assert found == Gpus(2, (name, name), found.driver, (80.0, 80.0))
    assert said[0].startswith(f"every GPU multiplied two matrices correctly: 2 x {name}")


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ({"init": "802"}, "cannot be used: CUDA error 802: system not yet initialized"),
        ({"0": "802"}, "GPU 0: CUDA error 802: system not yet initialized"),
        ({"1": "wrong"}, "GPU 1: 1 of 1048576 results of a float32 product are wrong"),
        ({"1": "raise"}, "GPU 1: CUDA error: uncorrectable ECC error encountered"),
        ({"0": "raise", "1": "wrong"}, r"GPU 0: CUDA error: uncorrectable.*; GPU 1: 1 of"),
        ({"1": "hang"}, "GPU 1 does not answer within 6 s"),
        ({"1": "crash"}, "GPU 1 ended the check with"),
    ],
)
def test_a_broken_gpu_is_named(
    server: Sshd,
    machine: RemoteMachine,
    torch_folder: Path,
    broken: dict[str, str],
    sentence: str,
) -> None:
    with_torch(server, torch_folder, FAKE_GPUS="2", FAKE_BROKEN=json.dumps(broken))
    deadline_s = 6 if "hang" in broken.values() else 60
    with pytest.raises(BootError, match=sentence) as caught:
        check_gpus(machine, sys.executable, expected=2, deadline_s=deadline_s)
    assert "\n" not in caught.value.message
    assert "asynchronously" not in caught.value.message


@pytest.mark.parametrize(
    ("count", "expected", "sentence"),
    [("7", 8, "1 of 8 GPUs are missing"), ("0", None, "no GPU that can be used")],
)
def test_a_missing_gpu_is_named(
    server: Sshd,
    machine: RemoteMachine,
    torch_folder: Path,
    count: str,
    expected: int | None,
    sentence: str,
) -> None:
    with_torch(server, torch_folder, FAKE_GPUS=count)
    with pytest.raises(BootError, match=sentence):
        check_gpus(machine, sys.executable, expected=expected)


def test_a_torch_without_cuda_is_no_fault_of_the_gpus(
    server: Sshd, machine: RemoteMachine, torch_folder: Path
) -> None:
    with_torch(server, torch_folder, FAKE_NO_CUDA="1")
    with pytest.raises(PreflightError, match="without CUDA"):
        check_gpus(machine, sys.executable, expected=1)


def test_a_torch_that_cannot_be_imported_is_no_fault_of_the_gpus(
    server: Sshd, machine: RemoteMachine, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    with_torch(server, tmp_path)
    with pytest.raises(CommandError, match="libcudart"):
        check_gpus(machine, sys.executable, expected=1)
    with pytest.raises(CommandError):
        check_gpus(machine, "/nowhere/python", expected=1)


def test_a_lost_connection_is_no_failed_gate(
    server: Sshd, torch_folder: Path, tmp_path: Path
) -> None:
    with_torch(server, torch_folder, FAKE_BROKEN='{"0": "hang"}')
    with Proxy(server.port) as proxy, server.machine(tmp_path / "job", proxy.port) as machine:
        machine.connect()
        cutter = threading.Timer(0.5, proxy.cut)
        cutter.start()
        with pytest.raises(DroppedError):
            check_gpus(machine, sys.executable, expected=1)
        cutter.join()


@pytest.mark.long
def test_the_arithmetic_of_the_gate_holds_in_the_real_torch() -> None:
    """The program itself, with the processor in the place of GPUs: whole products are exact."""
    text = program("gpu_gate")
    for old, new in (
        ("torch.version.cuda is None", "False"),
        ('f"cuda:{index}"', '"cpu"'),
        ("torch.cuda.init()", "pass"),
        ("torch.cuda.device_count()", "1"),
        ("torch.cuda.get_device_capability(index)[0]", "9"),
        (
            "torch.cuda.get_device_properties(index)",
            "types.SimpleNamespace(name='', total_memory=0)",
        ),
    ):
        assert old in text
        text = text.replace(old, new)
    text = re.sub(r"^import torch$", "import torch, types", text, flags=re.MULTILINE)
    command = [sys.executable, "-"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    gpu = json.loads(done.stdout.splitlines()[3])
    assert gpu["problem"] is None
    assert json.loads(done.stdout.splitlines()[-1]) == {"done": True}


@pytest.mark.parametrize("name", ["ask_driver", "gpu_gate", "describe"])
def test_the_programs_need_nothing_of_aquachat(name: str) -> None:
    assert "aquachat." not in program(name)
    assert "from aquachat" not in program(name)
