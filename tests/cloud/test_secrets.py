"""Secrets are nowhere but where they are meant to be: whole rentals, and all that they leave."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aquachat.cloud.env_file import parse_env_file
from aquachat.cloud.errors import CloudError
from aquachat.cloud.renting import Outcome
from aquachat.cloud.ssh_errors import AuthFailedError, CommandError, HostKeyError
from aquachat.errors import AquachatError
from tests.cloud.fake_cloud import KEY, Fault
from tests.cloud.leaks import (
    Secrets,
    Watcher,
    check_here,
    check_there,
    found_in,
    no_command_line_has,
    private_lines,
    texts_of,
)
from tests.cloud.machines import TRAINS, Rented
from tests.cloud.proxy import Proxy

ALLOWED = {
    ".env": "what the training is given",
    "terminate.env": "the provider's key, with --self-terminate",
    "secrets/*": "the file of GOOGLE_APPLICATION_CREDENTIALS",
    ".config/token": "what --send-file sent",
    "training.log": "what the training itself printed",
}
PRINTS = 'env; printf \'%s\\n\' "$HF_TOKEN"; cat "$GOOGLE_APPLICATION_CREDENTIALS"'


class Case:
    """One rental with secrets of every kind in it, watched from its start to its end."""

    def __init__(self, rent: Rented, folder: Path) -> None:
        self.rent = rent
        self.secrets = Secrets()
        self.marks = list(self.secrets.marks)
        self.credentials = folder / "google.json"
        self.credentials.write_text(self.secrets.credentials)
        self.file = folder / "token"
        self.file.write_text(self.secrets.file)

    def work(self, script: str = TRAINS, **changes: Any) -> Any:
        env = {**self.secrets.env, "GOOGLE_APPLICATION_CREDENTIALS": str(self.credentials)}
        values = {"env": env, "files": ((self.file, ".config/token"),)}
        return self.rent.work(script, **(values | changes))

    def run(self, work: Any, **options: Any) -> Outcome:
        rental = self.rent.rental(work, **options)
        key = rental._options.host_key
        if key is not None:
            self.marks += private_lines(key.private)
        with no_command_line_has([*self.marks, KEY]):
            return rental.run()

    def fails(self, kind: type[AquachatError], work: Any, **options: Any) -> AquachatError:
        with pytest.raises(kind) as caught:
            self.run(work, **options)
        assert not found_in(texts_of(caught.value), [*self.marks, KEY])
        return caught.value

    def check(self, *, logged: bool = False) -> None:
        needles = [mark for mark in self.marks if len(mark) == 32]
        check_here(self.rent, needles, logged=logged)
        private = [mark for mark in self.marks if len(mark) != 32]
        for line in (*self.rent.world.said, *self.rent.shown):
            assert not found_in(line, private)
        for path in self.rent.world.home.rglob("*"):
            assert not path.is_file() or not found_in(path.read_bytes(), private), path
        for sent in self.rent.world.cloud.exchanges:
            assert sent.route == "launch" or not found_in(sent.request, private)
        check_there(self.rent.server.home, [*self.marks, KEY], ALLOWED)
        assert self.rent.world.cloud.running() == []


def given(file: Path) -> dict[str, str]:
    """What `env -0` wrote."""
    pairs = [pair for pair in file.read_bytes().decode().split("\0") if pair]
    return dict(pair.split("=", 1) for pair in pairs)


@pytest.fixture
def case(rent: Rented, tmp_path: Path) -> Case:
    return Case(rent, tmp_path)


def test_a_rental_with_secrets_of_every_kind_leaves_none_behind(case: Case) -> None:
    seen = (
        '; env -0 >"$AQUACHAT_HOME/../env"; cat "$GOOGLE_APPLICATION_CREDENTIALS" ~/.config/token'
    )
    outcome = case.run(case.work(f"{TRAINS}{seen} >../read; chmod 600 ../*"), self_terminate=True)
    assert outcome.state is not None
    assert outcome.state.code == 0
    work = case.rent.server.home / outcome.record.work
    assert given(work / "env").items() >= case.secrets.env.items()
    assert (work / "read").read_text() == case.secrets.credentials + case.secrets.file
    assert parse_env_file((work / "job" / "terminate.env").read_text()).items() >= {
        (next(iter(case.rent.world.environ())), KEY)
    }
    for name in ("env", "read", "seen"):  # what the training wrote by itself
        (work / name).unlink()
    case.check()


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_what_a_training_prints_is_hidden_from_the_screen_and_kept_in_its_log(case: Case) -> None:
    outcome = case.run(case.work(f"{PRINTS}; exit 3"))
    assert outcome.state is not None
    assert outcome.state.code == 3
    there = case.rent.server.home / outcome.record.work / "job" / "training.log"
    here = case.rent.folder(outcome.record.job).log
    assert here.read_bytes() == there.read_bytes()
    assert set(found_in(here.read_bytes(), case.secrets.marks)) >= set(case.secrets.marks[:3])
    shown = "\n".join(case.rent.shown)
    for name in case.secrets.env:
        assert f"[{name} redacted]" in shown
    # the file of credentials is not known to us: only values of variables are
    case.rent.shown[:] = [line for line in case.rent.shown if "private_key" not in line]
    case.check(logged=True)
    assert here.stat().st_mode & 0o077 == 0 or here.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_only_the_command_has_the_secrets_in_its_environment(case: Case) -> None:
    holders: set[str] = set()

    def look() -> None:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environ = (entry / "environ").read_bytes()
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if found_in(environ, case.secrets.marks):
                assert (entry / "environ").stat().st_mode & 0o077 == 0
                holders.add(line)

    case.rent.shown = _Calling(look, case.rent.shown)  # type: ignore[assignment]
    case.run(case.work("echo begun; sleep 1.5; echo done"))
    assert holders
    assert not [line for line in holders if "supervise.sh" in line or "tmux" in line]
    case.check()


class _Calling(list):  # type: ignore[type-arg]
    """A list that calls at each line that is shown."""

    def __init__(self, call: Callable[[], None], lines: list[str]) -> None:
        super().__init__(lines)
        self._call = call

    def append(self, line: str) -> None:
        super().append(line)
        self._call()


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
@pytest.mark.parametrize("before", [0, 250])
def test_a_set_up_that_fails_with_a_secret_in_its_words_shows_none(case: Case, before: int) -> None:
    secret = case.secrets.env["WANDB_API_KEY"]
    python = case.rent.server.folder / "python"
    # `error` and the secret, so that a message cut to 300 characters would cut the secret
    words = f"error: could not resolve host {secret} {'x' * before}"
    (case.rent.server.folder / "words").write_text(words + "\n")
    python.write_text(
        f'#!/bin/sh\n[ "$1" != -m ] || {{ cat {case.rent.server.folder}/words >&2; exit 1; }}\n'
        f'exec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    error = case.fails(CommandError, case.work(python=str(python)))
    assert "cannot reach what it must download" in error.message
    assert not found_in(texts_of(error), [case.marks[0][:8], case.marks[0][-8:]])
    log = next(case.rent.server.home.glob("aquachat/*/job/bootstrap.log"))
    assert log.stat().st_mode & 0o077 == 0  # what programs there say stays there, for its user
    log.unlink()
    case.check()


def test_a_provider_that_echoes_the_key_in_its_errors_is_not_quoted(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = case.rent.world.cloud
    error = cloud.error
    monkeypatch.setattr(
        cloud, "error", lambda code, text: error(code, f"{text} (Authorization: Bearer {KEY})")
    )
    cloud.inject("launch", *([Fault.SERVER_ERROR] * 4))
    cloud.inject("list", Fault.SERVER_ERROR, Fault.RATE_LIMIT)
    case.fails(CloudError, case.work())
    case.check()
    assert not case.rent.births


@pytest.mark.parametrize("rent", ["hyperbolic"], indirect=True)
def test_a_machine_that_refuses_the_key_is_given_up_soon_and_told_nothing(case: Case) -> None:
    (case.rent.server.folder / "authorized_keys").write_text("")
    case.fails(AuthFailedError, case.work())
    assert len(case.rent.births) == 1, "another machine would refuse it too"
    hours = case.rent.world.cloud.billed_cents() / case.rent.births[0].price_cents
    assert hours < 0.25
    case.check()


@pytest.mark.parametrize("rent", ["lambda"], indirect=True)
def test_a_machine_with_another_key_is_told_nothing(case: Case) -> None:
    case.rent.world.cloud.on_birth = case.rent.births.append
    case.fails(HostKeyError, case.work())
    assert not list(case.rent.server.home.iterdir())
    case.check()


@pytest.mark.long
def test_secrets_that_are_cut_off_on_their_way_arrive_whole_and_nowhere_else(case: Case) -> None:
    server = case.rent.server
    with Proxy(server.port) as proxy:
        case.rent.world.cloud.login = ("127.0.0.1", proxy.port, server.user)
        said = case.rent.world.said

        class Cutting(list):  # type: ignore[type-arg]
            def append(self, line: str) -> None:
                super().append(line)
                if line.startswith(("sending ", "making ", "unpacking ", "started ")):
                    proxy.cut_after_bytes = proxy.sent + 900

        case.rent.world.said = Cutting(said)
        work = case.work(f'{TRAINS}; env -0 >"$AQUACHAT_HOME/../env"')
        outcome = case.run(work, port=proxy.port, self_terminate=True)
        assert proxy.connections > 2
    assert outcome.state is not None
    assert outcome.state.code == 0
    work = server.home / outcome.record.work
    assert given(work / "env").items() >= case.secrets.env.items()
    for name in ("env", "seen"):
        (work / name).unlink()
    case.check()


def test_the_watcher_of_command_lines_sees_a_secret() -> None:
    secret = Secrets().marks[0]
    watcher = Watcher([secret])
    watcher.look()
    assert watcher.seen == set()
    command = [sys.executable, "-c", "input()", secret]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        for _ in range(100):  # the system shows a new process's words a moment after it began
            watcher.look()
            if watcher.seen:
                break
            time.sleep(0.02)
        process.kill()
    assert len(watcher.seen) == 1
