"""What a sandboxed program may use, what became of it, and what protects this machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ok", "failed", "timeout", "memory", "output", "killed", "refused"]
"""How a program ended: `failed` is an exception or an exit code other than 0, `killed` a signal
such as a segmentation fault, and `refused` means that it was not started."""

Isolation = Literal["namespaces", "seccomp", "limits", "none"]
"""From the strongest to nothing.

- `namespaces`: no view of the machine at all, and the filter of system calls.
- `seccomp`: the filter alone; it allows no file, process, thread, socket or signal.
- `limits`: only on request: time, memory, output and an empty environment.
- `none`: programs are refused.
"""


@dataclass(frozen=True, slots=True)
class SandboxLimits:
    """What one program may use."""

    wall_s: float = 10.0
    """Bounds a program that sleeps; one that computes meets `cpu_s` first."""
    cpu_s: int = 3
    """Processor time, so that a busy machine does not change a grade."""
    memory_bytes: int = 512 * 2**20
    """Address space, the interpreter's own 40 MB included."""
    output_bytes: int = 64 * 2**10
    """Printed on both streams together; a program that prints more is ended."""
    file_bytes: int = 4 * 2**20
    """All files of the working directory together."""


@dataclass(frozen=True, slots=True)
class SandboxResult:
    """What became of a program. Two runs of a program that is a function give equal results."""

    outcome: Outcome
    exit_code: int | None = None
    """As the system gives it, the negative number of a signal; None where it was not started."""
    output: str = ""
    """The start of what it printed, at most `output_bytes`; bytes that are not UTF-8 as U+FFFD."""
    detail: str = ""
    """Why it was refused."""
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class SandboxCapabilities:
    """What protects this machine from a sandboxed program."""

    isolation: Isolation
    missing: tuple[str, ...] = ()
    """Why not a stronger isolation, one sentence for each that was tried."""

    @property
    def sentence(self) -> str:
        """What protects, in one sentence without a full stop."""
        return _SENTENCES[self.isolation]


_SENTENCES: dict[Isolation, str] = {
    "namespaces": "programs run in namespaces of their own, with a filter of system calls"
    " and limits on time, memory and output",
    "seccomp": "programs run under a filter of system calls that allows no file, process, thread,"
    " socket or signal, and limits on time, memory and output",
    "limits": "programs run with limits on time, memory and output and nothing else:"
    " they can read and write what you can",
    "none": "this machine cannot isolate a program, so none is run",
}
