"""Problems drawn, answered with the letters' probabilities, and graded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from aquachat.infer.types import SamplingParams
from aquachat.pipeline.problems import SYNTHETIC_SEED, SYNTHETIC_SOURCES, Problems
from aquachat.serve.attempts import LetterProbe
from aquachat.serve.model import ServedModel
from aquachat.tasks.multiple_choice import choice_example
from aquachat.tasks.rows import choice_row
from aquachat.tasks.synthetic import generate_items
from aquachat.text.render import ChatRenderer
from tests.infer.models import TOKENIZER
from tests.serve.servers import RENDERER, Running, letter_engine, running
from tests.text.test_render import TOKENIZER as LETTER_TOKENIZER


def events_of(server: Running, **fields: Any) -> list[tuple[str, Any]]:
    body = {"source": "synthetic/new_numbers", "number": 3, "temperature": 0, **fields}
    text = server.http.post("/api/attempts", json=body).text
    found = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n")
        found.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
    return found


def test_sources_are_what_is_prepared(tmp_path: Path) -> None:
    problems = Problems(tmp_path, tmp_path / "aqua")
    assert [source["source"] for source in problems.sources()] == list(SYNTHETIC_SOURCES)
    (tmp_path / "aqua").mkdir()
    items = list(generate_items("train", 0, 5))
    rows = "".join(json.dumps(choice_row(item)) + "\n" for item in items)
    (tmp_path / "aqua" / "validation.jsonl").write_text(rows)
    assert problems.sources()[0] == {"source": "aqua/validation", "count": 5}
    number, example = problems.draw("aqua/validation", 2)
    assert number == 2
    assert example.item is not None
    assert example.item.question == items[2].question


def test_a_drawn_problem_is_that_of_its_number(server: Running) -> None:
    query = {"source": "synthetic/more_steps", "number": "7"}
    problem = server.http.get("/api/problems", params=query).json()
    (item,) = generate_items("more_steps", SYNTHETIC_SEED, 1, start=7)
    assert problem["question"] == item.question
    assert [option["text"] for option in problem["options"]] == list(item.options)
    assert problem["prompt"] == choice_example(item).conversation.messages[0].text
    assert "answer" not in problem
    drawn = server.http.get("/api/problems", params={"source": "synthetic/more_steps"}).json()
    assert 0 <= drawn["number"] < 1_000_000


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"source": "synthetic/train"}, 404),
        ({"source": "aqua/validation"}, 404),
        ({"source": "../runs"}, 404),
        ({"source": "synthetic/new_numbers", "number": "-1"}, 400),
        ({"source": "synthetic/new_numbers", "number": "1000000"}, 404),
        ({"source": "synthetic/new_numbers", "number": "\u0663"}, 400),
        ({"number": "1"}, 400),
    ],
)
def test_problems_that_there_are_not(server: Running, query: dict[str, str], status: int) -> None:
    assert server.http.get("/api/problems", params=query).status_code == status


def test_an_attempt_ends_with_the_grade_of_its_text(server: Running) -> None:
    events = events_of(server, max_tokens=12)
    name, grade = events[-1]
    assert name == "grade"
    (item,) = generate_items("new_numbers", SYNTHETIC_SEED, 1, start=3)
    assert grade["gold"] == item.answer_letter
    said = "".join(
        part["text"] for name, data in events if name == "pieces" for part in data["parts"]
    )
    assert said == grade["text"]
    prompt = RENDERER.prompt(choice_example(item).conversation.without_last())
    params = SamplingParams(max_new_tokens=12, temperature=0.0)
    ((completion,),) = server.service.served.engine.generate([prompt], params)
    assert grade["num_tokens"] == len(completion.tokens)
    assert grade["text"] == RENDERER.parse(completion.tokens).text
    assert grade["correct"] is False
    assert server.service.worker.counts.open_samples == 0


def test_letters_are_what_the_model_would_say_now() -> None:
    engine = letter_engine()
    renderer = ChatRenderer(LETTER_TOKENIZER)
    served = ServedModel("made", "sft@1", engine, renderer, LETTER_TOKENIZER, 0)
    (item,) = generate_items("new_numbers", SYNTHETIC_SEED, 1, start=3)
    prompt = renderer.prompt(choice_example(item).conversation.without_last())
    encode = LETTER_TOKENIZER.to_tiktoken().encode

    def question(reply: str) -> list[int] | None:
        probe = LetterProbe(served, tuple(prompt), item.letters)
        probe.push(encode(reply, allowed_special="all"))
        asked = probe.question()
        return None if asked is None else list(asked)

    def expected(reply: str, prime: str) -> list[int]:
        ordinary = LETTER_TOKENIZER.encode_ordinary(prime)
        return [*prompt, *encode(reply, allowed_special="all"), *ordinary]

    assert question("") == expected("", "Answer:")
    assert question("2 + 3") == expected("2 + 3", "\nAnswer:")
    assert question("2 + 3\n") == expected("2 + 3\n", "Answer:")
    assert question("2\nAnswer:") == expected("2\nAnswer:", "")
    assert question("2\nAns") is None
    assert question("2\nAnswer: B") is None
    assert question("<|python_start|>2*3") is None
    assert question("<|python_start|>2*3<|python_end|>") is None
    called = "<|python_start|>2*3<|python_end|><|output_start|>6<|output_end|>"
    assert question(called) == expected(called, "Answer:")


def test_letters_come_with_the_reply(tmp_path: Path) -> None:
    engine, renderer = letter_engine(), ChatRenderer(LETTER_TOKENIZER)
    with running(engine, tmp_path, tokenizer=LETTER_TOKENIZER) as server:
        events = events_of(server, max_tokens=20)
    letters = [data for name, data in events if name == "letters"]
    assert letters[0]["position"] == 0
    assert letters[0]["probabilities"].keys() == set("ABCDE")
    assert [each["position"] for each in letters] == sorted(each["position"] for each in letters)
    assert all(sum(each["probabilities"].values()) == pytest.approx(1) for each in letters)
    (item,) = generate_items("new_numbers", SYNTHETIC_SEED, 1, start=3)
    prompt = renderer.prompt(choice_example(item).conversation.without_last())
    ids = renderer.letter_ids("ABCDE")
    logits = engine.next_logits([[*prompt, *renderer.answer_prime()]], ids)[0]
    wanted = torch.softmax(logits, dim=0).tolist()
    assert list(letters[0]["probabilities"].values()) == pytest.approx(wanted, abs=1e-6)


def test_a_vocabulary_without_letters_still_answers(server: Running) -> None:
    assert RENDERER.bos_id < TOKENIZER.n_vocab
    names = {name for name, _ in events_of(server, max_tokens=3)}
    assert names <= {"pieces", "grade"}
