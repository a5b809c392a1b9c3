"""The filter of system calls, run by an interpreter of its instructions, for both machines."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from aquachat.tasks.sandbox.syscalls import (
    AUDIT_ARCH,
    BY_ARGUMENT,
    COMPUTING,
    FILES,
    filter_program,
)

ALLOW, KILL, EPERM = 0x7FFF0000, 0x80000000, 0x00050001
MACHINES = ("x86_64", "aarch64")
HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
FORBIDDEN = {
    "clone": (56, 220),
    "clone3": (435, 435),
    "execve": (59, 221),
    "execveat": (322, 281),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "sendto": (44, 206),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "prctl": (157, 167),
    "setrlimit": (160, 164),
    "memfd_create": (319, 279),
    "mount": (165, 40),
    "unshare": (272, 97),
    "setns": (308, 268),
    "chroot": (161, 51),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "io_uring_setup": (425, 425),
    "keyctl": (250, 219),
    "userfaultfd": (323, 282),
    "fchmod": (91, 52),
    "fchown": (93, 55),
    "symlinkat": (266, 36),
    "linkat": (265, 37),
    "mknodat": (259, 33),
    "shmget": (29, 194),
    "setuid": (105, 146),
    "setsid": (112, 157),
}


def _decision(machine: str, number: int, *arguments: int, with_files: bool = True) -> int:
    """What the kernel would decide: the filter's program, step by step."""
    code = filter_program(machine, with_files=with_files)
    assert code is not None
    values = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<iIQ6Q", number, AUDIT_ARCH[machine], 0, *values)
    instructions = [struct.unpack_from("=HBBI", code, start) for start in range(0, len(code), 8)]
    accumulator = position = 0
    while True:
        operation, if_equal, if_not, value = instructions[position]
        position += 1
        if operation == 0x06:
            return int(value)
        if operation == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        else:
            assert operation == 0x15
            position += if_equal if accumulator == value else if_not


@pytest.mark.parametrize("column", [0, 1])
def test_what_computing_needs_is_allowed(column: int) -> None:
    machine = MACHINES[column]
    for numbers in COMPUTING.values():
        if (number := numbers[column]) is not None:
            assert _decision(machine, number) == ALLOW
            assert _decision(machine, number, with_files=False) == ALLOW
    for numbers in FILES.values():
        if (number := numbers[column]) is not None:
            assert _decision(machine, number) == ALLOW
            assert _decision(machine, number, with_files=False) == EPERM


@pytest.mark.parametrize("column", [0, 1])
def test_everything_else_is_refused(column: int) -> None:
    machine = MACHINES[column]
    for name, numbers in FORBIDDEN.items():
        assert _decision(machine, numbers[column]) == EPERM, name
    known = {numbers[column] for numbers in (*COMPUTING.values(), *FILES.values())}
    known |= {entry[column] for entry in BY_ARGUMENT.values()}
    for number in range(1024):
        if number not in known:
            assert _decision(machine, number) == EPERM
            assert _decision(machine, number | 0x40000000) == EPERM  # the x32 calls of x86-64


@pytest.mark.parametrize("column", [0, 1])
def test_some_calls_are_allowed_by_their_argument(column: int) -> None:
    machine = MACHINES[column]
    fcntl, ioctl, prlimit = (BY_ARGUMENT[n][column] for n in ("fcntl", "ioctl", "prlimit64"))
    assert _decision(machine, fcntl, 5, 1) == ALLOW
    for command in (4, 8, 10, 15, 1024, 1031):  # F_SETFL, F_SETOWN, F_SETSIG, F_SETOWN_EX...
        assert _decision(machine, fcntl, 5, command) == EPERM
    assert _decision(machine, ioctl, 1, 0x5401) == ALLOW
    for request in (0x5412, 0x5452, 0x8901):  # TIOCSTI, FIOASYNC, FIOSETOWN
        assert _decision(machine, ioctl, 1, request) == EPERM
    assert _decision(machine, prlimit, 0, 7) == ALLOW
    assert _decision(machine, prlimit, 1234, 7) == EPERM


def test_calls_of_another_machine_end_the_program() -> None:
    code = filter_program("x86_64", with_files=True)
    assert code is not None
    first = struct.unpack_from("=HBBI", code, 8)
    assert first == (0x15, 1, 0, AUDIT_ARCH["x86_64"])
    assert struct.unpack_from("=HBBI", code, 16) == (0x06, 0, 0, KILL)


def test_unknown_machines_have_no_filter() -> None:
    assert filter_program("riscv64", with_files=False) is None
    assert filter_program("", with_files=False) is None


@pytest.mark.parametrize("machine", MACHINES)
def test_numbers_are_those_of_the_kernel(machine: str) -> None:
    header = HEADERS[machine]
    if not header.is_file():
        pytest.skip(f"there is no `{header}`")
    pattern = r"#define __NR(?:3264)?_(\w+) (\d+)"
    kernel = {name: int(number) for name, number in re.findall(pattern, header.read_text())}
    kernel.setdefault("newfstatat", kernel.get("fstatat", -1))
    column = MACHINES.index(machine)
    ours = {**COMPUTING, **FILES, **FORBIDDEN, **{k: v[:2] for k, v in BY_ARGUMENT.items()}}
    for name, numbers in ours.items():
        if numbers[column] is not None:
            assert kernel[name] == numbers[column], name
