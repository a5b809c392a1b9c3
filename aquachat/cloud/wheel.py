"""The wheel that travels to a rented machine, so that nothing has to be compiled there.

A checkout is built with maturin, where maturin and cargo are; an installed aquachat is packed again
from its RECORD; a checkout with a compiled tokenizer beside it is packed as it is. Where what was
compiled here cannot run there, the wheel is pure Python: it can read a tokenizer but not train one.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aquachat
from aquachat.cloud.elf import read_needs
from aquachat.cloud.wheel_archive import PURE_TAG, PYTHON_TAG, wheel_bytes, wheel_name
from aquachat.cloud.wheel_sources import (
    PACKAGE,
    Contents,
    from_folder,
    from_installed,
    from_wheel,
    installed_in,
    source_hash,
)
from aquachat.errors import ConfigError
from aquachat.files import write_bytes

BUILD_S: Final = 900.0
KEPT_FOLDERS: Final = 12
"""Wheels of earlier sources that stay for a while; each is below 2 MB."""
CRATE: Final = "tokenizer-rs"
LINUX: Final = "Linux"
_MANYLINUX = re.compile(r"manylinux_(\d+)_(\d+)_(\w+)")
_OLD_MANYLINUX: Final = {"manylinux1": (2, 5), "manylinux2010": (2, 12), "manylinux2014": (2, 17)}

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Platform:
    """A system that programs are compiled for."""

    system: str
    """As `uname -s` says it: `Linux`, `Darwin`."""
    architecture: str
    """As `uname -m` says it: `x86_64`, `aarch64`."""
    glibc: tuple[int, int] | None
    """None where the C library is another one."""

    def __str__(self) -> str:
        return f"{self.system} {self.architecture}"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel of this aquachat."""

    path: Path
    version: str
    platform: str
    """Its platform tag: `manylinux_2_34_x86_64`, `any`."""
    glibc: tuple[int, int] | None
    """The oldest glibc that loads it; None if it needs none."""
    is_pure: bool
    """Without the compiled tokenizer: a tokenizer that was trained elsewhere must go with it."""
    sha256: str

    def check_fits(self, machine: Platform) -> None:
        """See that the machine can load it.

        Raises:
            ConfigError: another system or processor, or an older glibc.
        """
        reason = _misfit(self.platform, self.glibc, machine)
        if reason is not None:
            raise ConfigError(
                f"`{self.path.name}` cannot be used on the machine: {reason}",
                hint="rent a machine with an x86_64 processor and a newer system image",
            )


def make_wheel(
    into: Path,
    *,
    machine_platform: Platform,
    say: Say = lambda line: None,
    package: Path | None = None,
    here: Platform | None = None,
) -> Wheel:
    """Make the wheel of this aquachat that a machine can use, or find the one made before.

    Args:
        into: a folder that lasts from launch to launch; each wheel has a folder of its own there.
        machine_platform: what the machine says it is.
        say: told in one line which wheel goes, and why if it is a pure one.
        package: the folder `aquachat`; by default the one that runs now.
        here: the platform of this computer; by default it is asked.

    Raises:
        DataError: an installed aquachat is damaged, or `into` cannot be written.
        MissingFileError: the package is neither installed nor in a checkout.
    """
    package = package or Path(aquachat.__file__).parent
    here = here or local_platform()
    reason = _difference(here, machine_platform)
    contents = _contents(package, into, is_build_useful=reason is None, say=say)
    tag, glibc = "any", None
    if reason is None:
        tag, glibc, reason = _compiled_for(contents)
    if reason is None:
        reason = _misfit(tag, glibc, machine_platform)
    if reason is None:
        wheel = _write(into, contents, f"{PYTHON_TAG}-{tag}", tag, glibc)
        say(f"the wheel {wheel.path.name} needs {_version(glibc)} or later")
    else:
        wheel = _write(into, contents.without_extension(), PURE_TAG, "any", None)
        say(
            f"the wheel {wheel.path.name} goes without the compiled tokenizer ({reason}), so a "
            "tokenizer trained here must go with it"
        )
    _remove_old(into)
    return wheel


def local_platform() -> Platform:
    """What this computer is."""
    return Platform(platform.system(), platform.machine(), _local_glibc())


def parse_glibc(text: str) -> tuple[int, int] | None:
    """The version in `glibc 2.35` or in the first line of `ldd --version`; None for another libc.

    Example:
        parse_glibc("ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35") -> (2, 35)
    """
    is_glibc = re.search(r"glibc|gnu libc", text, re.IGNORECASE)
    match = re.search(r"(\d+)\.(\d+)\s*$", text.splitlines()[0].strip()) if text.strip() else None
    return (int(match[1]), int(match[2])) if is_glibc and match else None


