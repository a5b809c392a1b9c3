"""How fast is CORE evaluated, against nanochat's `core_eval.evaluate_task` on the same weights?

Both sides ask the same questions of the same model of random weights (depth 4 by default), nanochat
with its own model patched to the plain one; whether they answer alike is counted. `--check N` times
nothing: it compares the prompts and the scored spans of N questions of every task.

    python benchmarks/core_eval.py --peer ../nanochat --bundle ../shared/data/core --json
    python benchmarks/core_eval.py --peer ../nanochat --bundle ../shared/data/core --check 100
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from nanochat_peer import import_peer, plain_model, set_dtype
from pages import fill, table
from record import RESULTS, ROOT, alternate, ratio_row, setting

from aquachat.eval.core import evaluate_core_task
from aquachat.eval.core_prompts import PromptMaker
from aquachat.eval.core_tasks import CoreTask, TaskKind, read_items, read_tasks
from aquachat.infer.scoring import ContinuationScorer
from aquachat.model.config import GPTConfig
from aquachat.model.gpt import GPT
from aquachat.text.tokenizer import Tokenizer
from aquachat.world import choose_dtype

PAGE = ROOT / "docs" / "core.md"
CPU = torch.device("cpu")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
RENDERERS = {
    TaskKind.MULTIPLE_CHOICE: ("render_prompts_mc", "batch_sequences_mc"),
    TaskKind.SCHEMA: ("render_prompts_schema", "batch_sequences_schema"),
    TaskKind.LANGUAGE_MODELING: ("render_prompts_lm", "batch_sequences_lm"),
}


class PeerTokenizer:
    """Our tokenizer with the two methods that nanochat's evaluation calls."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def get_bos_token_id(self) -> int:
        """The token before every prompt."""
        return self._tokenizer.special_id("<|bos|>")

    def __call__(self, texts: Sequence[str], prepend: int) -> list[list[int]]:
        """Ids of each text after `prepend`."""
        return [[prepend, *self._tokenizer.encode_ordinary(text)] for text in texts]


