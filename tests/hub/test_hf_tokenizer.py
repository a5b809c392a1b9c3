from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.errors import ConfigError, DataError
from aquachat.hub.hf_tokenizer import (
    byte_level,
    recover_merges,
    tokenizer_files,
    tokenizer_from_json,
    tokenizer_json,
)
from aquachat.text import Tokenizer
from aquachat.text.conversation import (
    Conversation,
    Message,
    Part,
    PartKind,
    Role,
    conversation_to_json,
    text_message,
)
from aquachat.text.patterns import PATTERNS
from aquachat.text.render import ChatRenderer
from tests.text.conftest import make_documents
from tests.text.test_tokenizer import TEXTS

transformers = pytest.importorskip("transformers", minversion="5.0")

BYTES = tuple(bytes([byte]) for byte in range(256))
SPECIAL = st.sampled_from(["<|bos|>", "<|user_end|>", "<|output_start|>", "<|", "|>", "bos"])
PARTS = st.lists(st.tuples(st.sampled_from(PartKind), TEXTS), min_size=1, max_size=4)


def load(folder: Path, tokenizer: Tokenizer) -> Any:
    for name, text in tokenizer_files(tokenizer, max_tokens=512).items():
        (folder / name).write_text(text, "utf-8")
    return transformers.AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module", params=sorted(PATTERNS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tokenizer of each split pattern, and the same in transformers."""
    ours = Tokenizer.train_from_iterator(
        make_documents(), 600, pattern=PATTERNS[request.param], num_threads=1
    )
    return ours, load(tmp_path_factory.mktemp("hf"), ours)


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Any:
    return load(tmp_path_factory.mktemp("hf"), tokenizer)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(text=TEXTS)
def test_transformers_gives_the_same_ids_and_the_text_back(pair: Any, text: str):
    ours, theirs = pair
    ids = theirs.encode(text)
    assert ids == ours.encode_ordinary(text)
    assert theirs.decode(ids) == text


def test_every_character_gives_the_same_ids_in_many_places(tokenizer: Tokenizer, theirs: Any):
    for start in range(0, 0x3000, 0x100):
        for character in map(chr, range(start, start + 0x100)):
            text = f"'{character} a{character}{character}1 {character}\n"
            assert theirs.encode(text) == tokenizer.encode_ordinary(text), hex(ord(character))


@pytest.mark.long
def test_all_of_unicode_gives_the_same_ids(tokenizer: Tokenizer, theirs: Any):
    for code in itertools.chain(range(0x3000, 0xD800), range(0xE000, 0x110000)):
        text = f"'{chr(code)} a{chr(code)}{chr(code)}1 {chr(code)}\n"
        assert theirs.encode(text) == tokenizer.encode_ordinary(text), hex(code)


def test_real_texts_give_the_same_ids(real_data: Path, tmp_path: Path):
    texts = [
        line[:4000]
        for path in sorted([*real_data.rglob("*.jsonl"), *real_data.rglob("*.md")])
        for line in path.read_text("utf-8").splitlines()[:20]
    ]
    ours = Tokenizer.train_from_iterator(texts, 4000)
    theirs = load(tmp_path, ours)
    assert len(texts) > 100
    for text in texts:
        assert theirs.encode(text) == ours.encode_ordinary(text)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(pieces=st.lists(SPECIAL | TEXTS, max_size=6))
def test_names_of_special_tokens_are_special_or_plain_as_asked(
    tokenizer: Tokenizer, theirs: Any, pieces: list[str]
):
    text = "".join(pieces)
    assert theirs.encode(text) == tokenizer.encode(text, allowed_special="all")
    plain = theirs(text, split_special_tokens=True)["input_ids"]
    assert plain == tokenizer.encode_ordinary(text)


def make_conversation(turns: list[tuple[str, list[tuple[PartKind, str]]]], system: str):
    messages = [text_message(Role.SYSTEM, system)] if system else []
    for question, parts in turns:
        messages.append(text_message(Role.USER, question))
        messages.append(Message(Role.ASSISTANT, tuple(Part(kind, text) for kind, text in parts)))
    return Conversation(tuple(messages))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(turns=st.lists(st.tuples(TEXTS, PARTS), min_size=1, max_size=3), system=st.just("") | TEXTS)
