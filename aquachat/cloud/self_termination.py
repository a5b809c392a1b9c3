"""A machine that ends itself at its provider: opt-in, since it needs the account's key there.

`sudo shutdown` does not stop a bill, so the machine has to ask the provider. The key lies in a file
that only its user can read, and is used by this program only. It asks when the time of the machine
is up, or when the work has ended and nobody has pulled the results for a while.

    python -m aquachat.cloud.self_termination WORK      (started by `scripts/self_terminate.sh`)
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from aquachat.cloud.access import Surroundings
from aquachat.cloud.base import CloudProvider
from aquachat.cloud.clock import SystemClock
from aquachat.cloud.env_file import parse_env_file, write_env
from aquachat.cloud.errors import CloudError, NotFoundError
from aquachat.cloud.jobs import Machine
from aquachat.cloud.pacer import Pacer
from aquachat.cloud.providers import KEY_ENVS, URL_VARIABLES, open_provider
from aquachat.cloud.remote import RemoteMachine
from aquachat.cloud.remote_job import Place
from aquachat.cloud.shell_scripts import command
from aquachat.errors import ConfigError

LINGER_S: Final = 1800.0
"""How long the results of ended work wait to be pulled."""
POLL_S: Final = 10.0
ASK_AGAIN_S: Final = 20.0
SEE_AGAIN_S: Final = 5.0
KEY_FILE: Final = "job/terminate.env"
ORDER_FILE: Final = "job/terminate.json"
ARMED_FILE: Final = "job/terminate.armed"
"""Made when the machine has found itself at the provider: its key and its way there work."""
ARM_S: Final = 90.0

_WRITE: Final = """
set -eu
umask 077
cd
mkdir -p -- "$(dirname -- "$1")"
cat >"$1.new"
mv -f "$1.new" "$1"
"""


@dataclass(frozen=True, slots=True)
class Order:
    """What the machine is to end, and when at the latest."""

    provider: str
    instance_id: str
    seconds: float
    """From the moment that the file was written."""
    linger_s: float = LINGER_S


def arm(
    machine: RemoteMachine,
    place: Place,
    rented: Machine,
    environ: Mapping[str, str],
    *,
    seconds: float,
    say: Callable[[str], None],
    linger_s: float = LINGER_S,
) -> None:
    """Let the machine end itself in `seconds` at the latest.

    Args:
        machine: where.
        place: of the job.
        rented: what the provider calls it.
        environ: holds the key.
        seconds: until the end, at the latest.
        say: told that the key travels.
        linger_s: how long ended work waits for somebody to pull its results.

    Raises:
        ConfigError: there is no key.
        CommandError: the machine cannot reach its provider, so it could not end itself.
    """
    names = (*KEY_ENVS[rented.provider], *URL_VARIABLES[rented.provider])
    values = {name: environ[name] for name in names if environ.get(name, "").strip()}
    if not any(name in values for name in KEY_ENVS[rented.provider]):
        raise ConfigError(
            f"`--self-terminate` needs {KEY_ENVS[rented.provider][0]}",
            hint="put it into `.env`",
        )
    say(
        f"the key of your {rented.provider} account goes to the machine, so that it can end "
        f"itself: a file that only its user can read (`{place.file(KEY_FILE)}`)"
    )
    machine.persist(lambda: write_env(machine, place.file(KEY_FILE), values))
    set_order(machine, place, Order(rented.provider, rented.instance_id, seconds, linger_s))
    words = command("self_terminate", place.work, str(int(ARM_S)))
    machine.persist(lambda: machine.check(words, deadline_s=2 * ARM_S))


def set_order(machine: RemoteMachine, place: Place, order: Order) -> None:
    """Write what the machine is to end, and when; its time counts from now."""
    text = json.dumps(asdict(order)).encode()
    machine.persist(lambda: machine.script(_WRITE, place.file(ORDER_FILE), stdin=text))


def end_when_due(
    work: Path,
    provider: CloudProvider,
    *,
    now: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = print,
) -> None:
    """Wait until the machine must end, then ask for it until it is gone.

    Args:
        work: the work folder of the job on this machine.
        provider: with the account's key.
        now: seconds since the epoch.
        sleep: how to wait.
        say: takes lines for `terminate.log`.
    """
    while not (why := _reason(work, now())):
        is_armed = (work / ARMED_FILE).exists() or _sees_itself(work, provider, say)
        sleep(POLL_S if is_armed else SEE_AGAIN_S)
    order = read_order(work)
    while True:
        say(f"ending machine {order.instance_id}: {why}")
        try:
            provider.terminate(order.instance_id)
            if provider.get(order.instance_id).status.is_ended:
                say("the provider says that it is ending")
                break
        except NotFoundError:
            say("the provider does not know it any more")
            break
        except CloudError as error:
            say(error.message)
        sleep(ASK_AGAIN_S)
    (work / "job" / "terminate.done").touch()


def _sees_itself(work: Path, provider: CloudProvider, say: Callable[[str], None]) -> bool:
    """Whether the provider names this machine; that it did is written down."""
    try:
        provider.get(read_order(work).instance_id)
    except CloudError as error:
        say(error.message)
        return False
    (work / ARMED_FILE).touch()
    return True


def read_order(work: Path) -> Order:
    """What the launcher, or a watcher with other limits, wrote last."""
    return Order(**json.loads((work / ORDER_FILE).read_text("utf-8")))


def _reason(work: Path, now_s: float) -> str:
    """Why the machine must end now; empty while it may go on."""
    order = read_order(work)
    if now_s >= (work / ORDER_FILE).stat().st_mtime + order.seconds:
        return "its time is up"
    code = work / "job" / "exit"
    if code.exists() and now_s >= code.stat().st_mtime + order.linger_s:
        return "the work has ended and nobody ended the machine"
    return ""


def main(arguments: list[str]) -> int:
    """The program on the machine."""
    work = Path(arguments[0])
    environ = parse_env_file((work / KEY_FILE).read_text("utf-8"))
    clock = SystemClock()
    around = Surroundings(environ, clock, random.Random(), Pacer(clock))
    end_when_due(work, open_provider(read_order(work).provider, around))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