def main() -> None:
    """Compare, and print the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of nanochat 92d63d4")
    parser.add_argument("--bundle", type=Path, required=True, help="folder with core.yaml")
    parser.add_argument("--max-per-task", type=int, default=12, help="questions of each task")
    parser.add_argument("--tasks", nargs="+", default=[], help="labels; default: all present")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--vocab-size", type=int, default=32_768)
    parser.add_argument("--dtypes", nargs="+", choices=list(DTYPES), help="default: what is fast")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--cpu-time",
        action="store_true",
        help="count the processor's seconds, not the clock's: for a machine that others use;\n"
        "with OMP_NUM_THREADS=1",
    )
    parser.add_argument("--check", type=int, default=0, help="compare this many prompts a task")
    parser.add_argument("--json", action="store_true", help="print the whole document")
    parser.add_argument(
        "--keep", action="store_true", help="write results/core_eval.json and docs/core.md"
    )
    arguments = parser.parse_args()
    module = import_peer(arguments.peer)
    present = [task for task in read_tasks(arguments.bundle) if task.is_present]
    tokenizer = _tokenizer(present, arguments.vocab_size)
    tasks = [task for task in present if task.label in (arguments.tasks or [task.label])]
    if arguments.check:
        _check(tasks, tokenizer, arguments.check)
        return
    model = _model(arguments.depth, tokenizer.n_vocab)
    rows = [
        row
        for dtype in arguments.dtypes or [_fast_dtype()]
        for row in _rows(module, tasks, tokenizer, model, dtype, arguments)
    ]
    document = {
        **setting(_command(arguments)),
        "num_threads": torch.get_num_threads(),
        "clock": "processor" if arguments.cpu_time else "wall",
        "rows": rows,
    }
    if arguments.keep:
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / "core_eval.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
        fill("core_eval", figures(document), PAGE)
    print(json.dumps(document, indent=1) if arguments.json else _table(rows))


def _command(arguments: argparse.Namespace) -> str:
    """What was asked for, without the paths of this machine."""
    words = ["benchmarks/core_eval.py", f"--max-per-task {arguments.max_per_task}"]
    words += [f"--tasks {' '.join(arguments.tasks)}"] if arguments.tasks else []
    words += ["--cpu-time"] if arguments.cpu_time else []
    return " ".join([*words, f"--repeats {arguments.repeats}"])


def figures(document: Mapping[str, Any]) -> list[str]:
    """The lines of docs/core.md."""
    rows = [
        [
            row["name"],
            row["peer_name"],
            f"{row['ours']:.1f}",
            f"{row['peer']:.1f}",
            f"{row['ratio_median']:.1f} [{row['ratio_min']:.1f}, {row['ratio_max']:.1f}]",
            f"{row['num_graded_alike']} of {row['num_questions']}",
        ]
        for row in document["rows"]
    ]
    unit = document["rows"][0]["unit"]
    header = ["what", "peer", f"ours, {unit}", "peer", "ratio [min, max]", "graded alike"]
    clock = "processor time" if document["clock"] == "processor" else "wall clock"
    about = (
        f"`{document['command']}` on {document['machine']}, {document['num_threads']} thread(s), "
        f"{clock}, load average {document['load_average']} at the end; torch {document['torch']}, "
        f"revision {document['revision'][:12]}, {document['date']}; "
        f"{document['rows'][0]['repeats']} repeats, alternating."
    )
    return [*table(header, rows), "", *textwrap.wrap(about, 118, break_on_hyphens=False)]


def _fast_dtype() -> str:
    """What both programs are given where nothing is asked for: bfloat16 only where it is fast."""
    return next(name for name, dtype in DTYPES.items() if dtype == choose_dtype("auto", CPU))


def _tokenizer(tasks: Sequence[CoreTask], vocab_size: int) -> Tokenizer:
    """Learned on the rows themselves: a vocabulary of the usual size without other files."""
    texts = (task.file.read_text("utf-8") for task in tasks)
    return Tokenizer.train_from_iterator(texts, vocab_size)


def _model(depth: int, vocab_size: int) -> GPT:
    """Random weights, none of them zero, so that options differ."""
    config = GPTConfig.for_arch(
        "nanochat",
        vocab_size=vocab_size,
        num_layers=depth,
        hidden_size=64 * depth,
        num_heads=max(1, depth // 2),
        num_kv_heads=max(1, depth // 2),
        max_seq_len=4096,
    )
    model = GPT(config)
    model.init_weights(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter is not model.embed_tokens.weight:
                parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
    return model.eval()


def _rows(
    module: Any,
    tasks: Sequence[CoreTask],
    tokenizer: Tokenizer,
    model: GPT,
    dtype: str,
    arguments: argparse.Namespace,
) -> list[dict[str, Any]]:
    """One row: both sides in `dtype`."""
    core_eval = importlib.import_module("nanochat.core_eval")
    peer_model = plain_model(module, model, DTYPES[dtype])
    scorer = ContinuationScorer(model, device=CPU, dtype=DTYPES[dtype])
    peer_tokenizer = PeerTokenizer(tokenizer)
    rows = {task.label: _published_rows(task) for task in tasks}
    items = {task.label: read_items(task) for task in tasks}
    count = arguments.max_per_task
    answers: dict[str, dict[str, list[bool]]] = {"ours": {}, "peer": {}}

    def ours() -> None:
        for task in tasks:
            result = evaluate_core_task(
                scorer, tokenizer, task, items[task.label], max_examples=count
            ).result
            answers["ours"][task.label] = [row.correct for row in result.predictions]

    def peer() -> None:
        set_dtype(DTYPES[dtype])
        for task in tasks:
            asked = rows[task.label][:count]
            answers["peer"][task.label] = [
                core_eval.evaluate_example(
                    index, peer_model, peer_tokenizer, asked, CPU, _meta(task)
                )
                for index in range(len(asked))
            ]

    spent: dict[str, list[float]] = {"ours": [], "peer": []}
    seconds = alternate(
        _counted(ours, spent["ours"]), _counted(peer, spent["peer"]), arguments.repeats
    )
    if arguments.cpu_time:
        seconds = spent["ours"], spent["peer"]
    asked = [
        pair
        for task in tasks
        for pair in zip(answers["ours"][task.label], answers["peer"][task.label], strict=True)
    ]
    name = f"CORE, {len(tasks)} tasks of {count} questions, depth {arguments.depth}, {dtype}"
    unit = "questions a second of one processor" if arguments.cpu_time else "questions/s"
    row = ratio_row(name, unit, len(asked), seconds, f"nanochat, same model, {dtype}")
    same = sum(ours_right == peer_right for ours_right, peer_right in asked)
    return [row | {"num_questions": len(asked), "num_graded_alike": same}]


def _counted(function: Callable[[], None], seconds: list[float]) -> Callable[[], None]:
    """The same, with the processor's seconds of each call added to `seconds`."""

    def counted() -> None:
        started = time.process_time()
        function()
        seconds.append(time.process_time() - started)

    return counted


