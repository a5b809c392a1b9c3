from __future__ import annotations

from pathlib import Path

import pytest

from aquachat.cli import processes


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        (["run", "d8", "--num-processes", "8", "--resume"], ["run", "d8", "--resume"]),
        (["run", "d8", "--num-processes=8"], ["run", "d8"]),
        (["run", "--gpus", "8", "d8"], ["run", "d8"]),
        (["run", "--gpus=8", "d8"], ["run", "d8"]),
        (["run", "d8", "--gpus", "2", "--num-processes", "8"], ["run", "d8"]),
        (["run", "d8", "--num-iterations", "8"], ["run", "d8", "--num-iterations", "8"]),
        ([], []),
    ],
)
def test_children_are_not_told_to_start_children(arguments: list[str], kept: list[str]) -> None:
    assert processes.without_num_processes(arguments) == kept


def test_the_main_process_is_rank_0() -> None:
    assert processes.is_main({})
    assert processes.is_main({"RANK": "0", "WORLD_SIZE": "2"})
    assert not processes.is_main({"RANK": "1", "WORLD_SIZE": "2"})
    assert not processes.is_child({})
    assert processes.is_child({"RANK": "0", "WORLD_SIZE": "2"})


def test_only_the_main_process_leaves_its_exit_code(tmp_path: Path) -> None:
    file = tmp_path / "exit_code"
    environ = {processes.EXIT_CODE_FILE: str(file)}
    processes.record_exit_code(2, environ | {"RANK": "1"})
    assert not file.exists()
    processes.record_exit_code(143, environ | {"RANK": "0"})
    assert file.read_text() == "143"
    processes.record_exit_code(1, {})
    assert file.read_text() == "143"
