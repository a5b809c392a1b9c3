from __future__ import annotations

import json
from pathlib import Path

import pytest

from aquachat.tasks.rationale_report import main


def _row(rationale: str, *options: str, question: str = "How far?") -> str:
    letters = "ABCDE"
    listed = [f"{letter})" + text for letter, text in zip(letters, options, strict=False)]
    return json.dumps(
        {"question": question, "options": listed, "rationale": rationale, "correct": "A"}
    )


def test_the_table_counts_steps_and_letters(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        _row("2 + 2 = 4 and 22/7 = 3.14; 3*3 = 10\nAnswer: A", "4", "5"),
        _row("Option B is 1/2 + 1/4 = 3/4, too small. Then 15/2 = 7 1/2.", "4", "5"),
        _row("", "A", "B", "Both A and B", question="A and B race. Who wins?"),
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(rows))
    assert main([str(file), str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| | rows.jsonl | rows.jsonl |"
    found = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in lines[2:]}
    assert list(found.values()) == [
        *("3", "1", "1", "1", "1"),
        *("5", "1", "1", "1", "1", "1"),
        *("2", "1"),
    ]


def test_a_file_that_is_not_there_ends_with_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 2
    assert main([str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err


@pytest.mark.long
def test_the_page_about_mixtures_has_the_table_that_is_printed(
    real_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ("aqua/dev.json", "aqua/flan_cot_train.jsonl", "mathqa/mathqa_dev_test.jsonl")
    assert main([str(real_data / file) for file in files]) == 0
    printed = capsys.readouterr().out.splitlines()[2:]
    page = (Path(__file__).parents[2] / "docs" / "mixtures.md").read_text("utf-8")
    assert "\n".join(printed) in page
