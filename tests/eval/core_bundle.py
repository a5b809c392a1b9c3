"""A small bundle in the layout of CORE's, and scorers whose answers are known."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from aquachat.eval.core_prompts import PromptMaker
from aquachat.eval.core_tasks import CoreTask, read_items, read_tasks
from aquachat.infer.scoring import ContinuationScore, ScoringRequest
from tests.data.byte_tokenizer import byte_tokenizer

TOKENIZER = byte_tokenizer()

TASKS = """
icl_tasks:
- label: capitals
  dataset_uri: knowledge/capitals.jsonl
  num_fewshot: [3]
  icl_task_type: multiple_choice
  continuation_delimiter: '

    Answer: '
- label: absent_task
  dataset_uri: knowledge/absent.jsonl
  num_fewshot: [10]
  icl_task_type: language_modeling
- label: pronouns
  dataset_uri: language/pronouns.jsonl
  num_fewshot: [0]
  icl_task_type: schema
- label: counting
  dataset_uri: language/counting.jsonl
  num_fewshot: [2]
  icl_task_type: language_modeling
"""
BASELINES = """Eval Task,Task Category,Random baseline,Description
capitals,knowledge,25,"four options, one right"
pronouns,language,50,two
counting,language,0,none
absent_task,knowledge,0,not here
"""
ROWS: dict[str, list[dict[str, Any]]] = {
    "knowledge/capitals.jsonl": [
        {
            "query": f"Question: What is the capital of land {number}?",
            "choices": [f"Town {number}{letter}" for letter in "abcd"],
            "gold": number % 4,
        }
        for number in range(12)
    ],
    "language/pronouns.jsonl": [
        {
            "context_options": [f"{a} met {b} because {a}", f"{a} met {b} because {b}"],
            "continuation": f"wanted to talk about {number}.",
            "gold": number % 2,
        }
        for number, (a, b) in enumerate([("Ann", "Bo"), ("Cy", "Dee"), ("Ed", "Flo")] * 3)
    ],
    "language/counting.jsonl": [
        {"context": f"Count: {number}, {number + 1}, ", "continuation": f"{number + 2}"}
        for number in range(5, 13)
    ],
}


def write_bundle(
    directory: Path,
    *,
    tasks: str = TASKS,
    baselines: str = BASELINES,
    rows: Mapping[str, Sequence[dict[str, Any]]] | None = None,
) -> Path:
    """Write the bundle; returns the folder."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "core.yaml").write_text(tasks)
    (directory / "eval_meta_data.csv").write_text(baselines)
    for name, lines in (ROWS if rows is None else rows).items():
        file = directory / "eval_data" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


class KnowingScorer:
    """Likes the options that a function chooses: of each question the gold one, or another."""

    context_tokens = 4096

    def __init__(self, directory: Path, choose: Callable[[int, int], int]) -> None:
        """`choose` gets the gold index and the number of options; -1 likes none."""
        self._likes: set[tuple[int, ...]] = set()
        for task in read_tasks(directory):
            if task.is_present:
                self._learn(task, choose)

    def _learn(self, task: CoreTask, choose: Callable[[int, int], int]) -> None:
        items = read_items(task)
        for num_asked in range(1, len(items) + 1):
            maker = PromptMaker(TOKENIZER, task, items, num_asked, self.context_tokens)
            for index in range(num_asked):
                spans = maker.spans(index)
                chosen = choose(items[index].gold, len(spans))
                if chosen >= 0:
                    self._likes.add(spans[chosen].tokens)

    def score(
        self,
        requests: Sequence[ScoringRequest],
        on_scored: Callable[[int], None] | None = None,
    ) -> list[list[ContinuationScore]]:
        found = []
        for request in requests:
            scores = []
            for continuation in request.continuations:
                scored = continuation.tokens[continuation.num_given :]
                likes = request.prefix + continuation.tokens in self._likes
                cost = 0.5 if likes else 2.0
                greedy = scored if likes else tuple(token ^ 1 for token in scored)
                scores.append(ContinuationScore(cost * len(scored), greedy, likes))
            found.append(scores)
        if on_scored is not None:
            on_scored(len(requests))
        return found
