"""A tokenizer without merges, so that tests need neither training nor the compiled extension."""

from __future__ import annotations

from aquachat.text.tokenizer import Tokenizer


def byte_tokenizer() -> Tokenizer:
    return Tokenizer(tokens=tuple(bytes([byte]) for byte in range(256)))
