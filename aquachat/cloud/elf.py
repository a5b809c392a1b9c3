"""What a compiled Linux library needs: its processor, and the oldest glibc it can be loaded with.

Read from the file itself (System V ABI, "ELF Header" and "Section Header"; the Linux Standard Base,
chapter "Symbol Versioning"), since neither `readelf` nor `auditwheel` is on most machines.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final

MAGIC: Final = b"\x7fELF"
VERSIONS_NEEDED: Final = 0x6FFFFFFE
"""SHT_GNU_verneed: the symbol versions that the loader must find."""
MACHINES: Final = {3: "i686", 40: "armv7l", 62: "x86_64", 183: "aarch64", 243: "riscv64"}
"""e_machine, as `uname -m` calls it."""
RELATIVE_RELOCATIONS: Final = b"GLIBC_ABI_DT_RELR"
RELATIVE_RELOCATIONS_GLIBC: Final = (2, 36)
"""The first glibc that loads a library with DT_RELR."""
_VERSION = re.compile(rb"GLIBC_(\d+)\.(\d+)(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a library can be loaded with."""

    architecture: str
    """As `uname -m` says it; `machine 22` for one that has no name here."""
    glibc: tuple[int, int] | None
    """None where no version of glibc is asked for: a static library, or one for musl."""


def read_needs(content: bytes) -> Needs:
    """What the library with these bytes needs.

    Raises:
        ValueError: this is no ELF file, or a damaged one.
    """
    try:
        return _read(content)
    except (struct.error, IndexError, OverflowError) as error:  # offsets may be of any size
        raise ValueError("this ELF file is damaged") from error


def _read(content: bytes) -> Needs:
    if content[:4] != MAGIC:
        raise ValueError("this is no ELF file")
    is_64_bit = content[4] == 2
    order = "<" if content[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", content, 18)
    header = order + ("QIHHHHHH" if is_64_bit else "IIHHHHHH")  # from e_shoff on
    start, _, _, _, _, size, count, _ = struct.unpack_from(header, content, 40 if is_64_bit else 32)
    names: set[bytes] = set()
    sections = [_section(content, start + n * size, order, is_64_bit) for n in range(count)]
    for kind, offset, link, num_libraries in sections:
        if kind == VERSIONS_NEEDED:
            names |= _versions(content, offset, num_libraries, sections[link][1], order)
    versions = [(int(match[1]), int(match[2])) for n in names if (match := _VERSION.fullmatch(n))]
    if RELATIVE_RELOCATIONS in names:
        versions.append(RELATIVE_RELOCATIONS_GLIBC)
    return Needs(MACHINES.get(machine, f"machine {machine}"), max(versions, default=None))


def _section(content: bytes, at: int, order: str, is_64_bit: bool) -> tuple[int, int, int, int]:
    """sh_type, sh_offset, sh_link and sh_info of the section header at `at`."""
    _, kind, _, _, offset, _, link, info = struct.unpack_from(
        order + ("IIQQQQII" if is_64_bit else "IIIIIIII"), content, at
    )
    return kind, offset, link, info


def _versions(content: bytes, at: int, count: int, strings: int, order: str) -> set[bytes]:
    """The names in a table of needed versions: for each library, a chain of names."""
    names = set()
    for _ in range(count):
        _, num_names, _, first, next_library = struct.unpack_from(order + "HHIII", content, at)
        entry = at + first
        for _ in range(num_names):
            _, _, _, name, next_name = struct.unpack_from(order + "IHHII", content, entry)
            end = content.index(b"\0", strings + name)
            names.add(content[strings + name : end])
            entry += next_name
        if next_library == 0:
            break
        at += next_library
    return names