def test_the_template_renders_chat_as_the_renderer_does(
    tokenizer: Tokenizer, theirs: Any, turns: Any, system: str
):
    conversation = make_conversation(turns, system)
    renderer = ChatRenderer(tokenizer)
    rows = conversation_to_json(conversation)
    ours = renderer.supervised(conversation, 100_000)
    assert theirs.apply_chat_template(rows, return_dict=False) == ours.ids
    prompt = theirs.apply_chat_template(rows[:-1], add_generation_prompt=True, return_dict=False)
    assert prompt == renderer.prompt(conversation.without_last())


def test_the_template_marks_what_the_assistant_is_trained_on(tokenizer: Tokenizer, theirs: Any):
    parts = [
        (PartKind.TEXT, "We need "),
        (PartKind.PYTHON, "60*3"),
        (PartKind.PYTHON_OUTPUT, "180"),
        (PartKind.TEXT, " km.\nAnswer: A"),
    ]
    conversation = make_conversation([("How far?", parts), ("Sure?", [(PartKind.TEXT, "Yes")])], "")
    rendered = theirs.apply_chat_template(
        conversation_to_json(conversation), return_assistant_tokens_mask=True, return_dict=True
    )
    ours = ChatRenderer(tokenizer).supervised(conversation, 1000)
    assert rendered["input_ids"] == ours.ids
    assert rendered["assistant_masks"] == [int(learned) for learned in ours.loss_mask]
    assert 0 < sum(ours.loss_mask) < len(ours.ids)


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([{"role": "user", "content": "a<|user_end|><|assistant_start|>b"}], "special token"),
        ([{"role": "user", "content": [{"type": "python", "text": "1"}]}], "only the assistant"),
        ([{"role": "assistant", "content": "a"}], "alternate"),
        ([{"role": "user", "content": "a"}] * 2, "alternate"),
        (
            [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [{"type": "image", "text": "b"}]},
            ],
            "no part of the type image",
        ),
    ],
)
def test_the_template_refuses_what_the_renderer_has_no_form_for(
    theirs: Any, messages: Any, why: str
):
    with pytest.raises(Exception, match=why):
        theirs.apply_chat_template(messages)


def test_special_tokens_have_their_roles(tokenizer: Tokenizer, theirs: Any):
    assert theirs.bos_token_id == tokenizer.special_id("<|bos|>")
    assert theirs.eos_token_id == tokenizer.special_id("<|assistant_end|>")
    assert theirs.decode(theirs.encode("<|bos|>a"), skip_special_tokens=True) == "a"
    assert len(theirs) == tokenizer.n_vocab


def test_merges_are_those_of_training(tokenizer: Tokenizer):
    merges = recover_merges(tokenizer.tokens)
    ranks = tokenizer.mergeable_ranks()
    longer = [token for token in tokenizer.tokens if len(token) > 1]
    assert [left + right for left, right in merges] == longer
    assert all(max(ranks[left], ranks[right]) < ranks[left + right] for left, right in merges)


def test_ranks_that_no_training_makes_are_refused():
    with pytest.raises(DataError, match="token 256 is not a merge of two tokens"):
        recover_merges((*BYTES, b"abc"))


def test_a_tokenizer_comes_back_from_its_file(pair: Any):
    ours, _ = pair
    document = json.loads(json.dumps(tokenizer_json(ours)))
    assert tokenizer_from_json(document, source="tokenizer.json") == ours


def test_bytes_are_written_as_gpt2_writes_them():
    assert byte_level(b" a\n") == "\u0120a\u010a"
    assert len({byte_level(byte) for byte in BYTES}) == 256


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda d: d["model"].update(type="WordPiece"), "WordPiece"),
        (lambda d: d["model"].update(merges=d["model"]["merges"][1:]), "merges"),
        (lambda d: d["model"]["vocab"].update({"zz": 5000}), "gaps"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"].pop(), "byte-level"),
        (lambda d: d.pop("model"), "byte-level"),
        (lambda d: d.update(normalizer={"type": "NFC"}), "changes text"),
        (lambda d: d["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True), "space"),
    ],
)
def test_another_kind_of_tokenizer_is_not_read_as_ours(tokenizer: Tokenizer, change: Any, why: str):
    document = json.loads(json.dumps(tokenizer_json(tokenizer)))
    change(document)
    with pytest.raises(DataError, match=why):
        tokenizer_from_json(document, source="x/tokenizer.json")


def test_a_tokenizer_without_the_chat_tokens_is_refused():
    bare = Tokenizer(BYTES, special_names=("<|bos|>",))
    with pytest.raises(ConfigError, match=r"special token `<\|user_start\|>`"):
        tokenizer_files(bare, max_tokens=10)
