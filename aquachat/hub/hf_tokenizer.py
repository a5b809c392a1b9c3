"""Our tokenizer as the files that `transformers.AutoTokenizer` reads, and back.

    tokenizer.json         byte-level BPE of the `tokenizers` crate
    tokenizer_config.json  names of the special tokens
    chat_template.jinja    `ChatRenderer` as a Jinja template

Ids are equal for any text that is UTF-8. tiktoken merges whatever pair makes the token of lowest
rank, the crate follows a list of pairs; both give the same result if the ranks come from BPE
training, since then every token has exactly one pair that training could have merged. See
`recover_merges`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

from aquachat.errors import ConfigError, DataError
from aquachat.text.render import ASSISTANT_END, BOS
from aquachat.text.tokenizer import SPECIAL_TOKENS, Tokenizer

TOKENIZER_FILE: Final = "tokenizer.json"
TOKENIZER_CONFIG_FILE: Final = "tokenizer_config.json"
CHAT_TEMPLATE_FILE: Final = "chat_template.jinja"

CHAT_TEMPLATE: Final = """\
{%- set specials = [SPECIALS] -%}
{%- macro plain(text) -%}
  {%- for special in specials if special in text -%}
    {{- raise_exception("a message holds the special token " ~ special) -}}
  {%- endfor -%}
  {{- text -}}
{%- endmacro -%}
{%- macro content_of(message) -%}
  {%- if message.content is string -%}
    {{- plain(message.content) -}}
  {%- else -%}
    {%- for part in message.content -%}
      {%- if part.type != "text" -%}
        {{- raise_exception("only the assistant has parts of the type " ~ part.type) -}}
      {%- endif -%}
      {{- plain(part.text) -}}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{{- "<|bos|>" -}}
{%- set start = 1 if messages and messages[0].role == "system" else 0 -%}
{%- for message in messages[start:] -%}
  {%- if message.role != ("user" if loop.index0 % 2 == 0 else "assistant") -%}
    {{- raise_exception("user and assistant must alternate, after one system message") -}}
  {%- endif -%}
  {%- if message.role == "user" -%}
    {{- "<|user_start|>" -}}
    {%- if loop.first and start -%}
      {{- content_of(messages[0]) -}}
      {{- "\\n\\n" -}}
    {%- endif -%}
    {{- content_of(message) -}}
    {{- "<|user_end|>" -}}
  {%- else -%}
    {{- "<|assistant_start|>" -}}
    {%- if message.content is string -%}
      {%- generation -%}{{- plain(message.content) -}}{%- endgeneration -%}
    {%- else -%}
      {%- for part in message.content -%}
        {%- if part.type == "text" -%}
          {%- generation -%}{{- plain(part.text) -}}{%- endgeneration -%}
        {%- elif part.type == "python" -%}
          {%- generation -%}
            {{- "<|python_start|>" -}}{{- plain(part.text) -}}{{- "<|python_end|>" -}}
          {%- endgeneration -%}
        {%- elif part.type == "python_output" -%}
          {{- "<|output_start|>" -}}{{- plain(part.text) -}}{{- "<|output_end|>" -}}
        {%- else -%}
          {{- raise_exception("there is no part of the type " ~ part.type) -}}
        {%- endif -%}
      {%- endfor -%}
    {%- endif -%}
    {%- generation -%}{{- "<|assistant_end|>" -}}{%- endgeneration -%}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
  {{- "<|assistant_start|>" -}}
{%- endif -%}
""".replace("SPECIALS", ", ".join(f'"{name}"' for name in SPECIAL_TOKENS))
"""`ChatRenderer` in Jinja. Text that spells a special token is plain text there; a template cannot
say so, and refuses it, since a reader could otherwise be made to speak as the assistant."""


@cache
def byte_characters() -> tuple[str, ...]:
    """GPT-2's printable character of each byte, by which byte-level vocabularies are written.

    Printable Latin-1 stands for itself; the other 68 bytes follow from U+0100 on, in order.
    Example: byte 32, the space, is `U+0120`.
    """
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = iter(range(256, 512))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


def byte_level(token: bytes) -> str:
    """A token as a byte-level vocabulary writes it."""
    characters = byte_characters()
    return "".join(characters[byte] for byte in token)


def recover_merges(tokens: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """The pair that BPE training merged for each token of two bytes or more, by rank.

    The tokens of lower rank, merged in order, leave exactly the two halves of a token.

    Raises:
        DataError: a token is left in more or fewer parts: no BPE training made these ranks.
    """
    ranks = {token: rank for rank, token in enumerate(tokens)}
    merges = []
    for rank, token in enumerate(tokens):
        if len(token) == 1:
            continue
        parts = _parts_below(token, ranks, rank)
        if len(parts) != 2:
            raise DataError(
                f"token {rank} is not a merge of two tokens of lower rank, so it cannot be written "
                f"to `{TOKENIZER_FILE}`",
                hint="train the tokenizer with `aquachat tokenize`",
            )
        merges.append((parts[0], parts[1]))
    return merges


def tokenizer_json(tokenizer: Tokenizer) -> dict[str, Any]:
    """The contents of `tokenizer.json`.

    Raises:
        DataError: see `recover_merges`.
    """
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": name,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for name, token_id in tokenizer.special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": tokenizer.pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {**_BYTE_LEVEL, "add_prefix_space": False, "trim_offsets": False},
            ],
        },
        "post_processor": None,
        "decoder": {**_BYTE_LEVEL, "add_prefix_space": False, "trim_offsets": False},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            # A piece that is a token is that token, as in tiktoken.
            "ignore_merges": True,
            "vocab": {byte_level(token): rank for rank, token in enumerate(tokenizer.tokens)},
            "merges": [
                [byte_level(left), byte_level(right)]
                for left, right in recover_merges(tokenizer.tokens)
            ],
        },
    }


def tokenizer_config(tokenizer: Tokenizer, *, max_tokens: int) -> dict[str, Any]:
    """The contents of `tokenizer_config.json`; `max_tokens` is the model's longest sequence."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": ASSISTANT_END,
        "pad_token": ASSISTANT_END,
        "additional_special_tokens": [
            name for name in tokenizer.special_names if name not in (BOS, ASSISTANT_END)
        ],
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": max_tokens,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def tokenizer_files(tokenizer: Tokenizer, *, max_tokens: int) -> dict[str, str]:
    """Name -> contents of the three files.

    Raises:
        ConfigError: the special tokens are not those of the chat format.
        DataError: see `recover_merges`.
    """
    if missing := [name for name in SPECIAL_TOKENS if name not in tokenizer.special_names]:
        raise ConfigError(
            f"the tokenizer has no special token `{missing[0]}`, which the chat format needs",
            hint="train the tokenizer with `aquachat tokenize`",
        )
    return {
        TOKENIZER_FILE: _json(tokenizer_json(tokenizer)),
        TOKENIZER_CONFIG_FILE: _json(tokenizer_config(tokenizer, max_tokens=max_tokens)),
        CHAT_TEMPLATE_FILE: CHAT_TEMPLATE,
    }


