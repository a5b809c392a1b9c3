"""A rented machine that is real behind its fake provider: born with an sshd, gone with it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from aquachat.cloud.host_key import make_host_key
from aquachat.cloud.launching import LaunchPlan
from aquachat.cloud.limits import Limits
from aquachat.cloud.renting import Options, Rental
from aquachat.cloud.work import JobFolder, Work, job_folder
from aquachat.paths import Home
from tests.cloud.fake_cloud import KEY, FakeMachine
from tests.cloud.sshd import Sshd, running_sshd
from tests.cloud.world import World, world_of

SECRETS = {"WANDB_API_KEY": "wandb-'quoted'-$(id)-secret", "HF_TOKEN": "hf_abcdefgh31337"}
TRAINS = (
    'mkdir -p "$AQUACHAT_HOME/runs/r/base" && echo weights >"$AQUACHAT_HOME/runs/r/base/model" '
    '&& echo "step 1" && printf %s "$WANDB_API_KEY" >"$AQUACHAT_HOME/../seen"'
)
GOES_ON = f"{TRAINS}; trap 'echo saved; exit 143' TERM; while :; do sleep 0.1; done"


@dataclass
class Rented:
    """A person at a computer, a provider, and the machine that it rents out."""

    world: World
    server: Sshd
    shown: list[str] = field(default_factory=list)
    births: list[FakeMachine] = field(default_factory=list)
    num_ended: int = 0

    @property
    def home(self) -> Home:
        return Home(self.world.home)

    def folder(self, job: str) -> JobFolder:
        return job_folder(self.home, job)

    def plan(self, **changes: Any) -> LaunchPlan:
        return self.world.plan(**{"limits": Limits(4.0), "user_data": None} | changes)

    def work(self, script: str = TRAINS, **changes: Any) -> Work:
        """A shell script, on a machine without a GPU, with the Python of these tests."""
        values: dict[str, Any] = {
            "words": ("sh", "-c", script),
            "env": SECRETS,
            "device": "cpu",
            "python": sys.executable,
        }
        return Work(**(values | changes))

    def rental(
        self, work: Work | None = None, plan: LaunchPlan | None = None, **options: Any
    ) -> Rental:
        """A launch by a person whose host key travels where the provider carries one."""
        plan = plan or self.plan()
        session = self.world.session()
        key = make_host_key() if session.provider.injects_host_key else None
        if key is not None:
            plan = replace(plan, user_data=key.user_data())
        values: dict[str, Any] = {
            "auto_start": True,
            "key_file": self.server.key_file,
            "user": self.server.user,
            "port": self.server.port,
            "host_key": key,
        }
        return Rental(
            session,
            plan,
            work or self.work(),
            self.folder(plan.job),
            self.home,
            Options(**(values | options)),
            environ={**self.world.environ(), **SECRETS},
            show=self.shown.append,
        )

    def born(self, machine: FakeMachine) -> None:
        """What cloud-init does with the host key, and then sshd starts."""
        self.births.append(machine)
        user_data = machine.body.get("user_data")
        if user_data:
            keys = yaml.safe_load(user_data)["ssh_keys"]
            self.server.stop()
            for suffix, name in (("", "ed25519_private"), (".pub", "ed25519_public")):
                file = self.server.folder / f"host_key{suffix}"
                file.write_text(keys[name].rstrip() + "\n")
                file.chmod(0o600)
            self.server.start()

    def gone(self, machine: FakeMachine) -> None:
        self.num_ended += 1
        self.server.stop()
        self.server.end_processes()

    def texts(self) -> str:
        """Everything that a person sees, and every file that is kept of it here."""
        kept = [
            path.read_text("utf-8", "replace")
            for path in (self.world.home / "cloud").rglob("*")
            if path.is_file() and path.suffix != ".whl"
        ]
        return "\n".join([*self.world.said, *self.shown, *kept])

    def check_laws(self) -> None:
        """No secret is anywhere here, and nothing runs that nobody knows of."""
        texts = self.texts()
        for secret in (KEY, *SECRETS.values(), "PRIVATE KEY"):
            assert secret not in texts, secret
        for sent in self.world.cloud.exchanges:
            for secret in SECRETS.values():
                assert secret.encode() not in sent.request


def without_torch(server: Sshd) -> None:
    """Let the machine's Python find a torch that is imported at once, and sees one GPU."""
    folder = server.folder / "torch"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("fake_torch.py"), folder / "torch.py")
    server.set_session(variables={"PYTHONPATH": str(folder), "FAKE_GPUS": "1"})


@contextmanager
def rented(kind: str, folder: Path, wheels: Path) -> Iterator[Rented]:
    """An account at a provider whose every machine is this computer, behind a real sshd."""
    with running_sshd(folder / "sshd") as server, world_of(kind, folder / "home") as world:
        shutil.copytree(wheels, world.home / "cloud" / "wheels")
        without_torch(server)
        made = Rented(world, server)
        world.cloud.login = ("127.0.0.1", server.port, server.user)
        world.cloud.on_birth = made.born
        world.cloud.on_end = made.gone
        yield made
        made.check_laws()
