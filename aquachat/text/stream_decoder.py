"""Token ids to text, one at a time, never half a character."""

from __future__ import annotations

import codecs
from typing import Protocol, final


class DecodesTokens(Protocol):
    """What decoding a stream needs of a tokenizer."""

    def decode_single_token_bytes(self, token_id: int) -> bytes:
        """The bytes of one id."""
        ...


@final
class StreamDecoder:
    """Turns ids into text as they come; a character is held back until its last byte is there.

    The pushed texts and the last one of `finish` together are what `Tokenizer.decode` gives.

    Example:
        decoder = StreamDecoder(tokenizer)
        decoder.push(0xC3)  # ""
        decoder.push(0xA9)  # "é"
        decoder.finish()  # ""
    """

    def __init__(self, tokenizer: DecodesTokens) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Take the next id, and give the text that is complete with it, which may be empty."""
        return self._decoder.decode(self._tokenizer.decode_single_token_bytes(token_id))

    def finish(self) -> str:
        """Give U+FFFD where a character was cut off, else nothing, and start anew."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
