"""No program harms, forges or outlives: every hostile one is graded wrong and leaves nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from aquachat.errors import PreflightError
from aquachat.tasks.sandbox import runner
from aquachat.tasks.sandbox.runner import run_program, run_tests, sandbox_capabilities
from aquachat.tasks.sandbox.types import Isolation, SandboxLimits, SandboxResult
from tests.tasks.hostile_programs import (
    CRASHING,
    ENTRY_POINT,
    EXHAUSTING,
    FORGING,
    HOSTILE,
    PROMPT,
    SECRET,
    SOLUTION,
    TESTS,
    Targets,
)

LIMITS = SandboxLimits(wall_s=2.0, cpu_s=1, memory_bytes=200 * 2**20)
SHORT = SandboxLimits(wall_s=0.5, cpu_s=1, memory_bytes=200 * 2**20)
"""Of programs that use up what they are given."""
ISOLATION = sandbox_capabilities({}).isolation
LEVELS = [
    level
    for level in ("namespaces", "seccomp")
    if ISOLATION == "namespaces" or (ISOLATION, level) == ("seccomp", "seccomp")
]
pytestmark = pytest.mark.skipif(not LEVELS, reason="this machine cannot isolate programs")


@contextlib.contextmanager
def _targets(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Targets, list[str]]]:
    """Something of every kind to attack, and a list of the contacts that were made."""
    monkeypatch.setenv("AQUACHAT_SECRET", SECRET)
    contacts: list[str] = []
    with contextlib.ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/tmp")))
        base.chmod(0o755)
        folder, secret_file, address = base / "folder", base / "open", base / "socket"
        folder.mkdir()
        folder.chmod(0o777)
        (folder / "kept").write_text("kept")
        (folder / "kept").chmod(0o666)
        secret_file.write_text(SECRET)
        victim = stack.enter_context(subprocess.Popen(["sleep", "600"]))
        stack.callback(victim.kill)
        inherited = stack.enter_context(secret_file.open("r+b"))
        os.set_inheritable(inherited.fileno(), True)
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = tcp.getsockname()[1]
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", port))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(str(address))
        unix.listen()
        address.chmod(0o777)
        yield Targets(folder, victim.pid, port, address, inherited.fileno()), contacts
        for listener in (tcp, unix):
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                connection, _ = listener.accept()
                connection.close()
                contacts.append(f"a connection by {listener.family.name}")
        udp.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            contacts.append(f"a datagram {udp.recv(99)!r}")
        if victim.poll() is not None:
            contacts.append(f"the victim ended with {victim.returncode}")
        if secret_file.read_text() != SECRET:
            contacts.append("an inherited file was written")


def _tree(folder: Path) -> dict[str, tuple[int, int, str]]:
    found = {}
    for path in [folder, *folder.rglob("*")]:
        stat = path.lstat()
        text = path.read_text("latin-1") if path.is_file() else ""
        found[str(path)] = (stat.st_mode, stat.st_uid, text)
    return found


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sessions of the supervisors that a test started."""
    started: list[int] = []
    popen = subprocess.Popen

    def recording(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = popen(*arguments, **options)
        started.append(process.pid)
        return process

    monkeypatch.setattr(runner.subprocess, "Popen", recording)
    return started


def _alive(sessions: list[int]) -> list[str]:
    """Processes of these sessions, zombies too."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) in sessions:
                    found.append(f"{folder.name} {fields}")
    return found


def _judge_all(
    targets: Targets, level: Isolation, programs: Mapping[str, str] = HOSTILE
) -> dict[str, SandboxResult]:
    def judge(name: str) -> SandboxResult:
        return run_tests(
            targets.format(programs[name]),
            ENTRY_POINT,
            TESTS,
            preamble=PROMPT,
            limits=SHORT if name in EXHAUSTING else LIMITS,
            isolation=level,
        )

    with ThreadPoolExecutor(max_workers=12) as pool:
        return dict(zip(programs, pool.map(judge, programs), strict=True))


QUICK = {name: source for name, source in HOSTILE.items() if name not in {**EXHAUSTING, **CRASHING}}
"""What the weaker isolation is tried with by default; the long form tries all."""


@pytest.mark.parametrize("level", LEVELS)
def test_every_hostile_program_is_graded_wrong_and_leaves_nothing(
    level: Isolation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    sessions: list[int],
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    files_open = len(os.listdir("/proc/self/fd"))
    with _targets(monkeypatch) as (targets, contacts):
        before = _tree(targets.folder)
        started = len(sessions)
        programs = HOSTILE if level == ISOLATION else QUICK
        results = _judge_all(targets, level, programs)
        assert _tree(targets.folder) == before
        assert len(sessions) - started == len(programs) >= 25
    assert contacts == []
    passed = [name for name, result in results.items() if result.outcome == "ok"]
    assert passed == []
    refused = [name for name, result in results.items() if result.outcome == "refused"]
    assert refused == []
    for name, result in results.items():
        assert SECRET not in result.output, name
        assert len(result.output.encode()) <= 3 * LIMITS.output_bytes
    assert _alive(sessions[started:]) == []
    assert list(temporary.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) <= files_open


@pytest.mark.parametrize("level", LEVELS)
def test_right_program_is_graded_right(level: Isolation) -> None:
    assert run_tests(SOLUTION, ENTRY_POINT, TESTS, isolation=level).outcome == "ok"


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize(
    ("name", "outcomes"),
    [
        ("infinite loop", {"timeout"}),
        ("catches everything", {"timeout"}),
        ("ignores all signals", {"timeout"}),
        ("endless output", {"output"}),
        ("endless error output", {"output"}),
        ("memory bomb", {"memory"}),
        ("nested parentheses", {"failed", "memory", "killed"}),
        ("ends early", {"ok"}),
        ("no Python", {"failed"}),
    ],
)
def test_outcome_says_how_a_program_ended(level: Isolation, name: str, outcomes: set[str]) -> None:
    enough = SandboxLimits(memory_bytes=200 * 2**20)
    result = run_program(
        HOSTILE[name], SHORT if outcomes == {"timeout"} else enough, isolation=level
    )
    assert result.outcome in outcomes, result
    if name == "endless output":
        assert len(result.output) == SHORT.output_bytes


@pytest.mark.parametrize("level", LEVELS)
def test_program_sees_no_environment_and_no_file_of_the_machine(
    level: Isolation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AQUACHAT_SECRET", SECRET)
    source = (
        "import os\nprint(dict(os.environ))\n"
        "try:\n    print(os.listdir('/'))\nexcept OSError:\n    print('[]')\n"
    )
    result = run_program(source, isolation=level)
    assert (result.outcome, result.output) == ("ok", "{}\n[]\n")


def test_working_directory_is_small_writable_and_gone_afterwards() -> None:
    if "namespaces" not in LEVELS:
        pytest.skip("this machine has no namespaces")
    keeps = (
        "with open('a', 'w') as file:\n    file.write('x' * 1000)\nprint(open('a').read()[:3])\n"
    )
    assert run_program(keeps, isolation="namespaces").output == "xxx\n"
    finds = "import os\nprint(os.listdir('.'))\n"
    assert run_program(finds, isolation="namespaces").output == "[]\n"
    fills = (
        "import os\nsize = 0\ntry:\n    for name in 'abcdef':\n"
        "        with open(name, 'wb') as file:\n"
        "            size += file.write(b'x' * 2**20)\n"
        "except OSError:\n    print(size < 5 * 2**20)\n"
    )
    limits = SandboxLimits(file_bytes=2**22)
    assert run_program(fills, limits, isolation="namespaces").output == "True\n"


def test_same_program_has_the_same_result() -> None:
    source = "import random\nprint({'a', 'b', 'c'}, hash('x'))\n"
    assert run_program(source) == run_program(source)


def test_targets_can_be_hit_where_nothing_protects_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with _targets(monkeypatch) as (targets, contacts):
        before = _tree(targets.folder)
        writes = "open(FOLDER + '/planted', 'w').write('x')\n"
        run_program(targets.format(writes), isolation="limits")
        assert _tree(targets.folder) != before
        run_program(targets.format(HOSTILE["connects by the C library"]), isolation="limits")
        looked = run_program(targets.format(HOSTILE["looks around"]), isolation="limits")
        assert "kept" in looked.output
    assert len(contacts) == 3


def _has_filtered_child(supervisor: int) -> bool:
    """Whether the program runs: its helper, which lives for a moment only, has no filter."""
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            text = status.read_text()
            if f"\nPPid:\t{supervisor}\n" in text and "\nSeccomp:\t2\n" in text:
                return True
    return False


def test_programs_end_with_the_process_that_started_them() -> None:
    code = (
        "import os, threading, time\n"
        "from aquachat.tasks.sandbox import runner\n"
        "popen = runner.subprocess.Popen\n"
        "def recording(*a, **k):\n"
        "    process = popen(*a, **k)\n"
        "    print(process.pid, flush=True)\n"
        "    return process\n"
        "runner.sandbox_capabilities()\n"
        "runner.subprocess.Popen = recording\n"
        "limits = runner.SandboxLimits(wall_s=60)\n"
        "runner.run_program('import time\\ntime.sleep(60)', limits)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        supervisor = int(parent.stdout.readline())
        deadline = time.monotonic() + 30
        while not _has_filtered_child(supervisor) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _has_filtered_child(supervisor)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    while (left := _alive([supervisor])) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert left == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become an ordinary user")
def test_ordinary_user_is_protected_too() -> None:
    code = (
        "from aquachat.tasks.sandbox.runner import *\n"
        f"good = run_tests({SOLUTION!r}, {ENTRY_POINT!r}, {TESTS!r})\n"
        f"bad = run_tests({FORGING['ends early']!r}, {ENTRY_POINT!r}, {TESTS!r})\n"
        "print(sandbox_capabilities().isolation, good.outcome, bad.outcome)\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code],
            user=65533,
            group=65533,
            extra_groups=[],
            cwd="/",
            env={"PYTHONPATH": str(Path(runner.__file__).parents[3])},
            capture_output=True,
            text=True,
            check=True,
        )
    except (PermissionError, subprocess.CalledProcessError) as error:
        pytest.skip(f"an ordinary user cannot run this interpreter ({error})")
    isolation, good, bad = done.stdout.split()
    assert isolation in ("namespaces", "seccomp")
    assert (good, bad) == ("ok", "failed")


def test_machine_without_isolation_refuses_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "this_machine", lambda: "")
    runner._probe.cache_clear()
    try:
        found = sandbox_capabilities({})
        assert found.isolation == "none"
        assert found.missing == ("this is no Linux on x86-64 or ARM of 64 bits",)
        monkeypatch.delenv(runner.ALLOW_UNSANDBOXED, raising=False)
        assert run_program("print(1)").outcome == "refused"
        with pytest.raises(PreflightError, match="HUMANEVAL") as caught:
            runner.require_sandbox("HUMANEVAL")
        assert runner.ALLOW_UNSANDBOXED in (caught.value.hint or "")
        allowed = sandbox_capabilities({runner.ALLOW_UNSANDBOXED: "1"})
        assert allowed.isolation == "limits"
        assert "they can read and write what you can" in allowed.sentence
        monkeypatch.setenv(runner.ALLOW_UNSANDBOXED, "1")
        runner.require_sandbox("HUMANEVAL")
        assert caplog.messages == [f"HUMANEVAL: {allowed.sentence}"]
        assert run_program("print(1)").output == "1\n"
        assert run_program(HOSTILE["infinite loop"], SHORT).outcome == "timeout"
        assert run_tests(SOLUTION, ENTRY_POINT, TESTS).outcome == "ok"
    finally:
        runner._probe.cache_clear()


def test_program_is_stopped_where_the_grading_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, sessions: list[int]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "_converse", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_program("while True:\n    pass\n")
    assert _alive(sessions) == []


@pytest.mark.long
@pytest.mark.parametrize("level", LEVELS)
def test_many_hostile_programs_at_once_leave_nothing(
    level: Isolation, monkeypatch: pytest.MonkeyPatch, sessions: list[int]
) -> None:
    for _ in range(4):
        with _targets(monkeypatch) as (targets, contacts):
            before = _tree(targets.folder)
            background = threading.Thread(target=_judge_all, args=(targets, level))
            background.start()
            results = _judge_all(targets, level)
            background.join()
            assert _tree(targets.folder) == before
        assert contacts == []
        assert not [name for name, result in results.items() if result.outcome == "ok"]
    assert len(sessions) > 8 * len(HOSTILE)
