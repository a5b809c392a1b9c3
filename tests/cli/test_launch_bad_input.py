"""What cannot be ordered or sent is said in a sentence with a way out, before anything is paid."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aquachat.cloud import delivery, providers
from aquachat.cloud.delivery import LIKELY_PLATFORM
from aquachat.cloud.wheel import Wheel, make_wheel
from tests.cli.programs import Cli, Outcome
from tests.cloud.fake_cloud import KEY
from tests.cloud.world import PROVIDERS, World, world_of

NASTY = "$(touch pwned);`touch pwned`|touch pwned&\n'\"x"
MAX_SENTENCE_CHARS = 500
MISSING, WRONG, REFUSED, LATER = 1, 2, 4, 75
"""Exit codes: a file that is not there, what cannot be, what is refused, and what is not free."""


class Person:
    """Somebody with an account, who types what cannot be."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.cli = Cli(folder)
        self.cli.home = world.home

    def refused(self, *words: str, code: int | None = None, **variables: str) -> str:
        """The sentence and the hint; nothing was ordered, and nothing ran."""
        self.world.clock.sleep(13.0)
        environ = self.world.environ() | variables
        outcome = self.cli("launch", *words, code=code, **environ)
        assert code is not None or outcome.code in (MISSING, WRONG, REFUSED, LATER), outcome
        return self.checked(outcome)

    def checked(self, outcome: Outcome) -> str:
        error = outcome.stderr
        assert outcome.stdout == ""
        assert "Traceback" not in error
        assert KEY not in error
        assert not list(self.folder.rglob("pwned"))
        assert self.world.cloud.num_made == 0
        return error

    def rent(self, *words: str, code: int | None = None, **variables: str) -> str:
        how = ("--auto-start", "--no-project", "--tokenizer", "t")
        (self.world.home / "tokenizers" / "t").mkdir(parents=True, exist_ok=True)
        return self.refused(self.world.kind, *how, *words, code=code, **variables)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Wheel:
    return make_wheel(tmp_path_factory.mktemp("wheel"), machine_platform=LIKELY_PLATFORM)


