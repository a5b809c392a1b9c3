from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aquachat.text.reply_stream import ReplyStream, parts_of
from tests.text.test_render import RENDERER, TOKENIZER

SPECIALS = list(TOKENIZER.special_tokens.values())
tokens = st.one_of(st.integers(0, TOKENIZER.n_vocab - 1), st.sampled_from(SPECIALS))


@given(st.lists(tokens, max_size=40))
def test_the_pieces_of_any_tokens_are_the_parts_that_parse_gives(ids: list[int]) -> None:
    stream = ReplyStream(RENDERER, TOKENIZER)
    pieces = [piece for token in ids for piece in stream.push(token)] + stream.finish()
    assert parts_of(pieces) == RENDERER.parse(ids).parts


def test_a_character_comes_whole_and_a_call_says_where_it_begins_and_ends() -> None:
    special = TOKENIZER.special_id
    ids = [
        *TOKENIZER.encode_ordinary("é"),
        special("<|python_start|>"),
        *TOKENIZER.encode_ordinary("2*3"),
        special("<|python_end|>"),
    ]
    stream = ReplyStream(RENDERER, TOKENIZER)
    found = [(p.text, p.starts, p.ends) for token in ids for p in stream.push(token)]
    assert found[:2] == [("é", False, False), ("", True, False)]
    assert found[-1] == ("", False, True)
    assert not stream.in_call
