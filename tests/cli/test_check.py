"""`aquachat prepare --check`, and what `prepare` says about contamination."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.programs import Cli
from tests.data.hygiene.questions import REAL_LIKE, generated_questions


def write_pool(folder: Path) -> Path:
    folder.mkdir()
    rows = {
        "train": [*generated_questions(40), f"{REAL_LIKE[0]} <script>", REAL_LIKE[1]],
        "dev": REAL_LIKE,
    }
    for split, questions in rows.items():
        lines = [
            json.dumps(
                {
                    "question": question,
                    "options": ["A)4", "B)5", "C)6", "D)7", "E)80"],
                    "rationale": "It is so.",
                    "correct": "ABCDE"[number % 5],
                }
            )
            for number, question in enumerate(questions)
        ]
        (folder / f"{split}.json").write_text("\n".join(lines))
    return folder


@pytest.fixture
def prepared(cli: Cli) -> Cli:
    write_pool(cli.folder / "raw")
    outcome = cli("prepare", "aqua", "--source", "raw", code=0)
    assert (
        "aqua: left out 2 training rows that give evaluation questions away "
        "(1 near_evaluation_question, 1 in_evaluation_split)" in outcome.stderr
    )
    assert "aqua: held 8 training rows out, for `--task AQUA-HELDOUT`" in outcome.stderr
    return cli


def test_a_prepared_set_is_checked_and_the_files_are_named(prepared: Cli) -> None:
    outcome = prepared("prepare", "--check", "aqua", code=0)
    folder = prepared.home / "data" / "aqua"
    assert re.search(r"^train +32 ", outcome.stdout, re.MULTILINE)
    assert re.search(r"^heldout +8 ", outcome.stdout, re.MULTILINE)
    assert f"Report: `{folder / 'hygiene.json'}`, `{folder / 'hygiene.html'}`" in outcome.stdout
    assert outcome.stderr.splitlines()[-1] == "next: `aquachat eval --task AQUA-HELDOUT`"
    page = (folder / "hygiene.html").read_text()
    assert "://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", page)
    assert page.count("<svg") == 3


def test_the_document_is_what_is_written(prepared: Cli) -> None:
    outcome = prepared("prepare", "--check", "aqua", "--json", code=0)
    (document,) = json.loads(outcome.stdout)["datasets"]
    files = document.pop("files")
    assert json.loads(Path(files["json"]).read_text()) == document
    assert document["dataset"] == "aqua"
    assert document["splits"]["train"]["quarantined"]["near_evaluation_question"] == 1


def test_contaminated_rows_are_kept_where_asked_and_it_is_said(cli: Cli) -> None:
    write_pool(cli.folder / "raw")
    outcome = cli("prepare", "aqua", "--source", "raw", "--keep-contaminated", code=0)
    assert "aqua: kept 2 training rows that give evaluation questions away" in outcome.stderr
    outcome = cli("prepare", "--check", "aqua", code=0)
    assert "give questions of aqua/validation away" in outcome.stdout
    page = (cli.home / "data" / "aqua" / "hygiene.html").read_text()
    assert "&lt;script&gt;" in page
    assert "<script>" not in page


def test_findings_are_no_failure_but_an_absent_set_is(cli: Cli) -> None:
    outcome = cli("prepare", "--check", "aqua", code=1)
    assert "error: `aqua` is not prepared" in outcome.stderr
    assert "hint: run `aquachat prepare aqua`" in outcome.stderr
    assert outcome.stdout == ""
    outcome = cli("prepare", "--check", "aquaa", code=2)
    assert "hint: did you mean `aqua`?" in outcome.stderr
    outcome = cli("prepare", "--check", "aqua", "gsm8k", "--output-dir", "here", code=2)
    assert "check them one at a time" in outcome.stderr


def test_another_folder_can_be_checked(cli: Cli) -> None:
    write_pool(cli.folder / "raw")
    cli("prepare", "aqua", "--source", "raw", "--output-dir", "there", code=0)
    cli("prepare", "--check", "aqua", "--output-dir", "there", code=0)
    assert (cli.folder / "there" / "hygiene.json").is_file()
