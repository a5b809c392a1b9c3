from __future__ import annotations

from pathlib import Path

import pytest

from aquachat.text import Tokenizer
from aquachat.train.lineage import LoadedModel
from tests.hub.exports import make_loaded, make_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return make_tokenizer()


@pytest.fixture
def loaded(tmp_path: Path, tokenizer: Tokenizer) -> LoadedModel:
    """A checkpoint of the plain architecture."""
    return make_loaded(tmp_path, tokenizer, num_kv_heads=2)
