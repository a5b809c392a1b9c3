"""`aquachat launch` with machines behind it: rent, train, look, pull, stop, from a command line."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from aquachat.cloud import providers
from aquachat.cloud.delivery import LIKELY_PLATFORM
from aquachat.cloud.wheel import make_wheel
from tests.cli.programs import Cli, Outcome
from tests.cloud.machines import GOES_ON, SECRETS, TRAINS, Rented, rented, without_torch
from tests.cloud.sshd import Sshd, running_sshd
from tests.pipeline.programs import MICRO

TRAINS_MICRO = "aquachat run --config micro.toml --run micro --device cpu --stages"


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheels")
    make_wheel(folder, machine_platform=LIKELY_PLATFORM)
    return folder


class Person:
    """Somebody with an account at Hyperbolic, whose machines are real."""

    def __init__(self, rent: Rented, folder: Path) -> None:
        self.rent = rent
        self.cli = Cli(folder)
        self.cli.home = rent.world.home

    def __call__(self, *words: str, code: int | None = 0) -> Outcome:
        self.rent.world.clock.sleep(13.0)
        environ = {**self.rent.world.environ(), **SECRETS}
        outcome = self.cli("launch", *words, code=code, **environ)
        for secret in (*environ.values(),):
            if not secret.startswith("http"):
                assert secret not in outcome.stdout + outcome.stderr
        return outcome

    def launch(self, *words: str, script: str = TRAINS, code: int | None = 0) -> Outcome:
        server = self.rent.server
        login = ("--ssh-key", str(server.key_file), "--ssh-user", server.user)
        how = ("--device", "cpu", "--python", sys.executable, "--inject-env", "WANDB_API_KEY")
        where = ("--gpu", "h100", "--gpu-count", "1", *login, *how)
        return self("hyperbolic", *where, *words, "--", "sh", "-c", script, code=code)

    def detach(self, script: str) -> str:
        """A job whose launcher has left; the machine would end itself."""
        words = ("--auto-start", "--detach", "--self-terminate", "--json")
        document = json.loads(self.launch(*words, script=script).stdout)
        assert document["machine_ended"] is None
        return str(document["job"])


@pytest.fixture
def person(tmp_path: Path, wheels: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Person]:
    with rented("hyperbolic", tmp_path, wheels) as rent:
        monkeypatch.setattr(providers, "SystemClock", lambda: rent.world.clock)
        yield Person(rent, tmp_path)


def test_one_command_rents_trains_brings_it_home_and_ends(person: Person) -> None:
    outcome = person.launch("--auto-start", "--json")
    document = json.loads(outcome.stdout)
    assert (document["code"], document["end"]) == (0, "ended")
    assert document["machine_ended"] in ("terminating", "terminated", "absent")
    assert document["runs"] == ["r"]
    assert document["cost_usd"] > 0
    assert "step 1" in outcome.stderr
    assert person.rent.world.cloud.running() == []
    text = person("status").stdout
    assert "no machine of ours runs" in text
    logs = person("logs", document["job"], "--all")
    assert logs.stdout == "step 1\n"
    assert "this is the copy here" in logs.stderr


def test_a_command_that_fails_says_so_and_nothing_is_left(person: Person) -> None:
    outcome = person.launch("--auto-start", script="echo no luck; exit 3", code=1)
    assert "the training ended with code 3" in outcome.stderr
    assert "no luck" in outcome.stderr
    assert person.rent.world.cloud.running() == []


def test_a_dry_run_orders_nothing_and_says_what_it_would_do(person: Person) -> None:
    document = json.loads(person.launch("--dry-run", "--json", "--max-cost", "3").stdout)
    assert document["dry_run"] is True
    assert document["work"]["variables"] == ["WANDB_API_KEY"]
    assert document["offers"][0]["most_it_may_cost_usd"] == 3.0
    assert person.rent.births == []
    shown = person.launch("--dry-run").stdout
    assert "variables: WANDB_API_KEY" in shown
    assert "USD/hour" in shown


def test_list_shows_what_could_be_ordered(person: Person) -> None:
    offers = json.loads(person("hyperbolic", "--list", "--gpu", "h100", "--json").stdout)["offers"]
    assert offers
    assert all("h100" in offer["instance_type"] for offer in offers)


def test_a_job_that_goes_on_is_seen_pulled_watched_and_stopped(person: Person) -> None:
    detached = json.loads(
        person.launch(
            "--auto-start", "--detach", "--self-terminate", "--json", script=GOES_ON
        ).stdout
    )
    job = detached["job"]
    assert detached["machine_ended"] is None
    machines = json.loads(person("status", "--json").stdout)["providers"][0]["machines"]
    assert [machine["job"] for machine in machines] == [job]
    assert "step 1" in person("logs").stdout
    pulled = json.loads(person("pull", "--json").stdout)
    assert pulled["runs"] == ["r"]
    assert json.loads(person("ssh", "--json", job, "--", "nvidia-smi").stdout)["command"][-1] == (
        "nvidia-smi"
    )
    attach = json.loads(person("attach", "--json").stdout)["command"]
    assert "tmux" in attach[-1]
    stopped = person("stop", job)
    assert "asking the training to save and end" in stopped.stderr
    assert person.rent.world.cloud.running() == []
    log = person.rent.folder(job).log.read_text()
    assert log.startswith("step 1\n")
    assert log.endswith("saved\n")


def test_the_commands_for_a_terminal_work_with_the_real_ssh(person: Person) -> None:
    job = json.loads(
        person.launch(
            "--auto-start", "--detach", "--self-terminate", "--json", script=GOES_ON
        ).stdout
    )["job"]
    words = json.loads(person("ssh", "--json", job, "--", "echo", "a b", "$(id)").stdout)["command"]
    done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    assert done.stdout.decode().strip().splitlines()[-1] == "a b $(id)", done.stderr
    person("stop", job, "--now")


def test_watch_takes_over_and_brings_it_to_its_end(person: Person) -> None:
    waits = f"{TRAINS}; while [ ! -e ../go ]; do sleep 0.1; done; echo went"
    job = person.detach(waits)
    (person.rent.server.home / "aquachat" / job / "go").touch()
    document = json.loads(person("watch", job, "--max-hours", "3", "--json").stdout)
    assert (document["code"], document["runs"]) == (0, ["r"])
    assert person.rent.world.cloud.running() == []
    assert "no machine of job" in person("watch", job, code=2).stderr


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with running_sshd(tmp_path / "sshd") as made:
        yield made


class Hosting:
    """Somebody with a machine of their own."""

    def __init__(self, server: Sshd, folder: Path, wheels: Path) -> None:
        self.server = server
        without_torch(server)
        self.cli = Cli(folder)
        shutil.copytree(wheels, self.cli.home / "cloud" / "wheels")

    def __call__(self, *words: str, code: int | None = 0, **variables: str) -> Outcome:
        return self.cli("launch", *words, code=code, **variables)

    def host(self, *words: str, code: int | None = 0, **variables: str) -> Outcome:
        server = self.server
        login = (f"{server.user}@127.0.0.1", "-p", str(server.port))
        key = ("--ssh-key", str(server.key_file))
        how = ("--device", "cpu", "--python", sys.executable)
        return self("host", *login, *key, *how, *words, code=code, **variables)


@pytest.fixture
def hosting(server: Sshd, tmp_path: Path, wheels: Path) -> Hosting:
    return Hosting(server, tmp_path, wheels)


def test_a_real_training_over_ssh_comes_back_with_equal_checksums(
    hosting: Hosting, tmp_path: Path
) -> None:
    hosting.server.set_session()  # with the real torch
    project = tmp_path / "project"
    project.mkdir()
    (project / "micro.toml").write_text(MICRO)
    words = f"{TRAINS_MICRO} prepare,tokenize,base".split()
    outcome = hosting.host(
        "--auto-start", "--json", "--project", str(project), "--with-optimizer", "--", *words
    )
    document = json.loads(outcome.stdout)
    assert (document["code"], document["runs"]) == (0, ["micro"])
    there = hosting.server.home / document["work"] / "home" / "runs" / "micro"
    here = Path(document["results"]) / "runs" / "micro"
    files = sorted(path.relative_to(there) for path in there.rglob("*") if path.is_file())
    assert any(file.name == "model.safetensors" for file in files)
    for file in files:
        digests = [hashlib.sha256((root / file).read_bytes()).hexdigest() for root in (there, here)]
        assert digests[0] == digests[1], file
    assert re.search(r"base.*loss", outcome.stderr)
    assert "micro" in hosting.cli("runs").stdout


def test_without_auto_start_a_machine_is_only_set_up(hosting: Hosting) -> None:
    outcome = hosting.host("--no-project", "--json")
    document = json.loads(outcome.stdout)
    work = hosting.server.home / document["work"]
    done = subprocess.run(
        [str(work / "bin" / "aquachat"), "--version"], capture_output=True, check=True
    )
    assert done.stdout.startswith(b"aquachat ")
    assert not (work / "job" / "lock").exists()


def test_ones_own_env_file_travels_by_the_names_of_the_template(hosting: Hosting) -> None:
    folder = hosting.cli.folder
    (folder / ".env").write_text(
        "WANDB_API_KEY='k$(id) \"q\"'\nLAMBDA_API_KEY=lambda-secret-1\nOTHER=1\n"
    )
    script = 'env | grep -e ^WANDB -e ^LAMBDA -e ^OTHER >"$AQUACHAT_HOME/../seen"; true'
    outcome = hosting.host("--auto-start", "--no-project", "--", "sh", "-c", script)
    assert "not copied from `.env`: LAMBDA_API_KEY, OTHER" in outcome.stderr
    work = next((hosting.server.home / "aquachat").iterdir())
    assert (work / "seen").read_text() == 'WANDB_API_KEY=k$(id) "q"\n'
    left_out = hosting.host(
        "--auto-start", "--no-project", "--no-env-file", "--json", "--", "sh", "-c", script
    )
    work = hosting.server.home / json.loads(left_out.stdout)["work"]
    assert (work / "seen").read_text() == ""


def test_what_is_sent_arrives_where_it_was_told(hosting: Hosting, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a b.txt").write_text("x")
    (tmp_path / "keys.json").write_text("secret")
    hosting.host(
        *("--no-project", "--send-data", "rows.jsonl", "--send-data", "set"),
        *("--send-file", "keys.json:.config/keys.json"),
    )
    work = next((hosting.server.home / "aquachat").iterdir())
    assert (work / "data" / "rows.jsonl").read_text() == "{}\n"
    assert (work / "data" / "set" / "a b.txt").read_text() == "x"
    keys = hosting.server.home / ".config" / "keys.json"
    assert keys.read_text() == "secret"
    assert keys.stat().st_mode & 0o777 == 0o600


def test_ctrl_c_only_stops_looking_at_ones_own_machine(hosting: Hosting) -> None:
    import signal

    def interrupt() -> None:
        while not list(hosting.server.home.glob("aquachat/*/job/pid")):
            time.sleep(0.05)
        time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    outcome = hosting.host("--auto-start", "--no-project", "--", "sh", "-c", GOES_ON, code=130)
    thread.join()
    job = next((hosting.server.home / "aquachat").iterdir()).name
    assert f"aquachat launch stop {job}" in outcome.stderr
    assert "step 1" in hosting("logs").stdout
    stopped = json.loads(hosting("stop", job, "--json").stdout)
    assert (stopped["end"], stopped["code"]) == ("stop", 143)
    assert (Path(stopped["results"]) / "runs" / "r" / "base" / "model").exists()


def test_a_machine_that_cannot_be_reached_is_said(
    hosting: Hosting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aquachat.cloud.hosting.READY_S", 1.0)
    hosting.server.stop()
    outcome = hosting.host("--no-project", code=4)
    assert "cannot reach" in outcome.stderr
