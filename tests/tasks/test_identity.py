from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

from aquachat.data.prepare_identity import prepare_identity
from aquachat.errors import ConfigError
from aquachat.tasks.chat_rows import load_conversations
from aquachat.tasks.identity import (
    FIRST_ONLY,
    LAST_ONLY,
    identity_conversations,
    identity_words,
    topics_by_name,
)
from aquachat.text.conversation import Role

OTHERS = ("ChatGPT", "OpenAI", "Claude", "Gemini", "GPT-4", "Vicuna", "nanochat")


def test_a_thousand_conversations_are_all_different_and_follow_from_the_seed() -> None:
    one, again, other = (identity_conversations(seed, 1000) for seed in (1, 1, 2))
    assert one == again
    assert len(set(one)) == 1000
    assert len(set(one) & set(other)) < 700
    assert identity_conversations(1, 300) == one[:300]


def test_conversations_have_one_to_three_turns_and_vary() -> None:
    conversations = identity_conversations(0, 1000)
    turns = [len(conversation.messages) // 2 for conversation in conversations]
    assert set(turns) == {1, 2, 3}
    assert min(turns.count(n) for n in (1, 2, 3)) > 100
    answers = {message.text for c in conversations for message in c.messages[1::2]}
    assert answers == {text for topic in identity_words().topics for text in topic.answers}
    for conversation in conversations:
        for user, assistant in pairwise(conversation.messages):
            assert user.role is not assistant.role
        assert conversation.messages[-1].role is Role.ASSISTANT


def test_an_answer_belongs_to_the_topic_that_was_asked_about() -> None:
    topics = identity_words().topics
    for conversation in identity_conversations(5, 500):
        for question, answer in zip(
            conversation.messages[::2], conversation.messages[1::2], strict=True
        ):
            [topic] = [topic for topic in topics if answer.text in topic.answers]
            asked = question.text.lower()
            assert any(asked.endswith(words.lower()) for words in topic.questions)


def test_greetings_come_first_and_thanks_last() -> None:
    topics = topics_by_name()
    first = {text for name in FIRST_ONLY for text in topics[name].answers}
    last = {text for name in LAST_ONLY for text in topics[name].answers}
    for conversation in identity_conversations(3, 800):
        answers = [message.text for message in conversation.messages[1::2]]
        assert not first & set(answers[1:])
        assert not last & set(answers[:-1])
        assert len(answers) > 1 or not last & set(answers)


def test_no_text_is_used_twice_and_none_has_loose_ends() -> None:
    words = identity_words()
    questions = [text for topic in words.topics for text in topic.questions]
    answers = [text for topic in words.topics for text in topic.answers]
    assert len(set(questions)) == len(questions) >= 150
    assert len(set(answers)) == len(answers) >= 80
    for text in [*questions, *answers]:
        assert text == text.strip()
        assert text[-1] in ".?!"
        assert "  " not in text
        assert text.isascii()


def test_the_model_never_claims_to_be_another_or_to_know_its_own_numbers() -> None:
    for topic in identity_words().topics:
        for answer in topic.answers:
            assert not [name for name in OTHERS if name in answer]
            assert not re.search(r"\d", answer), answer


def test_more_than_the_words_allow_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aquachat.tasks.identity.NUM_TURNS", (1,))
    with pytest.raises(ConfigError, match="no 50,000 different conversations"):
        identity_conversations(0, 50_000)


def test_the_prepared_file_is_chat_rows_and_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    report = prepare_identity(tmp_path / "a", seed=7, count=400)
    prepare_identity(tmp_path / "b", seed=7, count=400)
    content = (tmp_path / "a" / "train.jsonl").read_bytes()
    assert content == (tmp_path / "b" / "train.jsonl").read_bytes()
    rows = load_conversations(tmp_path / "a" / "train.jsonl")
    assert len(rows.conversations) == 400
    assert rows.rejected == ()
    assert rows.conversations == tuple(identity_conversations(7, 400))
    turns = report.splits["train"].counts["turns"]
    assert sum(turns.values()) == 400
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["licence"] == "MIT"
