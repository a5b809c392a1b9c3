"""The text of a corpus in the tokens of another vocabulary, so that any model can read it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from aquachat.data.corpus import Corpus
from aquachat.data.loader import host_batch, on_device, share_of, validation_batches
from aquachat.errors import DataError
from aquachat.model.batch import IGNORE, Batch
from aquachat.text.tokenizer import Tokenizer

BOS = "<|bos|>"
READ_ROWS = 64


def retokenized_batches(
    corpus: Corpus,
    written_with: Tokenizer,
    tokenizer: Tokenizer,
    *,
    source_seq_len: int,
    seq_len: int,
    device_batch_size: int,
    max_tokens: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """The rows this process scores, of the text that `validation_batches` gives in other tokens.

    Where that text ends inside a character, its bytes are left out.

    Args:
        corpus: the split.
        written_with: the tokenizer of the corpus.
        tokenizer: the one of the model.
        source_seq_len: the length of the rows that `max_tokens` is rounded to, as in training.
        seq_len: T of the batches.
        device_batch_size: rows of a batch, at most.
        max_tokens: how much text, in tokens of the corpus; None for all.
        rank: this process.
        world_size: how many processes there are.
        device: where the batches go.

    Raises:
        DataError: `written_with` did not write the corpus.
    """
    if written_with.fingerprint != corpus.tokenizer_fingerprint:
        raise DataError(
            f"the corpus `{corpus.directory}` was written with tokenizer "
            f"{corpus.tokenizer_fingerprint[:12]}, not {written_with.fingerprint[:12]}"
        )
    ids: list[int] = []
    for text in _texts(corpus, written_with, source_seq_len, max_tokens):
        ids += [tokenizer.special_id(BOS), *tokenizer.encode_ordinary(text)]
    tokens = np.array(ids, dtype=np.int64)
    num_targets = len(tokens) - 1
    first, end = share_of(-(-num_targets // seq_len), rank, world_size)
    for row in range(first, end, device_batch_size):
        rows = min(device_batch_size, end - row)
        start, length = row * seq_len, rows * seq_len
        present = min(length, num_targets - start)
        inputs = np.full(length, tokens[0], dtype=np.int64)
        targets = np.full(length, IGNORE, dtype=np.int64)
        inputs[:present] = tokens[start : start + present]
        targets[:present] = tokens[start + 1 : start + present + 1]
        batch = host_batch(inputs.reshape(rows, -1), targets.reshape(rows, -1), present)
        yield on_device(batch, torch.device(device))


def _texts(
    corpus: Corpus, written_with: Tokenizer, seq_len: int, max_tokens: int | None
) -> Iterator[str]:
    """The documents, the last one as far as it is read."""
    bos = written_with.special_id(BOS)
    document: list[int] = []
    batches = validation_batches(
        corpus, seq_len=seq_len, device_batch_size=READ_ROWS, max_tokens=max_tokens
    )
    for batch in batches:
        for token in batch.targets[batch.targets != IGNORE].tolist():
            if token == bos:
                yield written_with.decode(document, errors="ignore")
                document = []
            else:
                document.append(token)
    yield written_with.decode(document, errors="ignore")
