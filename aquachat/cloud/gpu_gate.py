"""Whether the GPUs of a machine can be trained on, asked before they are.

Of eight H100 machines seven came up with a working `nvidia-smi` and CUDA error 802 in one report
(August 2026), so nothing less than a product of matrices counts. The driver is asked first, which
needs nothing but the Python of the system and takes a second; torch when it is installed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from aquachat.cloud.bootstrap import program
from aquachat.cloud.errors import BootError
from aquachat.cloud.remote import RemoteMachine, script_command
from aquachat.cloud.ssh_errors import DeadlineError
from aquachat.cloud.wheel import Say
from aquachat.errors import PreflightError

DRIVER_S: Final = 60.0
GATE_S: Final = 180.0
NOT_READY: Final = 802
"""CUDA_ERROR_SYSTEM_NOT_READY: on machines with NVSwitch, until the fabric manager is up."""
PATIENCE_POLL_S: Final = 5.0
GIB: Final = 1 << 30
MAX_ERROR_CHARS: Final = 200
_ASK: Final = """
if command -v python3 >/dev/null; then exec python3 -; fi
if command -v nvidia-smi >/dev/null; then exec nvidia-smi -L; fi
echo '{"code": null, "error": "neither python3 nor nvidia-smi is there"}'
"""
_HINT: Final = (
    "another machine is the way out; on one of your own, look at `nvidia-smi` and, with several "
    "GPUs, at `systemctl status nvidia-fabricmanager`"
)
_NUMBERED = re.compile(r"[Ee]rror (\d+): ([^\n]*)")


@dataclass(frozen=True, slots=True)
class Gpus:
    """GPUs that multiplied two matrices correctly."""

    count: int
    names: tuple[str, ...]
    driver: str | None
    """The driver's version, where the machine says it."""
    memory_gib: tuple[float, ...]


def check_driver(
    machine: RemoteMachine, *, expected: int | None = None, deadline_s: float = DRIVER_S
) -> int:
    """Ask the driver how many GPUs it can use, before anything is installed; returns the number.

    Error 802 is asked again until the deadline, since it passes where a machine is only starting.

    Args:
        machine: that was just started.
        expected: how many GPUs are paid for; None for at least one.
        deadline_s: how long the driver may take.

    Raises:
        BootError: there is no driver or no GPU, fewer than expected, or the driver hangs.
        CommandError: the machine could not be asked.
        DroppedError: the connection was lost, which says nothing about the GPUs.
    """
    end = machine.now() + deadline_s
    while True:
        answer = _ask_driver(machine, max(1.0, end - machine.now()))
        if answer.get("code") != NOT_READY or machine.now() + PATIENCE_POLL_S >= end:
            break
        machine.sleep(PATIENCE_POLL_S)
    if "error" in answer:
        raise _bad(machine, _driver_error(machine, answer["code"], str(answer["error"])))
    _check_count(machine, int(answer["count"]), expected)
    return int(answer["count"])


def check_gpus(
    machine: RemoteMachine,
    environment_python: str,
    *,
    expected: int | None,
    deadline_s: float = GATE_S,
    say: Say = lambda line: None,
) -> Gpus:
    """Multiply two matrices on every GPU with the torch that will train.

    Args:
        machine: that is set up.
        environment_python: `WORK/bin/python` there.
        expected: how many GPUs are paid for; None for at least one.
        deadline_s: how long all GPUs together may take.
        say: told in one line what was found.

    Raises:
        BootError: CUDA does not start, a result is wrong, a GPU is missing or hangs.
        PreflightError: torch is one without CUDA, which says nothing about the GPUs.
        CommandError: torch cannot be imported, likewise.
        DroppedError: the connection was lost, likewise.
    """
    gate = _Gate()
    words = [environment_python, "-"]
    try:
        with machine.opened(words, deadline_s=deadline_s) as channel:
            channel.write(program("gpu_gate").encode())
            channel.end_input()
            while block := channel.read():
                gate.hear(block)
            result = channel.finish()
    except DeadlineError as error:
        raise _bad(machine, f"{gate.where} does not answer within {deadline_s:g} s") from error
    if gate.torch is None:
        raise machine.failure(words, result)
    if gate.cuda is None:
        raise PreflightError(
            f"the torch on {machine.target} ({gate.torch}) is one without CUDA",
            hint="its index could not be reached, or the driver is too old for any; "
            "`job/bootstrap.log` on the machine says which",
        )
    _check_results(machine, gate, result.code)
    _check_count(machine, gate.count, expected)
    return _found(gate, say)


