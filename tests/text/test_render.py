from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import ConfigError, DataError
from aquachat.text.conversation import Conversation, Message, Part, PartKind, Role, text_message
from aquachat.text.patterns import SINGLE_DIGIT
from aquachat.text.render import ChatRenderer, StopReason, joined_parts
from aquachat.text.tokenizer import SPECIAL_TOKENS, Tokenizer

BYTES = tuple(bytes([byte]) for byte in range(256))
LETTERS = tuple(f" {letter}".encode() for letter in "ABCDE")
WORDS = (b"An", b"Ans", b"we", b"wer", b"Answer", b"\n\n", b" B.", b": ", b".\n")
TOKENIZER = Tokenizer(BYTES + LETTERS + WORDS, SINGLE_DIGIT)
RENDERER = ChatRenderer(TOKENIZER)

texts = st.one_of(
    st.text(max_size=20),
    st.lists(
        st.sampled_from(
            [*SPECIAL_TOKENS, "Answer: ", "Answer:", "\n", " B", "B", "150 km", ".", " ", "é€"]
        ),
        max_size=6,
    ).map("".join),
)
assistant_parts = st.builds(Part, st.sampled_from(list(PartKind)), texts)
user_messages = texts.map(lambda text: text_message(Role.USER, text))
assistant_messages = st.lists(assistant_parts, max_size=4).map(
    lambda parts: Message(Role.ASSISTANT, tuple(parts))
)
exchanges = st.lists(st.tuples(user_messages, assistant_messages), min_size=1, max_size=3)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    turns = [message for pair in draw(exchanges) for message in pair]
    if draw(st.booleans()):
        turns.insert(0, text_message(Role.SYSTEM, draw(texts)))
    return Conversation(tuple(turns))


@settings(deadline=None)
@given(conversations())
def test_supervised_ids_start_with_the_prompt(conversation: Conversation) -> None:
    prompt = RENDERER.prompt(conversation.without_last())
    rendered = RENDERER.supervised(conversation, 10**6)
    assert rendered.ids[: len(prompt)] == prompt
    assert len(rendered.loss_mask) == len(rendered.ids)
    assert not rendered.truncated


@settings(deadline=None)
@given(conversations())
def test_parse_of_the_tail_is_the_last_message(conversation: Conversation) -> None:
    prompt = RENDERER.prompt(conversation.without_last())
    reply = RENDERER.parse(RENDERER.supervised(conversation, 10**6).ids[len(prompt) :])
    assert reply.finish is StopReason.STOP
    assert reply.parts == joined_parts(conversation.messages[-1].parts)
    assert reply.text == conversation.messages[-1].text


@settings(deadline=None)
@given(conversations())
def test_only_what_the_assistant_writes_is_learned(conversation: Conversation) -> None:
    rendered = RENDERER.supervised(conversation, 10**6)
    expected: list[int] = []
    for message in conversation.messages:
        if message.role is not Role.ASSISTANT:
            continue
        for part in joined_parts(message.parts):
            ids = TOKENIZER.encode_ordinary(part.text)
            if part.kind is PartKind.PYTHON:
                ids = [RENDERER.python_start_id, *ids, RENDERER.python_end_id]
            if part.kind is not PartKind.PYTHON_OUTPUT:
                expected += ids
        expected.append(RENDERER.assistant_end_id)
    learned = [token for token, mask in zip(rendered.ids, rendered.loss_mask, strict=True) if mask]
    assert learned == expected


@settings(deadline=None)
@given(conversations())
def test_special_tokens_in_text_stay_text(conversation: Conversation) -> None:
    ids = RENDERER.supervised(conversation, 10**6).ids
    messages = conversation.messages
    assert ids.count(RENDERER.bos_id) == 1
    for role, start in (
        (Role.USER, RENDERER.user_start_id),
        (Role.ASSISTANT, RENDERER.assistant_start_id),
    ):
        assert ids.count(start) == sum(message.role is role for message in messages)


@settings(deadline=None)
@given(conversations(), st.integers(1, 60))
def test_long_examples_are_cut_at_the_end(conversation: Conversation, max_tokens: int) -> None:
    whole = RENDERER.supervised(conversation, 10**6)
    cut = RENDERER.supervised(conversation, max_tokens)
    assert cut.ids == whole.ids[:max_tokens]
    assert cut.loss_mask == whole.loss_mask[:max_tokens]
    assert cut.truncated == (len(whole.ids) > max_tokens)


