"""`prepare` for every set and from every kind of source, with servers and a hub that are here."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aquachat.config.recipes import Recipe
from aquachat.data.catalogue import DATASETS, GROUPS, HubSplit
from aquachat.data.download import Downloader, RetryPolicy
from aquachat.data.fetch import SourceFetcher
from aquachat.data.http_transport import HttpTransport
from aquachat.data.manifest import PrepareReport
from aquachat.errors import ConfigError, MissingFileError
from aquachat.paths import Home
from aquachat.pipeline.mixtures import DataFolders, PartRequest, corpus_documents, part_source
from aquachat.pipeline.preparing import (
    Remotes,
    expand_names,
    prepare_datasets,
    prepared_document,
    report_rows,
)
from tests.data.bundles import make_zip
from tests.data.http_server import Server
from tests.data.test_prepare_core import YAML
from tests.data.test_prepare_core import make_bundle as make_core_bundle
from tests.data.test_prepare_shards import shard

COMMIT = "e" * 40
MESSAGES = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
ROWS: dict[str, dict[str, Any]] = {
    "aqua": {"question": "{n}?", "options": ["A)1", "B)2"], "rationale": "2", "correct": "B"},
    "gsm8k": {"question": "{n}?", "answer": "1+1=<<1+1=2>>2\n#### 2"},
    "arc-easy": {
        "question": "{n}?",
        "choices": {"text": ["a", "b", "c"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
    "mmlu": {"question": "{n}?", "subject": "logic", "choices": ["a", "b"], "answer": 1},
    "smoltalk": {"messages": MESSAGES},
    "humaneval": {"prompt": "def f():", "test": "assert f()", "entry_point": "f"},
}
ROWS["arc-challenge"] = ROWS["arc-easy"]
REPOS = {spec.hub.repo: name for name, spec in DATASETS.items() if spec.hub is not None}


def some_row(name: str, number: object) -> dict[str, Any]:
    row = ROWS[name]
    return {**row, "question": row["question"].format(n=number)} if "question" in row else row


def hub(repo: str, part: HubSplit, revision: str | None) -> Iterable[Mapping[str, Any]]:
    assert revision == COMMIT
    return [some_row(REPOS[repo], f"{part.split} {i}") for i in range(3)]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


class Preparing:
    """`prepare_datasets` with a home, a hub and a server of its own."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.home = Home(folder / "home")
        self.server = server
        self.notes: list[str] = []
        self.num_done = 0
        self.recipe = Recipe()
        self.remotes = self.new_remotes()

    def new_remotes(self) -> Remotes:
        downloader = Downloader(
            HttpTransport(timeout_s=5), policy=RetryPolicy(), pause=lambda seconds, event: None
        )
        return Remotes(
            SourceFetcher(self.home.downloads, downloader),
            hub=hub,
            resolve=lambda repo, revision: COMMIT,
            core_url=f"{self.server.url}/eval_bundle.zip",
        )

    def settings(self, **changes: Any) -> None:
        self.recipe = replace(self.recipe, prepare=replace(self.recipe.prepare, **changes))

    def __call__(
        self, *names: str, source: str | None = None, data: Path | None = None
    ) -> dict[str, PrepareReport]:
        def done() -> None:
            self.num_done += 1

        self.remotes = self.new_remotes()
        reports = prepare_datasets(
            names,
            self.recipe,
            self.home,
            source=source,
            data=data,
            note=self.notes.append,
            on_done=done,
            remotes=self.remotes,
        )
        return {report.dataset: report for report in reports}


