from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.data.manifest import read_manifest
from aquachat.data.prepare_core import core_summary, prepare_core, read_core_tasks
from aquachat.errors import DataError, MissingFileError

YAML = """
icl_tasks:
- label: copa
  dataset_uri: reasoning/copa.jsonl
  num_fewshot: [0]
  icl_task_type: multiple_choice
- label: copa_again
  dataset_uri: reasoning/copa.jsonl
- label: squad
  dataset_uri: reading/squad.jsonl
"""
ROW = {"query": "The man fell because", "choices": ["a", "b"], "gold": 0}


def make_bundle(folder: Path, yaml: str = YAML, lines: str | None = None) -> Path:
    data = folder / "eval_data" / "reasoning"
    data.mkdir(parents=True)
    (data / "copa.jsonl").write_text(lines or (json.dumps(ROW) + "\n") * 3)
    (data / "unused.jsonl").write_text("{}")
    (folder / "core.yaml").write_text(yaml)
    (folder / "eval_meta_data.csv").write_text("Eval Task,Random baseline\ncopa,50\n")
    (folder / "LICENSE.txt").write_text("free")
    (folder / "virus.exe").write_text("no")
    return folder


def tree(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_bundle_keeps_its_layout_and_what_is_absent_is_said(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "deep" / "eval_bundle")
    report = prepare_core(tmp_path / "deep", tmp_path / "core")
    assert tree(tmp_path / "core") == {
        "core.yaml",
        "eval_meta_data.csv",
        "LICENSE.txt",
        "manifest.json",
        "eval_data/reasoning/copa.jsonl",
    }
    assert list(report.splits) == ["copa", "copa_again"]
    assert report.splits["copa"].rows == 3
    assert report.splits["copa"].file == "eval_data/reasoning/copa.jsonl"
    assert report.absent == ("squad",)
    assert core_summary(report) == "core: 2 of 3 tasks are there; absent: squad"
    assert read_manifest(tmp_path / "core") == report
    [file] = report.files()
    assert file["bytes"] == (bundle / "eval_data" / "reasoning" / "copa.jsonl").stat().st_size


def test_preparing_again_replaces_the_bundle_as_a_whole(tmp_path: Path) -> None:
    prepare_core(make_bundle(tmp_path / "a"), tmp_path / "core")
    changed = YAML.replace("squad", "extra")
    bundle = make_bundle(tmp_path / "b", changed)
    (bundle / "eval_data" / "reading").mkdir()
    (bundle / "eval_data" / "reading" / "extra.jsonl").write_text("{}\n")
    report = prepare_core(bundle / "core.yaml", tmp_path / "core")
    assert report.absent == ()
    assert "eval_data/reading/extra.jsonl" in tree(tmp_path / "core")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "core"]
    again = prepare_core(tmp_path / "core", tmp_path / "copy")
    assert tree(tmp_path / "core") == tree(again.directory)


@pytest.mark.parametrize(
    ("yaml", "lines", "error", "message"),
    [
        ("a: [", None, DataError, "lists no tasks"),
        ("icl_tasks: []", None, DataError, "names no task"),
        ("tasks: 3", None, DataError, "lists no tasks"),
        (YAML.replace("reasoning/", "../"), None, DataError, "outside its folder"),
        (YAML.replace("copa_again", "copa"), None, DataError, "or one twice"),
        (YAML.replace("copa.jsonl", "no.jsonl"), None, MissingFileError, "none of the 3 tasks"),
        (YAML, '{"a": 1}\n{"a": ', DataError, "1 of 2 lines"),
        (YAML, "\n", DataError, "it is empty"),
    ],
)
def test_a_bundle_that_cannot_be_used_leaves_the_old_one(
    tmp_path: Path, yaml: str, lines: str | None, error: type[Exception], message: str
) -> None:
    prepare_core(make_bundle(tmp_path / "good"), tmp_path / "core")
    before = tree(tmp_path / "core")
    with pytest.raises(error, match=message):
        prepare_core(make_bundle(tmp_path / "bad", yaml, lines), tmp_path / "core")
    assert tree(tmp_path / "core") == before


def test_no_bundle_at_all_and_a_folder_of_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingFileError, match=r"no `core\.yaml`"):
        prepare_core(tmp_path / "empty", tmp_path / "core")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="holds other files"):
        prepare_core(make_bundle(tmp_path / "good"), tmp_path / "mine")
    assert tree(tmp_path / "mine") == {"thesis.tex"}


def test_the_real_bundle_has_15_of_its_22_tasks(real_data: Path, tmp_path: Path) -> None:
    tasks = read_core_tasks(real_data / "core" / "core.yaml")
    assert len(tasks) == 22
    report = prepare_core(real_data / "core", tmp_path / "core")
    here = {task.label for task in tasks if (real_data / "core/eval_data" / task.file).is_file()}
    assert set(report.splits) == here
    assert (len(report.splits), len(report.absent)) == (15, 7)
    assert (tmp_path / "core" / "eval_meta_data.csv").is_file()
    for task in tasks:
        assert (tmp_path / "core/eval_data" / task.file).is_file() == (task.label in here)
