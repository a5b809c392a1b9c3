from __future__ import annotations

from pathlib import Path

import pytest

from aquachat.data.sources import find_split_files, read_data_toml
from aquachat.errors import AquachatError, ConfigError, DataError, MissingFileError


def folder_with(tmp_path: Path, toml: str, *files: str) -> Path:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}\n")
    (tmp_path / "data.toml").write_text(toml)
    return tmp_path


def test_data_toml_maps_sets_and_splits_to_files(tmp_path: Path) -> None:
    toml = """
    [aqua]
    train = ["aqua/a.jsonl", "more/*.jsonl"]
    validation = ["aqua/dev.json"]
    [core]
    bundle = ["core.yaml"]
    """
    files = ["aqua/a.jsonl", "aqua/dev.json", "more/2.jsonl", "more/1.jsonl", "core.yaml"]
    folder = folder_with(tmp_path, toml, *files)
    assert read_data_toml(folder) == {
        "aqua": {
            "train": [folder / name for name in ("aqua/a.jsonl", "more/1.jsonl", "more/2.jsonl")],
            "validation": [folder / "aqua/dev.json"],
        },
        "core": {"bundle": [folder / "core.yaml"]},
    }


@pytest.mark.parametrize(
    ("toml", "error", "message", "hint"),
    [
        ("[aqau]\ntrain = []", ConfigError, "no data set `aqau`", "did you mean `aqua`?"),
        ("[aqua]\ntrian = []", ConfigError, "no split `trian`", "did you mean `train`?"),
        ("[zzz]\ntrain = []", ConfigError, "no data set `zzz`", "use one of aqua, gsm8k"),
        ("[synthetic]\ntrain = []", ConfigError, "no data set `synthetic`", "use one of"),
        ("aqua = 3", DataError, "is not a table", "[aqua]"),
        ("[aqua]\ntrain = 'a.jsonl'", DataError, "is not a list of files", '["rows.jsonl"]'),
        ("[aqua]\ntrain = [1]", DataError, "is not a list of files", '["rows.jsonl"]'),
        ("[aqua", DataError, "is not TOML", "correct"),
        (
            "[aqua]\ntrain = ['no.jsonl']",
            MissingFileError,
            "there is no `no.jsonl`",
            "add the file",
        ),
        ("[text]\ntrain = ['s_*.parquet']", MissingFileError, "no file matches `s_*", "add the"),
    ],
)
def test_a_mistake_in_data_toml_is_named_with_the_way_out(
    tmp_path: Path, toml: str, error: type[AquachatError], message: str, hint: str
) -> None:
    with pytest.raises(error) as caught:
        read_data_toml(folder_with(tmp_path, toml))
    assert message in caught.value.message
    assert "data.toml" in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_folder_without_data_toml_and_no_folder_at_all_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"there is no `data\.toml` in"):
        read_data_toml(tmp_path)
    with pytest.raises(MissingFileError, match="there is no folder"):
        read_data_toml(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.json", "train"),
        ("train.jsonl.gz", "train"),
        ("dev.json", "validation"),
        ("val.jsonl", "validation"),
        ("validation.jsonl", "validation"),
        ("ARC-Easy-test.jsonl", "test"),
        ("train-00000-of-00002.parquet", "train"),
    ],
)
def test_a_file_tells_its_split_by_its_name(tmp_path: Path, name: str, split: str) -> None:
    (tmp_path / name).touch()
    for ignored in ("train.tok.json", "latest.json", "README.md", "test.py"):
        (tmp_path / ignored).touch()
    assert find_split_files("aqua", tmp_path).splits == {split: [tmp_path / name]}
    assert find_split_files("aqua", tmp_path / name).splits == {split: [tmp_path / name]}


def test_one_file_of_another_name_is_for_training(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    assert find_split_files("aqua", tmp_path / "rows.jsonl").splits == {
        "train": [tmp_path / "rows.jsonl"]
    }


def test_a_folder_with_data_toml_is_read_by_it(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "[gsm8k]\ntest = ['odd.jsonl']", "odd.jsonl", "train.jsonl")
    assert find_split_files("gsm8k", folder).splits == {"test": [folder / "odd.jsonl"]}
    with pytest.raises(MissingFileError, match=r"has no \[aqua\]"):
        find_split_files("aqua", folder)


def test_nothing_to_read_is_an_error_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no file in .* is named after a split"):
        find_split_files("aqua", tmp_path)
    with pytest.raises(MissingFileError) as caught:
        find_split_files("aqua", tmp_path / "typo")
    assert "aquachat prepare aqua --source hub" in (caught.value.hint or "")