@settings(deadline=None)
@given(st.lists(st.integers(0, TOKENIZER.n_vocab - 1), max_size=30))
def test_any_ids_parse(ids: list[int]) -> None:
    reply = RENDERER.parse(ids)
    assert reply.finish is not StopReason.CANCELLED
    assert (reply.finish is StopReason.LENGTH) <= (RENDERER.assistant_end_id not in ids)


def test_a_reply_with_a_calculator_call_reads_as_documented() -> None:
    reply = Message(
        Role.ASSISTANT,
        (
            Part(PartKind.TEXT, "x = "),
            Part(PartKind.PYTHON, "6*7"),
            Part(PartKind.PYTHON_OUTPUT, "42"),
            Part(PartKind.TEXT, "42"),
        ),
    )
    conversation = Conversation((text_message(Role.USER, "q"), reply))
    rendered = RENDERER.supervised(conversation, 100)
    names = {identifier: name for name, identifier in TOKENIZER.special_tokens.items()}
    shown = [names.get(token) or TOKENIZER.decode([token]) for token in rendered.ids]
    assert "".join(shown) == (
        "<|bos|><|user_start|>q<|user_end|><|assistant_start|>x = <|python_start|>6*7"
        "<|python_end|><|output_start|>42<|output_end|>42<|assistant_end|>"
    )
    unlearned = [t for t, mask in zip(shown, rendered.loss_mask, strict=True) if not mask]
    assert "".join(unlearned) == (
        "<|bos|><|user_start|>q<|user_end|><|assistant_start|><|output_start|>42<|output_end|>"
    )


def test_system_message_is_merged_into_the_first_user_message() -> None:
    user = text_message(Role.USER, "Hello")
    merged = text_message(Role.USER, "Be brief.\n\nHello")
    system = text_message(Role.SYSTEM, "Be brief.")
    assert RENDERER.prompt(Conversation((system, user))) == RENDERER.prompt(Conversation((merged,)))
    with pytest.raises(DataError):
        RENDERER.prompt(Conversation((system,)))


def test_prompt_ends_with_the_user_and_example_with_the_assistant() -> None:
    user, assistant = text_message(Role.USER, "q"), text_message(Role.ASSISTANT, "a")
    with pytest.raises(DataError):
        RENDERER.prompt(Conversation((user, assistant)))
    with pytest.raises(DataError):
        RENDERER.supervised(Conversation((user,)), 10)
    with pytest.raises(DataError):
        RENDERER.prompt(Conversation(()))


def test_unfinished_and_misplaced_marks_end_a_reply() -> None:
    text = TOKENIZER.encode_ordinary("6*7")
    unfinished = RENDERER.parse([RENDERER.python_start_id, *text])
    assert unfinished.parts == (Part(PartKind.PYTHON, "6*7"),)
    assert unfinished.finish is StopReason.LENGTH
    misplaced = RENDERER.parse([*text, RENDERER.user_start_id, *text, RENDERER.assistant_end_id])
    assert misplaced.text == "6*7"
    assert misplaced.finish is StopReason.MALFORMED
    nested = RENDERER.parse([RENDERER.python_start_id, *text, RENDERER.output_start_id, *text])
    assert nested.finish is StopReason.MALFORMED


def test_letter_ids_are_single_tokens_or_an_error() -> None:
    assert RENDERER.letter_ids("ABCDE") == tuple(range(256, 261))
    with pytest.raises(ConfigError, match="` F`"):
        RENDERER.letter_ids("ABCDEF")
    bytes_only = ChatRenderer(Tokenizer(BYTES, SINGLE_DIGIT))
    with pytest.raises(ConfigError):
        bytes_only.letter_ids("A")


@settings(deadline=None)
@given(texts, st.sampled_from("ABCDE"))
def test_answer_letter_is_one_token_in_every_context(before: str, letter: str) -> None:
    ids = TOKENIZER.encode_ordinary(f"{before}\nAnswer: {letter}")
    (letter_id,) = RENDERER.letter_ids(letter)
    expected = [*RENDERER.answer_prime(), letter_id]
    assert ids[-len(expected) :] == expected


@settings(deadline=None)
@given(texts, texts, st.sampled_from("ABCDE"))
def test_option_letter_is_the_same_token(option: str, after: str, letter: str) -> None:
    option = " ".join(option.split())
    (letter_id,) = RENDERER.letter_ids(letter)
    line = TOKENIZER.encode_ordinary(f"{option} {letter}")
    assert line[-1] == letter_id
    whole = TOKENIZER.encode_ordinary(f"{option} {letter}\n{after}")
    assert whole[: len(line)] == line
