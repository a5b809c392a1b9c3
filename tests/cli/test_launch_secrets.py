"""`aquachat launch` shows no secret: not with `-v`, not with AQUACHAT_DEBUG=1, not in its logs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquachat.cloud import providers
from aquachat.cloud.delivery import LIKELY_PLATFORM
from aquachat.cloud.env_file import render_env
from aquachat.cloud.wheel import make_wheel
from tests.cli.programs import Cli, Outcome
from tests.cloud.fake_cloud import KEY
from tests.cloud.leaks import Secrets, check_here, found_in, no_command_line_has
from tests.cloud.machines import Rented, rented

PRINTS = 'env; printf \'%s\\n\' "$HF_TOKEN" "$DATABASE_URL"; exit 3'


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, machine_platform=LIKELY_PLATFORM)
    return folder


class Person:
    """Somebody whose training prints its environment, and who wants to see everything."""

    def __init__(self, rent: Rented, folder: Path) -> None:
        self.rent, self.secrets = rent, Secrets()
        self.cli = Cli(folder)
        self.cli.home = rent.world.home

    def launch(self, *words: str, python: str = sys.executable, **variables: str) -> Outcome:
        server = self.rent.server
        login = ("--ssh-key", str(server.key_file), "--ssh-user", server.user)
        how = ("-v", "--auto-start", "--no-project", "--device", "cpu", "--python", python)
        where = ("--gpu", "h100", "--gpu-count", "1", *login, *how)
        return self("hyperbolic", *where, *words, "--", "sh", "-c", PRINTS, **variables)

    def __call__(self, *words: str, **variables: str) -> Outcome:
        self.rent.world.clock.sleep(13.0)
        environ = {**self.rent.world.environ(), "AQUACHAT_DEBUG": "1", **variables}
        with no_command_line_has([*self.secrets.marks, KEY]):
            outcome = self.cli("launch", *words, **environ)
        assert not found_in(outcome.stdout + outcome.stderr, [*self.secrets.marks, KEY])
        return outcome


@pytest.fixture
def person(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    with rented("hyperbolic", tmp_path, wheels) as rent:
        monkeypatch.setattr(providers, "SystemClock", lambda: rent.world.clock)
        yield Person(rent, tmp_path)


@pytest.mark.parametrize("how", ["inject", "env-file", "dot-env"])
def test_a_training_that_prints_its_environment_is_shown_without_it(
    person: Person, how: str
) -> None:
    env = person.secrets.env
    words: list[str] = []
    if how == "inject":
        words = [word for name in env for word in ("--inject-env", name)]
        outcome = person.launch(*words, **env)
    else:
        file = person.cli.folder / (".env" if how == "dot-env" else "other.env")
        text = "".join(f"{name}={_quoted(value)}\n" for name, value in env.items())
        file.write_text(text)
        (person.cli.folder / ".env.template").write_text("".join(f"# {name}=\n" for name in env))
        if how == "env-file":
            words = ["--env-file", str(file)]
        outcome = person.launch(*words)
    assert outcome.code == 1
    assert "the training ended with code 3" in outcome.stderr
    for name in env:
        assert f"[{name} redacted]" in outcome.stderr
    (log,) = person.rent.world.home.glob("cloud/*/training.log")
    assert set(found_in(log.read_bytes(), person.secrets.marks)) == set(person.secrets.marks[:3])
    variables = env if how == "inject" else {}
    if how != "env-file":  # values that only that file has are unknown to a later command
        shown = person("logs", "--all", **variables).stdout
        assert "[HF_TOKEN redacted]" in shown
    check_here(person.rent, person.secrets.marks, logged=True)
    assert person.rent.world.cloud.running() == []


def _quoted(value: str) -> str:
    """In double quotes, as a person would write it."""
    for sign in '\\"$`':
        value = value.replace(sign, "\\" + sign)
    return f'"{value}"'


def test_a_set_up_that_fails_shows_no_secret_in_its_traceback(person: Person) -> None:
    env = person.secrets.env
    python = person.rent.server.folder / "python"
    python.write_text(
        "#!/bin/sh\n"
        + render_env({"words": env["WANDB_API_KEY"]})
        + '[ "$1" != -m ] || { printf "error: %s\\n" "$words" >&2; exit 1; }\n'
        + f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    outcome = person.launch("--inject-env", "WANDB_API_KEY", python=str(python), **env)
    assert outcome.code == 4
    assert "Traceback" in outcome.stderr
    assert "could not be set up: the wheel could not be unpacked" in outcome.stderr
    assert "[WANDB_API_KEY redacted]" in outcome.stderr
    assert person.rent.world.cloud.running() == []
