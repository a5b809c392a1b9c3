"""The real program on a model so small that a stage takes a second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

MICRO = """
[model]
depth = 1
hidden_size = 32
num_heads = 2
[prepare]
synthetic_eval_rows = 8
max_train = 50
[tokenize]
vocab_size = 560
sources = { expository = 60, problems = 200, drills = 60 }
[base]
num_iterations = 8
tokens_per_step = 512
device_batch_tokens = 512
eval_tokens = 2048
save_every = 2
log_every = 1
[mid]
num_iterations = 8
examples_per_step = 4
eval_examples = 4
eval_max_new_tokens = 16
save_every = 2
log_every = 1
[sft]
num_iterations = 8
examples_per_step = 4
eval_examples = 4
eval_max_new_tokens = 16
save_every = 2
log_every = 1
[rl]
num_iterations = 8
prompts_per_step = 4
num_generations = 4
max_new_tokens = 24
eval_examples = 4
save_every = 2
log_every = 1
[eval]
max_new_tokens = 24
options_only_rows = 20
"""
TIMEOUT_S = 240


class Program:
    """`aquachat` with a home of its own and one CPU thread."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.config = folder / "micro.toml"
        self.config.write_text(MICRO)
        self.folder = folder
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AQUA", "NANOCHAT", "WANDB", "HF_"))
        }
        root = str(Path(__file__).parents[2])
        self.environ |= {
            "AQUACHAT_HOME": str(self.home),
            "OMP_NUM_THREADS": "1",
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "PYTHONPATH": os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])]),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "aquachat", *arguments],
            env=self.environ,
            cwd=self.folder,
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == code, f"exit {process.returncode}\n{stdout}\n{stderr}"
        return subprocess.CompletedProcess(arguments, code, stdout, stderr)

    def run_json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json").stdout)

    def stage_dir(self, run: str, stage: str) -> Path:
        return self.home / "runs" / run / stage

    def metrics(self, run: str, stage: str) -> list[dict[str, Any]]:
        file = self.stage_dir(run, stage) / "metrics.jsonl"
        if not file.exists():
            return []
        complete = file.read_text().rpartition("\n")[0]
        return [json.loads(line) for line in complete.splitlines()]

    def end_after(
        self,
        process: subprocess.Popen[str],
        run: str,
        stage: str,
        step: int,
        signum: signal.Signals,
    ) -> int:
        """Signal the process once `stage` has logged `step`; returns its exit code."""
        deadline = time.monotonic() + TIMEOUT_S
        while not any(line["step"] >= step for line in self.metrics(run, stage)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.002)
        process.send_signal(signum)
        process.communicate(timeout=TIMEOUT_S)
        return process.returncode