def _local_glibc() -> tuple[int, int] | None:
    try:
        return parse_glibc(os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (AttributeError, ValueError, OSError):  # no such call or name: another C library
        return None


def _contents(package: Path, into: Path, *, is_build_useful: bool, say: Say) -> Contents:
    found = installed_in(package)
    if found is not None:
        return from_installed(found)
    root = package.parent
    if is_build_useful and (root / "pyproject.toml").is_file() and (root / CRATE).is_dir():
        built = _built(root, into, say)
        if built is not None:
            return from_wheel(built)
    return from_folder(package)


def _built(root: Path, into: Path, say: Say) -> Path | None:
    """The wheel that maturin makes of a checkout; None where it cannot be built here."""
    folder = into / f"built-{source_hash(root)[:16]}"
    wheels = list(folder.glob(f"{PACKAGE}-*.whl"))
    if wheels:
        folder.touch()
        return wheels[0]
    maturin = _maturin()
    if maturin is None:
        return None
    say("building the wheel with maturin; the first time, cargo compiles for about half a minute")
    temporary = into / f".building-{os.getpid()}"
    lock = ["--locked"] if (root / CRATE / "Cargo.lock").is_file() else []
    command = [*maturin, "build", "--release", *lock, "--out", str(temporary.absolute())]
    try:
        problem = _run(command, root)
        wheels = list(temporary.glob(f"{PACKAGE}-*.whl"))
        if problem is None and wheels:
            write_bytes(folder / wheels[0].name, wheels[0].read_bytes())
            return folder / wheels[0].name
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    say(f"maturin could not build the wheel: {problem or 'it left none behind'}")
    return None


def _maturin() -> list[str] | None:
    if shutil.which("cargo") is None:
        return None
    if (program := shutil.which("maturin")) is not None:
        return [program]
    is_module = importlib.util.find_spec("maturin") is not None
    return [sys.executable, "-m", "maturin"] if is_module else None


def _run(command: list[str], folder: Path) -> str | None:
    """Run a command to its end; returns what went wrong."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=BUILD_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {BUILD_S:g} s"
    except OSError as error:
        return str(error)
    if done.returncode == 0:
        return None
    lines = [line.strip() for line in done.stderr.decode("utf-8", "replace").splitlines()]
    errors = [line for line in lines if line.startswith("error")] or list(filter(None, lines))
    return errors[0] if errors else f"code {done.returncode}"


def _difference(here: Platform, machine: Platform) -> str | None:
    """Why nothing that was compiled here can run there, if so."""
    if machine.system == LINUX and machine.glibc is None:
        return "the machine has another C library than glibc"
    if (here.system, here.architecture) != (machine.system, machine.architecture):
        return f"here is {here}, the machine is {machine}"
    if here.system == LINUX and here.glibc is None:
        return "here is another C library than glibc"
    return None if machine.system == LINUX else f"the machine is {machine}"


def _compiled_for(contents: Contents) -> tuple[str, tuple[int, int] | None, str | None]:
    """The platform tag of the compiled tokenizer, its glibc, and why it cannot travel if so."""
    if contents.extension is None:
        return "any", None, "there is none here, and no cargo with maturin that could compile it"
    try:
        needs = read_needs(contents.extension)
    except ValueError as error:
        return "any", None, f"the one here cannot be read: {error}"
    tag = contents.platform or f"linux_{needs.architecture}"
    tagged = [found for name in tag.split(".") if (found := _tag_glibc(name)) is not None]
    return tag, min(tagged, default=needs.glibc), None


def _tag_glibc(tag: str) -> tuple[int, int] | None:
    """The (2, 34) of `manylinux_2_34_x86_64` (PEP 600), the (2, 17) of `manylinux2014` (599)."""
    match = _MANYLINUX.fullmatch(tag)
    return (int(match[1]), int(match[2])) if match else _OLD_MANYLINUX.get(tag.partition("_")[0])


def _misfit(tag: str, glibc: tuple[int, int] | None, machine: Platform) -> str | None:
    """Why a wheel cannot be used on a machine, if so."""
    if tag == "any":
        return None
    is_for_glibc = tag.startswith(("linux_", "manylinux"))
    if machine.system != LINUX or not is_for_glibc or not tag.endswith(f"_{machine.architecture}"):
        return f"it is for {tag}, the machine is {machine}"
    if machine.glibc is None:
        return "the machine has another C library than glibc"
    if glibc is not None and machine.glibc < glibc:
        return f"it needs {_version(glibc)}, and {_has(machine)}"
    return None


def _write(
    into: Path, contents: Contents, full_tag: str, platform_tag: str, glibc: tuple[int, int] | None
) -> Wheel:
    content = wheel_bytes(contents, full_tag)
    sha256 = hashlib.sha256(content).hexdigest()
    path = into / sha256[:16] / wheel_name(contents, full_tag)
    if not path.is_file() or path.read_bytes() != content:
        write_bytes(path, content)
    path.parent.touch()
    is_pure = full_tag == PURE_TAG
    return Wheel(path, contents.version, platform_tag, glibc, is_pure, sha256)


def _remove_old(into: Path) -> None:
    """Leave the wheels that were used last."""
    folders = [path for path in into.iterdir() if path.is_dir() and path.name[0] != "."]
    for old in sorted(folders, key=lambda path: -path.stat().st_mtime)[KEPT_FOLDERS:]:
        shutil.rmtree(old, ignore_errors=True)


def _version(glibc: tuple[int, int] | None) -> str:
    return "no certain glibc" if glibc is None else f"glibc {glibc[0]}.{glibc[1]}"


def _has(machine: Platform) -> str:
    return f"the machine has {_version(machine.glibc)}"
