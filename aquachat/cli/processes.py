"""`--num-processes N`: the same command again, N times, through torchrun.

torchrun ends with 1 whatever its children ended with, so the main process writes its exit code to
a file and the parent passes it on.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

EXIT_CODE_FILE = "AQUACHAT_EXIT_CODE_FILE"


def is_child(environ: Mapping[str, str]) -> bool:
    """Whether torchrun started this process."""
    return "RANK" in environ and "WORLD_SIZE" in environ


def is_main(environ: Mapping[str, str]) -> bool:
    """Whether this process is the one that prints and writes."""
    return environ.get("RANK", "0") == "0"


def run_in_processes(num_processes: int, arguments: Sequence[str]) -> int:
    """Run `aquachat ARGUMENTS` in `num_processes` processes; returns the main one's exit code."""
    with tempfile.TemporaryDirectory(prefix="aquachat-") as folder:
        file = Path(folder) / "exit_code"
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={num_processes}",
            "-m",
            "--",  # or argparse takes our `--run` for an abbreviation of its own `--run-path`
            "aquachat",
            *without_num_processes(arguments),
        ]
        threads = max(1, (os.cpu_count() or 1) // num_processes)
        environ = {"OMP_NUM_THREADS": str(threads), **os.environ, EXIT_CODE_FILE: str(file)}
        process = subprocess.Popen(command, env=environ)
        while True:
            try:
                code = process.wait()
                break
            except KeyboardInterrupt:
                continue  # the children got it too; they save and end
        return int(file.read_text()) if file.exists() else code


def without_num_processes(arguments: Sequence[str]) -> list[str]:
    """The arguments without `--num-processes N` and `--gpus N`, in either spelling."""
    kept: list[str] = []
    skip_value = False
    for argument in arguments:
        if skip_value:
            skip_value = False
        elif argument in ("--num-processes", "--gpus"):
            skip_value = True
        elif not argument.startswith(("--num-processes=", "--gpus=")):
            kept.append(argument)
    return kept


def record_exit_code(code: int, environ: Mapping[str, str]) -> None:
    """Tell the parent what the main process ends with."""
    if is_main(environ) and EXIT_CODE_FILE in environ:
        Path(environ[EXIT_CODE_FILE]).write_text(str(code))
