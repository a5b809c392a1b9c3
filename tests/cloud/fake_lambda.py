"""Lambda Cloud as its specification describes it, and as it has been seen to behave."""

from __future__ import annotations

import re
from typing import Any

from tests.cloud.fake_cloud import JUPYTER_TOKEN, FakeClock, FakeCloud, FakeMachine, Reply

TYPES: dict[str, dict[str, Any]] = {
    "gpu_1x_a10": {"gpu": "A10 (24 GB PCIe)", "cents": 75, "gpus": 1},
    "gpu_1x_h100_sxm5": {"gpu": "H100 (80 GB SXM5)", "cents": 329, "gpus": 1},
    "gpu_1x_gh200": {"gpu": "GH200 (96 GB)", "cents": 149, "gpus": 1},
    "gpu_8x_h100_sxm5": {"gpu": "H100 (80 GB SXM5)", "cents": 2392, "gpus": 8},
    "cpu_4x_general": {"gpu": "N/A", "cents": 10, "gpus": 0},
}
REGIONS = {"us-west-1": "California, USA", "us-east-1": "Virginia, USA"}
LAUNCH_FIELDS = {
    *("region_name", "instance_type_name", "ssh_key_names", "file_system_names"),
    *("file_system_mounts", "hostname", "name", "image", "user_data", "tags", "firewall_rulesets"),
}
ROUTES = {
    ("GET", "/instance-types"): "offers",
    ("GET", "/ssh-keys"): "check",
    ("GET", "/instances"): "list",
    ("POST", "/instance-operations/launch"): "launch",
    ("POST", "/instance-operations/terminate"): "terminate",
}


class FakeLambda(FakeCloud):
    prefix = "/api/v1"

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.ssh_keys = ["me"]
        self.listed_regions = dict.fromkeys(TYPES, tuple(REGIONS))

    def route(self, method: str, path: str) -> str:
        local = path.removeprefix(self.prefix)
        if re.fullmatch(r"/instances/[^/]+", local) and method == "GET":
            return "get"
        return ROUTES.get((method, local), "?")

    def error(self, code: str, message: str) -> Any:
        return {"error": {"code": code, "message": message, "suggestion": "Try something else."}}

    def unauthorized(self) -> Reply:
        text = "API key was invalid, expired, or deleted."
        return Reply(401, self.error("global/invalid-api-key", text))

    def execute(self, method: str, path: str, body: Any) -> Reply:
        match self.route(method, path):
            case "offers":
                return Reply(200, {"data": {name: self._type_item(name) for name in TYPES}})
            case "check":
                keys = [
                    {"id": f"{i:032x}", "name": name, "public_key": f"ssh-ed25519 AAAA{i} {name}"}
                    for i, name in enumerate(self.ssh_keys)
                ]
                return Reply(200, {"data": keys})
            case "list":
                return Reply(200, {"data": [self._describe(m) for m in self.visible()]})
            case "get":
                machine = self.machines.get(path.rpartition("/")[2])
                if machine is None or machine.created_s > self.clock.time():
                    return self._missing()
                if machine.ended_s is not None and self.clock.time() - machine.ended_s >= 120:
                    return self._missing()
                return Reply(200, {"data": self._describe(machine)})
            case "launch":
                return self._launch(body)
            case "terminate":
                return self._terminate(body)
        self.violations.append(f"unknown route {method} {path}")
        return Reply(404, self.error("global/not-found", "No such route."))

    def _launch(self, body: dict[str, Any]) -> Reply:
        if self.refuse_unknown(body, LAUNCH_FIELDS):
            return Reply(400, self.error("global/invalid-parameters", "Unknown field."))
        keys = body["ssh_key_names"]
        if len(keys) != 1 or keys[0] not in self.ssh_keys:
            return Reply(404, self.error("global/object-does-not-exist", "No such SSH key."))
        kind = TYPES.get(body["instance_type_name"])
        if kind is None:
            return Reply(404, self.error("global/object-does-not-exist", "No such type."))
        if self.num_refused_orders > 0 or body["region_name"] in self.full_regions:
            self.num_refused_orders = max(0, self.num_refused_orders - 1)
            code = "instance-operations/launch/insufficient-capacity"
            return Reply(400, self.error(code, "Not enough capacity to fulfill launch request."))
        ids = []
        for _ in range(self.num_per_order):
            ids.append(f"{len(self.machines) + 1:032x}")
            self.add(ids[-1], body.get("name", ""), kind["cents"], body)
        return Reply(200, {"data": {"instance_ids": ids}})

    def _terminate(self, body: dict[str, Any]) -> Reply:
        self.refuse_unknown(body, {"instance_ids"})
        machines = [self.machines.get(i) for i in body["instance_ids"]]
        if any(m is None for m in machines):
            return self._missing()
        found = [m for m in machines if m is not None]
        for machine in found:
            self.end(machine)
        data = [self._describe(m) | {"status": "terminating"} for m in found]
        return Reply(200, {"data": {"terminated_instances": data}})

    def _missing(self) -> Reply:
        text = "Specified instance does not exist."
        return Reply(404, self.error("global/object-does-not-exist", text))

    def _type_item(self, name: str) -> dict[str, Any]:
        regions = [r for r in self.listed_regions[name] if r not in self.full_regions]
        return {
            "instance_type": self._type(name),
            "regions_with_capacity_available": [_region(r) for r in regions],
        }

    def _type(self, name: str) -> dict[str, Any]:
        kind = TYPES[name]
        gpus = kind["gpus"]
        return {
            "name": name,
            "description": f"{gpus}x {kind['gpu']}",
            "gpu_description": kind["gpu"],
            "price_cents_per_hour": kind["cents"],
            "specs": {"vcpus": 30, "memory_gib": 200, "storage_gib": 1400, "gpus": gpus},
        }

    def status_of(self, machine: FakeMachine) -> str:
        now_s = self.clock.time()
        if machine.ended_s is not None:
            return "terminating" if now_s - machine.ended_s < 60 else "terminated"
        return machine.forced_status or ("booting" if now_s < machine.active_s else "active")

    def _describe(self, machine: FakeMachine) -> dict[str, Any]:
        body = machine.body
        actions = ("migrate", "rebuild", "restart", "cold_reboot", "terminate")
        item: dict[str, Any] = {
            "id": machine.id,
            "name": machine.name,
            "status": self.status_of(machine),
            "ssh_key_names": body.get("ssh_key_names", []),
            "file_system_names": body.get("file_system_names", []),
            "region": _region(body.get("region_name", "us-west-1")),
            "instance_type": self._type(body.get("instance_type_name", "gpu_1x_a10")),
            "actions": {action: {"available": True} for action in actions},
            "jupyter_token": JUPYTER_TOKEN,
            "jupyter_url": f"https://jupyter.example.com/?token={JUPYTER_TOKEN}",
            "tags": body.get("tags", []),
        }
        if self.clock.time() >= machine.ip_s:
            item["ip"] = self.login[0]
        if self.has_unknown_fields:
            item["billing_project"] = {"id": 1, "future": [True]}
        return item


def _region(name: str) -> dict[str, str]:
    return {"name": name, "description": REGIONS.get(name, "Somewhere")}