@pytest.fixture
def prepare(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Preparing:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    folder = make_core_bundle(tmp_path / "eval_bundle", YAML)
    files = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    server.put("/eval_bundle.zip", make_zip(tmp_path / "e.zip", files).read_bytes())
    base = f"/datasets/karpathy/fineweb-edu-100b-shuffle/resolve/{COMMIT}"
    for index in (0, 1, 1822):
        server.put(f"{base}/shard_{index:05d}.parquet", shard(f"document {index}"))
    return Preparing(tmp_path, server)


def test_all_prepares_every_set_from_where_it_is_at_home(prepare: Preparing) -> None:
    prepare.settings(shards=2, max_train=20, synthetic_eval_rows=4)
    reports = prepare("all")
    assert set(reports) == {
        "aqua", "gsm8k", "arc-easy", "arc-challenge", "mmlu", "smoltalk", "humaneval",
        "identity", "synthetic", "core", "fineweb",
    }  # fmt: skip
    assert prepare.num_done == len(reports)
    for name, report in reports.items():
        assert (prepare.home.data(name) / "manifest.json").is_file()
        assert report.num_rows > 0
    assert "core: 2 of 3 tasks are there; absent: squad" in prepare.notes
    document = json.loads(json.dumps(prepared_document(list(reports.values()), prepare.remotes)))
    assert {file["dataset"] for file in document["files"]} == set(reports)
    for file in document["files"]:
        path = Path(file["path"])
        assert path.is_absolute()
        assert path.stat().st_size == file["bytes"]
        assert len(file["sha256"]) == 64
    assert len(document["downloads"]) == 4
    table = report_rows(list(reports.values()))[1]
    assert ("core", "squad", None, "absent", 0, reports["core"].licence) in table


def test_what_was_prepared_is_what_training_reads(prepare: Preparing) -> None:
    prepare.settings(shards=2)
    prepare("identity", "smoltalk", "fineweb")
    folders = DataFolders(prepare.home.root / "data", prepare.home.data("aqua"))
    for name, count in (("identity", 1000), ("smoltalk", 3)):
        request = PartRequest(name, prepare.recipe.sft, "sft", 0, folders)
        dataset = part_source(name).build(request)
        assert len(dataset) == count
    training, validation = corpus_documents(
        {"fineweb": 0}, seed=0, consumer="tokenize", home=prepare.home
    )
    assert list(training["fineweb"]()) == ["document 0", "document 1"]
    assert list(validation["fineweb"]()) == ["document 1822"]


def test_a_second_time_nothing_is_downloaded_again(prepare: Preparing) -> None:
    prepare.settings(shards=1)
    prepare("core", "fineweb")
    asked = len(prepare.server.requests)
    prepare("core", "fineweb")
    assert len(prepare.server.requests) == asked
    assert all(file.was_there for file in prepare.remotes.fetcher.fetched)


def test_arc_is_both_sets_and_names_are_taken_once(tmp_path: Path) -> None:
    assert expand_names(["arc", "arc-easy", "aqua"]) == ["arc-easy", "arc-challenge", "aqua"]
    assert expand_names(["all", "climbmix"])[-1] == "climbmix"
    assert not {"text", "chat", "climbmix"} & set(GROUPS["all"])
    (tmp_path / "data.toml").write_text("[gsm8k]\ntrain = []\n[chat]\ntrain = []")
    assert expand_names(["all"], data=tmp_path) == ["gsm8k", "chat", "identity", "synthetic"]
    with pytest.raises(ConfigError, match="needs a source for each"):
        expand_names(["all"], source="bundle.zip")
    with pytest.raises(ConfigError) as caught:
        expand_names(["gsm8k", "smoltlak"])
    assert caught.value.hint == "did you mean `smoltalk`?"


def test_a_wrong_name_is_found_before_anything_is_done(prepare: Preparing) -> None:
    with pytest.raises(ConfigError, match="no data set `aquaa`"):
        prepare("gsm8k", "aquaa")
    assert not prepare.home.root.exists()


@pytest.mark.parametrize("kind", ["path", "zip", "url", "folder"])
def test_a_set_comes_from_a_source_of_any_kind(
    prepare: Preparing, tmp_path: Path, kind: str
) -> None:
    rows = (json.dumps(some_row("aqua", 1)) + "\n").encode()
    bundle = make_zip(tmp_path / "aqua_cache.zip", {"a/aqua/train.jsonl": rows})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train.jsonl").write_bytes(rows)
    source = {
        "path": str(tmp_path / "raw" / "train.jsonl"),
        "folder": str(tmp_path / "raw"),
        "zip": str(bundle),
        "url": prepare.server.put("/x/aqua_cache.zip", bundle.read_bytes()),
    }[kind]
    report = prepare("aqua", source=source)["aqua"]
    assert report.source == source
    assert report.splits["train"].rows == 1
    inside = report.splits["train"].sources[0].file
    expected = {
        "zip": "/a/aqua/train.jsonl",
        "url": "/a/aqua/train.jsonl",
        "folder": "/train.jsonl",
    }
    assert inside == source + expected.get(kind, "")


def test_identity_and_core_come_from_a_source_where_one_is_named(
    prepare: Preparing, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text(json.dumps({"messages": MESSAGES}) + "\n")
    assert prepare("identity", source=str(mine))["identity"].splits["train"].rows == 1
    report = prepare("core", source=str(tmp_path / "e.zip"))["core"]
    assert report.source == str(tmp_path / "e.zip")
    assert len(report.splits) == 2


def test_text_comes_from_an_address_and_a_bundle(prepare: Preparing, tmp_path: Path) -> None:
    url = prepare.server.put("/book.txt", b"It was a dark and stormy night.")
    report = prepare("text", source=url)["text"]
    assert report.splits["train"].rows == 1
    files = {"b/one.txt": b"one", "b/two.jsonl": b'{"text": "two"}\n', "README.md": b"about"}
    report = prepare("text", source=str(make_zip(tmp_path / "t.zip", files)))["text"]
    assert report.splits["train"].rows == 2
    assert all(Path(source.file).is_file() for source in report.splits["train"].sources)


def test_shards_come_from_a_mirror_and_from_a_folder(prepare: Preparing, tmp_path: Path) -> None:
    prepare.settings(shards=1)
    base = prepare.server.url + "/mirror"
    for index in (0, 6542):
        prepare.server.put(f"/mirror/shard_{index:05d}.parquet", shard("from the mirror"))
    report = prepare("climbmix", source=base)["climbmix"]
    assert (report.source, report.splits["train"].rows) == (base, 1)
    folder = prepare.home.data("climbmix") / "shards"
    report = prepare("fineweb", source=str(folder))["fineweb"]
    assert [len(split.sources) for split in report.splits.values()] == [1, 1]


def test_a_data_toml_gives_what_it_names_and_identity_is_generated_where_it_does_not(
    prepare: Preparing, tmp_path: Path
) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps(some_row("gsm8k", 1)) + "\n")
    (tmp_path / "data.toml").write_text(
        "[gsm8k]\ntrain = ['rows.jsonl']\n[core]\nbundle = ['eval_bundle/core.yaml']\n"
    )
    prepare.settings(synthetic_eval_rows=4, max_train=5)
    reports = prepare("all", data=tmp_path)
    assert set(reports) == {"gsm8k", "core", "identity", "synthetic"}
    assert reports["identity"].num_rows == 5
    (tmp_path / "data.toml").write_text("[gsm8k]\ntrain = ['rows.jsonl']\n")
    for name in ("core", "aqua", "fineweb"):
        with pytest.raises(MissingFileError, match=rf"has no \[{name}\]"):
            prepare(name, data=tmp_path)


def test_a_set_that_only_the_user_has_is_asked_for(prepare: Preparing) -> None:
    with pytest.raises(ConfigError, match="read from files"):
        prepare("text")
    with pytest.raises(ConfigError, match="read from files") as caught:
        prepare("chat")
    assert "smoltalk" in (caught.value.hint or "")


def test_a_revision_is_of_one_repository(prepare: Preparing) -> None:
    prepare.settings(revision="v1")
    assert set(prepare("arc")) == {"arc-easy", "arc-challenge"}
    with pytest.raises(ConfigError, match="`--revision v1` is of one set on the hub, not of 2"):
        prepare("arc", "gsm8k")


def test_a_later_failure_leaves_what_was_prepared_before(prepare: Preparing) -> None:
    with pytest.raises(ConfigError):
        prepare("aqua", "chat")
    assert (prepare.home.data("aqua") / "manifest.json").is_file()
    assert prepare.num_done == 1
