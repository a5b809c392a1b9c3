from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aquachat.config.recipes import Recipe, TokenizeRecipe
from aquachat.data import corpus_writer
from aquachat.data.corpus import read_index
from aquachat.data.prepare import prepare_dataset
from aquachat.data.sources import SplitFiles
from aquachat.data.text_documents import prepare_text
from aquachat.paths import Home
from aquachat.pipeline import tokenizing
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


QUESTION = (
    "A shopkeeper sells 15 dozen eggs at 60 rupees a dozen and gains 25 percent. How much did he "
    "pay for all of the eggs that he sold?"
)
PLAIN = ["The train left the town at noon with all of its wagons full."] * 3


def prepared_home(root: Path) -> Home:
    """A home with text of four documents, and an evaluation split with one question."""
    home = Home(root)
    texts = root / "texts"
    texts.mkdir(parents=True)
    rows = [*PLAIN, f"From an old book. {QUESTION.upper()} And so on."]
    (texts / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in rows))
    prepare_text(texts, home.data("text"))
    raw = root / "raw.jsonl"
    raw.write_text(json.dumps({"question": QUESTION, "answer": "He paid #### 720"}) + "\n")
    prepare_dataset(
        "gsm8k", source=SplitFiles("raw", {"test": [raw]}), output_dir=home.data("gsm8k")
    )
    return home


def text_recipe(**settings: Any) -> Recipe:
    section = replace(RECIPE.tokenize, sources={"text": 0, "problems": 60}, **settings)
    return Recipe(tokenize=replace(section, validation_fraction=0.0))


def test_documents_with_words_of_an_evaluation_question_are_left_out_and_said(
    tmp_path: Path,
) -> None:
    home = prepared_home(tmp_path)
    notes: list[str] = []
    result = run(home.root, notes, text_recipe())
    assert result.corpus.sources["text"].documents == len(PLAIN)
    assert result.corpus.sources["problems"].documents == 60
    assert any("`text` is searched for 1 questions of gsm8k/test" in note for note in notes)
    assert "left out 1 training documents" in notes[-1]
    assert "(1 gsm8k/test)" in notes[-1]
    index = read_index(home.corpus("small"))["contamination"]
    assert index == result.to_json()["contamination"]
    assert (index["documents"], index["sources"], index["keeps_contaminated"]) == (
        1,
        ["text"],
        False,
    )
    assert [split["split"] for split in index["searched"]] == ["gsm8k/test"]
    assert index["found"][0] | {"text_bytes": 0} == {
        "source": "text",
        "split": "gsm8k/test",
        "documents": 1,
        "text_bytes": 0,
    }
    assert index["text_bytes"] > len(QUESTION)


def test_contaminated_documents_are_kept_and_counted_where_asked(tmp_path: Path) -> None:
    home = prepared_home(tmp_path)
    notes: list[str] = []
    result = run(home.root, notes, text_recipe(keep_contaminated=True))
    assert result.corpus.sources["text"].documents == len(PLAIN) + 1
    assert "kept 1 training documents" in notes[-1]
    assert read_index(home.corpus("small"))["contamination"]["documents"] == 1


def test_documents_for_validation_lose_none(tmp_path: Path) -> None:
    home = prepared_home(tmp_path)
    texts = tmp_path / "texts" / "a.jsonl"
    held_out = tmp_path / "held_out.jsonl"
    held_out.write_text(texts.read_text())
    files = SplitFiles("texts", {"train": [texts], "validation": [held_out]})
    prepare_text(files, home.data("text"))
    run(home.root, [], text_recipe())
    splits = read_index(home.corpus("small"))["splits"]
    assert splits["train"]["sources"]["text"]["documents"] == len(PLAIN)
    assert splits["validation"]["sources"]["text"]["documents"] == len(PLAIN) + 1


def test_without_evaluation_sets_it_says_that_nothing_was_searched(tmp_path: Path) -> None:
    home = prepared_home(tmp_path)
    shutil.rmtree(home.data("gsm8k"))
    notes: list[str] = []
    result = run(home.root, notes, text_recipe())
    assert result.corpus.sources["text"].documents == len(PLAIN) + 1
    assert any("`text` cannot be searched" in note for note in notes)
    assert "contamination" not in read_index(home.corpus("small"))


def test_generated_documents_are_not_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object) -> None:
        raise AssertionError("the evaluation sets were read")

    monkeypatch.setattr(tokenizing, "document_guard", never)
    notes: list[str] = []
    assert run(tmp_path, notes).to_json()["contamination"] is None
    assert not any("searched" in note for note in notes)
    assert "contamination" not in read_index(Home(tmp_path).corpus("small"))
