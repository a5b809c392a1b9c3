"""Hyperbolic's on-demand rentals, from the shapes that others saw in August to October 2026."""

from __future__ import annotations

from typing import Any

from tests.cloud.fake_cloud import FakeClock, FakeCloud, FakeMachine, Reply

OPTIONS: list[dict[str, Any]] = [
    {
        "gpuType": "h100",
        "gpuFormFactor": "pcie",
        "gpuCount": 1,
        "region": "us-east-1",
        "cents": 275,
    },
    {
        "gpuType": "h100",
        "gpuFormFactor": "sxm5",
        "gpuCount": 1,
        "region": "us-west-1",
        "cents": 319,
    },
    {
        "gpuType": "h100",
        "gpuFormFactor": "sxm5",
        "gpuCount": 8,
        "region": "us-east-1",
        "cents": 2552,
    },
    {
        "gpuType": "h200",
        "gpuFormFactor": "sxm5",
        "gpuCount": 1,
        "region": "ca-east-1",
        "cents": 399,
    },
]
ORDER_FIELDS = {"gpuType", "region", "gpuCount", "networkType", "termType", "label"}
RENTALS = "/on-demand/virtual-machine-rentals"
ROUTES = {
    ("GET", "/on-demand/rental-options"): "offers",
    ("GET", "/customer/balance"): "check",
    ("GET", RENTALS): "list",
    ("POST", RENTALS): "launch",
    ("POST", f"{RENTALS}/terminate"): "terminate",
}


class FakeHyperbolic(FakeCloud):
    prefix = "/v2"

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.balance_cents = 100_000
        self.names_new_rental = True
        self.boot_s = 140.0
        self.login = ("198.51.100.7", 22, "ubuntu")

    def route(self, method: str, path: str) -> str:
        return ROUTES.get((method, path.removeprefix(self.prefix)), "?")

    def error(self, code: str, message: str) -> Any:
        return {"message": message}

    def unauthorized(self) -> Reply:
        return Reply(401, {"message": "Unauthorized"})

    def execute(self, method: str, path: str, body: Any) -> Reply:
        match self.route(method, path):
            case "offers":
                return Reply(200, [self._option(option) for option in OPTIONS])
            case "check":
                return Reply(200, {"balanceCents": self.balance_cents, "maxOverdraftCents": 0})
            case "list":
                return Reply(200, [self._describe(m) for m in self.visible()])
            case "launch":
                return self._order(body)
            case "terminate":
                return self._terminate(body)
        self.violations.append(f"unknown route {method} {path}")
        return Reply(404, {"message": "Not Found"})

    def _order(self, body: dict[str, Any]) -> Reply:
        if self.refuse_unknown(body, ORDER_FIELDS):
            return Reply(400, {"message": "unknown property"})
        options = [
            option
            for option in OPTIONS
            if all(option[key] == body[key] for key in ("gpuType", "gpuCount", "region"))
        ]
        if self.num_refused_orders > 0 or body["region"] in self.full_regions or not options:
            self.num_refused_orders = max(0, self.num_refused_orders - 1)
            return Reply(400, {"message": "No capacity for this option"})
        for _ in range(self.num_per_order):
            machine_id = str(18026 + len(self.machines))
            self.add(machine_id, body["label"], options[0]["cents"], body)
        machine = self.machines[machine_id]
        if self.num_per_order > 1 or not self.names_new_rental:
            return Reply(200, {"message": "Rental created"})
        return Reply(200, self._describe(machine))

    def _terminate(self, body: dict[str, Any]) -> Reply:
        self.refuse_unknown(body, {"rentalId", "reason"})
        if not isinstance(body["rentalId"], int):
            self.violations.append("rentalId must be a number")
        machine = self.machines.get(str(body["rentalId"]))
        if machine is None:
            return Reply(404, {"message": "Rental not found"})
        self.end(machine)
        text = "Rental successfully terminated"
        return Reply(200, {"message": text, "rentalId": body["rentalId"]})

    def _option(self, option: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = {
            "enabled": True,
            "machineType": "virtual-machine",
            "gpuType": option["gpuType"],
            "gpuFormFactor": option["gpuFormFactor"],
            "gpuCount": option["gpuCount"],
            "region": option["region"],
            "connectionType": "ethernet",
            "costPerHourCents": str(option["cents"]),
            "nodes": [{"cpuModel": "EPYC", "vcpuCount": 26, "ramGb": 180, "storageGb": 700}],
        }
        if option["region"] in self.full_regions:
            found["totalAvailable"] = 0
        return found

    def status_of(self, machine: FakeMachine) -> str:
        if machine.ended_s is not None:
            return "Terminated"
        if machine.forced_status is not None:
            return machine.forced_status
        return "Pending" if self.clock.time() < machine.active_s else "Running"

    def _describe(self, machine: FakeMachine) -> dict[str, Any]:
        body = machine.body
        item: dict[str, Any] = {
            "id": int(machine.id),
            "status": self.status_of(machine),
            "gpuType": body.get("gpuType", "h100"),
            "gpuCount": body.get("gpuCount", 1),
            "region": body.get("region", "us-east-1"),
            "label": machine.name,
            "createdAt": "2026-09-12 13:59:00.123+00",
            "startedAt": "2026-09-12 13:59:00.123+00",
            "currentTerm": {"costPerHourCents": machine.price_cents},
            "providerData": {},
        }
        if self.clock.time() >= machine.ip_s:
            login = dict(zip(("host", "port", "user"), self.login, strict=True))
            item["providerData"] = {"sshNetworking": [login]}
        if self.has_unknown_fields:
            item["future"] = {"x": 1}
        return item
