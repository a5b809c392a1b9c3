"""`aquachat report` as a person calls it."""

from __future__ import annotations

import json
import shutil

from aquachat.cloud.clock import SystemClock
from aquachat.cloud.ledger import Event, Ledger, Record
from tests.cli.programs import Cli


def test_a_landscape_is_measured_on_request_and_kept(trained: Cli) -> None:
    outcome = trained("report", "--run", "whole", "--landscape", "--json", code=0)
    assert "losses on" in outcome.stderr
    assert "about" in outcome.stderr
    run = trained.home / "runs" / "whole"
    found = json.loads((run / "landscape.json").read_text())
    assert [surface["kind"] for surface in found["surfaces"]] == ["random", "trajectory"]
    assert found["checkpoint"].startswith("rl@")
    trained("report", "--run", "whole", code=0)
    assert (run / "report.html").read_text().count('<figure class="surface">') == 2
    assert not (run / "report").exists()  # W&B is off
    (run / "landscape.json").unlink()


def test_a_run_with_base_only_is_measured_on_text(trained: Cli) -> None:
    trained("report", "--run", "half", "--landscape", code=0)
    path = trained.home / "runs" / "half" / "landscape.json"
    assert json.loads(path.read_text())["data"] == "held-out text"
    path.unlink()


def test_the_report_of_a_run_shows_where_its_settings_came_from(trained: Cli) -> None:
    trained("report", "--run", "whole", code=0)
    text = (trained.home / "runs" / "whole" / "report.md").read_text()
    assert "## Settings and their origins" in text
    assert "| preset tiny |" in text


def test_a_pulled_run_has_the_cost_of_each_stage(trained: Cli) -> None:
    cloud = trained.home / "cloud"
    results = cloud / "job-1" / "results" / "runs" / "pulled"
    shutil.copytree(trained.home / "runs" / "half", results)
    (trained.home / "runs" / "pulled").symlink_to(results)
    ledger = Ledger(cloud / "ledger.jsonl", SystemClock())
    details = {"price_usd_per_hour": "3600"}
    ledger.append(Record(Event.INTENT, "job-1", "lambda", "order-1", details=details))
    ledger.append(Record(Event.CREATED, "job-1", "lambda", "order-1", "i-1"))
    try:
        trained("report", "--run", "pulled", code=0)
        text = (results / "report.md").read_text()
        assert "| seconds | cost |" in text
        assert "| \\$" in text or "| $" in text
        trained("report", "--run", "half", code=0)
        assert "| cost |" not in (trained.home / "runs" / "half" / "report.md").read_text()
    finally:
        (trained.home / "runs" / "pulled").unlink()
        shutil.rmtree(cloud)