def tokenizer_from_json(document: Mapping[str, Any], *, source: str) -> Tokenizer:
    """The tokenizer that a `tokenizer.json` describes.

    Args:
        document: the file's contents.
        source: its name, for messages.

    Raises:
        DataError: it is no byte-level BPE that cuts text by one pattern, or its ids have gaps.
    """
    try:
        model, added = document["model"], document["added_tokens"]
        pattern = _pattern_of(document["pre_tokenizer"])
        ids = {_bytes_of(text): int(token_id) for text, token_id in model["vocab"].items()}
        specials = {str(token["content"]): int(token["id"]) for token in added}
        kind = model["type"]
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise _unusable(source, f"it is no byte-level BPE ({error!r})") from error
    if kind != "BPE" or document.get("normalizer") is not None:
        raise _unusable(source, f"its model is {kind}, or it changes text before it is cut")
    ids = {token: token_id for token, token_id in ids.items() if token_id not in specials.values()}
    tokens = sorted(ids, key=ids.__getitem__)
    names = sorted(specials, key=specials.__getitem__)
    found = [*(ids[token] for token in tokens), *(specials[name] for name in names)]
    if found != list(range(len(found))):
        raise _unusable(source, "its ids have gaps, or special tokens among the others")
    # Some writers list every pair that makes a token; training could have merged only one of them.
    needed = {(byte_level(left), byte_level(right)) for left, right in recover_merges(tokens)}
    merges = [tuple(m.split(" ") if isinstance(m, str) else m) for m in model["merges"]]
    if not needed.issubset(merges):
        raise _unusable(source, "its merges are not those that its ranks imply")
    try:
        return Tokenizer(tuple(tokens), pattern, tuple(names))
    except ConfigError as error:
        raise _unusable(source, error.message) from error


_BYTE_LEVEL: Final[Mapping[str, Any]] = {"type": "ByteLevel", "use_regex": False}


def _parts_below(token: bytes, ranks: Mapping[bytes, int], limit: int) -> list[bytes]:
    """What merging with the ranks below `limit` leaves of a token."""
    parts = [token[index : index + 1] for index in range(len(token))]
    while len(parts) > 1:
        candidates = (
            (ranks.get(parts[index] + parts[index + 1], limit), index)
            for index in range(len(parts) - 1)
        )
        rank, index = min(candidates)
        if rank >= limit:
            break
        parts[index : index + 2] = [parts[index] + parts[index + 1]]
    return parts


def _pattern_of(pre_tokenizer: Mapping[str, Any]) -> str:
    """The one regular expression of a `Split` that `ByteLevel` without its own follows."""
    split, byte_level_part = pre_tokenizer["pretokenizers"]
    if split["type"] != "Split" or split["behavior"] != "Isolated" or split["invert"]:
        raise ValueError("text is not cut by one pattern")
    if byte_level_part["type"] != "ByteLevel" or byte_level_part["use_regex"]:
        raise ValueError("pieces are not written byte by byte")
    if byte_level_part["add_prefix_space"]:
        raise ValueError("a space is put before the text")
    return str(split["pattern"]["Regex"])


def _bytes_of(text: str) -> bytes:
    return bytes(_byte_values()[character] for character in text)


@cache
def _byte_values() -> Mapping[str, int]:
    return {character: byte for byte, character in enumerate(byte_characters())}


def _json(document: object) -> str:
    return json.dumps(document, ensure_ascii=False, indent=1) + "\n"


def _unusable(source: str, why: str) -> DataError:
    return DataError(
        f"`{source}` holds no tokenizer that can be used: {why}",
        hint="name the folder of the right one with `--tokenizer`",
    )
