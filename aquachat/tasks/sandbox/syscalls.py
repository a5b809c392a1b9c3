"""The filter of system calls: a list of what a computation needs, and everything else refused.

A classic BPF program over `struct seccomp_data { int nr; u32 arch; u64 ip; u64 args[6]; }`
(`Documentation/userspace-api/seccomp_filter.rst` of the Linux kernel). A call that is not listed
fails with EPERM, so that Python raises `PermissionError`. Not listed are, among others, `clone`,
`fork`, `execve`, `socket`, `kill`, `tgkill`, `ptrace`, `prctl`, `memfd_create`, `io_uring_setup`:
a program is one process with one thread, and cannot signal anybody.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from typing import Final

_ALLOW: Final = 0x7FFF0000
_KILL_PROCESS: Final = 0x80000000
_FAIL_WITH_EPERM: Final = 0x00050000 | 1

_LOAD_WORD: Final = 0x20
_JUMP_IF_EQUAL: Final = 0x15
_RETURN: Final = 0x06

_OFFSET_OF_NUMBER: Final = 0
_OFFSET_OF_ARCH: Final = 4
_OFFSET_OF_ARGS: Final = 16

AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_COLUMN: Final = {"x86_64": 0, "aarch64": 1}

COMPUTING: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "poll": (7, None),
    "lseek": (8, 62),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "pread64": (17, 67),
    "readv": (19, 65),
    "writev": (20, 66),
    "select": (23, None),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "dup": (32, 23),
    "dup2": (33, None),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "uname": (63, 160),
    "gettimeofday": (96, 169),
    "getrlimit": (97, 163),
    "getrusage": (98, 165),
    "sysinfo": (99, 179),
    "times": (100, 153),
    "getuid": (102, 174),
    "getgid": (104, 176),
    "geteuid": (107, 175),
    "getegid": (108, 177),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "pselect6": (270, 72),
    "ppoll": (271, 73),
    "set_robust_list": (273, 99),
    "dup3": (292, 24),
    "getrandom": (318, 278),
    "rseq": (334, 293),
    "close_range": (436, 436),
}
"""System calls without a path: name -> number on x86_64 and on aarch64."""

FILES: Final[Mapping[str, tuple[int | None, int | None]]] = {
    "open": (2, None),
    "stat": (4, None),
    "lstat": (6, None),
    "access": (21, None),
    "fsync": (74, 82),
    "ftruncate": (77, 46),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "rename": (82, None),
    "mkdir": (83, None),
    "rmdir": (84, None),
    "unlink": (87, None),
    "readlink": (89, None),
    "getdents64": (217, 61),
    "openat": (257, 56),
    "mkdirat": (258, 34),
    "newfstatat": (262, 79),
    "unlinkat": (263, 35),
    "renameat": (264, 38),
    "readlinkat": (267, 78),
    "faccessat": (269, 48),
    "renameat2": (316, 276),
    "statx": (332, 291),
    "faccessat2": (439, 439),
}
"""Allowed only where the program has a file system of its own."""

BY_ARGUMENT: Final[Mapping[str, tuple[int, int, int, tuple[int, ...]]]] = {
    # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_DUPFD_CLOEXEC. Not F_SETOWN, F_SETSIG and F_SETFL: with
    # O_ASYNC they make the kernel send any signal to any process of the same user.
    "fcntl": (72, 25, 1, (0, 1, 2, 3, 1030)),
    # TCGETS, TIOCGWINSZ, FIONCLEX, FIOCLEX: what `open` and `isatty` ask.
    "ioctl": (16, 29, 1, (0x5401, 0x5413, 0x5450, 0x5451)),
    # Of the caller only: the limits of another process of the same user could be lowered.
    "prlimit64": (302, 261, 0, (0,)),
}
"""Name -> numbers, which argument counts, and its permitted values."""


def filter_program(machine: str, *, with_files: bool) -> bytes | None:
    """The filter for a machine as `os.uname` names it; None where there is none for it.

    `with_files` also allows the calls that take a path.
    """
    if machine not in AUDIT_ARCH or struct.calcsize("P") != 8:
        return None
    column = _COLUMN[machine]
    program = [
        (_LOAD_WORD, 0, 0, _OFFSET_OF_ARCH),
        (_JUMP_IF_EQUAL, 1, 0, AUDIT_ARCH[machine]),
        (_RETURN, 0, 0, _KILL_PROCESS),
        (_LOAD_WORD, 0, 0, _OFFSET_OF_NUMBER),
    ]
    tables = [COMPUTING, FILES] if with_files else [COMPUTING]
    for table in tables:
        for numbers in table.values():
            number = numbers[column]
            if number is not None:
                program += [(_JUMP_IF_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    for x86_64, aarch64, argument, values in BY_ARGUMENT.values():
        number = (x86_64, aarch64)[column]
        program += [
            (_JUMP_IF_EQUAL, 0, 2 + 2 * len(values), number),
            (_LOAD_WORD, 0, 0, _OFFSET_OF_ARGS + 8 * argument),  # the low word: little endian
        ]
        for value in values:
            program += [(_JUMP_IF_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW)]
        program.append((_RETURN, 0, 0, _FAIL_WITH_EPERM))
    program.append((_RETURN, 0, 0, _FAIL_WITH_EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in program)


def this_machine() -> str:
    """The machine as `filter_program` takes it; empty where there is no Linux."""
    return os.uname().machine if hasattr(os, "uname") and os.uname().sysname == "Linux" else ""
