"""The supervisor: a process that shuts itself in, starts the programs, and reports their end.

It is started by `runner` in a fresh interpreter and loads only the standard library. Order matters
and is commented; the manual pages are user_namespaces(7), pid_namespaces(7), pivot_root(2),
seccomp(2) and prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn, TypeAlias

from aquachat.tasks.sandbox import guest

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3: Final = 0x20080522
_CALLS: Final = {"x86_64": (155, 126), "aarch64": (41, 91)}
"""Numbers of `pivot_root` and `capset`, which the C library does not wrap."""

NOBODY: Final = 65534
MAX_FILES: Final = 128
MAX_OPEN_FILES: Final = 32
STACK_BYTES: Final = 8 * 2**20
_LINUX: Final = sys.platform.startswith("linux")


class SetupError(Exception):
    """The isolation that was asked for cannot be had."""


_Ended: TypeAlias = tuple[int, float]
"""Exit code, and seconds of processor time."""


def main() -> None:
    """Read the order from standard input, run it, and write what happened to standard error.

    What follows the order there is for the judge alone, which reads it itself: a program must not
    find its tests in the memory that it has from us.
    """
    order = json.loads(_read(int.from_bytes(_read(8), "big")))
    os.environ.clear()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGTERM})
    null_fd = os.open(os.devnull, os.O_RDWR)
    try:
        _isolate(order)
        report = _supervise(order, null_fd)
    except (SetupError, OSError) as error:
        report = {"setup_error": str(error)}
    os.write(2, json.dumps(report).encode())
    os._exit(0)


def _isolate(order: Mapping[str, Any]) -> None:
    """Everything that the programs share: modules, identity, namespaces, an empty file system."""
    isolation = order["isolation"]
    guest.load_modules(order["modules"])
    if isolation == "namespaces":
        _enter_namespaces()
        _enter_empty_file_system(order["file_bytes"])
    elif os.geteuid() == 0:
        _become(order["uid"])
    if _LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # after the change of identity, which clears it
        if os.getppid() != order["parent_pid"]:
            raise SetupError("the parent is gone")
        if isolation != "namespaces":
            _prctl(_PR_SET_DUMPABLE, 0)  # nobody of the same user reads its memory or environment


def _read(count: int) -> bytes:
    """The next `count` bytes of standard input, and nothing beyond them."""
    content = b""
    while len(content) < count:
        piece = os.read(0, count - len(content))
        if not piece:
            raise SetupError("the order is cut short")
        content += piece
    return content


def _read_to_end() -> bytes:
    content = b""
    while piece := os.read(0, 65536):
        content += piece
    return content


def _supervise(order: Mapping[str, Any], null_fd: int) -> dict[str, Any]:
    """Start the programs, wait for the first one to end, end the others."""
    programs: Sequence[Mapping[str, Any]] = order["programs"]
    alive_fd, held_fd = os.pipe()
    forward, backward = os.pipe(), os.pipe()
    ends = [(backward[0], forward[1]), (forward[0], backward[1])]
    deadline = time.monotonic() + order["wall_s"]
    pids: list[int] = []
    for program, (reading, writing) in zip(programs, ends, strict=False):
        pid = os.fork()
        if pid == 0:
            _be_program(order, program, null_fd, (alive_fd, reading, writing))
        pids.append(pid)
    os.dup2(null_fd, 0)
    for fd in (alive_fd, *forward, *backward):
        os.close(fd)
    ended: dict[int, _Ended] = {}
    reason = ""
    while pids[0] not in ended and not reason:
        reason = _next_event(deadline)
        _reap(pids, ended, block=False)
    for pid in pids:
        if pid not in ended:
            os.kill(pid, signal.SIGKILL)
    # The first one is the init of its namespace, whose end waits until the others are reaped.
    _reap(pids[::-1], ended, block=True)
    os.close(held_fd)  # open until now: that it is closed tells a program that we are gone
    return {
        "reason": reason,
        "programs": [{"exit_code": ended[p][0], "cpu_s": ended[p][1]} for p in pids],
    }


def _next_event(deadline: float) -> str:
    """Wait for a program's end, the order to stop, or the deadline; what ends the wait for good."""
    left = max(0.0, deadline - time.monotonic())
    if sys.platform == "darwin":  # has no `sigtimedwait`
        time.sleep(min(left, 0.01))
        stopped = signal.SIGTERM in signal.sigpending()
        return "stopped" if stopped else "" if left else "timeout"
    got = signal.sigtimedwait({signal.SIGCHLD, signal.SIGTERM}, left)
    if got is None:
        return "timeout"
    return "stopped" if got.si_signo == signal.SIGTERM else ""


