"""The commands of the README and of the pages under `docs/` do what is written there.

Every command of a ```bash block is called in this process, in order, with the micro settings in
place of the preset's. A block with a line `<!-- test: REASON -->` before it needs what a test
cannot have (a GPU, the network, data, an installation): its commands are only dry-run.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from aquachat.cli.processes import without_num_processes
from tests.cli.programs import Cli, Outcome

ROOT = Path(__file__).parents[1]
FIRST = ("README.md", "docs/quickstart.md", "docs/configuration.md", "docs/pipeline.md")
"""In this order, since their commands make the runs that those of later pages use."""
GENERATED = {"docs/cli.md"}
PAGES = (
    *FIRST,
    *(
        name
        for page in sorted((ROOT / "docs").glob("*.md"))
        if (name := f"docs/{page.name}") not in {*FIRST, *GENERATED}
    ),
)
PROSE = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(
        f"docs/{page.name}"
        for page in sorted((ROOT / "docs").glob("*.md"))
        if page.name != "cli.md"
    ),
)
REASONS = {
    "needs gpu",
    "needs network",
    "needs data",
    "needs mine.toml",
    "needs docker",
    "needs a rented machine",
    "needs a run",
    "goes on until it is stopped",
    "installs",
}
NOT_RUN = {"needs docker", "needs a rented machine", "installs"}
"""Their other commands are not of this program and cannot be checked here."""
PARSED = {"serve", "import", "export", "sync-hf", "artifacts", "doctor", "report", "runs"}
"""Commands without a dry run of their own."""
MAX_COLUMNS = 120

_BLOCK = re.compile(
    r"^(?:<!-- test: (?P<reason>[^>]*) -->\n)?```bash\n(?P<text>.*?)^```$", re.M | re.S
)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_PATH = re.compile(r"`((?:docs|aquachat|tests|tokenizer-rs|\.ci)/[\w./-]*|[A-Z][A-Za-z]*\.md)`")


@dataclass(frozen=True, slots=True)
class Line:
    """One command of a page."""

    page: str
    words: tuple[str, ...]
    reason: str | None

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands_of(page: str) -> Iterator[Line]:
    """The commands of a page; one that a quotation or a backslash continues is one command."""
    for block in _BLOCK.finditer((ROOT / page).read_text(encoding="utf-8")):
        pending = ""
        for line in block["text"].splitlines():
            pending += line
            if pending.endswith("\\"):
                pending = pending[:-1]
                continue
            try:
                words = shlex.split(pending, comments=True)
            except ValueError:  # no closing quotation yet
                pending += "\n"
                continue
            pending = ""
            if words:
                yield Line(page, tuple(words), block["reason"])
        assert not pending, f"a command of {page} does not end: {pending}"


COMMANDS = [line for page in PAGES for line in commands_of(page)]
RUN = [line for line in COMMANDS if line.words[0] == "aquachat" and line.reason is None]
DRY = [line for line in COMMANDS if line.words[0] == "aquachat" and line.reason is not None]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Every command that can be run, run once, in the order of the pages."""
    cli = Cli(tmp_path_factory.mktemp("readme"))
    found: dict[str, Outcome] = {}
    for line in RUN:
        key = " ".join(line.words)
        if key not in found:
            found[key] = cli(*_with_micro_settings(line.words[1:]))
    return found


def _with_micro_settings(words: tuple[str, ...]) -> list[str]:
    """The same command on a model so small that a stage takes a second."""
    has_config = words[0] in ("prepare", "tokenize", "train", "rl", "eval", "run")
    # A command that names no preset goes on with a run, whose recorded settings are micro already.
    names_preset = words[0] == "run" or "--preset" in words or words[0] == "prepare"
    extra = ["--config", "micro.toml"] if has_config and names_preset else []
    return [*words, *extra]


@pytest.mark.parametrize("line", RUN, ids=str)
def test_a_command_of_the_pages_works(results: dict[str, Outcome], line: Line) -> None:
    outcome = results[" ".join(line.words)]
    assert outcome.code == 0, outcome
    assert outcome.stdout or "--output" in line.words
    if "--json" in line.words:
        json.loads(outcome.stdout)


