"""`aquachat prepare` with an address: what a person sees, and what a program reads."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest

from aquachat.cli.progress import PlainProgress
from aquachat.data.catalogue import SHARDED_TEXTS
from aquachat.data.download import DownloadEvent, DownloadEventKind, RawFile
from aquachat.pipeline.downloads import DownloadDisplay
from tests.cli.programs import Cli
from tests.data.bundles import make_zip
from tests.data.http_server import Fault, Server
from tests.data.test_prepare_shards import shard

ROW = b'{"question": "1 + 1?", "options": ["A)1", "B)2"], "rationale": "2", "correct": "B"}\n'
OTHER_ROW = ROW.replace(b"1 + 1", b"2 + 2")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        yield running


def test_a_bundle_at_an_address_becomes_splits_and_its_files_are_listed(
    cli: Cli, server: Server, tmp_path: Path
) -> None:
    bundle = make_zip(
        tmp_path / "b.zip", {"aqua/train.jsonl": ROW, "aqua/test.jsonl": OTHER_ROW * 2}
    )
    url = server.put("/aqua_cache.zip", bundle.read_bytes(), Fault(cut_after=100))
    outcome = cli("prepare", "aqua", "--source", url + "?token=hunter22", "--json", code=0)
    assert "download: aqua_cache.zip: the connection ended after 100 of" in outcome.stderr
    assert "download: downloaded aqua_cache.zip, 0.0 MB" in outcome.stderr
    assert "hunter22" not in outcome.stderr + outcome.stdout
    document = json.loads(outcome.stdout)
    [download] = document["downloads"]
    assert download["bytes"] == len(bundle.read_bytes())
    assert not download["was_there"]
    assert Path(download["path"]).is_relative_to(cli.home / "downloads")
    assert {Path(file["path"]).name: file["bytes"] for file in document["files"]} == {
        path.name: path.stat().st_size for path in (cli.home / "data" / "aqua").glob("t*.jsonl")
    }
    assert len(document["files"]) == 2
    again = cli("prepare", "aqua", "--source", url + "?token=other", code=0)
    assert "download: is there already: aqua_cache.zip" in again.stderr
    assert server.count("/aqua_cache.zip") == 2


def test_a_web_page_instead_of_a_bundle_is_one_sentence_with_exit_code_4(
    cli: Cli, server: Server
) -> None:
    url = server.put("/aqua_cache.zip", b"<!doctype html><title>Sign in</title>")
    outcome = cli("prepare", "aqua", "--source", url, code=4)
    assert f"error: `{url}` is a web page, not a file of data\nhint: " in outcome.stderr
    assert outcome.stdout == ""
    url = server.url + "/no.zip"
    missing = cli("prepare", "aqua", "--source", url, code=4)
    assert (
        f"error: could not download `{server.url}/no.zip`: HTTP 404\nhint: check the address"
        in (missing.stderr)
    )


def test_shards_of_the_hub_are_downloaded_at_the_commit_that_it_names(
    cli: Cli, server: Server
) -> None:
    text, commit = SHARDED_TEXTS["fineweb"], "c" * 40
    answer = json.dumps({"id": text.repo, "sha": commit, "siblings": [], "tags": []})
    server.put(f"/api/datasets/{text.repo}", answer.encode())
    for index in (0, text.last_shard):
        path = f"/datasets/{text.repo}/resolve/{commit}/{text.file_name(index)}"
        server.put(path, shard("one document", "another"), Fault(cut_after=50))
    outcome = cli("prepare", "fineweb", "--shards", "1", "--json", code=0, HF_ENDPOINT=server.url)
    document = json.loads(outcome.stdout)
    assert document["datasets"][0]["revision"] == commit
    assert [Path(file["path"]).name for file in document["files"]] == [
        "shard_00000.parquet",
        "shard_01822.parquet",
    ]
    again = cli("prepare", "fineweb", "--shards", "1", code=0, HF_ENDPOINT="http://127.0.0.1:1")
    assert again.stderr.count("is there already") == 2
    refused = cli(
        "prepare", "fineweb", "--revision", "v2", code=4, HF_ENDPOINT="http://127.0.0.1:1"
    )
    assert f"error: could not ask the hub about `{text.repo}`" in refused.stderr


def test_identity_needs_no_network(cli: Cli) -> None:
    outcome = cli("prepare", "identity", "--max-train", "300", code=0)
    assert "identity" in outcome.stdout
    lines = (cli.home / "data" / "identity" / "train.jsonl").read_text().splitlines()
    assert len(lines) == 300


def test_downloads_are_shown_as_one_bar_and_one_line_for_each_file() -> None:
    notes: list[str] = []

    class Notes:
        def note(self, text: str) -> None:
            notes.append(text)

    out = StringIO()
    progress = PlainProgress("prepare", 2, write=lambda line: out.write(line + "\n"), interval_s=0)
    display = DownloadDisplay(Notes(), progress, "prepare", 2)
    one, two = (RawFile(f"http://h/{n}", Path(n)) for n in ("one.zip", "two.zip"))
    progress_event, done = DownloadEventKind.PROGRESS, DownloadEventKind.DONE
    display.show(DownloadEvent(progress_event, one, 0, 4_000_000))
    display.show(DownloadEvent(progress_event, one, 1_000_000, 4_000_000))
    display.show(DownloadEvent(progress_event, two, 2_000_000, 6_000_000))
    display.show(DownloadEvent(done, one, 4_000_000, 4_000_000))
    display.end_set()
    display.show(DownloadEvent(done, two, 6_000_000, 6_000_000))
    shown = [line.partition(", ")[0] for line in out.getvalue().splitlines()]
    assert shown == [
        "download (MB): 0 of 4 (0%)",
        "download (MB): 1 of 4 (25%)",
        "download (MB): 3 of 10 (30%)",
        "download (MB): 6 of 10 (60%)",
        "prepare: 1 of 2 (50%)",
        "download (MB): 6 of 6 (100%)",
    ]
    assert notes == [
        "download: downloaded one.zip, 4.0 MB",
        "download: is there already: two.zip, 6.0 MB",
    ]
