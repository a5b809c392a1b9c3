"""How fast is evaluation beside nanochat's, on the same prompts, weights and predictions?

AQuA dev, one option order, random weights of depth 4 with a vocabulary of 8,192:

    python benchmarks/evaluate.py --peer ../nanochat --data ../shared/data --repeats 5

Both sides render, ask and grade; the peer's `run_categorical_eval` (its batch of 8) and
`run_generative_eval` (one prompt at a time) run as they are, over an adapter that hands them our
prompts. The answers are compared before anything is timed. Special tokens have no weights, so no
reply ends early and both sides write the same number of tokens.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from textwrap import wrap
from typing import Any

import torch
from nanochat_peer import import_peer, own_model, plain_model, set_dtype
from pages import fill, table
from record import CLOCKS, RESULTS, alternate, ratio_row, setting

from aquachat.eval.chat import EvalResult, evaluate_task
from aquachat.infer.engine import Engine
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT
from aquachat.tasks.aqua import load_aqua
from aquachat.tasks.base import Example, Task
from aquachat.tasks.choice_task import ChoiceTask
from aquachat.tasks.row_files import Row, read_rows
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer
from aquachat.world import choose_dtype

VOCAB_SIZE = 8192
DEPTH = 4
WIDTH = 256
HEADS = 2
CONTEXT = 2048
MAX_NEW_TOKENS = 64
PEER_BATCH = 8
"""The default of nanochat's `chat_eval`."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PLAIN = "nanochat 92d63d4, patched to the same model"
OWN = "nanochat 92d63d4 as it is, a different model"
CPU = torch.device("cpu")


