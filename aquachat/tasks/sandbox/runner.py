"""Starting a sandboxed program, bounding what comes back, and never leaving anything behind."""

from __future__ import annotations

import json
import logging
import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

from aquachat.errors import PreflightError
from aquachat.tasks.sandbox.guest import (
    FUNCTION_DIED,
    INTERNAL_ERROR,
    OUT_OF_MEMORY,
    modules_named,
)
from aquachat.tasks.sandbox.syscalls import filter_program, this_machine
from aquachat.tasks.sandbox.types import (
    Isolation,
    Outcome,
    SandboxCapabilities,
    SandboxLimits,
    SandboxResult,
)

ALLOW_UNSANDBOXED: Final = "AQUACHAT_ALLOW_UNSANDBOXED"
MAX_SOURCE_CHARS: Final = 200_000
GRACE_S: Final = 10.0
"""How long the supervisor may take beyond a program's own time before it is ended itself."""

logger = logging.getLogger(__name__)

_PACKAGE_ROOT: Final = Path(__file__).parents[3]
_START: Final = (
    "import sys; sys.path.append(sys.argv[1]);from aquachat.tasks.sandbox.jail import main; main()"
)
_FIRST_UNUSED_UID: Final = 1_900_000_000
_NEXT_UID = count()


def run_program(
    source: str,
    limits: SandboxLimits | None = None,
    *,
    isolation: Isolation | None = None,
) -> SandboxResult:
    """Run a Python program, shut in as well as this machine can, and say how it ended.

    The program sees an empty environment, an empty standard input, a few modules of the standard
    library, and, where it has namespaces, an empty working directory that is gone afterwards.

    Args:
        source: its text.
        limits: what it may use.
        isolation: None for the best there is.
    """
    program = {"role": "program", "source": source}
    return _run([program], limits or SandboxLimits(), isolation)


def run_tests(
    source: str,
    entry_point: str,
    tests: str,
    *,
    preamble: str = "",
    limits: SandboxLimits | None = None,
    isolation: Isolation | None = None,
) -> SandboxResult:
    """Judge a function of an untrusted program: `ok` only where `check(function)` returned.

    The program and the tests are two sandboxed processes. The function gets the arguments of each
    call and sends back plain data (numbers, text, lists, dictionaries...), so nothing that the
    program does, such as ending early or replacing `assert`, can pass for the tests.

    Args:
        source: the program, which defines `entry_point`.
        entry_point: the function's name.
        tests: a program that defines `check(candidate)`, HumanEval's form.
        preamble: run before the tests, for what they use of the problem's own text.
        limits: what each of the two processes may use.
        isolation: None for the best there is.
    """
    judge = {
        "role": "tests",
        "source": tests,
        "preamble": preamble,
        "entry_point": entry_point,
    }
    function = {"role": "function", "source": source, "entry_point": entry_point}
    return _run([judge, function], limits or SandboxLimits(), isolation)


def sandbox_capabilities(environ: Mapping[str, str] = os.environ) -> SandboxCapabilities:
    """What protects this machine, found out by trying; `environ` may allow running unprotected."""
    found = _probe()
    if found.isolation == "none" and environ.get(ALLOW_UNSANDBOXED) == "1" and os.name == "posix":
        return SandboxCapabilities("limits", found.missing)
    return found


def require_sandbox(what: str) -> None:
    """Refuse early where programs could not be run, and warn where nothing much protects.

    Raises:
        PreflightError: there is no isolation here, and it was not waived.
    """
    capabilities = sandbox_capabilities()
    if capabilities.isolation == "none":
        why = "; ".join(capabilities.missing)
        raise PreflightError(
            f"{what} runs programs that a model wrote, which this machine cannot isolate ({why})",
            hint="use Linux on x86-64 or ARM, for example in a container, or accept that they can"
            f" do whatever you can and set `{ALLOW_UNSANDBOXED}=1`",
        )
    level = logging.WARNING if capabilities.isolation == "limits" else logging.INFO
    logger.log(level, "%s: %s", what, capabilities.sentence)


@cache
def _probe() -> SandboxCapabilities:
    if os.name != "posix":
        return SandboxCapabilities("none", ("this is no Unix",))
    if filter_program(this_machine(), with_files=False) is None:
        return SandboxCapabilities("none", ("this is no Linux on x86-64 or ARM of 64 bits",))
    missing: list[str] = []
    levels: tuple[Isolation, ...] = ("namespaces", "seccomp")
    for level in levels:
        result = _run([{"role": "program", "source": "pass"}], SandboxLimits(), level)
        if result.outcome == "ok":
            return SandboxCapabilities(level, tuple(missing))
        why = result.detail or result.output.strip() or result.outcome
        missing.append(f"no {level}: {why}")
    return SandboxCapabilities("none", tuple(missing))


def _run(
    programs: Sequence[Mapping[str, str]], limits: SandboxLimits, isolation: Isolation | None
) -> SandboxResult:
    level = isolation or sandbox_capabilities().isolation
    if level == "none":
        return SandboxResult("refused", detail="this machine cannot isolate a program")
    if any(len(program["source"]) > MAX_SOURCE_CHARS for program in programs):
        return SandboxResult("refused", detail=f"longer than {MAX_SOURCE_CHARS:,} characters")
    started = time.monotonic()
    order = _order(programs, limits, level)
    message = json.dumps(order).encode()
    message = len(message).to_bytes(8, "big") + message
    if programs[0]["role"] == "tests":
        message += json.dumps(programs[0]).encode()
    with _directory(level, order["uid"]) as directory, _supervisor(directory) as supervisor:
        output, report, flooded = _converse(supervisor, message, limits)
    return _result(report, output, limits, time.monotonic() - started, flooded=flooded)


