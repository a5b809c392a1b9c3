from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aquachat.data.catalogue import SHARDED_TEXTS, ShardedText
from aquachat.data.download import Downloader, RetryPolicy
from aquachat.data.fetch import SourceFetcher
from aquachat.data.http_transport import HttpTransport
from aquachat.data.manifest import read_manifest
from aquachat.data.prepare_shards import prepare_shards
from aquachat.data.text_documents import find_shards, open_text_set, prepare_text
from aquachat.errors import ConfigError, DataError, MissingFileError, RemoteError
from tests.data.http_server import Fault, Server

SMALL = ShardedText("fineweb", "someone/text", 4, "ODC-By-1.0")
COMMIT = "c" * 40


def shard(*texts: str, column: str = "text") -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({column: list(texts)}), buffer)
    return buffer.getvalue()


@pytest.fixture
def server() -> Iterator[Server]:
    with Server().running() as running:
        for i in range(SMALL.last_shard + 1):
            path = f"/datasets/{SMALL.repo}/resolve/{COMMIT}/shard_{i:05d}.parquet"
            running.put(path, shard(f"{i} one", f"{i} two"))
        yield running


def fetcher(tmp_path: Path) -> SourceFetcher:
    downloader = Downloader(
        HttpTransport(timeout_s=5), policy=RetryPolicy(), pause=lambda seconds, cancelled: None
    )
    return SourceFetcher(tmp_path / "downloads", downloader)


@pytest.fixture
def _hub(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)


def resolve(repo: str, revision: str | None) -> str:
    assert repo == SMALL.repo
    return {None: COMMIT, COMMIT: COMMIT, "v2": "d" * 40}[revision]


@pytest.mark.usefixtures("_hub")
def test_the_first_shards_and_the_last_one_become_documents(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "fineweb"
    report = prepare_shards(SMALL, out, 2, fetcher(tmp_path).fetch_all, resolve=resolve)
    assert (report.source, report.revision) == (f"hub:{SMALL.repo}@{COMMIT}", COMMIT)
    assert {name: split.rows for name, split in report.splits.items()} == {
        "train": 4,
        "validation": 2,
    }
    text = open_text_set(out)
    assert list(text.documents("train")) == ["0 one", "0 two", "1 one", "1 two"]
    assert list(text.documents("validation")) == ["4 one", "4 two"]
    assert read_manifest(out) == report
    source = report.splits["train"].sources[1]
    content = Path(source.file).read_bytes()
    assert source.sha256 == hashlib.sha256(content).hexdigest()
    assert source.num_bytes == len(content)


@pytest.mark.usefixtures("_hub")
def test_a_second_call_downloads_only_what_is_missing(server: Server, tmp_path: Path) -> None:
    out = tmp_path / "fineweb"
    prepare_shards(SMALL, out, 2, fetcher(tmp_path).fetch_all, resolve=resolve)
    (out / "shards" / "shard_00001.parquet").unlink()
    again = fetcher(tmp_path)
    prepare_shards(SMALL, out, 3, again.fetch_all, resolve=resolve)
    assert [(file.path.name[8:11], file.was_there) for file in again.fetched] == [
        ("000", True),
        ("001", False),
        ("002", False),
        ("004", True),
    ]
    fewer = prepare_shards(SMALL, out, 1, fetcher(tmp_path).fetch_all, resolve=resolve)
    assert fewer.splits["train"].rows == 2
    assert len(list((out / "shards").glob("*.parquet"))) == 4


@pytest.mark.usefixtures("_hub")
def test_more_shards_than_there_are_is_all_and_the_last_is_never_trained_on(
    tmp_path: Path,
) -> None:
    out = tmp_path / "fineweb"
    report = prepare_shards(SMALL, out, 999, fetcher(tmp_path).fetch_all, resolve=resolve)
    assert len(report.splits["train"].sources) == SMALL.last_shard
    held_out = {source.file for source in report.splits["validation"].sources}
    assert not held_out & {source.file for source in report.splits["train"].sources}


def test_a_mirror_is_read_below_its_address(server: Server, tmp_path: Path) -> None:
    base = f"{server.url}/datasets/{SMALL.repo}/resolve/{COMMIT}/"
    report = prepare_shards(SMALL, tmp_path / "out", 1, fetcher(tmp_path).fetch_all, base_url=base)
    assert (report.source, report.revision) == (base, None)


@pytest.mark.usefixtures("_hub")
def test_a_shard_that_cannot_be_had_keeps_the_old_manifest_and_the_other_shards(
    server: Server, tmp_path: Path
) -> None:
    out = tmp_path / "fineweb"
    prepare_shards(SMALL, out, 1, fetcher(tmp_path).fetch_all, resolve=resolve)
    before = (out / "manifest.json").read_bytes()
    path = f"/datasets/{SMALL.repo}/resolve/{COMMIT}/shard_00002.parquet"
    server.faults[path] = [Fault(status=404)]
    with pytest.raises(RemoteError, match=r"shard_00002\.parquet`: HTTP 404"):
        prepare_shards(SMALL, out, 3, fetcher(tmp_path).fetch_all, resolve=resolve)
    assert (out / "manifest.json").read_bytes() == before
    with pytest.raises(ConfigError, match="no text to train on"):
        prepare_shards(SMALL, out, 0, fetcher(tmp_path).fetch_all, resolve=resolve)


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"PAR1 not really", "no readable parquet"), (shard("x", column="body"), "no column `text`")],
)
def test_a_shard_that_is_none_is_named(
    server: Server, tmp_path: Path, content: bytes, message: str
) -> None:
    server.put("/x/shard_00000.parquet", content)
    server.put("/x/shard_00004.parquet", shard("fine"))
    with pytest.raises(DataError, match=message):
        prepare_shards(
            SMALL, tmp_path / "out", 1, fetcher(tmp_path).fetch_all, base_url=f"{server.url}/x"
        )
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_shards_that_are_here_are_split_like_those_of_the_hub(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for i in (0, 1, 4):
        (raw / SMALL.file_name(i)).write_bytes(shard(f"{i}"))
    report = prepare_text(find_shards("fineweb", raw, str(raw)), tmp_path / "out", name="fineweb")
    assert report.dataset == "fineweb"
    assert list(open_text_set(tmp_path / "out").documents("validation")) == ["4"]
    with pytest.raises(MissingFileError, match="two parquet files"):
        find_shards("fineweb", tmp_path / "out", "out")


def test_the_sets_on_the_hub_are_those_of_nanochat() -> None:
    fineweb, climbmix = SHARDED_TEXTS["fineweb"], SHARDED_TEXTS["climbmix"]
    assert fineweb.file_name(fineweb.last_shard) == "shard_01822.parquet"
    assert climbmix.file_name(climbmix.last_shard) == "shard_06542.parquet"
