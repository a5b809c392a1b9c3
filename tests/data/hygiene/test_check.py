from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from aquachat.data.hygiene.check import check_dataset
from aquachat.data.hygiene.report import HygieneReport
from aquachat.data.prepare import HygienePolicy, prepare_dataset, prepare_synthetic, prepare_text
from aquachat.errors import DataError, MissingFileError
from aquachat.text.long_text import PART_CHARS
from tests.data.hygiene.questions import REAL_LIKE, edited, generated_questions, restyled


def row(question: str, correct: str = "B", **changes: Any) -> dict[str, Any]:
    return {
        "question": question,
        "options": ["A)4", "B)5", "C)6", "D)7", "E)8"],
        "rationale": "It is so.",
        "correct": correct,
        **changes,
    }


def prepared(root: Path, name: str, policy: HygienePolicy | None = None, **splits: Any) -> Path:
    raw = root / "raw" / name
    raw.mkdir(parents=True, exist_ok=True)
    for split, rows in splits.items():
        (raw / f"{split}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    folder = root / "data" / name
    prepare_dataset(name, source=raw, output_dir=folder, policy=policy)
    return folder


def check(root: Path, name: str) -> HygieneReport:
    return check_dataset(root / "data" / name, root / "data")


KEEP = HygienePolicy(keep_contaminated=True, heldout_rows=0)


def test_planted_rows_are_reported_and_others_are_not(tmp_path: Path) -> None:
    rng = random.Random(11)
    planted = [
        *(restyled(q, rng) for q in REAL_LIKE),
        *(edited(q, count, rng) for q in REAL_LIKE for count in (1, 2, 3)),
    ]
    training = [*generated_questions(100), *planted]
    prepared(
        tmp_path,
        "aqua",
        KEEP,
        train=[row(q) for q in training],
        validation=[row(q) for q in REAL_LIKE],
    )
    report = check(tmp_path, "aqua")
    (leak,) = report.leaks
    assert (leak.split, leak.evaluation) == ("train", "aqua/validation")
    assert dict(leak.reasons) == {"in_evaluation_split": 5, "near_evaluation_question": 15}
    (overlap,) = report.overlaps
    assert (overlap.same_question, overlap.near_question) == (5, 15)
    assert report.keeps_contaminated
    assert "20 rows of train give questions of aqua/validation away" in report.findings[0]
    assert leak.examples[0]["row"] == 101


def test_what_prepare_removed_is_not_there_any_more(tmp_path: Path) -> None:
    rng = random.Random(11)
    planted = [edited(q, count, rng) for q in REAL_LIKE for count in (1, 2, 3)]
    training = [*generated_questions(100), *planted]
    folder = prepared(
        tmp_path,
        "aqua",
        train=[row(q) for q in training],
        validation=[row(q) for q in REAL_LIKE],
    )
    report = check(tmp_path, "aqua")
    assert report.leaks == ()
    assert {(o.same_question, o.near_question) for o in report.overlaps} == {(0, 0)}
    train, held_out = report.splits["train"], report.splits["heldout"]
    assert train.quarantined == {"near_evaluation_question": 15}
    assert (train.rows, held_out.rows) == (80, 20)
    lines = (folder / "rejected.jsonl").read_text().splitlines()
    rejected = [json.loads(line) for line in lines]
    assert rejected[0]["evaluation"]["split"] == "aqua/validation"
    assert rejected[0]["evaluation"]["jaccard"] >= 0.5
    assert [one["row"]["question"] for one in rejected] == planted


def test_evaluation_splits_of_other_sets_are_searched_for(tmp_path: Path) -> None:
    question = REAL_LIKE[1]
    rows = [{"question": q, "answer": "1 + 1 = 2\n#### 2"} for q in (question, "Another?")]
    prepared(tmp_path, "gsm8k", train=rows[1:], test=rows[:1])
    quoted = row("Another question?", rationale=f"As before: {question} So 5.")
    training = [row(q) for q in generated_questions(20)]
    whole = HygienePolicy(heldout_rows=0)
    prepared(tmp_path, "aqua", whole, train=[*training, quoted])
    report = check(tmp_path, "aqua")
    assert report.evaluation_splits == ("gsm8k/test",)
    assert [(leak.evaluation, leak.rows) for leak in report.leaks] == [("gsm8k/test", 1)]
    # With the folder of prepared sets, `prepare` leaves the row out, and says against what.
    guarded = HygienePolicy(tmp_path / "data", heldout_rows=0)
    folder = prepared(tmp_path, "aqua", guarded, train=[*training, quoted])
    assert check(tmp_path, "aqua").leaks == ()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [guard["split"] for guard in manifest["guards"]] == ["gsm8k/test"]
    assert manifest["splits"]["train"]["rejected"] == {"shares_evaluation_words": 1}


def test_documents_are_searched_as_a_stream(tmp_path: Path) -> None:
    prepared(tmp_path, "aqua", train=[row("Q 1?")], validation=[row(q) for q in REAL_LIKE])
    source = tmp_path / "text"
    source.mkdir()
    documents = [
        "A page about cows.",
        f"It is said: {REAL_LIKE[2]} Who knows?",
        "A page about cows.",
    ]
    lines = [json.dumps({"text": text}) for text in documents] + [json.dumps({"other": 1})]
    (source / "a.jsonl").write_text("\n".join(lines))
    prepare_text(source, tmp_path / "data" / "text")
    report = check(tmp_path, "text")
    train = report.splits["train"]
    assert (train.rows, train.unreadable, train.repeats.same_question) == (4, 1, 1)
    assert train.lengths["text"].maximum == len(documents[1])
    (leak,) = report.leaks
    assert (leak.evaluation, leak.rows, leak.examples[0]["row"]) == ("aqua/validation", 1, 2)
    assert leak.examples[0]["evaluation"]["row"] == 3


def test_a_document_in_parts_is_one_document(tmp_path: Path) -> None:
    prepared(tmp_path, "aqua", validation=[row(REAL_LIKE[2])])
    source = tmp_path / "text"
    source.mkdir()
    long = "A short word after another. " * (2 * PART_CHARS // 28)
    (source / "a.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in (long, f"We read: {REAL_LIKE[2]}"))
    )
    prepare_text(source, tmp_path / "data" / "text")
    report = check(tmp_path, "text")
    assert report.splits["train"].rows == 2
    assert [example["row"] for leak in report.leaks for example in leak.examples] == [2]


def test_conversations_are_searched_whole(tmp_path: Path) -> None:
    prepared(tmp_path, "aqua", train=[row("Q 1?")], validation=[row(q) for q in REAL_LIKE])
    messages = [
        {"role": "user", "content": "Help me: " + REAL_LIKE[0]},
        {"role": "assistant", "content": "40 s"},
    ]
    prepared(tmp_path, "chat", KEEP, train=[{"messages": messages}] * 2)
    report = check(tmp_path, "chat")
    assert [leak.rows for leak in report.leaks] == [2]
    assert report.splits["train"].repeats.same_question_and_options == 1


def test_letters_lengths_rationales_and_references_are_counted(tmp_path: Path) -> None:
    rows = [
        row("Q 1?", "A", options=["A)forty", "B)5", "C)6", "D)7", "E)8"]),
        row("Q 2?", "A", options=["A)fifty", "B)5", "C)6", "D)7", "E)All of the above"]),
        row("Q 3?", "A", rationale="2 + 3 = 5 km"),
        row("Q 4?", "A", rationale="2 + 3 = 5, hence 5 - 1 = 4\nAnswer: A"),
        row("Q 5 of A and B?", "C", options=["A)1", "B)2", "C)3", "D)4", "E)A and B"]),
    ]
    prepared(tmp_path, "aqua", KEEP, train=rows)
    train = check(tmp_path, "aqua").splits["train"]
    assert train.letters is not None
    assert dict(train.letters.observed) == {"A": 4, "B": 0, "C": 1, "D": 0, "E": 0}
    assert dict(train.letters.expected) == dict.fromkeys("ABCDE", 1.0)
    gold = train.gold_length
    assert gold is not None
    assert (gold.rows, gold.gold_is_longest, gold.expected) == (3, 1, pytest.approx(0.6))
    against = train.contradictions
    assert against is not None
    assert (against.stating_a_letter, against.naming_other_letter) == (1, 0)
    assert against.reaching_other_option == 1
    assert against.examples[0]["row"] == 3
    assert dict(train.option_references) == {"none": 3, "relabelled": 1, "kept_in_order": 1}
    assert train.lengths["option"].count == 25


def test_flaws_of_evaluation_rows_are_counted_and_no_row_is_lost(tmp_path: Path) -> None:
    rows = [
        row("Q 1?", options=["A)4", "B)4", "C)6", "D)7", "E)8"]),
        row("Q 2?", rationale="It is 6.\nAnswer: C"),
        row("Q 3?", "F"),
        row("Q 4?"),
    ]
    prepared(tmp_path, "aqua", train=[row("Other?")], validation=rows)
    validation = check(tmp_path, "aqua").splits["validation"]
    assert (validation.rows, validation.unreadable) == (4, 1)
    assert validation.flagged == {
        "equal_options": 1,
        "rationale_names_other_letter": 1,
        "gold_not_in_options": 1,
    }
    assert validation.contradictions is not None
    assert validation.contradictions.naming_other_letter == 1


def test_a_question_with_other_options_repeats_the_question_only(tmp_path: Path) -> None:
    options = ["A)9", "B)8", "C)7", "D)6", "E)5"]
    rows = [row("Q 1?"), row("q 1", "C"), row("Q 1?", options=options), row("Q 2?")]
    prepared(tmp_path, "aqua", KEEP, train=rows)
    repeats = check(tmp_path, "aqua").splits["train"].repeats
    assert (repeats.same_question, repeats.same_question_and_options) == (2, 1)
    assert (repeats.near_question, repeats.same_template) == (0, 4)


def test_the_generated_set_is_checked_too(tmp_path: Path) -> None:
    counts = {"train": 60, "new_numbers": 20}
    prepare_synthetic(tmp_path / "data" / "synthetic", 0, counts)
    report = check(tmp_path, "synthetic")
    assert [split.rows for split in report.splits.values()] == [60, 20]
    assert report.evaluation_splits == ("synthetic/new_numbers",)
    assert report.leaks == ()


def test_equal_sets_have_equal_reports(tmp_path: Path) -> None:
    prepared(tmp_path, "aqua", train=[row(q) for q in generated_questions(60)])
    one, other = (json.dumps(check(tmp_path, "aqua").to_json()) for _ in range(2))
    assert one == other


def test_a_set_that_is_not_prepared_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="`aqua` is not prepared") as caught:
        check(tmp_path, "aqua")
    assert caught.value.hint == "run `aquachat prepare aqua`"
    folder = prepared(tmp_path, "aqua", train=[row("Q?")])
    (folder / "train.jsonl").unlink()
    with pytest.raises(MissingFileError, match=r"train\.jsonl"):
        check(tmp_path, "aqua")
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(DataError):
        check(tmp_path, "aqua")


def test_progress_is_told_by_split(tmp_path: Path) -> None:
    prepared(tmp_path, "aqua", KEEP, train=[row(q) for q in generated_questions(30)])
    seen: list[tuple[str, int]] = []
    check_dataset(
        tmp_path / "data" / "aqua",
        tmp_path / "data",
        progress=lambda split, rows: seen.append((split, rows)),
    )
    assert seen == [("train", 30)]