@pytest.fixture(scope="module")
def home_with_a_run(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """What a dry run of `eval` reads its settings from."""
    cli = Cli(tmp_path_factory.mktemp("trained"))
    for words in ("prepare synthetic", "tokenize --preset tiny", "train base --preset tiny"):
        cli(*words.split(), "--config", "micro.toml", code=0)
    return cli


@pytest.mark.parametrize("line", DRY, ids=str)
def test_a_command_that_needs_more_is_understood(
    tmp_path: Path, home_with_a_run: Cli, line: Line
) -> None:
    assert line.reason in REASONS
    if line.words[1] in PARSED:  # that its flags exist; what it does is tested elsewhere
        home_with_a_run(*line.words[1:], "--help", code=0)
        return
    if line.words[1] == "eval":
        home_with_a_run(*line.words[1:], "--dry-run", code=0)
        return
    cli = Cli(tmp_path)
    (tmp_path / "mine.toml").write_text(_toml_blocks("docs/quickstart.md")[0])
    if line.words[1] == "launch":  # nobody is asked; see tests/cli/test_launch_order.py
        check_launch(cli, line.words[1:])
        return
    words = without_num_processes(line.words[1:])  # torchrun would start them
    cli(*words, *([] if "--dry-run" in words else ["--dry-run"]), code=0)


def check_launch(cli: Cli, words: Sequence[str]) -> None:
    """Without a key nothing can be ordered, without a job nothing be shown."""
    if words[1] == "host":
        own = words.index("--") if "--" in words else len(words)  # what follows runs there
        cli(*words[:own], "--dry-run", *words[own:], code=0)
    elif words[1] == "logs":
        assert "no job was begun" in cli(*words, code=1).stderr
    else:
        stderr = cli(*words, code=2).stderr
        assert re.search("there is no key of a provider|needs a key", stderr)


def test_other_commands_are_ones_that_a_test_knows() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for line in COMMANDS:
        program, *arguments = line.words
        if program == "make":
            assert set(arguments) <= targets, line
        elif program != "aquachat" and line.reason not in NOT_RUN:
            known = ["source .venv/bin/activate", "python3 -m venv .venv", "pip install ."]
            assert " ".join(line.words) in known, line


@pytest.mark.parametrize("page", PAGES)
def test_commands_stand_where_the_tests_find_them(page: str) -> None:
    """Not in blocks that are only indented, nor in ones of another language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    outside = _BLOCK.sub("", text)
    found = re.findall(r"^ *(?:\$ )?(?:aquachat|make|pip|python3?|docker) \S.*$", outside, re.M)
    in_prose = [line for line in found if not line.startswith(" ")]
    for language in re.findall(r"^```(\S*)\n.*?^```$", outside, re.M | re.S):
        assert language not in {"sh", "shell", "console"}, page
    assert not [line for line in found if line not in in_prose], page


def test_the_readme_begins_with_the_demo_and_the_tests() -> None:
    lines = [" ".join(line.words) for line in commands_of("README.md")]
    assert lines[:2] == ["make demo", "make test"]


def _toml_blocks(page: str) -> list[str]:
    return re.findall(r"^```toml\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)


@pytest.mark.parametrize("page", ["docs/quickstart.md", "docs/configuration.md"])
def test_the_toml_of_a_page_is_understood(tmp_path: Path, page: str) -> None:
    cli = Cli(tmp_path)
    for text in _toml_blocks(page):
        (tmp_path / "example.toml").write_text(text)
        outcome = cli("run", "tiny", "--config", "example.toml", "--dry-run", "--json", code=0)
        assert "example.toml" in json.loads(outcome.stdout)["origins"].values()


@pytest.mark.parametrize("page", PROSE)
def test_links_and_named_files_exist(page: str) -> None:
    path = ROOT / page
    text = path.read_text(encoding="utf-8")
    for target in _LINK.findall(text):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        linked = path.parent / file if file else path
        assert linked.exists(), f"{page} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", linked.read_text(encoding="utf-8"), re.M)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
    for name in _PATH.findall(text):
        assert (ROOT / name).exists() or (path.parent / name).exists(), f"{page} names {name}"


@pytest.mark.parametrize("page", PROSE)
def test_lines_are_not_too_long(page: str) -> None:
    for number, line in enumerate((ROOT / page).read_text(encoding="utf-8").splitlines(), start=1):
        is_table = line.startswith("|")  # a row of a table cannot be broken
        assert is_table or len(line) <= MAX_COLUMNS, f"{page}:{number}"


def test_the_template_of_env_names_variables_without_values() -> None:
    template = (ROOT / ".env.template").read_text(encoding="utf-8")
    names = re.findall(r"^#?([A-Z_]+)=(.*)$", template, re.M)
    assert {"HF_TOKEN", "WANDB_API_KEY"} <= {name for name, _ in names}
    assert all(value == "" for _, value in names)
    documented = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in documented for name, _ in names)
