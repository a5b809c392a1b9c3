from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aquachat.data.corpus import Corpus
from aquachat.data.corpus_writer import write_corpus
from aquachat.data.loader import TextSource
from aquachat.model.attention import causal_attention, document_block_mask, document_mask
from aquachat.model.batch import IGNORE, Segments
from tests.data.byte_tokenizer import byte_tokenizer
from tests.model.models import make_model


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("num_kv_heads", [4, 2])
def test_block_mask_and_dense_mask_attend_alike(num_kv_heads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    ids = torch.tensor([[0] * 20 + [1] * 1 + [2] * 19, [3] * 40])
    query = torch.randn(2, 40, 4, 16, generator=generator)
    key, value = torch.randn(2, 2, 40, num_kv_heads, 16, generator=generator)
    segments = Segments(ids)
    dense = causal_attention(query, key, value, document_mask(segments, query.dtype))
    blocks = causal_attention(query, key, value, document_block_mask(segments))
    assert blocks.shape == dense.shape
    torch.testing.assert_close(blocks, dense, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arch", ["nanochat", "smear"])
def test_a_packed_and_masked_document_has_the_logits_it_has_alone(
    tmp_path: Path, arch: str
) -> None:
    tokenizer = byte_tokenizer()
    texts = [f"document {i} " + "ab" * (i % 9) for i in range(12)]
    write_corpus(tmp_path, {"a": texts}, tokenizer)
    source = TextSource(
        Corpus.open(tmp_path),
        tokens_per_step=4 * 64,
        seq_len=64,
        device_batch_size=4,
        seed=0,
        packing="bos",
        document_mask=True,
        prefetch=0,
    )
    model = make_model(arch, vocab_size=tokenizer.n_vocab)
    (batch,) = source.step_batches(0)
    together = model.logits(model(batch.inputs, segments=batch.segments))
    assert batch.segments is not None
    bos = tokenizer.special_id("<|bos|>")
    for row in range(len(batch.inputs)):
        for number in batch.segments.document_ids[row].unique():
            here = batch.segments.document_ids[row] == number
            alone = batch.inputs[row][here]
            assert alone[0] == bos
            assert (alone[1:] != bos).all()
            if (batch.targets[row][here] != IGNORE).any():
                logits = model.logits(model(alone[None]))[0]
                torch.testing.assert_close(together[row][here], logits, rtol=1e-4, atol=1e-4)