def _published_rows(task: CoreTask) -> list[Mapping[str, Any]]:
    """The rows as nanochat's `base_eval` reads and orders them."""
    with task.file.open(encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    random.Random(1337).shuffle(rows)
    return rows


def _meta(task: CoreTask) -> dict[str, Any]:
    return {
        "task_type": str(task.kind),
        "num_fewshot": task.num_fewshot,
        "continuation_delimiter": task.delimiter,
    }


def _check(tasks: Sequence[CoreTask], tokenizer: Tokenizer, count: int) -> None:
    """Compare prompts and spans; ends with an error where any differ."""
    core_eval = importlib.import_module("nanochat.core_eval")
    num_wrong = 0
    for task in tasks:
        rows, items = _published_rows(task), read_items(task)
        maker = PromptMaker(tokenizer, task, items, len(items), 4096)
        asked = range(min(count, len(items)))
        wrong = [
            index
            for index in asked
            if _peer_spans(core_eval, task, rows, index, tokenizer) != _our_spans(maker, index)
        ]
        num_wrong += len(wrong)
        print(f"{task.label}: {len(asked)} questions, {len(wrong)} differ")
    if num_wrong:
        raise SystemExit(f"{num_wrong} questions differ")


def _our_spans(maker: PromptMaker, index: int) -> list[tuple[list[int], int]]:
    return [(list(span.tokens), span.start) for span in maker.spans(index)]


def _peer_spans(
    core_eval: Any,
    task: CoreTask,
    rows: Sequence[Mapping[str, Any]],
    index: int,
    tokenizer: Tokenizer,
) -> list[tuple[list[int], int]]:
    """What `evaluate_example` scores: the examples are drawn as it draws them."""
    others = [place for place in range(len(rows)) if place != index]
    drawn = random.Random(1234 + index).sample(others, task.num_fewshot)
    render, batch = (getattr(core_eval, name) for name in RENDERERS[task.kind])
    prompts = render(rows[index], task.delimiter, [rows[place] for place in drawn])
    tokens, starts, _ = batch(PeerTokenizer(tokenizer), prompts)
    return list(zip(tokens, starts, strict=True))


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    return "\n".join(
        f"{row['name']}: {row['ours']:.2f} against {row['peer']:.2f} {row['unit']}, "
        f"{row['ratio_median']:.1f} times [{row['ratio_min']:.1f}, {row['ratio_max']:.1f}]; "
        f"{row['num_graded_alike']} of {row['num_questions']} graded alike"
        for row in rows
    )


if __name__ == "__main__":
    main()
