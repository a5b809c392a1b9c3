"""One account at one provider, one computer, one clock; and the laws that always hold."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from aquachat.cloud.access import Surroundings
from aquachat.cloud.base import GpuRequest
from aquachat.cloud.hyperbolic import Hyperbolic
from aquachat.cloud.lambda_labs import LambdaLabs
from aquachat.cloud.launching import LaunchPlan
from aquachat.cloud.ledger import Ledger
from aquachat.cloud.limits import Limits
from aquachat.cloud.pacer import Pacer
from aquachat.cloud.redaction import Redactor
from aquachat.cloud.session import CloudSession
from aquachat.cloud.wire import NoAnswerWireError, Transport, WireAnswer, WireRequest, exchange
from tests.cloud.contract import check_exchanges
from tests.cloud.fake_cloud import HOST_KEY, JUPYTER_TOKEN, KEY, FakeClock, FakeCloud
from tests.cloud.fake_hyperbolic import FakeHyperbolic
from tests.cloud.fake_lambda import FakeLambda

ORDERS = ("/launch", "/virtual-machine-rentals")
PROVIDERS = ("lambda", "hyperbolic")
USER_DATA = (
    "#cloud-config\nssh_keys:\n  ed25519_private: |\n"
    f"    -----BEGIN OPENSSH PRIVATE KEY-----\n    {HOST_KEY}\n"
    "    -----END OPENSSH PRIVATE KEY-----\n"
)


@dataclass
class World:
    cloud: FakeCloud
    clock: FakeClock
    home: Path
    kind: str
    said: list[str] = field(default_factory=list)
    seed: int = 0
    sent: list[tuple[float, bool]] = field(default_factory=list)
    """When each request went out, and whether it was an order."""

    @property
    def ledger_path(self) -> Path:
        return self.home / "cloud" / "ledger.jsonl"

    def environ(self) -> dict[str, str]:
        if self.kind == "lambda":
            return {"LAMBDA_API_KEY": KEY, "AQUACHAT_LAMBDA_URL": self.cloud.url}
        return {"HYPERBOLIC_API_KEY": KEY, "AQUACHAT_HYPERBOLIC_URL": self.cloud.url}

    def ledger(self, fsync: Callable[[int], None] = lambda handle: None) -> Ledger:
        """The ledger; whether it syncs is for `test_ledger.py`, and waiting for disks is slow."""
        return Ledger(self.ledger_path, self.clock, redactor=Redactor([KEY], {}), fsync=fsync)

    def session(
        self,
        *,
        transport: Transport = exchange,
        ledger: Ledger | None = None,
        read_timeout_s: float = 10.0,
        write_timeout_s: float = 10.0,
        pacer: Pacer | None = None,
    ) -> CloudSession:
        """A new process: it shares the clock and the files, and comes some seconds later."""
        self.clock.sleep(13.0)
        around = Surroundings(
            self.environ(),
            self.clock,
            random.Random(self.seed),
            pacer or Pacer(self.clock),
            self._recording(transport),
            read_timeout_s,
            write_timeout_s,
        )
        provider = LambdaLabs(around) if self.kind == "lambda" else Hyperbolic(around)
        ledger = ledger or self.ledger()
        return CloudSession(
            provider, ledger, self.clock, random.Random(self.seed), self.said.append
        )

    def _recording(self, transport: Transport) -> Transport:
        def send(request: WireRequest) -> WireAnswer:
            is_order = request.method == "POST" and request.url.endswith(ORDERS)
            self.sent.append((self.clock.time(), is_order))
            num_handled = self.cloud.num_handled
            try:
                return transport(request)
            except NoAnswerWireError:
                # on a busy computer the fake may come to a request after its client gave up
                for _ in range(1000):
                    if self.cloud.num_handled > num_handled:
                        break
                    time.sleep(0.005)
                raise

        return send

    def plan(self, **changes: Any) -> LaunchPlan:
        """One GPU of a kind that both providers have, in the first region that is free."""
        want = GpuRequest(gpus=("h100",), count=1)
        plan: dict[str, Any] = {"want": want, "limits": Limits(4.0), "user_data": USER_DATA}
        return LaunchPlan(**(plan | changes))

    def check_laws(self) -> None:
        """Nothing unknown was sent, the pace was kept, and no secret is anywhere it must not be."""
        assert self.cloud.violations == []
        times = [time_s for time_s, _ in self.sent]
        assert all(b - a >= 1.0 for a, b in pairwise(times)), times
        orders = [time_s for time_s, is_order in self.sent if is_order]
        assert all(b - a >= 12.0 for a, b in pairwise(orders)), orders
        ledger = self.ledger_path.read_text() if self.ledger_path.exists() else ""
        for secret in (KEY, JUPYTER_TOKEN, HOST_KEY):
            assert secret not in ledger
            assert not any(secret in line for line in self.said)
        for sent in self.cloud.exchanges:
            assert KEY.encode() not in sent.request
            assert KEY not in sent.path
            if sent.route != "launch":
                assert HOST_KEY.encode() not in sent.request


def make_cloud(kind: str, clock: FakeClock) -> FakeCloud:
    return FakeLambda(clock) if kind == "lambda" else FakeHyperbolic(clock)


@contextmanager
def world_of(kind: str, home: Path, seed: int = 0) -> Iterator[World]:
    """A running fake with a machine of somebody else in it; laws are checked at the end."""
    clock = FakeClock()
    cloud = make_cloud(kind, clock)
    foreign: dict[str, Any] = {}
    cloud.add_foreign("77", "aquachat-dev", foreign)
    cloud.start()
    try:
        world = World(cloud, clock, home, kind, seed=seed)
        yield world
        world.check_laws()
        assert len(cloud.running(ours=False)) == 1, "a machine of somebody else was ended"
        check_exchanges(cloud)
    finally:
        cloud.close()
