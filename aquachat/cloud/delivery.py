"""What goes to a machine before anything runs there: program, gate, project, data, secrets.

In the order of what it costs when it fails: the driver is asked first, because a machine without a
usable GPU is given back; the environment is made; every GPU multiplies matrices; only then travel
the project, the data and, last, the secrets.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from aquachat.cloud.bootstrap import Clone, Environment, Setup, bootstrap, platform_of
from aquachat.cloud.env_file import write_env
from aquachat.cloud.gpu_gate import check_driver, check_gpus
from aquachat.cloud.remote import COMMAND_S, RemoteMachine
from aquachat.cloud.remote_job import Place
from aquachat.cloud.transfer import TRANSFER_S, Progress, Sent, send_data, send_file, send_project
from aquachat.cloud.wheel import Platform, Wheel, make_wheel
from aquachat.cloud.work import Work
from aquachat.errors import ConfigError

Say = Callable[[str], None]

LIKELY_PLATFORM: Final = Platform("Linux", "x86_64", (2, 35))
"""What providers rent out (Ubuntu 22.04 and later), for a wheel made before anything is ordered."""
BOOTSTRAP_S: Final = 1800.0
GATE_S: Final = 300.0
GOOGLE_VARIABLE: Final = "GOOGLE_APPLICATION_CREDENTIALS"
"""Names a file, which travels, and the variable there names it."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One job's things, and where they go.

    Example:
        delivery = Delivery(work, place, folder.path / "wheel", say=print)
        environment = delivery.prepare(machine)
        delivery.send(machine)
    """

    work: Work
    place: Place
    wheels: Path
    """A folder here for wheels that were made."""
    say: Say
    time_left: Callable[[], float] = lambda: float("inf")
    """Seconds until the machine must be ended: no step may wait for longer."""
    num_gpus: int | None = None
    """How many the machine should have."""
    progress: Progress | None = None

    def make_wheel(self, platform: Platform = LIKELY_PLATFORM) -> Wheel:
        """The wheel for a machine; made before an order, so that nobody pays for the wait.

        Raises:
            ConfigError: it has no extension, and no tokenizer travels in its place.
        """
        wheel = make_wheel(self.wheels, machine_platform=platform, say=self.say)
        needs_training = not self.work.words and self.work.tokenizer is None
        if wheel.is_pure and needs_training:
            raise ConfigError(
                f"aquachat here has no tokenizer extension for {platform}, so the machine cannot "
                "train a tokenizer",
                hint="name one that was trained here with `--tokenizer NAME`",
            )
        return wheel

    def prepare(self, machine: RemoteMachine) -> Environment:
        """Set the program up; safe to repeat after a lost connection.

        Raises:
            BootError: the machine has no GPU that computes.
            SshError: the set-up failed, and why.
        """
        wants_gpu = self.work.device == "cuda"
        if wants_gpu:
            limit_s = self._within(GATE_S)
            machine.persist(lambda: check_driver(machine, expected=self.num_gpus), limit_s)
        platform = machine.persist(lambda: platform_of(machine), self._within(COMMAND_S))
        wheel = self.make_wheel(platform)
        path = self.place.file(f"wheel/{wheel.path.name}")
        self.say(f"sending aquachat {wheel.version}")
        send_file(machine, wheel.path, path, mode=0o644, deadline_s=self._within(TRANSFER_S))
        setup = Setup(
            work=self.place.work,
            wheel=path,
            python=self.work.python,
            device="auto" if wants_gpu else "cpu",
            clone=None if self.work.clone is None else Clone(*self.work.clone),
            project=self.place.project,
        )
        limit_s = self._within(BOOTSTRAP_S)
        environment = bootstrap(machine, setup, say=self.say, deadline_s=limit_s)
        if wants_gpu:
            gpus = machine.persist(
                lambda: check_gpus(
                    machine,
                    environment.python,
                    expected=self.num_gpus,
                    deadline_s=self._within(GATE_S),
                ),
                self._within(GATE_S),
            )
            self.say(f"{gpus.count} GPU multiplied matrices: {', '.join(sorted(set(gpus.names)))}")
        else:
            self.say("no GPU is asked for (`--device cpu`), so none was checked")
        return environment

    def send(self, machine: RemoteMachine) -> None:
        """Send project, data, files and secrets; what is there already is not sent again.

        Raises:
            ConfigError: a name that cannot be one there.
            SshError: the machine could not take it.
        """
        work, place = self.work, self.place
        if work.project is not None:
            self.say(f"sending the project `{work.project}`")
            self._data(send_project, machine, work.project, place.project)
        for data in work.data:
            self.say(f"sending `{data}`")
            remote = place.file("data")
            folder = remote if data.is_file() else str(PurePosixPath(remote) / data.resolve().name)
            self._data(send_data, machine, data, folder)
        if work.tokenizer is not None:
            target = place.file(f"home/tokenizers/{work.tokenizer.name}")
            self._data(send_data, machine, work.tokenizer, target)
        for local, remote in work.files:
            self._data(send_file, machine, local, remote)
        self._send_secrets(machine)

    def _send_secrets(self, machine: RemoteMachine) -> None:
        values = dict(self.work.env)
        credentials = values.get(GOOGLE_VARIABLE)
        if credentials and Path(credentials).expanduser().is_file():
            local = Path(credentials).expanduser()
            remote = self.place.file(f"secrets/{local.name}")
            self._data(send_file, machine, local, remote)
            home = machine.persist(lambda: machine.script("cd && pwd")).text.strip()
            values[GOOGLE_VARIABLE] = f"{home}/{remote}"
        elif credentials:
            raise ConfigError(
                f"{GOOGLE_VARIABLE} names `{credentials}`, which is no file",
                hint="correct it, or leave it out of what is sent",
            )
        if values:
            self.say(f"sending {', '.join(sorted(values))} to a file that only its user can read")
            path = self.place.file(".env")
            machine.persist(lambda: write_env(machine, path, values), self._within(COMMAND_S))

    def _data(
        self, send: Callable[..., Sent], machine: RemoteMachine, local: Path, remote: str
    ) -> None:
        limit_s = self._within(TRANSFER_S)
        send(machine, local, remote, progress=self.progress, deadline_s=limit_s)

    def _within(self, seconds: float) -> float:
        return max(1.0, min(seconds, self.time_left()))