class _Gate:
    """What the program on the machine has said so far."""

    def __init__(self) -> None:
        self.torch: str | None = None
        self.cuda: str | None = None
        self.driver: str | None = None
        self.error: str | None = None
        self.count = 0
        self.begun: int | None = None
        self.gpus: dict[int, dict[str, Any]] = {}
        self.done = False
        self._rest = b""

    @property
    def where(self) -> str:
        """What was being checked last."""
        return "CUDA" if self.begun is None else f"GPU {self.begun}"

    def hear(self, block: bytes) -> None:
        """Take what arrived; lines that are not of the program are left aside."""
        *lines, self._rest = (self._rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"{"):
                self._take(json.loads(line))

    def _take(self, facts: dict[str, Any]) -> None:
        if "gpu" in facts:
            self.gpus[facts["gpu"]] = facts
        for name in ("torch", "cuda", "driver", "error", "count", "begun", "done"):
            if name in facts:
                setattr(self, name, facts[name])


def _ask_driver(machine: RemoteMachine, deadline_s: float) -> dict[str, Any]:
    words = script_command(_ASK)
    try:
        result = machine.run(words, stdin=program("ask_driver").encode(), deadline_s=deadline_s)
    except DeadlineError as error:
        raise _bad(machine, f"the driver does not answer within {deadline_s:.0f} s") from error
    lines = result.text.splitlines()
    for line in lines:
        if line.startswith("{"):
            return dict(json.loads(line))
    gpus = [line for line in lines if re.match(r"GPU \d+: ", line)]
    if gpus:
        return {"count": len(gpus)}
    if result.code < 0 or result.code > 128:
        return {"code": None, "error": "it ended the program that asked it"}
    if lines:
        return {"code": None, "error": lines[-1]}  # nvidia-smi says why
    raise machine.failure(words, result)


def _check_results(machine: RemoteMachine, gate: _Gate, code: int) -> None:
    if gate.error is not None:
        raise _bad(machine, _torch_error(machine, gate.error))
    problems = [
        f"GPU {index}: {_torch_error(machine, str(gpu['problem']))}"
        for index, gpu in sorted(gate.gpus.items())
        if gpu["problem"]
    ]
    if problems:
        raise _bad(machine, "; ".join(problems))
    if not gate.done:
        how = "a signal" if code < 0 else f"code {code}"
        raise _bad(machine, f"{gate.where} ended the check with {how}")


def _found(gate: _Gate, say: Say) -> Gpus:
    gpus = [gate.gpus[index] for index in sorted(gate.gpus)]
    names = tuple(str(gpu["name"]) for gpu in gpus)
    memory = tuple(gpu["memory_bytes"] / GIB for gpu in gpus)
    each = ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names))
    driver = f", driver {gate.driver}" if gate.driver else ""
    say(f"every GPU multiplied two matrices correctly: {each}{driver}, CUDA {gate.cuda}")
    return Gpus(gate.count, names, gate.driver, memory)


def _check_count(machine: RemoteMachine, count: int, expected: int | None) -> None:
    if count == 0:
        raise _bad(machine, "there is no GPU that can be used")
    if expected is not None and count < expected:
        raise _bad(machine, f"{expected - count} of {expected} GPUs are missing")


def _driver_error(machine: RemoteMachine, code: int | None, text: str) -> str:
    said = machine.shown(text)[:MAX_ERROR_CHARS]
    if code is not None:
        return f"CUDA error {code}: {said}"
    return f"there is no NVIDIA driver that answers: {said}"


def _torch_error(machine: RemoteMachine, text: str) -> str:
    """The part of torch's message that names the error, without the advice that follows it."""
    match = _NUMBERED.search(text)
    if match is not None:
        return f"CUDA error {match[1]}: {machine.shown(match[2])[:MAX_ERROR_CHARS]}"
    return machine.shown(text.strip().split("\n")[0])[:MAX_ERROR_CHARS]


def _bad(machine: RemoteMachine, what: str) -> BootError:
    return BootError(f"the GPUs of {machine.target} cannot be used: {what}", hint=_HINT)