@contextmanager
def person_at(
    kind: str, folder: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    with world_of(kind, folder / "home") as world:
        monkeypatch.setattr(providers, "SystemClock", lambda: world.clock)
        monkeypatch.setattr(delivery, "make_wheel", lambda *_, **__: wheel)
        yield Person(world, folder)


@pytest.fixture(params=PROVIDERS)
def person(
    request: pytest.FixtureRequest, tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    with person_at(request.param, tmp_path, wheel, monkeypatch) as made:
        yield made


@pytest.fixture
def lambda_person(
    tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    with person_at("lambda", tmp_path, wheel, monkeypatch) as made:
        yield made


@pytest.fixture
def hyperbolic_person(
    tmp_path: Path, wheel: Wheel, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    with person_at("hyperbolic", tmp_path, wheel, monkeypatch) as made:
        yield made


def is_one_sentence(error: str) -> bool:
    """An `error:` line and a `hint:` line, neither of them a page."""
    lines = [line for line in error.splitlines() if line.startswith(("error:", "hint:"))]
    kinds = [line.split(":")[0] for line in lines]
    return kinds == ["error", "hint"] and all(len(line) < MAX_SENTENCE_CHARS for line in lines)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--repo-dir", "/"), "cannot be the folder of a project"),
        (("--repo-dir", ".."), "cannot be the folder of a project"),
        (("--repo-dir", "a/../.."), "cannot be the folder of a project"),
        (("--repo-dir", ""), "cannot be the folder of a project"),
        (("--repo-dir", "~"), "cannot be the folder of a project"),
        (("--repo-dir", "~root"), "cannot be the folder of a project"),
        (("--repo-dir", "/home/ubuntu"), "cannot be the folder of a project"),
        (("--repo-dir", "-rf"), "cannot be a path on a machine"),
        (("--run", NASTY), "name"),
        (("--run", "../x"), "name"),
        (("--run", ""), "name"),
        (("--preset", NASTY), "preset"),
        (("--preset", "../../etc/passwd"), "preset"),
        (("--device", NASTY), "there is no device"),
        (("--inject-env", "A=B"), "is no name of an environment variable"),
        (("--inject-env", NASTY), "is no name of an environment variable"),
        (("--inject-env", "NOT_SET_HERE"), "NOT_SET_HERE, named by `--inject-env`, is not set"),
        (("--send-file", "token"), "does not say where to"),
        (("--send-file", ":there"), "does not say where to"),
        (("--send-file", "token:"), "does not say where to"),
        (("--send-file", "no-such:there"), "there is no `no-such`"),
        (("--send-file", "token:../there"), "cannot be a path on a machine"),
        (("--send-file", "token:~root/x"), "cannot be a path on a machine"),
        (("--send-data", "no-such"), "there is no `no-such`"),
        (("--pull", "/etc"), "is not inside the project"),
        (("--pull", "../x"), "cannot be a path"),
        (("--max-cost", "0"), "is no price"),
        (("--max-cost", "nan"), "is no price"),
        (("--max-cost", "-1"), "is no price"),
        (("--max-cost", "inf"), "is no price"),
        (("--max-cost", "ten"), "is no price"),
        (("--max-price", "0"), "is no price"),
        (("--max-hours", "inf"), "`--max-hours` cannot be inf"),
        (("--max-hours", "nan"), "`--max-hours` cannot be nan"),
        (("--max-hours", "0"), "`--max-hours` cannot be 0"),
        (("--max-hours", "-1"), "`--max-hours` cannot be -1"),
        (("--wait-for-capacity", "soon"), "is no duration"),
        (("--wait-for-capacity", "-1h"), "is no duration"),
        (("--detach",), "nothing here holds the limits"),
        (("--ssh-key", "no-such-key"), "there is no `no-such-key`"),
        (("--ssh-user", "-oProxyCommand=touch pwned"), "is no user name"),
        (("--ssh-port", "0"), "is no port"),
        (("--ssh-port", "70000"), "is no port"),
        (("--env-file", "no-such.env"), "there is no `no-such.env`"),
        (("--env-file", "open.env"), "opens a quote that is never closed"),
        (("--env-file", "open.env", "--no-env-file"), "exclude each other"),
        (("--branch", "main"), "`--branch` needs `--repo-url`"),
        (("--repo-url", "https://me:word@host/x"), "holds a name or password"),
        (("--repo-url", "https://token@host/x"), "holds a name or password"),
        (("--repo-url", "--upload-pack=touch pwned"), "is no address that git can clone"),
        (("--repo-url", "ext::sh -c touch% pwned"), "is no address that git can clone"),
        (("--repo-url", "file:///etc"), "is no address that git can clone"),
        (("--repo-url", "https://h/x", "--branch", "--upload-pack=x"), "is no name of a branch"),
        (("--repo-url", "https://h/x", "--branch", NASTY), "is no name of a branch"),
        (("--python", "-c"), "is no Python on the machine"),
        (("--python", NASTY), "is no Python on the machine"),
        (("--tokenizer", NASTY), "tokenizer"),
        (("--tokenizer", "../../x"), "tokenizer"),
        (("--preset", "d8", "--", "true"), "exclude each other"),
        (("--project", "no-such-folder"), "exclude each other"),
    ],
)
def test_a_flag_that_cannot_be_is_refused_before_anything_is_ordered(
    hyperbolic_person: Person, words: tuple[str, ...], said: str
) -> None:
    folder = hyperbolic_person.folder
    (folder / "token").write_text("x")
    (folder / "open.env").write_text("A='never closed: secret-31337\n")
    error = hyperbolic_person.rent(*words)
    assert said in error
    assert is_one_sentence(error), error
    assert "secret-31337" not in error
    assert "word@" not in error


def test_a_file_of_credentials_that_is_not_there_is_said_before_anything_is_ordered(
    person: Person,
) -> None:
    variable = "GOOGLE_APPLICATION_CREDENTIALS"
    error = person.rent("--inject-env", variable, **{variable: "/no/such/file"})
    assert f"{variable} names no file here" in error
    assert is_one_sentence(error), error


def test_a_command_with_a_secret_in_it_is_refused(hyperbolic_person: Person) -> None:
    secret = {"WANDB_API_KEY": "key-31337-x"}
    error = hyperbolic_person.rent("--", "sh", "-c", "K=key-31337-x train", **secret)
    assert "the command holds the value of WANDB_API_KEY" in error
    assert "key-31337" not in error
    assert is_one_sentence(error), error


def test_a_broken_env_file_is_said_before_anything_is_ordered(hyperbolic_person: Person) -> None:
    (hyperbolic_person.folder / ".env").write_text("HF_TOKEN='a\nb\n")
    error = hyperbolic_person.rent()
    assert "line 1 of `.env` opens a quote that is never closed" in error
    assert is_one_sentence(error), error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--region", NASTY, "--gpu", "h100"), "region"),
        (("--gpu", NASTY), ""),
        (("--gpu", "no-such-gpu"), ""),
    ],
)
def test_what_no_provider_has_is_said_and_orders_nothing(
    person: Person, words: tuple[str, ...], said: str
) -> None:
    error = person.rent(*words)
    assert said in error
    assert is_one_sentence(error), error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--ssh-key-name", NASTY), "key"),
        (("--ssh-key-name", "no-such-key"), "no-such-key"),
        (("--instance-type", "no-such-type"), "no-such-type"),
        (("--instance-type", NASTY), "type"),
        (("--region", "no-such-region", "--instance-type", "gpu_1x_a10"), "no-such-region"),
        (("--host-key", "maybe"), "`--host-key` cannot be `maybe`"),
    ],
)
def test_names_that_the_account_does_not_have_are_said(
    lambda_person: Person, words: tuple[str, ...], said: str
) -> None:
    error = lambda_person.rent(*words)
    assert said in error
    assert is_one_sentence(error), error


