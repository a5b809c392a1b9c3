"""What ships the program says what it should: image, workflows, source distribution.

Neither Docker nor the workflows run here; `hadolint` and `actionlint` check them where a person
has these programs.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PINNED_TAG = re.compile(r"[\w.-]+/[\w.-]+@v\d+(?:\.\d+){0,2}")


def _instructions() -> list[tuple[str, str]]:
    """Keyword and arguments of each instruction, continued lines joined, comments left out."""
    lines = [line for line in DOCKERFILE.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.partition(" ") for line in joined.splitlines() if line.strip()]
    return [(keyword, rest.strip()) for keyword, _, rest in found]


def _stages() -> list[list[tuple[str, str]]]:
    """The instructions of each stage; what comes before the first is left out."""
    stages: list[list[tuple[str, str]]] = []
    for keyword, rest in _instructions():
        if keyword == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((keyword, rest))
    return stages


def _workflow(path: Path) -> dict[Any, Any]:
    document: dict[Any, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return document


def test_the_image_has_two_stages_and_ends_as_an_ordinary_user() -> None:
    build, final = _stages()
    assert build[0][1].endswith(" AS build")
    assert [rest for keyword, rest in final if keyword == "USER"] == ["1000"]
    position = [keyword for keyword, _ in final].index("USER")
    assert "RUN" not in [keyword for keyword, _ in final[position:]]
    assert "cargo" not in " ".join(rest for _, rest in final)


def test_the_image_has_torch_for_cpus_unless_another_index_is_named() -> None:
    _, final = _stages()
    arguments = [rest for keyword, rest in final if keyword == "ARG"]
    assert arguments == ["TORCH_INDEX=https://download.pytorch.org/whl/cpu"]
    bounds = next(name for name in PROJECT["project"]["dependencies"] if name.startswith("torch"))
    assert f"'{bounds}'" in DOCKERFILE


def test_base_images_are_the_same_and_named_by_version() -> None:
    images = {stage[0][1].split(" ")[0] for stage in _stages()}
    assert images == {"python:${PYTHON_VERSION}-slim-bookworm"}
    version = re.search(r"^ARG PYTHON_VERSION=3\.(\d+)$", DOCKERFILE, re.M)
    assert version is not None
    assert int(version[1]) >= 11


def test_what_the_image_copies_exists_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line[1:] for line in ignored if line.startswith("!")}
    assert ignored[1] == "*"  # everything else stays away, `.env` and data among it
    copied: set[str] = set()
    for keyword, rest in _stages()[0]:
        if keyword == "COPY":
            copied |= set(rest.split()[:-1])
    assert copied == sent
    assert all((ROOT / name).exists() for name in copied)
    assert "**/.env" in ignored


def test_one_version_of_rust_is_named_everywhere() -> None:
    cargo = tomllib.loads((ROOT / "tokenizer-rs/Cargo.toml").read_text(encoding="utf-8"))
    version = cargo["package"]["rust-version"]
    assert f"ARG RUST_VERSION={version}.0\n" in DOCKERFILE
    wheels = (ROOT / ".github/workflows/wheels.yml").read_text(encoding="utf-8")
    assert f'rust-toolchain: "{version}.0"' in wheels
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    (feature,) = container["features"].values()
    assert feature["version"] == f"{version}.0"


def test_the_container_of_an_editor_makes_a_target_of_the_makefile() -> None:
    container = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert container["remoteUser"] not in ("root", "")
    assert container["postCreateCommand"].endswith(".venv/.stamps/test")
    assert "$(STAMPS)/test: " in (ROOT / "Makefile").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_no_secret_and_may_only_read(path: Path) -> None:
    document = _workflow(path)
    assert "secrets." not in path.read_text(encoding="utf-8")
    assert document["permissions"] == {"contents": "read"}
    for job in document["jobs"].values():
        assert "permissions" not in job
        assert job["timeout-minutes"] <= 60
        for step in job["steps"]:
            if "uses" in step:
                assert PINNED_TAG.fullmatch(step["uses"]), step
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_the_tests_are_run_on_three_systems_and_the_oldest_python() -> None:
    matrix = _workflow(ROOT / ".github/workflows/ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    assert {name.split("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert PROJECT["project"]["requires-python"] == f">={matrix['python'][0]}"


def test_wheels_are_built_for_three_systems_and_kept() -> None:
    jobs = _workflow(ROOT / ".github/workflows/wheels.yml")["jobs"]
    names = {entry["name"] for entry in jobs["wheel"]["strategy"]["matrix"]["include"]}
    assert {name.split("-")[0] for name in names} == {"linux", "macos", "windows"}
    for job in jobs.values():
        used = [step.get("uses", "") for step in job["steps"]]
        assert any(name.startswith("PyO3/maturin-action@") for name in used)
        assert used[-1].startswith("actions/upload-artifact@")
    cargo = tomllib.loads((ROOT / "tokenizer-rs/Cargo.toml").read_text(encoding="utf-8"))
    assert "abi3-py311" in cargo["dependencies"]["pyo3"]["features"]


def test_the_source_distribution_has_the_man_page() -> None:
    (entry,) = PROJECT["tool"]["maturin"]["include"]
    assert entry["format"] == "sdist"
    assert (ROOT / entry["path"]).is_file()


def test_every_extra_is_bounded_and_documented() -> None:
    page = (ROOT / "docs/packaging.md").read_text(encoding="utf-8")
    for name, requirements in PROJECT["project"]["optional-dependencies"].items():
        assert f"| `{name}` |" in page
        assert all(re.search(r">=[\d.]+,<[\d.]+$", each) for each in requirements), name


@pytest.mark.parametrize(
    ("program", "files"),
    [("hadolint", [ROOT / "Dockerfile"]), ("actionlint", WORKFLOWS)],
    ids=["hadolint", "actionlint"],
)
def test_linters_find_nothing_where_they_are(program: str, files: list[Path]) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    done = subprocess.run([program, *map(str, files)], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
