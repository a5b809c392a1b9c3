"""Text: tokenizers, conversations, and how one becomes the other. Nothing here imports torch."""

from aquachat.text.tokenizer import SPECIAL_TOKENS, StreamDecoder, Tokenizer

__all__ = ["SPECIAL_TOKENS", "StreamDecoder", "Tokenizer"]
