"""A corpus that is interrupted, by SIGKILL of a real process or by an error, and written again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquachat.data import corpus_writer, encoding_pool
from aquachat.data.corpus import Corpus, read_index, verify_corpus
from aquachat.data.corpus_writer import SPLITS, write_corpus
from aquachat.data.document_hygiene import DocumentPolicy
from aquachat.data.document_stream import Rereadable
from aquachat.data.hygiene.document_guard import DocumentGuard
from aquachat.data.hygiene.guard import EvaluationGuard, TrainingText
from aquachat.data.unfinished import unfinished_corpus
from aquachat.errors import DataError
from tests.data.byte_tokenizer import byte_tokenizer
from tests.data.writing_program import NUM_DOCUMENTS, STALLED, documents, guard, write

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL")
ROOT = Path(__file__).parents[2]
TOKENIZER = byte_tokenizer()


@pytest.fixture(autouse=True)
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_writer, "KEEP_TOKENS", 5_000)
    monkeypatch.setattr(corpus_writer, "BATCH_BYTES", 2_000)
    monkeypatch.setattr(encoding_pool, "START_BYTES", 0)


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = tmp_path_factory.mktemp("undisturbed") / "c"
    assert write(directory) == []
    verify_corpus(directory)
    return files_of(directory)


def start(directory: Path, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.data.writing_program", str(directory), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def children_of(process: subprocess.Popen[str]) -> list[int]:
    tasks = Path(f"/proc/{process.pid}/task")
    return [int(pid) for file in tasks.glob("*/children") for pid in file.read_text().split()]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_corpus_killed_twice_has_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    directory = tmp_path / "c"
    for stall_after in (250, 420):
        process = start(directory, "--stall-after", str(stall_after))
        assert process.stdout is not None
        assert process.stdout.readline().strip() == STALLED
        kill(process)
        assert not directory.exists()
        assert (tmp_path / ".c.unfinished" / "progress.json").is_file()
    (note,) = write(directory)
    assert note.startswith("going on after ")
    kept = int(note.split()[3].replace(",", ""))
    assert 250 < kept <= 420
    assert files_of(directory) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_processes_that_encode_end_with_a_killed_parent(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    process = start(tmp_path / "c", "--num-workers", "2", "--stall-after", "500")
    assert process.stdout is not None
    assert process.stdout.readline().strip() == STALLED
    workers = children_of(process)
    kill(process)
    deadline = time.monotonic() + 30
    while any(map(is_alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_alive, workers))
    write(tmp_path / "c", num_workers=3)
    assert files_of(tmp_path / "c") == undisturbed


@pytest.mark.long
@pytest.mark.parametrize("seed", range(20))
def test_a_corpus_killed_at_any_time_has_the_bytes_of_an_undisturbed_one(
    tmp_path: Path, undisturbed: dict[str, bytes], seed: int
) -> None:
    chance = random.Random(seed)
    for _ in range(3):
        process = start(tmp_path / "c", "--num-workers", str(chance.choice([1, 2])))
        time.sleep(chance.uniform(0.3, 1.2))
        kill(process)
    write(tmp_path / "c", num_workers=chance.choice([1, 2]))
    assert files_of(tmp_path / "c") == undisturbed


@pytest.mark.parametrize("num_workers", [0, 2])
def test_any_number_of_processes_writes_the_same_bytes(
    tmp_path: Path, undisturbed: dict[str, bytes], num_workers: int
) -> None:
    write(tmp_path / "c", num_workers=num_workers)
    assert files_of(tmp_path / "c") == undisturbed


def test_documents_in_parts_are_whole_documents(
    undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    write(tmp_path / "c")
    texts = {""}
    for split in SPLITS:
        corpus = Corpus.open(tmp_path / "c", split)
        ids = [corpus.document(i).tolist() for i in range(corpus.num_documents)]
        texts |= {TOKENIZER.decode(document[1:]) for document in ids}
    whole, text = set(), ""
    for part in documents():
        text += part
        if type(part) is str:
            whole.add(text)
            text = ""
    listed = sorted(whole)
    found = guard().check([TrainingText(None, text) for text in listed])
    contaminated = {text for text, one in zip(listed, found, strict=True) if one is not None}
    index = read_index(tmp_path / "c")
    held_out = Corpus.open(tmp_path / "c", "validation")
    validation = {
        TOKENIZER.decode(held_out.document(i).tolist()[1:]) for i in range(held_out.num_documents)
    }
    assert texts == (whole - contaminated) | validation | {"another source", "for validation"}
    left_out = contaminated - validation
    assert len(left_out) >= 10
    assert max(map(len, left_out)) > 600  # in three parts or more
    assert index["contamination"]["documents"] == len(left_out)
    assert index["contamination"]["text_bytes"] == sum(len(t.encode()) for t in left_out)


def interrupted(directory: Path) -> None:
    """Leave an unfinished corpus behind, as a source that breaks does."""

    def broken() -> Iterator[str]:
        for number, part in enumerate(documents()):
            if number == 400:
                raise DataError("the source is damaged")
            yield part

    with pytest.raises(DataError, match="damaged"):
        write_corpus(
            directory,
            {"a": broken(), "b": []},
            TOKENIZER,
            shard_tokens=20_000,
            validation_fraction=0.1,
            validation_sources={"c": []},
            policy=DocumentPolicy(DocumentGuard(guard(), []), ("a",)),
        )
    assert (directory.parent / ".c.unfinished").is_dir()


def test_an_error_midway_keeps_the_progress_and_the_old_corpus(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    directory = tmp_path / "c"
    write_corpus(directory, {"a": ["old"]}, TOKENIZER)
    before = files_of(directory)
    interrupted(directory)
    assert files_of(directory) == before
    (note,) = write(directory)
    assert note.startswith("going on after")
    assert files_of(directory) == undisturbed


def test_documents_that_changed_meanwhile_begin_the_corpus_anew(
    tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    directory = tmp_path / "c"
    interrupted(directory)
    _, note = write(directory, changed=True)
    assert "begins anew" in note
    write(tmp_path / "d", changed=True)
    assert files_of(directory) == files_of(tmp_path / "d") != undisturbed


def test_changed_documents_that_can_be_read_only_once_ask_for_another_start(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    interrupted(directory)

    def write_once() -> None:
        write_corpus(
            directory,
            {"a": iter([f"other {number}" for number in range(900)]), "b": []},
            TOKENIZER,
            shard_tokens=20_000,
            validation_fraction=0.1,
            validation_sources={"c": []},
            policy=DocumentPolicy(DocumentGuard(guard(), []), ("a",)),
        )

    with pytest.raises(DataError, match="are not those of the unfinished corpus") as caught:
        write_once()
    assert "give the command again" in (caught.value.hint or "")
    write_once()
    counts = [Corpus.open(directory, split).num_documents for split in SPLITS]
    assert sum(counts) == 900


@pytest.mark.parametrize("change", ["truncated", "altered", "missing"])
def test_unfinished_files_that_are_not_as_they_were_are_not_gone_on_with(
    tmp_path: Path, undisturbed: dict[str, bytes], change: str
) -> None:
    interrupted(tmp_path / "c")
    files = sorted((tmp_path / ".c.unfinished" / "corpus").glob("shard_*.bin"))
    last = files[-1]
    content = last.read_bytes()
    if change == "missing":
        files[0].unlink()
    else:
        last.write_bytes(content[:100] if change == "truncated" else b"\xff" + content[1:])
    assert write(tmp_path / "c") == []
    assert files_of(tmp_path / "c") == undisturbed


def test_other_settings_begin_anew(tmp_path: Path) -> None:
    interrupted(tmp_path / "c")
    write_corpus(tmp_path / "c", {"a": ["x"]}, TOKENIZER)
    assert Corpus.open(tmp_path / "c").num_documents == 1


@pytest.mark.parametrize("change", ["questions", "kept", "none"])
def test_other_evaluation_questions_begin_anew(
    tmp_path: Path, undisturbed: dict[str, bytes], change: str
) -> None:
    interrupted(tmp_path / "c")
    other = EvaluationGuard()
    other.add("made/test", 1, "a question that nobody asked before this test was written today")
    policy = {
        "questions": DocumentPolicy(DocumentGuard(other, []), ("a",)),
        "kept": DocumentPolicy(DocumentGuard(guard(), []), ("a",), keeps_contaminated=True),
        "none": None,
    }[change]
    notes: list[str] = []
    write_corpus(
        tmp_path / "c",
        {"a": Rereadable(documents), "b": []},
        TOKENIZER,
        shard_tokens=20_000,
        validation_fraction=0.1,
        validation_sources={"c": []},
        policy=policy,
        note=notes.append,
    )
    assert notes == []
    assert not (tmp_path / ".c.unfinished").exists()
    counts = [Corpus.open(tmp_path / "c", split).num_documents for split in SPLITS]
    empty = read_index(tmp_path / "c")["splits"]["train"]["sources"]["a"]["empty_documents"]
    assert sum(counts) + empty == NUM_DOCUMENTS


def test_two_processes_do_not_write_one_corpus(tmp_path: Path) -> None:
    with (
        unfinished_corpus(tmp_path / "c"),
        pytest.raises(DataError, match="another process is writing the corpus `c`"),
    ):
        write(tmp_path / "c")


def test_a_kill_between_the_two_renames_leaves_the_old_corpus(tmp_path: Path) -> None:
    directory = tmp_path / "c"
    write_corpus(directory, {"a": ["old"]}, TOKENIZER)
    before = files_of(directory)
    interrupted(directory)
    directory.rename(tmp_path / ".c.unfinished" / "corpus.old")
    with unfinished_corpus(directory):
        assert files_of(directory) == before


def test_a_process_that_dies_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DataError, match="ended unexpectedly"):
        write(tmp_path / "c", num_workers=2)
    assert not (tmp_path / "c").exists()


def test_there_are_documents_enough_to_interrupt() -> None:
    assert sum(type(part) is str for part in documents()) == NUM_DOCUMENTS
