"""A process that turns text into ids, started by `encoding_pool`.

Messages are pickles on standard input and output, one answer to each request. The parent starts us
with what it would run itself, so what we unpickle is its own. When it ends, however it ends, our
input ends, and so do we.
"""

from __future__ import annotations

import pickle
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from aquachat.data.hygiene.document_guard import DocumentGuard

READY: Final = "ready"


class TextEncoder(Protocol):
    """What a tokenizer does for a corpus."""

    def encode_to_numpy(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        """The ids of a text; strings that look like special tokens are plain text."""
        ...


@dataclass(frozen=True, slots=True)
class Encoded:
    """The ids of a batch of texts, end to end."""

    ids: NDArray[np.unsignedinteger[Any]]
    lengths: NDArray[np.int64]
    """(texts,)"""
    found: Mapping[int, str] = field(default_factory=dict)
    """The places of texts with words of evaluation questions, and the split of the question."""


@dataclass(frozen=True, slots=True)
class BatchEncoder:
    """All that is done to a batch of texts."""

    encoder: TextEncoder
    dtype: str
    """Of the ids."""
    guard: DocumentGuard | None = None

    def encode(self, contents: Sequence[bytes], searched: Sequence[int]) -> Encoded:
        """The ids of texts in UTF-8, and what the guard finds in those that are searched."""
        encoded = encode_texts(self.encoder, contents, self.dtype)
        if self.guard is None or not searched:
            return encoded
        documents = self.guard.search([contents[place] for place in searched])
        return replace(encoded, found={searched[d.document]: d.split for d in documents})


def encode_texts(encoder: TextEncoder, contents: Sequence[bytes], dtype: str) -> Encoded:
    """The ids of texts in UTF-8, in the dtype of the corpus."""
    arrays = [encoder.encode_to_numpy(content.decode()) for content in contents]
    lengths = np.array([len(array) for array in arrays], dtype=np.int64)
    ids = np.concatenate(arrays) if arrays else np.empty(0)
    return Encoded(ids.astype(dtype), lengths)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Receive a `BatchEncoder`, say `READY`, answer each batch with an `Encoded` or an error."""
    # Both loads read a pipe that only the process that started us can write to.
    batch_encoder: BatchEncoder = pickle.load(requests)
    batch_encoder.encoder.encode_to_numpy("ready")
    _send(answers, READY)
    while True:
        try:
            contents, searched = pickle.load(requests)
        except EOFError:
            return
        try:
            answer: object = batch_encoder.encode(contents, searched)
        except Exception as error:  # told to the parent, which raises it
            answer = error
        _send(answers, answer)


def _send(stream: BinaryIO, message: object) -> None:
    pickle.dump(message, stream, protocol=pickle.HIGHEST_PROTOCOL)
    stream.flush()


def main() -> None:
    """Serve the process that started us; Ctrl-C is its business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = sys.stdout.buffer
    sys.stdout = sys.stderr
    serve(sys.stdin.buffer, answers)
