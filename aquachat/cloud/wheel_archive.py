"""Writes a wheel (PEP 427) that is the same bytes whenever its files are."""

from __future__ import annotations

import csv
import io
import zipfile
from typing import Final

from aquachat.cloud.wheel_sources import PACKAGE, Contents, record_hash

PYTHON_TAG: Final = "cp311-abi3"
"""One extension for Python 3.11 and all later ones (PEP 384)."""
PURE_TAG: Final = "py3-none-any"
FIRST_ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
UNIX: Final = 3
FILE_MODE: Final = 0o100644
LEVEL: Final = 6


def wheel_name(contents: Contents, tag: str) -> str:
    """`aquachat-0.1.0-cp311-abi3-manylinux_2_34_x86_64.whl`."""
    return f"{PACKAGE}-{contents.version}-{tag}.whl"


def wheel_bytes(contents: Contents, tag: str) -> bytes:
    """The archive: the package, then `dist-info` with a new WHEEL, and RECORD as the last file."""
    info = f"{PACKAGE}-{contents.version}.dist-info"
    files = dict(contents.files)
    files[f"{info}/WHEEL"] = _wheel_file(tag)
    names = sorted(files, key=lambda name: (name.startswith(info), name))
    files[f"{info}/RECORD"] = _record({name: files[name] for name in names}, info)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        for name in [*names, f"{info}/RECORD"]:
            entry = zipfile.ZipInfo(name, FIRST_ZIP_TIME)
            entry.create_system = UNIX
            entry.external_attr = FILE_MODE << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, files[name], compresslevel=LEVEL)
    return out.getvalue()


def _wheel_file(tag: str) -> bytes:
    is_pure = "true" if tag == PURE_TAG else "false"
    lines = ["Wheel-Version: 1.0", f"Generator: {PACKAGE}", f"Root-Is-Purelib: {is_pure}"]
    return "\n".join([*lines, f"Tag: {tag}", ""]).encode()


def _record(files: dict[str, bytes], info: str) -> bytes:
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerows((name, record_hash(content), len(content)) for name, content in files.items())
    rows.writerow((f"{info}/RECORD", "", ""))
    return out.getvalue().encode()
