from __future__ import annotations

from pathlib import Path

import pytest

from aquachat.errors import ConfigError, MissingFileError
from aquachat.paths import aqua_directory, check_name, dataset_directory, open_home


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "../x", "a..b", "-x", "a b", "a."])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name of a run"):
        check_name(name)


def test_an_over_long_name_is_refused() -> None:
    assert check_name("a" * 128) == "a" * 128
    with pytest.raises(ConfigError):
        check_name("a" * 129)


@pytest.mark.parametrize("name", ["tiny", "tiny-2", "d8_2025.10", "7", "a+b=c"])
def test_an_ordinary_name_is_kept(name: str) -> None:
    assert check_name(name) == name


def test_home_is_the_environment_variable_or_the_cache_folder(tmp_path: Path) -> None:
    assert open_home({"AQUACHAT_HOME": str(tmp_path)}).root == tmp_path
    default = Path.home() / ".cache" / "aquachat"
    assert open_home({}).root == default
    assert open_home({"AQUACHAT_HOME": " "}).root == default
    assert open_home({"AQUACHAT_HOME": "~/x"}).root == Path.home() / "x"


def test_folders_are_as_designed(tmp_path: Path) -> None:
    home = open_home({"AQUACHAT_HOME": str(tmp_path)})
    assert home.data("aqua") == tmp_path / "data" / "aqua"
    assert home.downloads == tmp_path / "downloads"
    assert home.tokenizer("tiny") == tmp_path / "tokenizers" / "tiny"
    assert home.corpus("tiny") == tmp_path / "corpora" / "tiny"
    assert home.stage("tiny", "sft") == home.runs / "tiny" / "sft"
    assert home.evals("tiny") == tmp_path / "runs" / "tiny" / "eval"
    with pytest.raises(ConfigError, match="tokenizer"):
        home.tokenizer("../other")


def test_aqua_is_looked_for_in_the_documented_order(tmp_path: Path) -> None:
    home = open_home({"AQUACHAT_HOME": str(tmp_path / "home")})
    both = {"AQUA_DATA_DIR": str(tmp_path / "a"), "NANOCHAT_AQUA_DIR": str(tmp_path / "n")}
    assert aqua_directory(tmp_path / "flag", home, both).path == tmp_path / "flag"
    assert aqua_directory(None, home, both).path == tmp_path / "a"
    assert aqua_directory(None, home, {**both, "AQUA_DATA_DIR": ""}).path == tmp_path / "n"
    assert aqua_directory(None, home, {}).path == home.data("aqua")


def test_a_named_folder_without_the_split_is_an_error_that_names_who_named_it(
    tmp_path: Path,
) -> None:
    home = open_home({"AQUACHAT_HOME": str(tmp_path)})
    named = aqua_directory(None, home, {"AQUA_DATA_DIR": str(tmp_path / "a")})
    with pytest.raises(MissingFileError, match=r"named by AQUA_DATA_DIR, has no `train\.jsonl`"):
        named.split("train")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "train.jsonl").write_text("{}\n")
    assert named.split("train") == tmp_path / "a" / "train.jsonl"


def test_an_unprepared_data_set_names_the_command(tmp_path: Path) -> None:
    home = open_home({"AQUACHAT_HOME": str(tmp_path)})
    with pytest.raises(MissingFileError) as caught:
        dataset_directory("gsm8k", home).split("test")
    assert caught.value.hint == "run `aquachat prepare gsm8k`"
