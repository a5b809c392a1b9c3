"""Where the files of the wheel that travels come from: maturin, an installation, or a folder.

However they are found, the same files give the same wheel; see `wheel_archive`.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath
from typing import Any, Final

from aquachat.errors import DataError, MissingFileError

PACKAGE: Final = "aquachat"
EXTENSION: Final = "aquachat/_tokenizer.abi3.so"
COMPILED_SUFFIXES: Final = frozenset((".so", ".pyd", ".dylib", ".pyc", ".pyo"))
NOT_COPIED: Final = frozenset(("RECORD", "WHEEL", "INSTALLER", "REQUESTED", "direct_url.json"))
"""What an installer or the writer of the wheel makes anew in `dist-info`."""
REINSTALL: Final = "install it again: `pip install --force-reinstall aquachat`"


@dataclass(frozen=True, slots=True)
class Contents:
    """The files of a wheel, but for `WHEEL` and `RECORD`, which `wheel_archive` writes."""

    version: str
    files: Mapping[str, bytes]
    platform: str | None = None
    """`manylinux_2_34_x86_64`, where somebody has checked that already."""

    @property
    def extension(self) -> bytes | None:
        """The compiled tokenizer, if it is among the files."""
        return self.files.get(EXTENSION)

    def without_extension(self) -> Contents:
        """The same files without the compiled tokenizer."""
        files = {name: content for name, content in self.files.items() if name != EXTENSION}
        return Contents(self.version, files)


def from_wheel(file: Path) -> Contents:
    """The files of a finished wheel, such as one that maturin built."""
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name) for name in archive.namelist() if _travels(name)}
    _, version, *_, platform = file.name.removesuffix(".whl").split("-")
    return Contents(version, files, platform)


def installed_in(package: Path) -> Distribution | None:
    """The installed distribution whose files are the ones of `package`, if there is one.

    An editable installation is none: its files are those of the checkout.
    """
    try:
        found = distribution(PACKAGE)
    except PackageNotFoundError:
        return None
    init = found.locate_file(f"{PACKAGE}/__init__.py")
    names = {str(path) for path in found.files or ()}
    is_here = Path(str(init)).resolve() == (package / "__init__.py").resolve()
    return found if is_here and f"{PACKAGE}/__init__.py" in names else None


def from_installed(found: Distribution) -> Contents:
    """The files that an installer wrote, each with the hash that its RECORD names.

    Raises:
        DataError: a file is not as it was installed.
    """
    files = {}
    record = found.read_text("RECORD") or ""
    for name, digest, _ in csv.reader(io.StringIO(record)):
        if not _travels(name):
            continue
        try:
            content = Path(str(found.locate_file(name))).read_bytes()
        except OSError as error:
            raise DataError(
                f"`{name}` of the installed aquachat is gone", hint=REINSTALL
            ) from error
        if digest and digest != record_hash(content):
            raise DataError(
                f"`{name}` of the installed aquachat is not as it was installed", hint=REINSTALL
            )
        files[name] = content
    return Contents(found.version, files, _platform_of(found.read_text("WHEEL") or ""))


def from_folder(package: Path) -> Contents:
    """The files of a checkout as they are, with the compiled tokenizer if it lies beside them.

    Raises:
        MissingFileError: there is no `pyproject.toml` that says what aquachat needs.
    """
    root = package.parent
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
        raise MissingFileError(
            f"`{package}` is neither installed nor in a checkout, so no wheel can be made of it",
            hint="install aquachat with pip, or run it from a checkout",
        ) from error
    files = {name: (root / name).read_bytes() for name in package_files(package)}
    info = f"{PACKAGE}-{project['version']}.dist-info"
    files[f"{info}/METADATA"] = _metadata(project, root)
    files[f"{info}/entry_points.txt"] = _entry_points(project)
    for pattern in project.get("license-files", []):
        for file in sorted(root.glob(pattern)):
            files[f"{info}/licenses/{file.relative_to(root).as_posix()}"] = file.read_bytes()
    return Contents(project["version"], files)


def package_files(package: Path) -> list[str]:
    """The names of what belongs into a wheel, as maturin chooses it, sorted.

    Everything below `package` but caches, hidden files and compiled files of others.
    """
    found = []
    for root, folders, names in os.walk(package):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in names:
            path = Path(root, name).relative_to(package.parent).as_posix()
            if _travels(path):
                found.append(path)
    return sorted(found)


def source_hash(root: Path) -> str:
    """A hash of everything in a checkout that the wheel is built from."""
    names = [*package_files(root / PACKAGE), "pyproject.toml", "README.md", "LICENSE"]
    names = [name for name in names if name != EXTENSION]
    crate = root / "tokenizer-rs"
    names += [path.relative_to(root).as_posix() for path in crate.glob("*.*") if path.is_file()]
    names += [path.relative_to(root).as_posix() for path in (crate / "src").rglob("*.rs")]
    digest = hashlib.sha256()
    for name in sorted(names):
        content = (root / name).read_bytes() if (root / name).is_file() else b""
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def record_hash(content: bytes) -> str:
    """A hash as RECORD writes it (PEP 376, PEP 427).

    Example:
        record_hash(b"") -> "sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"
    """
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
    return "sha256=" + digest.decode().rstrip("=")


def _travels(name: str) -> bool:
    path = PurePosixPath(name)
    if name == EXTENSION:
        return True
    if path.is_absolute() or any(part == ".." or part.startswith(".") for part in path.parts):
        return False  # the `bin/aquachat` of an installation, `.env`, `.DS_Store`
    if name.endswith("/") or path.suffix in COMPILED_SUFFIXES or "__pycache__" in path.parts:
        return False
    is_info = path.parts[0].endswith(".dist-info")
    return path.parts[0] == PACKAGE or (is_info and path.name not in NOT_COPIED)


def _platform_of(wheel_file: str) -> str | None:
    """`manylinux_2_34_x86_64` of the line `Tag: cp311-abi3-manylinux_2_34_x86_64`."""
    for line in wheel_file.splitlines():
        key, _, tag = line.partition(": ")
        if key == "Tag" and tag.count("-") == 2:
            return tag.strip().rpartition("-")[2]
    return None


def _metadata(project: Mapping[str, Any], root: Path) -> bytes:
    """The core metadata of `[project]` (packaging.python.org, "Core metadata specifications")."""
    readme = root / str(project.get("readme", "README.md"))
    body = readme.read_text("utf-8") if readme.is_file() else ""
    lines = [f"{key}: {value}" for key, value in _metadata_fields(project)]
    return ("\n".join(lines) + "\n\n" + body).encode()


def _metadata_fields(project: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "Metadata-Version", "2.4"
    yield "Name", project["name"]
    yield "Version", project["version"]
    yield "Summary", project.get("description", "")
    yield "License-Expression", project.get("license", "MIT")
    yield from (("License-File", name) for name in project.get("license-files", []))
    yield from (("Author", author["name"]) for author in project.get("authors", []))
    if project.get("keywords"):
        yield "Keywords", ",".join(project["keywords"])
    yield from (("Classifier", line) for line in project.get("classifiers", []))
    yield "Requires-Python", project["requires-python"]
    yield from (("Requires-Dist", need) for need in project.get("dependencies", []))
    for extra, needs in project.get("optional-dependencies", {}).items():
        yield "Provides-Extra", extra
        for need in needs:
            name, _, marker = need.partition(";")
            both = f"({marker.strip()}) and " if marker else ""
            yield "Requires-Dist", f"{name.strip()} ; {both}extra == '{extra}'"
    yield "Description-Content-Type", "text/markdown; charset=UTF-8; variant=GFM"


def _entry_points(project: Mapping[str, Any]) -> bytes:
    scripts = project.get("scripts", {})
    lines = ["[console_scripts]", *(f"{name}={target}" for name, target in scripts.items())]
    return ("\n".join(lines) + "\n").encode()
