from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aquachat.data import text_documents
from aquachat.data.corpus import Corpus
from aquachat.data.corpus_writer import write_corpus
from aquachat.data.manifest import read_manifest
from aquachat.data.prepare import open_text_set, prepare_dataset
from aquachat.data.text_documents import first_documents
from aquachat.errors import ConfigError, DataError, MissingFileError
from tests.data.byte_tokenizer import byte_tokenizer


def write_parquet(path: Path, texts: list[str | None], licence: str | None = None) -> None:
    columns: dict[str, list[str | None]] = {"text": texts}
    if licence:
        columns["license"] = [licence] * len(texts)
    pq.write_table(pa.table(columns), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    raw.mkdir()
    write_parquet(raw / "a.parquet", ["one", None, "twö 😀"], "CC-BY-4.0")
    (raw / "b.jsonl").write_text('{"text": "three"}\n{"other": 1}\ncut {\n')
    (raw / "c.txt").write_text("four\n\nfour still")
    (raw / "LICENSE").write_text("not a document")
    return raw


def test_documents_of_every_form_are_found_counted_and_streamed(
    tmp_path: Path, folder: Path
) -> None:
    report = prepare_dataset("text", source=folder, output_dir=tmp_path / "out")
    train = report.splits["train"]
    assert (train.rows, train.rows_read, train.rejected) == (4, 7, {"missing_text": 3})
    assert train.counts == {"licence": {"CC-BY-4.0": 3}}
    assert report.licence == "CC-BY-4.0"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.json"]
    assert read_manifest(tmp_path / "out") == report
    documents = list(open_text_set(tmp_path / "out").documents())
    assert documents == ["one", "twö 😀", "three", "four\n\nfour still"]


def test_prepared_text_becomes_a_corpus(tmp_path: Path, folder: Path) -> None:
    prepare_dataset("text", source=folder, output_dir=tmp_path / "out")
    documents = open_text_set(tmp_path / "out").documents()
    write_corpus(tmp_path / "corpus", {"text": documents}, byte_tokenizer())
    assert Corpus.open(tmp_path / "corpus").num_documents == 4


def test_data_toml_gives_text_its_splits(tmp_path: Path, folder: Path) -> None:
    (folder / "data.toml").write_text(
        "[text]\ntrain = ['a.parquet']\nvalidation = ['[bc].*']\n[aqua]\ntrain = ['b.jsonl']"
    )
    report = prepare_dataset("text", source=folder, output_dir=tmp_path / "out")
    assert {name: split.rows for name, split in report.splits.items()} == {
        "train": 2,
        "validation": 2,
    }
    held_out = open_text_set(tmp_path / "out").documents("validation")
    assert list(held_out) == [
        "three",
        "four\n\nfour still",
    ]


def test_a_lacking_split_or_a_file_that_is_gone_is_named(tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(MissingFileError, match=r"manifest\.json"):
        open_text_set(out)
    prepare_dataset("text", source=folder, output_dir=out)
    with pytest.raises(MissingFileError, match="no validation split"):
        list(open_text_set(out).documents("validation"))
    assert open_text_set(out).has("train")
    assert not open_text_set(out).has("validation")
    (folder / "c.txt").unlink()
    with pytest.raises(MissingFileError, match=r"c\.txt"):
        list(open_text_set(out).documents())


def test_a_bad_text_file_is_a_clear_error_and_leaves_the_old_manifest(
    tmp_path: Path, folder: Path
) -> None:
    out = tmp_path / "out"
    prepare_dataset("text", source=folder, output_dir=out)
    before = (out / "manifest.json").read_bytes()
    (folder / "bad.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"bad\.txt` is not UTF-8"):
        prepare_dataset("text", source=folder, output_dir=out)
    assert (out / "manifest.json").read_bytes() == before


def test_parquet_without_a_text_column_names_what_it_has(tmp_path: Path) -> None:
    pq.write_table(pa.table({"content": ["x"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"no column `text` \(it has content\)"):
        prepare_dataset("text", source=tmp_path / "a.parquet", output_dir=tmp_path / "out")


def test_rows_without_a_text_are_an_error_when_all_lack_it(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"content": "x"}) + "\n")
    with pytest.raises(DataError, match="no row of"):
        prepare_dataset("text", source=tmp_path / "a.jsonl", output_dir=tmp_path / "out")


def test_a_long_document_comes_in_parts_and_counts_once(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    text = "word " * 150_000
    (raw / "a.txt").write_text(text)
    write_parquet(raw / "b.parquet", ["short", text])
    (raw / "c.jsonl").write_text(json.dumps({"text": text}) + "\n")
    report = prepare_dataset("text", source=raw, output_dir=tmp_path / "out")
    assert report.splits["train"].rows == 4
    documents = open_text_set(tmp_path / "out").documents
    parts = list(documents())
    assert len(parts) > 8
    assert "".join(parts) == text + "short" + text + text
    assert "".join(first_documents(documents(), 2)) == text + "short"
    assert list(first_documents(documents(), 0)) == parts
    write_corpus(tmp_path / "corpus", {"text": documents()}, byte_tokenizer())
    corpus = Corpus.open(tmp_path / "corpus")
    assert corpus.lengths.tolist() == [len(text) + 1, 6, len(text) + 1, len(text) + 1]


def test_a_row_that_is_too_long_is_named_and_not_left_out(tmp_path: Path) -> None:
    long = json.dumps({"text": "x" * (17 << 20)})
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\n' + long + "\n")
    with pytest.raises(DataError, match=r"line 2 of .* longer than 16 MiB") as caught:
        prepare_dataset("text", source=tmp_path / "a.jsonl", output_dir=tmp_path / "out")
    assert "`.txt`" in (caught.value.hint or "")


def test_parquet_is_read_in_batches_of_some_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str | None] = [str(number) * 500 for number in range(300)]
    write_parquet(tmp_path / "a.parquet", texts)
    monkeypatch.setattr(text_documents, "PARQUET_BATCH_BYTES", 1000)
    assert list(text_documents.read_documents(tmp_path / "a.parquet")) == texts


def test_a_folder_without_text_and_the_hub_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="is text"):
        prepare_dataset("text", source=tmp_path, output_dir=tmp_path / "out")
    with pytest.raises(ConfigError, match="read from files"):
        prepare_dataset("text", source="hub", output_dir=tmp_path / "out")
