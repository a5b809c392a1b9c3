"""Each check of the doctor finds the one thing that is wrong, and says what to do about it."""

from __future__ import annotations

import builtins
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from aquachat.config.recipes import EvalRecipe, Recipe
from aquachat.config.resolve import preset_layers, resolve
from aquachat.data.corpus import FORMAT, INDEX_NAME, VERSION
from aquachat.data.manifest import MANIFEST_NAME
from aquachat.data.prepare_synthetic import prepare_synthetic
from aquachat.files import sha256_of
from aquachat.paths import Home
from aquachat.pipeline import doctor_files, doctor_machine
from aquachat.pipeline.doctor import Finding, Status, examine, worst
from aquachat.tasks.sandbox import runner
from aquachat.tasks.sandbox.types import SandboxCapabilities
from aquachat.text.tokenizer import Tokenizer
from aquachat.train.checkpoint import Checkpoint, save_checkpoint

SECRET = "hf_abcdefghijklmnop"
KEYS = {"lambda": ("LAMBDA_API_KEY",)}


def tiny() -> Recipe:
    return resolve(preset_layers("tiny")).recipe


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A tokenizer, a data set, and a run with two checkpoints."""
    home = Home(tmp_path / "home")
    folder = home.tokenizer("small")
    tokenizer = Tokenizer.train_from_iterator(["low lower lowest"] * 4, 280)
    tokenizer.save(folder)
    shutil.copytree(folder, home.run("mine") / "tokenizer")
    data = home.data("synthetic")
    data.mkdir(parents=True)
    prepare_synthetic(
        data, counts={"train": 6, "new_numbers": 6, "new_phrasings": 6, "more_steps": 6}
    )
    for step in (1, 2):
        weights = {"a": torch.full((2, 3), float(step))}
        save_checkpoint(home.stage("mine", "base"), Checkpoint(step, weights, {}, {}))
    return home


def examined(home: Home, **environ: str) -> dict[str, Finding]:
    environ = {"HOME": str(home.root), "PATH": "/usr/bin:/bin"} | environ
    found = examine(home, tiny(), "tiny", environ=environ, key_names=KEYS)
    return {finding.check: finding for finding in found}


def spoil(file: Path) -> None:
    contents = bytearray(file.read_bytes())
    contents[-2] ^= 1
    file.write_bytes(contents)


def test_a_sound_machine_has_no_failure(home: Home) -> None:
    found = examined(home)
    assert worst(list(found.values())) is not Status.FAILURE, found
    for name in ("python", "torch", "extension", "tokenizers", "data", "checkpoint"):
        assert found[name].status is Status.OK
        assert found[name].way_out is None


def test_an_empty_home_has_nothing_to_check(tmp_path: Path) -> None:
    found = examined(Home(tmp_path / "nowhere"))
    for name in ("tokenizers", "data", "corpora", "checkpoint"):
        assert found[name].status is Status.NOT_APPLICABLE
    assert not (tmp_path / "nowhere").exists()


def test_whatever_is_wrong_has_a_way_out(home: Home) -> None:
    for finding in examined(home).values():
        is_wrong = finding.status in (Status.WARNING, Status.FAILURE)
        assert bool(finding.way_out) is is_wrong
        assert not finding.sentence.endswith(".")


SPOILED: dict[str, tuple[str, Callable[[Home], None], str]] = {
    "tokenizer": (
        "tokenizers",
        lambda home: spoil(home.tokenizer("small") / "bpe.txt"),
        "bpe.txt",
    ),
    "tokenizer_of_a_run": (
        "tokenizers",
        lambda home: (home.run("mine") / "tokenizer" / "manifest.json").write_text("{}") and None,
        "manifest.json",
    ),
    "changed_split": (
        "data",
        lambda home: spoil(home.data("synthetic") / "new_numbers.jsonl"),
        "another SHA-256",
    ),
    "cut_split": (
        "data",
        lambda home: (home.data("synthetic") / "more_steps.jsonl").write_text("") and None,
        "has 0 bytes",
    ),
    "absent_split": (
        "data",
        lambda home: (home.data("synthetic") / "train.jsonl").unlink(),
        "is missing",
    ),
    "data_manifest": (
        "data",
        lambda home: (home.data("synthetic") / MANIFEST_NAME).write_text("[]") and None,
        "is not a manifest",
    ),
    "weights": (
        "checkpoint",
        lambda home: spoil(home.stage("mine", "base") / "step_000002" / "model.safetensors"),
        "differs from its manifest",
    ),
    "checkpoint_manifest": (
        "checkpoint",
        lambda home: spoil(home.stage("mine", "base") / "step_000002" / "manifest.json"),
        "is damaged",
    ),
}


@pytest.mark.parametrize("name", SPOILED)
def test_a_damaged_file_is_a_failure_of_its_check_alone(home: Home, name: str) -> None:
    check, damage, words = SPOILED[name]
    before = examined(home)
    damage(home)
    after = examined(home)
    assert after[check].status is Status.FAILURE
    assert words in after[check].sentence
    assert after[check].way_out
    changed = [key for key in after if after[key].status is not before[key].status]
    assert changed == [check]


@pytest.mark.parametrize(
    ("damage", "words"), [("change", "not what was written"), ("lose", "lacks")]
)
def test_a_damaged_corpus_is_a_failure(home: Home, damage: str, words: str) -> None:
    folder = home.corpus("small")
    folder.mkdir(parents=True)
    files = []
    for name in ("shard_00000.bin", "documents.bin"):
        (folder / name).write_bytes(b"0123456789")
        files.append({"file": name, "sha256": sha256_of(folder / name)})
    splits = {"train": {"shards": files[:1], "offsets": files[1]}}
    index = {"format": FORMAT, "version": VERSION, "splits": splits}
    (folder / INDEX_NAME).write_text(json.dumps(index))
    assert examined(home)["corpora"].status is Status.OK
    if damage == "change":
        spoil(folder / "shard_00000.bin")
    else:
        (folder / "documents.bin").unlink()
    finding = examined(home)["corpora"]
    assert finding.status is Status.FAILURE
    assert words in finding.sentence
    assert finding.way_out


def test_an_unreadable_folder_is_a_failure(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(doctor_files, "sha256_of", refuse)
    finding = examined(home)["data"]
    assert finding.status is Status.FAILURE
    assert "Permission denied" in finding.sentence


def test_a_torch_that_cannot_be_loaded_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise OSError("libcudart.so.13: cannot open shared object file\nmore")

    monkeypatch.setattr(doctor_machine.importlib, "import_module", refuse)
    status, sentence, way_out = doctor_machine.check_torch()
    assert status == "failure"
    assert sentence.endswith("cannot open shared object file")
    assert way_out


def test_what_needs_a_missing_library_is_not_applicable(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def guarded(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "aquachat.world":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", guarded)
    finding = examined(home)["device"]
    assert (finding.status, finding.sentence) == (
        Status.NOT_APPLICABLE,
        "`torch` cannot be loaded",
    )


@pytest.mark.parametrize("version", ["2.5.1", "1.13.0+cpu"])
def test_an_old_torch_is_a_failure(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    fake = SimpleNamespace(__version__=version)
    monkeypatch.setattr(doctor_machine.importlib, "import_module", lambda name: fake)
    assert doctor_machine.check_torch()[0] == "failure"


def test_an_old_python_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_machine.sys, "version_info", (3, 10, 2))
    assert doctor_machine.check_python()[0] == "failure"


def test_an_absent_device_is_a_failure_and_holds_no_model(home: Home) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    recipe = replace(tiny(), run=replace(tiny().run, device="cuda"))
    found = examine(home, recipe, "tiny", environ={}, key_names={})
    by_name = {finding.check: finding for finding in found}
    assert by_name["device"].status is Status.FAILURE
    assert by_name["memory"].status is Status.NOT_APPLICABLE


def test_a_gpu_that_torch_does_not_see_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    monkeypatch.setattr(doctor_machine.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert doctor_machine.check_device("auto")[0] == "warning"
    assert doctor_machine.check_device("cpu")[0] == "ok"  # as it was asked


@pytest.mark.parametrize(
    ("there", "status"), [(10**8, "failure"), (650 * 10**6, "warning"), (10**12, "ok")]
)
def test_memory_is_held_against_the_preset(
    monkeypatch: pytest.MonkeyPatch, there: int, status: str
) -> None:
    monkeypatch.setattr(doctor_machine, "memory_bytes", lambda: there)
    recipe = replace(tiny(), run=replace(tiny().run, device="cpu", dtype="float32"))
    assert doctor_machine.check_memory(recipe, "tiny")[0] == status


def test_disk_is_held_against_the_preset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed = doctor_machine.disk_bytes(tiny())

    def status(free: int) -> str:
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda path: usage)
        return doctor_machine.check_disk(tmp_path / "not" / "yet", tiny(), "tiny")[0]

    assert [status(needed - 1), status(needed), status(2 * needed)] == ["failure", "warning", "ok"]


def test_a_larger_preset_needs_more_disk() -> None:
    presets = ("tiny", "d8", "d12", "d20")
    sizes = [doctor_machine.disk_bytes(resolve(preset_layers(name)).recipe) for name in presets]
    assert sizes == sorted(sizes)
    assert sizes[0] < 10**9 < sizes[1]


def test_a_missing_extension_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError("no module")

    monkeypatch.setattr(doctor_machine.importlib, "import_module", refuse)
    assert doctor_machine.check_extension()[0] == "warning"


def test_an_extension_that_learns_wrongly_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Tokenizer.train_from_iterator(["x"], 265)
    monkeypatch.setattr(Tokenizer, "train_from_iterator", lambda *_, **__: wrong)
    assert doctor_machine.check_extension()[0] == "failure"


@pytest.mark.parametrize(
    ("isolation", "tasks", "status"),
    [
        ("namespaces", ["HUMANEVAL"], "ok"),
        ("limits", ["HUMANEVAL"], "warning"),
        ("none", ["AQUA"], "warning"),
        ("none", ["HumanEval"], "failure"),
    ],
)
def test_the_sandbox_matters_where_programs_are_run(
    monkeypatch: pytest.MonkeyPatch, isolation: Any, tasks: list[str], status: str
) -> None:
    found = SandboxCapabilities(isolation, ("no seccomp: refused",))
    monkeypatch.setattr(runner, "sandbox_capabilities", lambda: found)
    recipe = replace(tiny(), eval=EvalRecipe(tasks=tasks))
    assert doctor_machine.check_sandbox(recipe)[0] == status


def test_missing_programs_are_named(tmp_path: Path) -> None:
    program = tmp_path / "git"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    status, sentence, way_out = doctor_machine.check_programs({"PATH": str(tmp_path)})
    assert status == "warning"
    assert sentence.endswith("lacks `ssh` and `tmux`")
    assert way_out == "install `ssh` and `tmux`"


CREDENTIALS = {
    "hugging face": ({"HF_TOKEN": SECRET}, "HF_TOKEN is set"),
    "wandb": ({"WANDB_API_KEY": SECRET}, "WANDB_API_KEY is set"),
    "lambda key": ({"LAMBDA_API_KEY": SECRET}, "LAMBDA_API_KEY is set"),
}


@pytest.mark.parametrize("check", CREDENTIALS)
def test_a_credential_is_named_and_never_shown(home: Home, check: str) -> None:
    assert examined(home)[check].status is Status.WARNING
    environ, sentence = CREDENTIALS[check]
    found = examined(home, **environ)
    assert (found[check].status, found[check].sentence) == (Status.OK, sentence)
    assert SECRET not in json.dumps([finding.to_json() for finding in found.values()])


def test_logins_of_the_tools_count(home: Home) -> None:
    (home.root / ".netrc").write_text(f"machine api.wandb.ai login user password {SECRET}\n")
    token = home.root / ".cache" / "huggingface" / "token"
    token.parent.mkdir(parents=True)
    token.write_text(SECRET)
    found = examined(home)
    assert found["wandb"].status is found["hugging face"].status is Status.OK
    assert SECRET not in json.dumps([finding.to_json() for finding in found.values()])


@pytest.mark.parametrize("value", ["short", "two words here", "schlüssel-schlüssel"])
def test_a_value_that_cannot_be_a_key_is_a_failure_and_is_not_shown(value: str) -> None:
    said = doctor_files.check_key("lambda", ["LAMBDA_API_KEY"], {"LAMBDA_API_KEY": value})
    assert said[0] == "failure"
    assert value not in str(said)
