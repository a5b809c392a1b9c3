"""`docs/metrics.md` has every metric that the code logs, and none that it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import aquachat

PACKAGE = Path(aquachat.__file__).parent
PAGE = (Path(__file__).parents[1] / "docs/metrics.md").read_text(encoding="utf-8")
READERS = ("track", "cli")
"""Parts that read metrics; the others write them."""
FAMILIES = (
    *("train", "val", "eval", "data", "core", "chatcore", "rl", "attn"),
    *("rows", "bytes_per_token"),
)
"""What a metric begins with."""
WHAT_A_PATTERN_STANDS_FOR = {
    "letter": "LETTER",
    "task.name": "TASK",
    "task.name.lower().replace('-', '_')": "TASK",
    "r.dataset": "DATASET",
    "source": "SOURCE",
    "name": "SOURCE",
}
NO_METRICS = {
    "data/catalogue.py",  # addresses on a hub
    "data/sources.py",  # places in a folder of data sets
    "pipeline/preparing.py",  # core/core.yaml, a file
}
NOT_LOGGED = "## Read by the report, logged by no stage yet"

_KEY = re.compile(rf"(?:{'|'.join(FAMILIES)})(?:/[A-Za-z0-9_]+)+|(?:core|chatcore)/[a-z_]+")


def _text_of(node: ast.AST) -> str | None:
    """A string; the places of an f-string named as the page names them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if not isinstance(node, ast.JoinedStr):
        return None
    pieces = []
    for part in node.values:
        if isinstance(part, ast.Constant):
            pieces.append(str(part.value))
        elif isinstance(part, ast.FormattedValue):
            source = ast.unparse(part.value)
            pieces.append(WHAT_A_PATTERN_STANDS_FOR.get(source, f"<{source}>"))
    return "".join(pieces)


def _keys_of(file: Path) -> Iterator[str]:
    """The metrics that a module names, each of both prefixes of `CentredScore`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        text = _text_of(node)
        if text is None:
            continue
        for prefix in ("core", "chatcore") if "<self.prefix>" in text else ("",):
            key = text.replace("<self.prefix>", prefix)
            if _KEY.fullmatch(key) and not key.endswith("_"):  # not the beginning of several
                yield re.sub(r"^eval/[a-z_]+_accuracy$", "eval/TASK_accuracy", key)


def _found(*, reading: bool) -> dict[str, str]:
    """Metric -> a module that names it."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        name = file.relative_to(PACKAGE).as_posix()
        if name in NO_METRICS or (name.split("/")[0] in READERS) is not reading:
            continue
        found |= dict.fromkeys(_keys_of(file), name)
    return found


def _documented(text: str) -> set[str]:
    """The metrics in the first column of the tables, and those in sentences."""
    return {name for name in re.findall(r"`([^`\n]+)`", text) if _KEY.fullmatch(name)}


LOGGED_PART, _, WAITING_PART = PAGE.partition(NOT_LOGGED)


def test_every_metric_that_is_logged_has_its_row() -> None:
    missing = {k: v for k, v in _found(reading=False).items() if k not in _documented(LOGGED_PART)}
    assert not missing


def test_every_metric_that_is_read_is_on_the_page() -> None:
    missing = {k: v for k, v in _found(reading=True).items() if k not in _documented(PAGE)}
    assert not missing


def test_the_page_names_no_metric_that_the_code_does_not() -> None:
    assert _documented(LOGGED_PART) <= _found(reading=False).keys()
    assert _documented(WAITING_PART) <= _found(reading=True).keys() - _found(reading=False).keys()


def test_every_row_has_a_formula_and_a_unit() -> None:
    rows = [line for line in LOGGED_PART.splitlines() if line.startswith("| `")]
    assert len(rows) > 30
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split(" | ")]
        assert len(cells) == 3, row
        assert all(cells), row


def test_the_reader_of_the_code_finds_what_is_known_to_be_there() -> None:
    found = _found(reading=False)
    assert {
        "train/loss",
        "val/bpb",
        "rl/acc",
        "rl/letter_fraction/LETTER",
        "data/epochs/SOURCE",
        "core/metric",
        "chatcore/TASK",
        "eval/TASK_accuracy",
        "rows/DATASET",
    } <= found.keys()
