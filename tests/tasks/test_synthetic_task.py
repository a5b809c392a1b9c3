from __future__ import annotations

import pytest

from aquachat.errors import ConfigError
from aquachat.tasks.multiple_choice import choice_example, refers_to_options, rotate
from aquachat.tasks.rationale import calculator_parts
from aquachat.tasks.synthetic_task import SYNTHETIC_SPLITS, synthetic_task
from aquachat.text.answer import answer_line


@pytest.mark.parametrize("split", SYNTHETIC_SPLITS)
def test_only_the_gold_reply_is_graded_correct_in_every_order(split: str) -> None:
    task = synthetic_task(split, seed=3, count=60)
    assert (task.name, task.split, len(task)) == ("SYNTHETIC", split, 60)
    for item in task.items:
        assert not refers_to_options(item)
        assert calculator_parts(item.rationale).num_disagreeing == 0
        for by in range(5):
            example = choice_example(rotate(item, by))
            user, gold = (message.text for message in example.conversation.messages)
            assert task.grade(example, gold).correct
            for reply in ("", item.question, user):
                assert task.grade(example, reply).reward == 0.0
            right = [x for x in example.choices if task.grade(example, answer_line(x)).correct]
            assert right == [example.answer]


def test_start_continues_the_sequence() -> None:
    whole = synthetic_task("train", seed=1, count=6).items
    assert synthetic_task("train", seed=1, count=2, start=4).items == whole[4:]


def test_unknown_split_is_an_error() -> None:
    with pytest.raises(ConfigError, match="no split `test`"):
        synthetic_task("test")