def _order(
    programs: Sequence[Mapping[str, str]], limits: SandboxLimits, level: Isolation
) -> dict[str, Any]:
    instructions = None
    if level in ("namespaces", "seccomp"):
        instructions = filter_program(this_machine(), with_files=level == "namespaces")
    open_to_all = [{"role": "tests"} if p["role"] == "tests" else dict(p) for p in programs]
    texts = [text for program in programs for text in program.values()]
    return {
        "programs": open_to_all,
        "modules": modules_named(texts),
        "isolation": level,
        "filter": instructions.hex() if instructions else "",
        "parent_pid": os.getpid(),
        "uid": _FIRST_UNUSED_UID + (os.getpid() * 64 + next(_NEXT_UID)) % 90_000_000,
        "wall_s": limits.wall_s,
        "cpu_s": limits.cpu_s,
        "memory_bytes": limits.memory_bytes,
        "file_bytes": limits.file_bytes,
    }


@contextmanager
def _directory(level: Isolation, uid: int) -> Iterator[str]:
    """Where the supervisor starts; a temporary one only where there is no better isolation."""
    if level != "limits":
        yield "/"
        return
    with tempfile.TemporaryDirectory(prefix="aquachat-program-") as directory:
        if os.geteuid() == 0:
            with suppress(OSError):  # there is no such number inside a user namespace
                os.chown(directory, uid, uid)
        yield directory


@contextmanager
def _supervisor(directory: str) -> Iterator[subprocess.Popen[bytes]]:
    """The child process, reaped in any case; whoever it started ends with it."""
    command = [sys.executable, "-P", "-s", "-S", "-X", "utf8", "-W", "ignore"]
    process = subprocess.Popen(
        [*command, "-c", _START, str(_PACKAGE_ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        cwd=directory,
        env={"PYTHONHASHSEED": "0"},
        close_fds=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def _converse(
    supervisor: subprocess.Popen[bytes], message: bytes, limits: SandboxLimits
) -> tuple[bytes, bytes, bool]:
    """Hand over the message; what the program printed, the report, and whether it printed too much.

    Ends with the report: a descendant that kept the program's output open is not waited for.
    """
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    assert supervisor.stderr is not None
    with suppress(BrokenPipeError):
        rest = memoryview(message)
        while rest:
            rest = rest[supervisor.stdin.write(rest) :]
        supervisor.stdin.close()
    output, report, flooded = bytearray(), bytearray(), False
    deadline = time.monotonic() + limits.wall_s + GRACE_S
    with selectors.DefaultSelector() as selector:
        selector.register(supervisor.stdout, selectors.EVENT_READ)
        selector.register(supervisor.stderr, selectors.EVENT_READ)
        reporting = True
        while reporting and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                piece = os.read(key.fd, 65536)
                if not piece:
                    selector.unregister(key.fileobj)
                    reporting = reporting and key.fileobj is not supervisor.stderr
                elif key.fileobj is supervisor.stderr:
                    report += piece
                elif len(output) + len(piece) > limits.output_bytes:
                    output += piece[: limits.output_bytes - len(output)]
                    flooded = True
                    selector.unregister(key.fileobj)
                    supervisor.terminate()
                else:
                    output += piece
        if not flooded:
            flooded = _drain(supervisor.stdout.fileno(), output, limits.output_bytes)
    return bytes(output), bytes(report), flooded


def _drain(fd: int, output: bytearray, most_bytes: int) -> bool:
    """Read what is left in the pipe now; True where it is more than there may be."""
    os.set_blocking(fd, False)
    with suppress(BlockingIOError):
        while piece := os.read(fd, 65536):
            room = most_bytes - len(output)
            output += piece[:room]
            if len(piece) > room:
                return True
    return False


def _result(
    report: bytes, output: bytes, limits: SandboxLimits, seconds: float, *, flooded: bool
) -> SandboxResult:
    text = output.decode("utf-8", "replace")
    try:
        found = json.loads(report)
    except ValueError:
        detail = report.decode("utf-8", "replace").strip()
        return SandboxResult("killed", None, text, detail or "no report", seconds)
    if "setup_error" in found:
        return SandboxResult("refused", None, text, found["setup_error"], seconds)
    programs = found["programs"]
    code = programs[0]["exit_code"]
    ended = programs[-1] if code == FUNCTION_DIED and len(programs) > 1 else programs[0]
    outcome = _outcome(ended, limits)
    if code == INTERNAL_ERROR and len(programs) > 1:  # of the tests' process, which is ours
        return SandboxResult("refused", None, text, text.strip() or "setting up failed", seconds)
    if flooded:
        outcome = "output"
    elif found["reason"]:
        outcome = "timeout"
    elif ended is not programs[0] and outcome == "ok":
        outcome = "failed"
    return SandboxResult(outcome, code, text, "", seconds)


def _outcome(ended: Mapping[str, Any], limits: SandboxLimits) -> Outcome:
    code = ended["exit_code"]
    if code < 0:
        return "timeout" if ended["cpu_s"] > limits.cpu_s - 0.1 else "killed"
    if code == OUT_OF_MEMORY:
        return "memory"
    return "ok" if code == 0 else "failed"
