from __future__ import annotations

import errno
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat import files
from aquachat.data.catalogue import HubSplit
from aquachat.data.manifest import read_manifest
from aquachat.data.prepare import HygienePolicy, prepare_dataset
from aquachat.data.sources import SplitFiles
from aquachat.data.split_writer import normalised_question
from aquachat.errors import ConfigError, DataError, MissingFileError, RemoteError


def row(question: str = "What is 2 + 3?", **changes: Any) -> dict[str, Any]:
    return {
        "question": question,
        "options": ["A)4", "B)5", "C)6", "D)7", "E)8"],
        "rationale": "2 + 3 = 5",
        "correct": "B",
        **changes,
    }


def write_rows(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [line if isinstance(line, str) else json.dumps(line) for line in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_deepminds_files_become_the_splits_and_a_manifest(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    write_rows(raw / "train.json", row("One?"), row("Two?", correct="C"))
    write_rows(raw / "dev.json", row("Three?"))
    write_rows(raw / "test.json", row("Four?"))
    report = prepare_dataset("aqua", source=raw, output_dir=out)
    assert sorted(snapshot(out)) == [
        "manifest.json",
        "rejected.jsonl",
        "test.jsonl",
        "train.jsonl",
        "validation.jsonl",
    ]
    first = read_lines(out / "train.jsonl")[0]
    assert first["question"] == "One?"
    assert first["options"][1] == "B)5"
    assert (first["correct"], first["answer_letter"], first["letters"]) == ("B", "B", list("ABCDE"))
    assert first["messages"][-1]["content"][-1] == {"type": "text", "text": "Answer: B"}
    train = report.splits["train"]
    assert (train.rows, train.rows_read, train.counts["letter"]) == (2, 2, {"B": 1, "C": 1})
    assert train.sha256 == hashlib.sha256((out / "train.jsonl").read_bytes()).hexdigest()
    assert train.sources[0].sha256 == files.sha256_of(raw / "train.json")
    assert (report.licence, report.source) == ("Apache-2.0", str(raw))
    assert read_manifest(out) == report


def test_what_was_prepared_can_be_prepared_again_to_the_same_rows(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    write_rows(raw / "train.jsonl", row("One?", category="gain"), row("Two? 50% 😀"))
    write_rows(raw / "validation.jsonl", row("Three?"))
    for source, out in (("raw", "a"), ("a", "b")):
        prepare_dataset("aqua", source=tmp_path / source, output_dir=tmp_path / out)
    for name in ("train.jsonl", "validation.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert read_lines(tmp_path / "a" / "train.jsonl")[0]["category"] == "gain"


def test_the_predecessors_rows_are_read(tmp_path: Path) -> None:
    prompt = (
        "Solve the multiple choice problem and explain your reasoning. Conclude with 'Answer: "
        "<letter>'.\n\nMultiple Choice question: Two plus three?\n- 4=A\n- 5=B\n- 6=C\n- 7=D\n"
        "- 8=E\n\nRespond only with the letter of the correct answer."
    )
    theirs = {
        "messages": [
            {"role": "user", "content": prompt},
            {
                "role": "assistant",
                "content": [
                    {"type": "text", "text": "2 + 3 = 5"},
                    {"type": "text", "text": "Answer: B"},
                ],
            },
        ],
        "letters": list("ABCDE"),
        "answer_letter": "B",
    }
    write_rows(tmp_path / "train.jsonl", theirs)
    prepare_dataset("aqua", source=tmp_path / "train.jsonl", output_dir=tmp_path / "out")
    (ours,) = read_lines(tmp_path / "out" / "train.jsonl")
    assert ours["question"] == "Two plus three?"
    assert ours["options"] == ["A)4", "B)5", "C)6", "D)7", "E)8"]
    assert ours["rationale"] == "2 + 3 = 5"


BAD_ROWS: list[tuple[Any, str]] = [
    ('{"question": "cut off', "not_json"),
    ("[1]", "not_an_object"),
    (row(correct="F"), "gold_not_in_options"),
    (row(options=["A)4", "B)5", "C)5", "D)7", "E)8"]), "equal_options"),
    (row(options=["A)4", "B)1/2", "C) 1 / 2 ", "D)7", "E)8"]), "equal_options"),
    (row(options=["A)4", "B)5", "B)6", "D)7", "E)8"]), "repeated_letters"),
    (row(options=["A)4", "B)5", "6", "D)7", "E)8"]), "missing_letters"),
    (row(rationale="So it is C.\nAnswer: C"), "rationale_names_other_letter"),
    (row(rationale=""), "empty_rationale"),
    (row(""), "missing_question"),
    (row(rationale="x" * 9000), "too_long"),
    ({}, "missing_question"),
]


def test_a_bad_training_row_is_left_out_with_its_reason_and_never_aborts(tmp_path: Path) -> None:
    raw = write_rows(tmp_path / "train.jsonl", row(), *(bad for bad, _ in BAD_ROWS), row("Last?"))
    report = prepare_dataset("aqua", source=raw, output_dir=tmp_path / "out")
    assert [r["question"] for r in read_lines(tmp_path / "out" / "train.jsonl")] == [
        "What is 2 + 3?",
        "Last?",
    ]
    quarantined = read_lines(tmp_path / "out" / "rejected.jsonl")
    assert [(r["line"], r["reason"]) for r in quarantined] == [
        (number, reason) for number, (_, reason) in enumerate(BAD_ROWS, start=2)
    ]
    assert quarantined[0]["text"] == '{"question": "cut off'
    assert quarantined[2]["row"] == BAD_ROWS[2][0]
    assert sum(report.splits["train"].rejected.values()) == len(BAD_ROWS)
    assert report.splits["train"].rows_read == len(BAD_ROWS) + 2


def test_an_evaluation_split_loses_no_row_and_flags_what_is_wrong(tmp_path: Path) -> None:
    write_rows(tmp_path / "raw" / "test.jsonl", row(), *(bad for bad, _ in BAD_ROWS))
    report = prepare_dataset("aqua", source=tmp_path / "raw", output_dir=tmp_path / "out")
    assert len(read_lines(tmp_path / "out" / "test.jsonl")) == len(BAD_ROWS) + 1
    assert report.splits["test"].rejected == {}
    assert [(flaw.row, flaw.line, flaw.reasons[0]) for flaw in report.splits["test"].flagged] == [
        (number, number, reason) for number, (_, reason) in enumerate(BAD_ROWS, start=2)
    ]


def test_a_training_row_with_an_evaluation_question_is_left_out(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    same = row("what is  2+3 ?", options=["A)1", "B)5", "C)2", "D)3", "E)9"])
    write_rows(raw / "train.jsonl", same, row("What is 2 - 3?"), row("Beyond the limit?"))
    write_rows(raw / "dev.jsonl", row("First?"), row())
    write_rows(raw / "test.jsonl", row("Another?"), row("Beyond the limit?"))
    report = prepare_dataset(
        "aqua", source=raw, output_dir=tmp_path / "out", max_validation=1, max_test=1
    )
    assert report.splits["train"].rejected == {"in_evaluation_split": 2}
    assert [r["question"] for r in read_lines(tmp_path / "out" / "train.jsonl")] == [
        "What is 2 - 3?"
    ]
    assert report.splits["validation"].rows == report.splits["test"].rows == 1


QUESTION = "Two pipes can fill a tank in 10 hours and 12 hours. A third one empties it in {} hours"
NEAR = "Two pipes can fill one tank in 10 hours and 12 hours; the third one empties it in 20 hours."


def test_a_near_duplicate_and_a_quotation_of_an_evaluation_question_are_left_out(
    tmp_path: Path,
) -> None:
    quoted = row("Mine?", rationale=f"Recall: {QUESTION.format(20)}. So 5.")
    write_rows(tmp_path / "raw" / "train.jsonl", row(NEAR), quoted, row("Other?"))
    write_rows(tmp_path / "raw" / "dev.jsonl", row(QUESTION.format(20)))
    report = prepare_dataset("aqua", source=tmp_path / "raw", output_dir=tmp_path / "out")
    assert report.splits["train"].rejected == {
        "near_evaluation_question": 1,
        "shares_evaluation_words": 1,
    }
    assert not (tmp_path / "out" / "heldout.jsonl").exists()


def test_contaminated_rows_are_kept_and_counted_where_asked(tmp_path: Path) -> None:
    write_rows(tmp_path / "raw" / "train.jsonl", row(NEAR), row("Other?"))
    write_rows(tmp_path / "raw" / "dev.jsonl", row(QUESTION.format(20)))
    policy = HygienePolicy(keep_contaminated=True)
    report = prepare_dataset(
        "aqua", source=tmp_path / "raw", output_dir=tmp_path / "out", policy=policy
    )
    train = report.splits["train"]
    assert (train.rows, train.rejected) == (2, {})
    assert train.counts["kept_contaminated"] == {"near_evaluation_question": 1}
    assert report.keeps_contaminated
    assert read_manifest(tmp_path / "out") == report


def questions_of(path: Path) -> list[str]:
    return [line["question"] for line in read_lines(path)]


def test_a_fifth_of_a_small_pool_is_held_out_by_question(tmp_path: Path) -> None:
    names = ["anna", "ben", "carl", "dora", "emil", "fritz", "gina", "hugo"]
    rows = [
        row(f"{name} walks {i + 3} km and {i * i + 7} m to town", correct=letter)
        for i, name in enumerate(names * 5)
        for letter in "BC"
    ]
    write_rows(tmp_path / "raw" / "train.jsonl", *rows)
    report = prepare_dataset("aqua", source=tmp_path / "raw", output_dir=tmp_path / "out")
    train = questions_of(tmp_path / "out" / "train.jsonl")
    held_out = questions_of(tmp_path / "out" / "heldout.jsonl")
    assert (len(train), len(held_out)) == (64, 16)
    assert not set(train) & set(held_out)
    assert sorted(train + held_out) == sorted(r["question"] for r in rows)
    assert report.splits["train"].counts["moved"] == {"heldout": 16}
    assert report.splits["heldout"].counts["pool"]["rows"] == 80
    assert report.splits["heldout"].counts["letter"] == {"B": 8, "C": 8}
    for split in ("train", "heldout"):
        size = (tmp_path / "out" / f"{split}.jsonl").stat().st_size
        assert report.splits[split].num_bytes == size
    # `max_train` limits what is left, and leaves the slice alone.
    prepare_dataset("aqua", source=tmp_path / "raw", output_dir=tmp_path / "few", max_train=10)
    assert questions_of(tmp_path / "few" / "train.jsonl") == train[:10]
    assert questions_of(tmp_path / "few" / "heldout.jsonl") == held_out
    # A source with such a slice keeps it: what was prepared can be prepared again.
    prepare_dataset("aqua", source=tmp_path / "out", output_dir=tmp_path / "again")
    for name in ("train.jsonl", "heldout.jsonl"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "out" / name).read_bytes()


def test_only_aqua_has_a_held_out_slice(tmp_path: Path) -> None:
    rows = [{"question": f"How many are {i}?", "answer": "Two.\n#### 2"} for i in range(20)]
    write_rows(tmp_path / "train.jsonl", *rows)
    report = prepare_dataset("gsm8k", source=tmp_path, output_dir=tmp_path / "out")
    assert list(report.splits) == ["train"]
    none = HygienePolicy(heldout_rows=0)
    write_rows(tmp_path / "raw" / "train.jsonl", *(row(f"Question {i}?") for i in range(20)))
    report = prepare_dataset(
        "aqua", source=tmp_path / "raw", output_dir=tmp_path / "aqua", policy=none
    )
    assert list(report.splits) == ["train"]


@given(st.text(max_size=40))
def test_normalising_a_question_twice_changes_nothing(text: str) -> None:
    assert normalised_question(normalised_question(text)) == normalised_question(text)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("What is 2+3?", "what  is 2 + 3 ?", True),
        ("A 3-digit number…", "a 3 - digit number", True),
        ("2 + 3", "2 - 3", False),
        ("3.5 km", "35 km", False),
        ("10% of 5", "10 of 5", False),
    ],
)
def test_questions_differ_by_their_words_numbers_and_signs(
    one: str, other: str, equal: bool
) -> None:
    assert (normalised_question(one) == normalised_question(other)) is equal


def test_limits_keep_the_first_rows(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", *(row(f"Question {i}?") for i in range(9)))
    whole = HygienePolicy(heldout_rows=0)
    prepare_dataset("aqua", source=tmp_path, output_dir=tmp_path / "out", max_train=4, policy=whole)
    kept = read_lines(tmp_path / "out" / "train.jsonl")
    assert [r["question"] for r in kept] == [f"Question {i}?" for i in range(4)]


def prepared(tmp_path: Path) -> Path:
    write_rows(tmp_path / "old" / "train.jsonl", row("Old?"))
    write_rows(tmp_path / "old" / "test.jsonl", row("Old test?"))
    prepare_dataset("aqua", source=tmp_path / "old", output_dir=tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("dev.jsonl", b"", "it is empty"),
        ("train.jsonl", b"\n\n", "it is empty"),
        ("train.jsonl", b"\x00\x01\x02", "is no text file"),
        ("train.jsonl", b'{"question": "cut', "line 1 is not_json"),
        ("train.jsonl", b'{"q": 1}\n{"q": 2}\n', r"can be used for train \(2 missing_question\)"),
        ("train.parquet", b"PAR1", "no readable parquet file"),
        ("train.jsonl.gz", b"\x1f\x8b\x08", "cannot be read"),
    ],
)
def test_a_bad_file_is_a_clear_error_and_leaves_the_old_files(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    out = prepared(tmp_path)
    before = snapshot(out)
    write_rows(tmp_path / "new" / "test.jsonl", row("New test?"))
    (tmp_path / "new" / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        prepare_dataset("aqua", source=tmp_path / "new", output_dir=out)
    assert snapshot(out) == before


def test_a_failed_first_preparation_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_bytes(b"")
    with pytest.raises(DataError):
        prepare_dataset("aqua", source=tmp_path / "train.jsonl", output_dir=tmp_path / "x" / "out")
    assert not (tmp_path / "x" / "out").exists()


def test_a_full_disk_is_one_sentence_and_leaves_the_old_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = prepared(tmp_path)
    before = snapshot(out)
    write_rows(tmp_path / "new" / "train.jsonl", row("New?"))

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "sync_file", full)
    with pytest.raises(DataError, match="the disk is full"):
        prepare_dataset("aqua", source=tmp_path / "new", output_dir=out)
    assert snapshot(out) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_disk_that_fills_up_while_rows_are_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = prepared(tmp_path)
    before = snapshot(out)
    write_rows(tmp_path / "new" / "train.jsonl", row("New?"))
    real = Path.open

    def small_disk(self: Path, mode: str = "r", **options: Any) -> Any:
        if mode == "wb" and self.name == "train.jsonl":
            full: BinaryIO = open("/dev/full", "wb")  # noqa: SIM115
            return full
        return real(self, mode, **options)

    monkeypatch.setattr(Path, "open", small_disk)
    with pytest.raises(DataError, match="the disk is full"):
        prepare_dataset("aqua", source=tmp_path / "new", output_dir=out)
    monkeypatch.undo()
    assert snapshot(out) == before


def test_a_split_that_the_new_source_lacks_does_not_stay_from_the_old_one(tmp_path: Path) -> None:
    out = prepared(tmp_path)
    (out / "notes.txt").write_text("mine")
    write_rows(tmp_path / "new" / "train.jsonl", row("New?"))
    prepare_dataset("aqua", source=tmp_path / "new", output_dir=out)
    assert sorted(snapshot(out)) == ["manifest.json", "notes.txt", "rejected.jsonl", "train.jsonl"]


COMMIT, LATER = "a" * 40, "b" * 40


def test_rows_of_the_hub_are_prepared_like_files(tmp_path: Path) -> None:
    asked: list[tuple[str, str | None, str, str | None]] = []

    def hub(repo: str, part: HubSplit, revision: str | None) -> Iterable[Mapping[str, Any]]:
        asked.append((repo, part.config, part.split, revision))
        return [row(f"{part.split} {i}?") for i in range(3)]

    report = prepare_dataset(
        "aqua",
        source="hub",
        output_dir=tmp_path,
        revision="v1",
        max_train=2,
        hub=hub,
        resolve=lambda repo, revision: {("deepmind/aqua_rat", "v1"): COMMIT}[repo, revision],
    )
    assert sorted(asked) == [
        ("deepmind/aqua_rat", "raw", split, COMMIT) for split in ("test", "train", "validation")
    ]
    assert {name: split.rows for name, split in report.splits.items()} == {
        "train": 2,
        "validation": 3,
        "test": 3,
    }
    assert (report.source, report.revision) == (f"hub:deepmind/aqua_rat@{COMMIT}", COMMIT)
    assert report.splits["train"].sources[0].sha256 is None
    assert read_manifest(tmp_path) == report


def test_the_hub_is_read_at_the_recorded_commit_until_another_is_named(tmp_path: Path) -> None:
    newest = COMMIT
    asked: list[str | None] = []

    def resolve(repo: str, revision: str | None) -> str:
        asked.append(revision)
        return newest if revision in (None, "main") else str(revision)

    def prepare(revision: str | None = None) -> str | None:
        return prepare_dataset(
            "aqua",
            source="hub",
            output_dir=tmp_path,
            revision=revision,
            hub=lambda repo, part, commit: [row(f"{part.split} at {commit}?")],
            resolve=resolve,
        ).revision

    assert prepare() == COMMIT
    newest = LATER
    assert prepare() == COMMIT
    assert prepare("main") == LATER
    assert prepare() == LATER
    assert asked == [None, COMMIT, "main", LATER]
    assert "at bbbb" in (tmp_path / "train.jsonl").read_text()
    files_only = write_rows(tmp_path / "rows.jsonl", row())
    prepare_dataset("aqua", source=files_only, output_dir=tmp_path)
    assert read_manifest(tmp_path).revision is None
    prepare()
    assert asked[-1] is None


def test_a_set_of_files_only_is_not_looked_for_on_the_hub(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="read from files") as caught:
        prepare_dataset("chat", source="hub", output_dir=tmp_path)
    assert "aquachat prepare smoltalk" in (caught.value.hint or "")


def test_a_hub_that_cannot_be_reached_leaves_the_old_files(tmp_path: Path) -> None:
    out = prepared(tmp_path)
    before = snapshot(out)

    def hub(repo: str, part: HubSplit, revision: str | None) -> Iterable[Mapping[str, Any]]:
        if part.split == "train":
            raise RemoteError("could not reach the hub")
        yield row()

    with pytest.raises(RemoteError, match="could not reach the hub"):
        prepare_dataset(
            "aqua", source="hub", output_dir=out, hub=hub, resolve=lambda repo, revision: COMMIT
        )
    assert snapshot(out) == before


def test_an_unknown_set_names_the_closest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        prepare_dataset("gsm8", source="hub", output_dir=tmp_path)
    assert caught.value.hint == "did you mean `gsm8k`?"


def test_progress_is_told_as_rows_are_read(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", *(row(f"Question {i}?") for i in range(1200)))
    seen: list[tuple[str, int]] = []
    prepare_dataset(
        "aqua",
        source=tmp_path,
        output_dir=tmp_path / "out",
        progress=lambda split, rows: seen.append((split, rows)),
    )
    assert seen == [("train", 500), ("train", 1000), ("train", 1200)]


OTHER_SETS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("gsm8k", {"question": "How many?", "answer": "1+1=<<1+1=2>>2\n#### 2"}, {"question": "x"}),
    (
        "arc-easy",
        {
            "question": "Which?",
            "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]},
            "answerKey": "2",
        },
        {"question": "Which?", "choices": {"text": ["a"], "label": ["A"]}, "answerKey": "A"},
    ),
    (
        "mmlu",
        {"question": "Why?", "subject": "logic", "choices": ["a", "b"], "answer": 1},
        {"question": "Why?", "choices": ["a", "b"], "answer": 7},
    ),
    (
        "chat",
        {
            "messages": [
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "Hi"},
            ],
            "source": "s",
        },
        {"messages": [{"role": "user", "content": "Hello"}]},
    ),
    (
        "humaneval",
        {"prompt": "def f():", "test": "assert f()", "entry_point": "f"},
        {"prompt": "def f():"},
    ),
]


@pytest.mark.parametrize(("name", "good", "bad"), OTHER_SETS, ids=[s[0] for s in OTHER_SETS])
def test_other_sets_keep_their_own_form(
    tmp_path: Path, name: str, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    write_rows(tmp_path / "train.jsonl", good, bad)
    report = prepare_dataset(name, source=tmp_path, output_dir=tmp_path / "out")
    assert read_lines(tmp_path / "out" / "train.jsonl") == [good]
    assert sum(report.splits["train"].rejected.values()) == 1


def test_mmlus_wrapped_training_rows_are_unwrapped(tmp_path: Path) -> None:
    inner = {"question": "Why?", "subject": "", "choices": ["a", "b"], "answer": 1}
    write_rows(tmp_path / "train.jsonl", {"train": inner})
    prepare_dataset("mmlu", source=tmp_path, output_dir=tmp_path / "out")
    assert read_lines(tmp_path / "out" / "train.jsonl") == [inner]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    gone = SplitFiles("here", {"train": [tmp_path / "gone.jsonl"]})
    with pytest.raises(MissingFileError, match=r"gone\.jsonl"):
        prepare_dataset("aqua", source=gone, output_dir=tmp_path / "out")


@settings(deadline=None, max_examples=40)
@given(
    lines=st.lists(
        st.one_of(
            st.binary(max_size=20).filter(lambda line: b"\n" not in line and b"\0" not in line),
            st.text(max_size=20).map(lambda text: json.dumps(row(text)).encode()),
            st.text(max_size=20).map(
                lambda text: json.dumps(row(text), ensure_ascii=False).encode("utf-8", "replace")
            ),
        ),
        max_size=8,
    )
)
def test_any_lines_are_kept_or_counted(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes]
) -> None:
    folder = tmp_path_factory.mktemp("raw")
    content = b"\n".join([*lines, json.dumps(row("Good?")).encode(), b""])
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").write_bytes(content)
    report = prepare_dataset("aqua", source=folder / "train.jsonl", output_dir=folder / "a")
    train = report.splits["train"]
    held_out = report.splits["heldout"].rows if "heldout" in report.splits else 0
    assert train.rows + held_out + sum(train.rejected.values()) == train.rows_read
    assert len(read_lines_of(folder / "a" / "train.jsonl")) == train.rows
    test = prepare_dataset("aqua", source=folder / "test.jsonl", output_dir=folder / "b")
    assert test.splits["test"].rows == test.splits["test"].rows_read == train.rows_read


def read_lines_of(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1]
