from __future__ import annotations

import csv
import email
import io
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from contextlib import suppress
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import aquachat
from aquachat.cloud import wheel as wheels
from aquachat.cloud.elf import read_needs
from aquachat.cloud.wheel import Platform, Wheel, local_platform, make_wheel, parse_glibc
from aquachat.cloud.wheel_archive import PURE_TAG, wheel_bytes
from aquachat.cloud.wheel_sources import (
    EXTENSION,
    from_folder,
    from_installed,
    from_wheel,
    installed_in,
    package_files,
    record_hash,
)
from aquachat.errors import ConfigError, DataError, MissingFileError

PACKAGE = Path(aquachat.__file__).parent
HERE = local_platform()
SAME = Platform("Linux", "x86_64", (2, 39))
OLD = Platform("Linux", "x86_64", (2, 17))
ARM = Platform("Linux", "aarch64", (2, 39))
MUSL = Platform("Linux", "x86_64", None)
MAC = Platform("Darwin", "arm64", None)

RUBBISH = {
    "aquachat/.env",
    "aquachat/text/other.cpython-311-x86_64-linux-gnu.so",
    "aquachat/__pycache__/errors.cpython-311.pyc",
}
IS_X86_LINUX = (HERE.system, HERE.architecture) == ("Linux", "x86_64")
needs_extension = pytest.mark.skipif(
    not IS_X86_LINUX or not (PACKAGE.parent / EXTENSION).exists(),
    reason="no tokenizer compiled for x86_64 Linux lies beside the package",
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of this checkout, with what a person has lying around in it."""
    root = tmp_path / "checkout"
    ignore = shutil.ignore_patterns("__pycache__", "target")
    shutil.copytree(PACKAGE, root / "aquachat", ignore=ignore)
    shutil.copytree(PACKAGE.parent / "tokenizer-rs", root / "tokenizer-rs", ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PACKAGE.parent / name, root / name)
    for name in RUBBISH:
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("WANDB_API_KEY=0123456789abcdef\n")
    return root


@pytest.fixture
def without_cargo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


def make(root: Path, into: Path, machine: Platform = SAME, say: list[str] | None = None) -> Wheel:
    lines = [] if say is None else say
    return make_wheel(
        into, machine_platform=machine, say=lines.append, package=root / "aquachat", here=SAME
    )


def names_in(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def of_package(path: Path) -> set[str]:
    return {name for name in names_in(path) if name.startswith("aquachat/")}


def install(wheel: Path, target: Path) -> Path:
    """What an installer does with a wheel of ours: it has no scripts or data to move."""
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    return target


def distribution_in(target: Path) -> Distribution:
    return next(iter(Distribution.discover(name="aquachat", path=[str(target)])))


@needs_extension
@pytest.mark.usefixtures("without_cargo")
def test_a_checkout_without_cargo_is_packed_with_the_tokenizer_beside_it(
    checkout: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    made = make(checkout, tmp_path / "wheels", say=said)
    assert made.path.name == f"aquachat-{aquachat.__version__}-cp311-abi3-linux_x86_64.whl"
    assert (made.platform, made.is_pure) == ("linux_x86_64", False)
    assert made.glibc is not None
    assert said == [
        f"the wheel {made.path.name} needs glibc {made.glibc[0]}.{made.glibc[1]} or later"
    ]
    assert EXTENSION in names_in(made.path)


@pytest.mark.usefixtures("without_cargo")
def test_the_package_travels_whole_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    made = make(checkout, tmp_path / "wheels")
    listed = [
        "git",
        "-C",
        str(PACKAGE),
        "ls-files",
        "-co",
        "--exclude-standard",
        "--full-name",
        ".",
    ]
    git = shutil.which("git", path="/usr/bin:/bin:/usr/local/bin")
    done = subprocess.run([git or "git", *listed[1:]], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("the package is in no git checkout")
    assert of_package(made.path) - {EXTENSION} == set(done.stdout.splitlines())


@pytest.mark.usefixtures("without_cargo")
def test_the_same_files_give_the_same_bytes(checkout: Path, tmp_path: Path) -> None:
    one = make(checkout, tmp_path / "one")
    for path in checkout.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (checkout / "aquachat" / "__pycache__" / "more.pyc").write_bytes(b"1")
    two = make(checkout, tmp_path / "two")
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.sha256 == two.sha256
    (checkout / "aquachat" / "errors.py").write_text("# another\n")
    assert make(checkout, tmp_path / "two").sha256 != one.sha256


@pytest.mark.usefixtures("without_cargo")
def test_the_record_names_every_file_with_its_hash(checkout: Path, tmp_path: Path) -> None:
    made = make(checkout, tmp_path / "wheels")
    with zipfile.ZipFile(made.path) as archive:
        record = archive.namelist()[-1]
        assert record.endswith(".dist-info/RECORD")
        rows = {
            name: rest for name, *rest in csv.reader(io.StringIO(archive.read(record).decode()))
        }
        assert rows.pop(record) == ["", ""]
        assert set(rows) == set(archive.namelist()) - {record}
        for name, (digest, size) in rows.items():
            content = archive.read(name)
            assert (digest, int(size)) == (record_hash(content), len(content))


@pytest.mark.usefixtures("without_cargo")
@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        (ARM, "here is Linux x86_64, the machine is Linux aarch64"),
        (MUSL, "the machine has another C library than glibc"),
        (MAC, "here is Linux x86_64, the machine is Darwin arm64"),
        (OLD, r"it needs glibc 2\.\d+, and the machine has glibc 2\.17"),
    ],
)
def test_a_machine_that_cannot_load_it_gets_a_pure_wheel(
    checkout: Path, tmp_path: Path, machine: Platform, reason: str
) -> None:
    if machine is OLD and not (PACKAGE.parent / EXTENSION).exists():
        pytest.skip("no compiled tokenizer here")
    said: list[str] = []
    made = make(checkout, tmp_path / "wheels", machine, said)
    assert made.path.name.endswith("-py3-none-any.whl")
    assert (made.is_pure, made.glibc, made.platform) == (True, None, "any")
    assert EXTENSION not in names_in(made.path)
    assert len(said) == 1
    assert "tokenizer trained here must go with it" in said[0]
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(said[0])
    made.check_fits(machine)


@pytest.mark.usefixtures("without_cargo")
def test_what_was_compiled_for_another_c_library_does_not_travel(
    checkout: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    made = make_wheel(
        tmp_path / "wheels",
        machine_platform=SAME,
        say=said.append,
        package=checkout / "aquachat",
        here=MUSL,
    )
    assert made.is_pure
    assert "here is another C library than glibc" in said[0]


@pytest.mark.usefixtures("without_cargo")
def test_without_a_compiled_tokenizer_the_wheel_is_pure_and_says_so(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / EXTENSION).unlink(missing_ok=True)
    said: list[str] = []
    assert make(checkout, tmp_path / "wheels", say=said).is_pure
    assert "no cargo with maturin" in said[0]


@pytest.mark.usefixtures("without_cargo")
@pytest.mark.parametrize("content", [b"", b"\xcf\xfa\xed\xfe a Mach-O file", b"\x7fELF\2\1 torn"])
def test_a_tokenizer_that_is_not_for_linux_does_not_travel(
    checkout: Path, tmp_path: Path, content: bytes
) -> None:
    (checkout / EXTENSION).write_bytes(content)
    assert make(checkout, tmp_path / "wheels").is_pure


@pytest.mark.parametrize(
    ("tag", "machine"),
    [
        ("manylinux_2_34_x86_64", Platform("Linux", "x86_64", (2, 31))),
        ("manylinux_2_34_x86_64", ARM),
        ("manylinux_2_34_x86_64", MUSL),
        ("musllinux_1_2_x86_64", SAME),
        ("macosx_11_0_arm64", SAME),
    ],
)
def test_a_wheel_that_cannot_be_used_is_refused(tag: str, machine: Platform) -> None:
    made = Wheel(Path(f"aquachat-1-cp311-abi3-{tag}.whl"), "1", tag, (2, 34), False, "")
    with pytest.raises(ConfigError, match="cannot be used on the machine"):
        made.check_fits(machine)


def test_a_wheel_for_exactly_this_glibc_is_taken() -> None:
    tag = "manylinux_2_34_x86_64"
    made = Wheel(Path(f"aquachat-1-cp311-abi3-{tag}.whl"), "1", tag, (2, 34), False, "")
    made.check_fits(Platform("Linux", "x86_64", (2, 34)))


@pytest.mark.parametrize(
    ("tag", "glibc"),
    [
        ("manylinux_2_34_x86_64", (2, 34)),
        ("manylinux_2_17_x86_64.manylinux2014_x86_64", (2, 17)),
        ("manylinux2010_x86_64", (2, 12)),
    ],
)
@needs_extension
def test_the_tag_names_the_lowest_glibc(tag: str, glibc: tuple[int, int], tmp_path: Path) -> None:
    contents = from_folder(PACKAGE)
    file = tmp_path / f"aquachat-{contents.version}-cp311-abi3-{tag}.whl"
    file.write_bytes(wheel_bytes(contents, f"cp311-abi3-{tag}"))
    assert wheels._compiled_for(from_wheel(file)) == (tag, glibc, None)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("glibc 2.36", (2, 36)),
        ("ldd (Ubuntu GLIBC 2.35-0ubuntu3.8) 2.35\nCopyright (C) 2022", (2, 35)),
        ("ldd (GNU libc) 2.28", (2, 28)),
        ("musl libc (x86_64)\nVersion 1.2.4", None),
        ("", None),
        ("\n", None),
    ],
)
def test_the_version_of_glibc_is_read(text: str, version: tuple[int, int] | None) -> None:
    assert parse_glibc(text) == version


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf to compare with")
@pytest.mark.parametrize("name", ["_tokenizer", "libm.so.6", "libz.so.1", "ls"])
def test_what_a_library_needs_is_what_readelf_says(name: str) -> None:
    places = ("/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/bin")
    found = [Path(place, name) for place in places if Path(place, name).exists()]
    file = PACKAGE.parent / EXTENSION if name == "_tokenizer" else (found or [Path("missing")])[0]
    if not file.exists():
        pytest.skip(f"no {name} here")
    said = subprocess.run(["readelf", "-V", str(file)], capture_output=True, text=True, check=True)
    needed = said.stdout.partition("Version needs section")[2]
    words = {word for word in needed.split() if word.startswith("GLIBC_")}
    versions = [
        (int(major), int(minor))
        for word in words
        for major, minor, *_ in [[*word.removeprefix("GLIBC_").split("."), "x"]]
        if major.isdigit() and minor.isdigit()
    ]
    versions += [(2, 36)] * ("GLIBC_ABI_DT_RELR" in words)
    assert read_needs(file.read_bytes()).glibc == max(versions)


@needs_extension
@given(st.data())
def test_a_damaged_library_is_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    content = bytearray((PACKAGE.parent / EXTENSION).read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.sampled_from([range(64), range(len(content) - 3000, len(content))]))
        content[data.draw(st.sampled_from(place))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(content), 3, 20, 63, 64, 5000, len(content) - 100]))
    with suppress(ValueError):
        read_needs(bytes(content[:cut]))


@pytest.mark.usefixtures("without_cargo")
@pytest.mark.parametrize("machine", [SAME, ARM])
def test_what_was_installed_is_packed_again_to_the_same_bytes(
    checkout: Path, tmp_path: Path, machine: Platform
) -> None:
    made = make(checkout, tmp_path / "wheels", machine)
    target = install(made.path, tmp_path / "target")
    tag = PURE_TAG if made.is_pure else f"cp311-abi3-{made.platform}"
    again = from_installed(distribution_in(target))
    assert wheel_bytes(again, tag) == made.path.read_bytes()


@needs_extension
@pytest.mark.usefixtures("without_cargo")
def test_an_installation_is_found_and_packed_by_itself(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(checkout, tmp_path / "wheels")
    target = install(made.path, tmp_path / "target")
    monkeypatch.syspath_prepend(str(target))
    assert installed_in(target / "aquachat") is not None
    assert installed_in(checkout / "aquachat") is None
    again = make(target, tmp_path / "again")
    assert again.path.read_bytes() == made.path.read_bytes()
    assert make(target, tmp_path / "again", ARM).is_pure


def test_an_editable_installation_is_a_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    info = site / f"aquachat-{aquachat.__version__}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aquachat\nVersion: 0.1.0\n")
    (info / "RECORD").write_text("aquachat.pth,,\n")
    (site / "aquachat.pth").write_text(str(checkout))
    monkeypatch.syspath_prepend(str(site))
    assert installed_in(checkout / "aquachat") is None


@pytest.mark.usefixtures("without_cargo")
def test_a_damaged_installation_is_refused(checkout: Path, tmp_path: Path) -> None:
    target = install(make(checkout, tmp_path / "wheels").path, tmp_path / "target")
    (target / "aquachat" / "errors.py").write_text("# changed\n")
    with pytest.raises(DataError, match=r"`aquachat/errors\.py` .* not as it was installed"):
        from_installed(distribution_in(target))
    (target / "aquachat" / "errors.py").unlink()
    with pytest.raises(DataError, match=r"`aquachat/errors\.py` .* is gone"):
        from_installed(distribution_in(target))


@pytest.mark.usefixtures("without_cargo")
def test_a_package_of_unknown_origin_is_refused(checkout: Path, tmp_path: Path) -> None:
    (checkout / "pyproject.toml").unlink()
    with pytest.raises(MissingFileError, match="neither installed nor in a checkout"):
        make(checkout, tmp_path / "wheels")


def program(folder: Path, name: str, text: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def with_maturin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    """A `cargo` and a `maturin` on PATH; the calls of maturin are counted in a file."""
    calls = tmp_path / "calls"
    program(tmp_path / "bin", "cargo", "exit 0")
    program(tmp_path / "bin", "maturin", f'echo "$PWD $*" >>"{calls}"\n{text}')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return calls


@needs_extension
def test_a_checkout_is_built_once_for_the_same_sources(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag = "cp311-abi3-manylinux_2_34_x86_64"
    contents = from_folder(checkout / "aquachat")
    ready = tmp_path / f"aquachat-{contents.version}-{tag}.whl"
    ready.write_bytes(wheel_bytes(contents, tag))
    build = f'while [ "$1" != --out ]; do shift; done; mkdir -p "$2"; cp "{ready}" "$2"'
    calls = with_maturin(tmp_path, monkeypatch, build)
    said: list[str] = []
    one = make(checkout, tmp_path / "wheels", say=said)
    assert one.platform == "manylinux_2_34_x86_64"
    assert one.glibc == (2, 34)
    assert said[0].startswith("building the wheel with maturin")
    assert make(checkout, tmp_path / "wheels") == one
    assert len(calls.read_text().splitlines()) == 1
    assert calls.read_text().startswith(f"{checkout} build --release --locked --out ")
    with (checkout / "tokenizer-rs" / "src" / "lib.rs").open("a") as file:
        file.write("// another\n")
    make(checkout, tmp_path / "wheels")
    assert len(calls.read_text().splitlines()) == 2
    make(checkout, tmp_path / "wheels", ARM)
    assert len(calls.read_text().splitlines()) == 2
    assert not list((tmp_path / "wheels").glob(".building*"))


@needs_extension
def test_a_checkout_that_cannot_be_built_is_packed_with_what_lies_there(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_maturin(tmp_path, monkeypatch, "echo 'error: linker `cc` not found' >&2; exit 1")
    said: list[str] = []
    made = make(checkout, tmp_path / "wheels", say=said)
    assert made.platform == "linux_x86_64"
    assert said[1] == "maturin could not build the wheel: error: linker `cc` not found"


@pytest.mark.usefixtures("without_cargo")
def test_what_aquachat_needs_is_in_the_metadata(checkout: Path, tmp_path: Path) -> None:
    made = make(checkout, tmp_path / "wheels")
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    with zipfile.ZipFile(made.path) as archive:
        info = f"aquachat-{made.version}.dist-info"
        fields = email.message_from_bytes(archive.read(f"{info}/METADATA"))
        assert archive.read(f"{info}/entry_points.txt").decode().splitlines() == [
            "[console_scripts]",
            "aquachat=aquachat.cli.app:main",
        ]
        assert archive.read(f"{info}/licenses/LICENSE") == (checkout / "LICENSE").read_bytes()
    needs = fields.get_all("Requires-Dist") or []
    assert [need for need in needs if ";" not in need] == project["dependencies"]
    extras = project["optional-dependencies"]
    assert {need for need in needs if ";" in need} == {
        f"{need} ; extra == '{extra}'" for extra in extras for need in extras[extra]
    }
    assert (fields["Name"], fields["Version"]) == ("aquachat", aquachat.__version__)
    assert fields["Requires-Python"] == project["requires-python"]


@pytest.mark.usefixtures("without_cargo")
@pytest.mark.parametrize("machine", [SAME, ARM])
def test_pip_installs_it_and_it_imports(checkout: Path, tmp_path: Path, machine: Platform) -> None:
    pytest.importorskip("pip", reason="no pip in this environment")
    made = make(checkout, tmp_path / "wheels", machine)
    target = tmp_path / "target"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(made.path)], check=True, cwd=tmp_path)
    code = "import aquachat, aquachat.text as t; print(aquachat.__file__)"
    if not made.is_pure:
        code += "; import aquachat._tokenizer"
    run = [sys.executable, "-P", "-c", code]
    environ = os.environ | {"PYTHONPATH": str(target)}
    done = subprocess.run(run, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.stdout == f"{target / 'aquachat' / '__init__.py'}\n", done.stderr


@pytest.mark.usefixtures("without_cargo")
def test_wheels_of_long_ago_are_removed(checkout: Path, tmp_path: Path) -> None:
    into = tmp_path / "wheels"
    for number in range(40):
        (into / f"old-{number}").mkdir(parents=True)
        os.utime(into / f"old-{number}", (number, number))
    made = make(checkout, into)
    kept = {path.name for path in into.iterdir()}
    assert made.path.parent.name in kept
    assert len(kept) == wheels.KEPT_FOLDERS
    assert "old-39" in kept


@pytest.mark.long
@pytest.mark.skipif(
    wheels._maturin() is None or HERE.system != "Linux", reason="no maturin and cargo on Linux here"
)
def test_maturin_packs_the_same_files(checkout: Path, tmp_path: Path) -> None:
    here = local_platform()
    built = make_wheel(
        tmp_path / "wheels", machine_platform=here, package=checkout / "aquachat", here=here
    )
    assert built.platform.startswith("manylinux_")
    raw = next((tmp_path / "wheels").glob("built-*/*.whl"))
    mine = set(package_files(checkout / "aquachat")) | {EXTENSION}
    theirs = {name for name in names_in(raw) if name.startswith("aquachat/")}
    assert mine == theirs - RUBBISH  # which maturin leaves out only in a git checkout
    assert of_package(built.path) == mine
    fields = {}
    for path in (raw, built.path):
        with zipfile.ZipFile(path) as archive:
            text = archive.read(f"aquachat-{built.version}.dist-info/METADATA")
        parsed = email.message_from_bytes(text)
        fields[path] = sorted(parsed.get_all("Requires-Dist") or [])
    assert fields[raw] == fields[built.path]
    folder = email.message_from_bytes(
        from_folder(checkout / "aquachat").files[f"aquachat-{built.version}.dist-info/METADATA"]
    )
    assert sorted(n.replace("_", "-") for n in folder.get_all("Requires-Dist") or []) == fields[raw]
    with zipfile.ZipFile(built.path) as archive:
        assert read_needs(archive.read(EXTENSION)).glibc <= (built.glibc or (0, 0))  # type: ignore[operator]
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(built.path)], check=True, cwd=tmp_path)
    code = "import aquachat._tokenizer"
    subprocess.run([str(python), "-c", code], check=True, cwd=tmp_path)
    assert (tmp_path / "venv" / "bin" / "aquachat").exists()