def test_an_expired_key_is_said_and_orders_nothing(person: Person) -> None:
    person.world.cloud.accepted_key = KEY[::-1]
    error = person.rent("--gpu", "h100", code=4)
    assert "key" in error
    assert is_one_sentence(error), error


def test_a_balance_that_is_too_low_is_said_and_orders_nothing(hyperbolic_person: Person) -> None:
    hyperbolic_person.world.cloud.balance_cents = 1  # type: ignore[attr-defined]
    error = hyperbolic_person.rent("--gpu", "h100")
    assert "balance" in error
    assert is_one_sentence(error), error


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("box",), "names no user"),
        (("",), "names no user"),
        (("-oProxyCommand=touch pwned@h",), ""),
        (("--", "-oProxyCommand=touch pwned@h"), "is no user name"),
        (("me@-oProxyCommand=touch",), "is no address"),
        (("me@host name",), "is no address"),
        (("me@$(touch pwned)",), "is no address"),
        (("me@h;touch pwned",), "is no address"),
        (("$(touch pwned)@h",), "is no user name"),
        (("me@h", "-p", "0"), "is no port"),
        (("me@h", "--ssh-key", "no-such-key"), "there is no `no-such-key`"),
        (("me@h", "--max-hours", "inf"), "`--max-hours` cannot be inf"),
        (("me@h", "--detach"), "`--detach` needs `--auto-start`"),
        (("me@h", "--python", "-c"), "is no Python on the machine"),
        (("me@h", "--repo-url", "https://me:word@h/x"), "holds a name or password"),
        (("me@h", "--repo-dir", "/"), "cannot be the folder of a project"),
    ],
)
def test_a_machine_of_ones_own_that_cannot_be_named_so_is_refused(
    tmp_path: Path, words: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it must not be connected to")

    monkeypatch.setattr("aquachat.cloud.remote.RemoteMachine.connect", never)
    outcome = Cli(tmp_path)("launch", "host", "--no-project", *words)
    assert outcome.code in (MISSING, WRONG), outcome
    assert said in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not list(tmp_path.rglob("pwned"))
