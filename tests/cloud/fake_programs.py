"""A machine whose uv, Python, git... are small scripts that write down how they were called."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from tests.cloud.sshd import Sshd

HIDDEN = ("uv", "curl", "wget", "nvidia-smi", "sudo", "apt-get", "cargo", "cc", "python3")
"""Of the programs of this computer, those that a machine has only if a test gives it one."""
NEEDS = ("torch", "numpy")

UV = """
case "$1" in
  --version) echo "uv 9.9.9"; exit 0 ;;
  venv) for last; do :; done; mkdir -p "$last/bin"; ln -s {python} "$last/bin/python" ;;
esac
case "$*" in *--help*) echo "  --torch-backend <TORCH_BACKEND>"; exit 0 ;; esac
"""
PYTHON = """
case "$1 $2" in
  "-m venv") mkdir -p "$3/bin"; ln -s {python} "$3/bin/python"; exit 0 ;;
  "-m pip") exit 0 ;;
esac
PYTHONPATH=${{PYTHONPATH:+$PYTHONPATH:}}{site} exec {real} "$@"
"""
TORCH = """
__version__ = "2.9.9+cu128"
class version:
    cuda = "12.8"
class cuda:
    @staticmethod
    def device_count():
        return 2
    @staticmethod
    def get_device_name(index):
        return f"NVIDIA H100 {index}"
"""


class Machine:
    """The server, and the programs that were put on its PATH."""

    def __init__(self, server: Sshd, *, without: Sequence[str] = ()) -> None:
        self.server = server
        self.folder = server.folder / "programs"
        self.folder.mkdir()
        self.calls_file = server.folder / "calls"
        self.site = server.folder / "site"
        self.python = self.folder / "fake-python"
        self.path = f"{self.folder}:{server.path_with(without=[*HIDDEN, *without])}"
        self._set_up_site()
        self.add_python("fake-python")
        self.add("cc", "")
        server.set_session(path=self.path)

    @property
    def calls(self) -> list[str]:
        """Each call of a fake program: its name and its arguments."""
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def calls_of(self, name: str) -> list[str]:
        return [call for call in self.calls if call.split(" ")[0] == name]

    def add(self, name: str, text: str, *, before: str = "") -> None:
        """Put a program on the machine; `before` is what a test lets it do first."""
        log = f'echo "{name} $*" >>{shlex.quote(str(self.calls_file))}'
        quoted = {
            "python": shlex.quote(str(self.python)),
            "site": shlex.quote(str(self.site)),
            "real": shlex.quote(sys.executable),
        }
        body = "\n".join(["#!/bin/sh", log, before, text.format(**quoted), ""])
        new = self.folder / f".{name}"
        new.write_text(body)
        new.chmod(0o755)
        new.replace(self.folder / name)

    def add_uv(self, *, before: str = "") -> None:
        self.add("uv", UV, before=before)

    def add_python(self, name: str = "python3", *, before: str = "") -> None:
        self.add(name, PYTHON, before=before)

    def add_driver(self, version: str) -> None:
        self.add("nvidia-smi", f"echo {version}")

    def _set_up_site(self) -> None:
        """What an installation would leave: a torch, and an aquachat that needs it."""
        for name, text in (("torch", TORCH), ("numpy", ""), ("aquachat", "")):
            (self.site / name).mkdir(parents=True)
            (self.site / name / "__init__.py").write_text(text)
            info = self.site / f"{name}-1.0.dist-info"
            info.mkdir()
            needs = NEEDS if name == "aquachat" else ()
            lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0"]
            lines += [f"Requires-Dist: {need}>=1" for need in needs]
            (info / "METADATA").write_text("\n".join(lines) + "\n")
