from __future__ import annotations

import tarfile
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aquachat.data.archives import ArchiveLimits, DamagedArchiveError, is_archive, unpack
from aquachat.errors import DataError
from tests.data.bundles import make_tar, make_tar_with, make_zip

FILES = {"a/train.jsonl": b'{"x": 1}\n' * 1000, "a/b/dev.jsonl": b"", "LICENSE": b"free"}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["b.zip", "b.tar.gz", "b.tgz", "b.tar", "b.tar.bz2", "b.tar.xz"])
def test_a_bundle_is_unpacked_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "b.zip":
        make_zip(path, FILES)
    else:
        mode = {"gz": "w:gz", "tgz": "w:gz", "tar": "w", "bz2": "w:bz2", "xz": "w:xz"}
        make_tar(path, FILES, mode[name.rpartition(".")[2]])
    assert is_archive(path)
    unpack(path, tmp_path / "out")
    assert contents(tmp_path / "out") == FILES
    assert [p.name for p in tmp_path.iterdir() if p.name.endswith(".tmp")] == []


def test_a_zip_is_known_by_its_bytes_and_rows_are_no_archive(tmp_path: Path) -> None:
    assert is_archive(make_zip(tmp_path / "bundle", FILES))
    for name in ("rows.jsonl", "rows.jsonl.gz", "rows.parquet"):
        (tmp_path / name).write_bytes(b"PAR1 or anything else")
        assert not is_archive(tmp_path / name)


OUTSIDE = ["../evil", "a/../../evil", "/etc/evil", "C:/evil", "C:\\evil", "..\\evil", "a/..\\../b"]


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str, kind: str) -> None:
    inside = tmp_path / "deep" / "down"
    inside.mkdir(parents=True)
    make = make_zip if kind == "zip" else make_tar
    path = make(tmp_path / f"b.{kind}", {"good": b"1", name: b"2"})
    with pytest.raises(DataError, match="outside its folder"):
        unpack(path, inside / "out")
    assert contents(tmp_path).keys() == {f"b.{kind}"}


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
)
def test_a_link_or_device_in_a_tar_file_is_refused(tmp_path: Path, kind: bytes) -> None:
    with pytest.raises(DataError, match="link or device"):
        unpack(make_tar_with(tmp_path / "b.tgz", kind), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_file_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DataError, match="link or device"):
        unpack(tmp_path / "b.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path: Path, kind: str) -> None:
    make = make_zip if kind == "zip" else make_tar
    path = make(tmp_path / f"b.{kind}", {f"{i}": bytes(4_000_000) for i in range(3)})
    limits = ArchiveLimits(free_bytes=1_000_000, max_ratio=50)
    with pytest.raises(DataError, match="far more than its size"):
        unpack(path, tmp_path / "out", limits=limits)
    assert contents(tmp_path).keys() == {path.name}
    unpack(path, tmp_path / "out")
    assert len(contents(tmp_path / "out")) == 3


def test_more_files_than_allowed_and_a_file_twice_are_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "many.zip", {f"{i}": b"" for i in range(20)})
    with pytest.raises(DataError, match="more files"):
        unpack(path, tmp_path / "out", limits=ArchiveLimits(max_files=10))
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("a", "1")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a", "2")
    with pytest.raises(DataError, match="a file twice"):
        unpack(tmp_path / "twice.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", ["zip", "tgz", "tar"])
def test_a_bundle_cut_anywhere_is_damaged_or_whole_and_never_half(
    tmp_path: Path, kind: str
) -> None:
    if kind == "zip":
        whole = make_zip(tmp_path / "b.zip", FILES).read_bytes()
    else:
        mode = "w:gz" if kind == "tgz" else "w"
        whole = make_tar(tmp_path / f"b.{kind}", FILES, mode).read_bytes()
    step = 512 if kind == "tar" else max(1, len(whole) // 40)
    for end in range(0, len(whole), step):
        path = tmp_path / f"cut.{kind}"
        path.write_bytes(whole[:end])
        out = tmp_path / f"out{end}"
        with suppress(DamagedArchiveError):
            unpack(path, out)
        if out.exists():
            assert kind == "tar"  # its last kilobytes are padding
            assert contents(out) == FILES


@pytest.mark.parametrize("name", ["b.zip", "b.tgz"])
def test_any_one_changed_byte_is_found_or_harmless(tmp_path: Path, name: str) -> None:
    small = {"a": b"1" * 50, "b/c": b"2"}
    path = (make_zip if name == "b.zip" else make_tar)(tmp_path / name, small)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= (1, 0x80)[place % 2]
        path.write_bytes(damaged)
        out = tmp_path / str(place)
        with suppress(DataError):
            unpack(path, out)
        if out.exists():
            assert sorted(contents(out).values()) == sorted(small.values())


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(1, 255), zipped=st.booleans())
def test_a_changed_byte_is_found_or_harmless(
    tmp_path_factory: pytest.TempPathFactory, place: float, byte: int, zipped: bool
) -> None:
    folder = tmp_path_factory.mktemp("b")
    path = folder / ("b.zip" if zipped else "b.tgz")
    (make_zip if zipped else make_tar)(path, FILES)
    damaged = bytearray(path.read_bytes())
    damaged[int(place * len(damaged))] ^= byte
    path.write_bytes(damaged)
    try:
        unpack(path, folder / "out")
    except DataError:
        assert not (folder / "out").exists()
    else:
        assert sorted(contents(folder / "out").values()) == sorted(FILES.values())


@pytest.mark.parametrize("content", [b"", b"hello, this is no archive", b"PK\x03\x04 no"])
@pytest.mark.parametrize("name", ["b.zip", "b.tar.gz", "b.tar"])
def test_what_is_no_archive_says_so(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DamagedArchiveError, match="no archive"):
        unpack(tmp_path / name, tmp_path / "out")