def main() -> None:
    """Check that both sides answer alike, time them, and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of nanochat")
    parser.add_argument("--data", type=Path, required=True, help="folder with aqua/dev.json")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: this process's own time"
    )
    parser.add_argument("--max-examples", type=int, default=None)
    parser.add_argument("--protocols", nargs="+", default=["categorical", "generative"])
    parser.add_argument("--models", nargs="+", choices=["plain", "own"], default=["plain", "own"])
    parser.add_argument("--json", action="store_true", help="print the document too")
    parser.add_argument("--no-write", action="store_true", help="leave the kept results alone")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    document = measure(arguments)
    if not arguments.no_write:
        RESULTS.mkdir(parents=True, exist_ok=True)
        text = json.dumps(document, indent=1) + "\n"
        (RESULTS / "evaluate.json").write_text(text, "utf-8")
        fill("throughput", throughput_table(document))
    if arguments.json:
        print(json.dumps(document, indent=1))


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """The document of results."""
    command = (
        f"benchmarks/evaluate.py --repeats {arguments.repeats} --threads {arguments.threads}"
        f" --clock {arguments.clock}"
    )
    if arguments.max_examples is not None:
        command += f" --max-examples {arguments.max_examples}"
    document = setting(command)  # the revision that is measured, whatever is committed meanwhile
    module = import_peer(arguments.peer)
    sides = Sides.make(arguments.data, arguments.max_examples)
    rows = []
    for protocol in arguments.protocols:
        mine = Ours(sides, choose_dtype("auto", CPU), protocol)
        best = fastest(module, sides, protocol)
        plain = sides.patched(module, DTYPES[best], protocol)
        exact = plain if best == "float32" else sides.patched(module, torch.float32, protocol)
        agreement = check_answers(mine, exact)
        peers = [plain]
        if "own" in arguments.models:
            peers.append(sides.unpatched(module, DTYPES[best], protocol))
        for peer in peers:
            seconds = alternate(mine.run, peer.run, arguments.repeats, arguments.clock)
            row = ratio_row(
                f"AQuA dev, {protocol}", "examples/s", len(sides.task), seconds, peer.name
            )
            same = peer.name == PLAIN
            rows.append({**row, **agreement} if same else row)
            rows[-1] |= {"our_dtype": str(mine.dtype)[6:], "peer_dtype": best}
            print(json.dumps(rows[-1]), file=sys.stderr)
    document |= {"load_average": round(os.getloadavg()[0], 2)}
    return {**document, "threads": arguments.threads, "clock": arguments.clock, "rows": rows}


def throughput_table(document: Mapping[str, Any]) -> list[str]:
    """The lines of the table in the documentation."""
    rows = [
        [
            row["name"].removeprefix("AQuA dev, "),
            row["peer_name"],
            f"{row['ours']:.1f} ({row['our_dtype']})",
            f"{row['peer']:.2f} ({row['peer_dtype']})",
            f"{row['ratio_median']:.2f} [{row['ratio_min']:.2f}, {row['ratio_max']:.2f}]",
            f"{row['same_answers']} of {row['num_answers']}" if "same_answers" in row else "-",
            f"{row['repeats']}",
        ]
        for row in document["rows"]
    ]
    clock = "wall clock" if document["clock"] == "wall" else "CPU time of the process"
    setting_line = (
        f"`{document['command']}` on {document['machine']}, threads: {document['threads']}, "
        f"{clock}, load average {document['load_average']} when it ended; torch "
        f"{document['torch']}, revision {document['revision'][:12]}, {document['date']}. "
        "Repeats alternate."
    )
    header = ["protocol", "peer", "ours, examples/s", "peer, examples/s", "ratio [min, max]"]
    return [
        *wrap(setting_line, 118, break_on_hyphens=False),
        "",
        *table([*header, "same answers", "repeats"], rows),
    ]


@dataclass(frozen=True)
class Sides:
    """What both sides have in common."""

    task: Task
    tokenizer: Tokenizer
    renderer: ChatRenderer
    model: GPT

    @classmethod
    def make(cls, data: Path, max_examples: int | None) -> Sides:
        """AQuA dev, a vocabulary trained on AQuA's training rows, and random weights."""
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "dev.json").symlink_to((data / "aqua" / "dev.json").resolve())
            task = load_aqua(Path(folder), "validation", max_examples=max_examples)
        texts = [
            "\n".join([row.value["question"], row.value["rationale"], *row.value["options"]])
            for row in read_rows(data / "aqua" / "flan_cot_train.jsonl")
            if isinstance(row, Row)
        ]
        texts += [json.dumps(row.value) for row in read_rows(data / "gsm8k" / "train.jsonl")]
        texts += [f"12 {letter}\nAnswer: {letter}\n" * 50 for letter in "ABCDE"]
        tokenizer = Tokenizer.train_from_iterator(texts, VOCAB_SIZE)
        return cls(task, tokenizer, ChatRenderer(tokenizer), random_model(tokenizer))

    def few(self, count: int) -> Sides:
        """The same with the first questions only."""
        assert isinstance(self.task, ChoiceTask)
        task = ChoiceTask(self.task.name, self.task.split, self.task.items[:count])
        return replace(self, task=task)

    def patched(self, module: Any, dtype: torch.dtype, protocol: str) -> Peer:
        """Nanochat's code with the plain model and our weights."""
        return Peer(self, plain_model(module, self.model, dtype), dtype, protocol, PLAIN)

    def unpatched(self, module: Any, dtype: torch.dtype, protocol: str) -> Peer:
        """Nanochat's own model."""
        return Peer(self, own_model(module, self.model, dtype), dtype, protocol, OWN)


def random_model(tokenizer: Tokenizer) -> GPT:
    """Weights of a common size, so that every layer counts and no two logits tie."""
    model = GPT(
        GPTConfig(
            vocab_size=tokenizer.n_vocab,
            num_layers=DEPTH,
            hidden_size=WIDTH,
            num_heads=HEADS,
            num_kv_heads=HEADS,
            max_seq_len=CONTEXT,
        )
    )
    model.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.layers.parameters():
            layer.normal_(0.0, layer.shape[-1] ** -0.5, generator=generator)
        model.lm_head.weight.normal_(0.0, 0.02, generator=generator)
        for special in tokenizer.special_tokens.values():
            model.lm_head.weight[special] = 0.0
    return model