def _reap(pids: Sequence[int], ended: dict[int, _Ended], *, block: bool) -> None:
    for pid in pids:
        if pid not in ended:
            found, status, usage = os.wait4(pid, 0 if block else os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
                ended[pid] = (code, usage.ru_utime + usage.ru_stime)


def _be_program(
    order: Mapping[str, Any],
    program: Mapping[str, Any],
    null_fd: int,
    fds: tuple[int, int, int],
) -> NoReturn:
    """Give up everything, then run; never returns into the supervisor's code."""
    code = guest.INTERNAL_ERROR
    try:
        if program["role"] == "tests":
            program = json.loads(_read_to_end())
        os.dup2(null_fd, 0)
        _keep_only(fds)
        _limit(order)
        if _LINUX:
            _give_up_rights(order)
            if select.select([guest.ALIVE_FD], [], [], 0)[0]:
                os._exit(code)  # the supervisor died before it could be followed
            os.close(guest.ALIVE_FD)
        signal.pthread_sigmask(signal.SIG_SETMASK, set())
        code = guest.run(program)
    except MemoryError:
        code = guest.OUT_OF_MEMORY
    except BaseException as error:
        guest.complain(error)
    finally:
        os._exit(code)


def _keep_only(fds: tuple[int, int, int]) -> None:
    """Standard input is empty, both outputs are the one pipe, 3 to 5 are `fds`, no other is open.

    The others are the supervisor's report (2 until now), its pipes, and whatever was inherited.
    """
    os.dup2(1, 2)
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, guest.WRITE_FD + 1) for fd in fds]
    for target, fd in zip((guest.ALIVE_FD, guest.READ_FD, guest.WRITE_FD), high, strict=True):
        os.dup2(fd, target, inheritable=False)
    os.closerange(guest.WRITE_FD + 1, 1024)


def _limit(order: Mapping[str, Any]) -> None:
    memory, cpu_s, size = order["memory_bytes"], order["cpu_s"], order["file_bytes"]
    limits = {
        "RLIMIT_CORE": 0,
        "RLIMIT_CPU": cpu_s,
        "RLIMIT_FSIZE": size,
        "RLIMIT_STACK": STACK_BYTES,
        "RLIMIT_AS": memory,
        "RLIMIT_MEMLOCK": 0,
        "RLIMIT_MSGQUEUE": 0,
        "RLIMIT_NOFILE": MAX_OPEN_FILES,
        "RLIMIT_NPROC": 0,  # does not bind root, which is why root becomes somebody else
    }
    for name, value in limits.items():
        if not hasattr(resource, name):
            continue
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except (ValueError, OSError):
            if order["isolation"] != "limits":  # macOS refuses some
                raise


def _give_up_rights(order: Mapping[str, Any]) -> None:
    machine = os.uname().machine
    if machine in _CALLS:
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        nothing = (ctypes.c_uint32 * 6)()
        _call("capset", _LIBC.syscall(_CALLS[machine][1], header, nothing))
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    if order["filter"]:
        instructions = bytes.fromhex(order["filter"])
        buffer = ctypes.create_string_buffer(instructions, len(instructions))
        program = _FilterProgram(len(instructions) // 8, ctypes.addressof(buffer))
        _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(program))


