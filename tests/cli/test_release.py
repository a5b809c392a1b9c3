"""sync-hf from the command line, against a hub on loopback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from aquachat.paths import Home
from aquachat.train.lineage import find_origin, load_model
from tests.cli.programs import Cli
from tests.hub.fake_hub import TOKEN, FakeHub
from tests.pipeline.programs import Program

REPO = "someone/aqua"
README = """# My project
See [the guide](docs/guide.md "how") and ![a plot](<docs/my plot.png>), under [a licence](LICENSE).
"""


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub().serving() as serving:
        yield serving


@pytest.fixture(autouse=True)
def _no_transfer_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", "/nonexistent/token")


def write_project(folder: Path) -> None:
    (folder / "README.md").write_text(README)
    (folder / "LICENSE").write_text("MIT License\n\nCopyright someone\n")
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "guide.md").write_text("Read this.\n")
    (folder / "docs" / "my plot.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")


@pytest.fixture
def project(cli: Cli) -> Cli:
    """A folder to release, without any run."""
    write_project(cli.folder)
    return cli


def tree(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def sync(cli: Cli, hub: FakeHub, *arguments: str, code: int = 0, token: str = TOKEN) -> Any:
    outcome = cli("sync-hf", *arguments, code=code, HF_ENDPOINT=hub.url, HF_TOKEN=token)
    assert TOKEN not in outcome.stdout + outcome.stderr
    return outcome


def test_the_readme_and_what_it_links_to_is_staged_without_a_hub(project: Cli):
    outcome = project("sync-hf", "--no-push", code=0)
    staged = project.folder / "hf_release"
    assert tree(staged) == {
        *("README.md", "LICENSE", "SHA256SUMS", ".aquachat-release.json"),
        *("docs/guide.md", "docs/my plot.png"),
    }
    assert (staged / "README.md").read_text() == README
    assert "warning" not in outcome.stderr


def test_missing_files_are_warned_of_each_and_stop_an_upload(project: Cli, hub: FakeHub):
    (project.folder / "LICENSE").unlink()
    (project.folder / "docs" / "guide.md").unlink()
    outcome = project("sync-hf", "--no-push", code=0)
    assert "warning: `docs/guide.md` is missing" in outcome.stderr
    assert "warning: `LICENSE` is missing" in outcome.stderr
    arguments = ("--repo-id", REPO, "--yes")
    outcome = sync(project, hub, *arguments, code=1)
    assert "2 files are missing" in outcome.stderr
    assert hub.repositories == {}
    sync(project, hub, *arguments, "--allow-missing")
    assert "docs/my plot.png" in hub.repository(REPO).head.files


def test_a_licence_that_nothing_links_to_is_only_missed(project: Cli, hub: FakeHub):
    (project.folder / "LICENSE").unlink()
    (project.folder / "README.md").write_text("# Hi\n")
    outcome = sync(project, hub, "--repo-id", REPO, "--yes")
    assert "warning: there is no `LICENSE`" in outcome.stderr
    assert "README.md" in hub.repository(REPO).head.files


def test_a_dry_run_without_a_token_says_that_it_did_not_compare(project: Cli, hub: FakeHub):
    outcome = sync(project, hub, "--repo-id", REPO, "--dry-run", "--json", token="")
    assert "not compared with the hub" in outcome.stderr
    assert json.loads(outcome.stdout)["plan"]["add"] == [
        *("LICENSE", "README.md", "SHA256SUMS", "docs/guide.md", "docs/my plot.png")
    ]
    assert hub.requests == []


def test_a_dry_run_writes_nothing_here_or_there(trained: Cli, hub: FakeHub, tmp_path: Path):
    folder = tmp_path / "project"
    folder.mkdir()
    write_project(folder)
    before = tree(trained.folder) | tree(folder)
    arguments = ("--readme", str(folder / "README.md"), "--run", "whole", "--dry-run")
    arguments = (*arguments, "--release-dir", str(folder / "hf_release"), "--json")
    outcome = sync(trained, hub, *arguments, "--repo-id", REPO)
    document = json.loads(outcome.stdout)
    assert "model.safetensors" in document["plan"]["add"]
    assert (document["private"], document["pushed"], document["dry_run"]) == (True, False, True)
    assert tree(trained.folder) | tree(folder) == before
    assert hub.repositories == {}
    assert not {"create", "commit"} & set(hub.requests)


def test_a_run_is_released_whole_and_a_second_time_nothing_is_uploaded(
    trained: Cli, hub: FakeHub, tmp_path: Path
):
    folder = tmp_path / "project"
    folder.mkdir()
    write_project(folder)
    arguments = (
        *("--readme", str(folder / "README.md"), "--release-dir", str(folder / "hf_release")),
        *("--run", "whole", "--from", "sft", "--repo-id", REPO, "--tag", "v1", "--yes", "--json"),
    )
    first = json.loads(sync(trained, hub, *arguments).stdout)
    repository = hub.repository(REPO)
    assert repository.private
    assert repository.tags == {"v1": first["commit"]}
    assert len(repository.commits) == 2
    files = repository.head.files
    assert {"config.json", "tokenizer.json", "aquachat.json", "LICENSE"} <= set(files)
    assert "training/recipe.toml" in files
    card = files["README.md"].decode()
    assert card.endswith(README)
    evaluated = [name for name in files if name.startswith("eval/sft@8-")]
    assert evaluated
    assert not [name for name in files if "predictions" in name or "rl@8" in name]
    assert all(Path(name).stem.replace("@", "%40") in card for name in evaluated)
    again = json.loads(sync(trained, hub, *arguments).stdout)
    assert (again["commit"], again["pushed"]) == (first["commit"], False)
    assert len(repository.commits) == 2
    # What was released can be downloaded, and is the model.
    model = tmp_path / "downloaded"
    for name, content in files.items():
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_bytes(content)
    trained("import", str(model), "--run", "from-hub", code=0)
    home = Home(trained.home)
    ours, theirs = (
        load_model(find_origin("sft", home, run), torch.device("cpu")).model.state_dict()
        for run in ("whole", "from-hub")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    shutil.rmtree(home.run("from-hub"))


def test_an_export_is_released_by_its_folder(trained: Cli, hub: FakeHub, tmp_path: Path):
    made = tmp_path / "model"
    trained("export", "--run", "whole", "--output", str(made), "--no-verify", code=0)
    staged = tmp_path / "hf_release"
    arguments = ("--model-dir", str(made), "--readme", str(tmp_path / "README.md"))
    sync(trained, hub, *arguments, "--release-dir", str(staged), "--no-push")
    assert {"model.safetensors", "README.md", "aquachat.json"} <= tree(staged)
    assert any(name.startswith("eval/rl@8") for name in tree(staged))


def test_what_is_asked_is_answered_in_a_terminal_or_by_a_flag(project: Cli, hub: FakeHub):
    outcome = sync(project, hub, "--repo-id", REPO, code=2)
    assert "make the private repository `someone/aqua` and add 5, change 0" in outcome.stderr
    assert "--yes" in outcome.stderr
    assert hub.repositories == {}


def test_extra_files_are_added_by_the_same_rules(project: Cli):
    (project.folder / "more").mkdir()
    (project.folder / "more" / "a.txt").write_text("a")
    (project.folder / ".env").write_text("SECRET=1")
    project("sync-hf", "--no-push", "--extra", "more/*.txt", code=0)
    assert "more/a.txt" in tree(project.folder / "hf_release")
    for pattern, sentence in (
        ("../*", "no file matches"),
        ("none/*", "no file matches"),
        (".env", "is hidden"),
    ):
        outcome = project("sync-hf", "--no-push", "--extra", pattern, code=1)
        assert sentence in outcome.stderr


def test_what_cannot_be_released_is_one_sentence(project: Cli, hub: FakeHub):
    cases = [
        (("--repo-id", "aqua"), 2, "`aqua` is not the name of a repository"),
        (("--repo-id", "a/b/c"), 2, "is not the name of a repository"),
        ((), 2, "there is no repository to upload to"),
        (("--repo-type", "bucket", "--no-push"), 2, "no repository type `bucket`"),
        (("--no-push", "--readme", "none.md"), 1, "there is no `none.md` to release"),
        (("--no-push", "--release-dir", "."), 2, "holds the project itself"),
        (("--no-push", "--run", "nowhere"), 1, "there is no run `nowhere`"),
        (("--no-push", "--model-dir", "docs"), 1, "`docs` is no export"),
    ]
    for arguments, code, sentence in cases:
        outcome = sync(project, hub, *arguments, code=code)
        assert sentence in outcome.stderr, outcome
        assert "Traceback" not in outcome.stderr
    outcome = sync(project, hub, "--repo-id", REPO, "--yes", code=3, token="")
    assert "hf auth login" in outcome.stderr
    outcome = sync(project, hub, "--repo-id", REPO, "--yes", code=4, token="hf_" + "wrong" * 8)
    assert "the hub answered 401" in outcome.stderr
    assert hub.repositories == {}


@pytest.mark.parametrize("name", ["README.md", "LICENSE"])
def test_a_readme_or_licence_that_leads_elsewhere_is_not_released(project: Cli, name: str):
    file = project.folder / name
    elsewhere = file.rename(project.folder / "docs" / "elsewhere")
    file.symlink_to(elsewhere)
    outcome = project("sync-hf", "--no-push", code=1)
    assert "symbolic link" in outcome.stderr
    assert not (project.folder / "hf_release").exists()


def test_a_secret_in_a_linked_file_stops_the_release(project: Cli, hub: FakeHub):
    guide = project.folder / "docs" / "guide.md"
    guide.write_text(f"line one\nuse {TOKEN}\n")
    outcome = sync(project, hub, "--repo-id", REPO, "--yes", code=1)
    assert "line 2 of `docs/guide.md` holds" in outcome.stderr
    assert not (project.folder / "hf_release").exists()
    assert hub.requests == []


def test_the_installed_program_talks_to_the_hub_that_the_environment_names(
    hub: FakeHub, tmp_path: Path
):
    program = Program(tmp_path)
    write_project(tmp_path)
    program.environ |= {
        **{"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1"},
        **{"HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1"},
    }
    document = program.run_json("sync-hf", "--repo-id", REPO, "--yes")
    assert document["pushed"]
    assert hub.repository(REPO).head.oid == document["commit"]
    assert not program.run_json("sync-hf", "--repo-id", REPO)["pushed"]