@dataclass
class Ours:
    """`evaluate_task`: rendering, asking, grading and the statistics."""

    sides: Sides
    dtype: torch.dtype
    protocol: str
    result: EvalResult | None = None

    def __post_init__(self) -> None:
        self.engine = Engine(self.sides.model, self.sides.tokenizer, device=CPU, dtype=self.dtype)

    def run(self) -> None:
        """Evaluate once."""
        self.result = evaluate_task(
            self.engine,
            self.sides.renderer,
            self.sides.task,
            protocol=self.protocol,
            option_orders=1,
            max_new_tokens=MAX_NEW_TOKENS,
        )

    def answers(self) -> list[str]:
        """The letter or the whole reply of each question."""
        assert self.result is not None
        rows = self.result.predictions
        if self.protocol == "categorical":
            return [str(row.answer) for row in rows]
        return ["".join(part["text"] for part in row.parts) for row in rows]


@dataclass
class Peer:
    """nanochat's evaluation loop over an adapter of our task and tokenizer."""

    sides: Sides
    model: torch.nn.Module
    dtype: torch.dtype
    protocol: str
    name: str
    found: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.script = importlib.import_module("scripts.chat_eval")
        self.engine = self.script.Engine(self.model, self)
        self.prime = self.sides.renderer.answer_prime() if self.protocol == "categorical" else []

    def run(self) -> None:
        """Evaluate once."""
        set_dtype(self.dtype)
        self.found.clear()
        with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            if self.protocol == "categorical":
                self.script.run_categorical_eval(self, self, self.model, PEER_BATCH)
            else:
                self.script.run_generative_eval(
                    self, self, self.model, self.engine, 1, MAX_NEW_TOKENS, 0.0, None
                )

    def answers(self) -> list[str]:
        """The letter or the whole reply of each question."""
        return list(self.found)

    # The task, as nanochat sees it.

    def __len__(self) -> int:
        return len(self.sides.task)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self.sides.task[index]
        return {"example": example, "letters": example.choices}

    def evaluate(self, conversation: dict[str, Any], reply: str) -> bool:
        """Grade as we do; a single letter is an answer."""
        example: Example = conversation["example"]
        self.found.append(reply)
        text = f"Answer: {reply}" if self.protocol == "categorical" else reply
        return self.sides.task.grade(example, text).correct

    # The tokenizer, as nanochat sees it.

    def render_for_completion(self, conversation: dict[str, Any]) -> list[int]:
        """Our prompt."""
        example: Example = conversation["example"]
        return self.sides.renderer.prompt(example.conversation.without_last()) + self.prime

    def encode(self, text: str) -> list[int]:
        """One letter, as it stands after `Answer:`."""
        return list(self.sides.renderer.letter_ids([text]))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids."""
        return self.sides.tokenizer.decode(list(ids))

    def encode_special(self, name: str) -> int:
        """The id of a special token."""
        return self.sides.tokenizer.special_id(name)

    def get_bos_token_id(self) -> int:
        """The id of `<|bos|>`."""
        return self.sides.renderer.bos_id


def check_answers(ours: Ours, peer: Peer) -> dict[str, Any]:
    """Both in float32 on every question, before anything is timed.

    Raises:
        SystemExit: they differ.
    """
    exact = Ours(ours.sides, torch.float32, ours.protocol)
    exact.run()
    ours.run()
    peer.run()
    pairs = list(zip(exact.answers(), peer.answers(), strict=True))
    same = sum(a == b for a, b in pairs)
    print(f"{ours.protocol}: {same} of {len(pairs)} answers are the same", file=sys.stderr)
    if same < len(pairs):
        raise SystemExit("the two sides differ in float32, so their speeds say nothing")
    return {"same_answers": same, "num_answers": len(pairs)}


def fastest(module: Any, sides: Sides, protocol: str) -> str:
    """The dtype in which the peer is faster here, by its CPU time on a few questions."""
    few = sides.few(16)
    seconds = {
        name: _seconds(few.patched(module, dtype, protocol).run) for name, dtype in DTYPES.items()
    }
    print(f"peer by dtype: {seconds}", file=sys.stderr)
    return min(seconds, key=lambda name: seconds[name])


def _seconds(function: Callable[[], None]) -> float:
    started = time.process_time()
    function()
    return time.process_time() - started


if __name__ == "__main__":
    main()