class _FilterProgram(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _enter_namespaces() -> None:
    """New user, process, network, mount, IPC and host name spaces, in which we are `NOBODY`.

    Root maps itself to a user that nobody else is, an ordinary user to itself: only a process
    outside may write that, so a helper is forked first.
    """
    is_root = os.geteuid() == 0
    outside = (2_000_000_000 + os.getpid(), NOBODY) if is_root else (os.geteuid(),)
    supervisor = os.getpid()
    ready_fd, go_fd = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go_fd)
        code = 1
        try:
            if os.read(ready_fd, 1):
                _write_maps(supervisor, outside, os.getegid(), is_root=is_root)
                code = 0
        finally:
            os._exit(code)
    os.close(ready_fd)
    try:
        if is_root:
            os.setgroups([])
        flags = _CLONE_NEWUSER | _CLONE_NEWPID | _CLONE_NEWNET | _CLONE_NEWNS
        _call("unshare", _LIBC.unshare(flags | _CLONE_NEWIPC | _CLONE_NEWUTS))
        os.write(go_fd, b"1")
    finally:
        os.close(go_fd)
        _, status = os.waitpid(helper, 0)
    if status != 0:
        raise SetupError("the user of a new namespace could not be set")
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def _write_maps(pid: int, uids: Sequence[int], gid: int, *, is_root: bool) -> None:
    if not is_root:
        _write(f"/proc/{pid}/setgroups", "deny")
        _write(f"/proc/{pid}/uid_map", f"{NOBODY} {uids[0]} 1")
        _write(f"/proc/{pid}/gid_map", f"{NOBODY} {gid} 1")
        return
    for uid in uids:  # the first is not there where we are in a user namespace ourselves
        try:
            _write(f"/proc/{pid}/uid_map", f"{NOBODY} {uid} 1")
        except OSError:
            continue
        _write(f"/proc/{pid}/gid_map", f"{NOBODY} {uid} 1")
        return
    raise SetupError("no user can be mapped")


def _enter_empty_file_system(size_bytes: int) -> None:
    """An empty file system in memory becomes the root; nothing of the machine's can be named.

    `pivot_root(".", ".")` puts the old root on top of the new one, where it is unmounted.
    """
    _call("mount", _LIBC.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None))
    place = b"/tmp" if os.path.isdir("/tmp") else b"/usr"
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    data = f"size={size_bytes},nr_inodes={MAX_FILES},mode=700".encode()
    _call("mount", _LIBC.mount(b"tmpfs", place, b"tmpfs", flags, data))
    os.chdir(place)
    _call("pivot_root", _LIBC.syscall(_CALLS[os.uname().machine][0], b".", b"."))
    _call("umount", _LIBC.umount2(b".", _MNT_DETACH))
    os.chdir("/")


def _become(uid: int) -> None:
    """Root becomes a user that owns nothing, for good, or nobody where there is no such number.

    Where even that is not permitted, as in a container without capabilities, it stays: the filter
    of system calls does not depend on it.
    """
    for candidate in (uid, NOBODY):
        with contextlib.suppress(OSError):
            os.setgroups([])
            os.setgid(candidate)  # of root these set the saved identity too
            os.setuid(candidate)
            return


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    os.write(fd, text.encode())
    os.close(fd)


def _prctl(option: int, *arguments: int) -> None:
    values = [*arguments, 0, 0, 0, 0][:4]
    _call("prctl", _LIBC.prctl(option, *(ctypes.c_ulong(value) for value in values)))


def _call(name: str, result: int) -> None:
    if result != 0:
        raise SetupError(f"`{name}` is not permitted ({os.strerror(ctypes.get_errno())})")


_LIBC = ctypes.CDLL(None, use_errno=True)
