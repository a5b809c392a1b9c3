from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from aquachat.config.recipes import Recipe, TokenizeRecipe
from aquachat.data import corpus_writer
from aquachat.paths import Home
from aquachat.pipeline.tokenizing import TokenizeResult, tokenize
from aquachat.text.tokenizer import Tokenizer

RECIPE = Recipe(
    tokenize=TokenizeRecipe(
        name="small",
        vocab_size=420,
        num_digits=1,
        sources={"problems": 60, "drills": 80},
        shard_tokens=4_000,
        num_workers=1,
    )
)


class Stopped(Exception):
    """Stands for a kill: the process keeps nothing that is not on disk."""


def run(home: Path, notes: list[str], recipe: Recipe = RECIPE, stop: int = 0) -> TokenizeResult:
    read = 0

    def progress(count: int) -> None:
        nonlocal read
        read += count
        if stop and read >= stop:
            raise Stopped

    return tokenize(recipe, Home(home), note=notes.append, progress=progress)


def files_of(home: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()
    }


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_writer, "KEEP_TOKENS", 1_000)
    monkeypatch.setattr(corpus_writer, "BATCH_BYTES", 1_000)


def test_an_interrupted_start_goes_on_with_its_vocabulary_and_its_shards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = run(tmp_path / "a", [])
    assert undisturbed.trained
    with pytest.raises(Stopped):
        run(tmp_path / "b", [], stop=70)
    assert not Home(tmp_path / "b").corpus("small").exists()

    def never(*args: object, **settings: object) -> Tokenizer:
        raise AssertionError("the vocabulary was trained again")

    monkeypatch.setattr(Tokenizer, "train_from_iterator", never)
    notes: list[str] = []
    resumed = run(tmp_path / "b", notes)
    assert resumed.to_json()["tokens"] == undisturbed.to_json()["tokens"]
    assert any("going on after" in note for note in notes)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_another_request_after_an_interruption_trains_another_vocabulary(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        run(tmp_path, [], stop=70)
    other = replace(RECIPE, tokenize=replace(RECIPE.tokenize, vocab_size=400))
    notes: list[str] = []
    assert run(tmp_path, notes, other).tokenizer.n_vocab == 400
    assert any("training a vocabulary" in note for note in notes)


def test_a_finished_corpus_is_made_anew(tmp_path: Path) -> None:
    run(tmp_path, [])
    notes: list[str] = []
    run(tmp_path, notes)
    assert any("training a vocabulary" in note for note in notes)
    assert not any("going on" in note for note in notes)
