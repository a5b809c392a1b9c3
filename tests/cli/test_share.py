"""export and import from the command line."""

from __future__ import annotations

import json

import torch

from aquachat.paths import Home
from aquachat.train.lineage import find_origin, load_model
from tests.cli.programs import Cli


def test_a_trained_run_goes_out_and_comes_back(trained: Cli):
    made = json.loads(trained("export", "--run", "whole", "--json", code=0).stdout)
    assert made["checkpoint"] == "rl@8"
    assert made["path"].endswith("runs/whole/export/rl_000008")
    assert made["check"] is None or made["check"]["max_logit_difference"] < 1e-3
    outcome = trained("import", made["path"], "--run", "back", "--json", code=0)
    back = json.loads(outcome.stdout)
    assert (back["stage"], back["step"]) == ("rl", 8)
    home = Home(trained.home)
    ours, theirs = (
        load_model(find_origin("rl", home, run), torch.device("cpu")).model.state_dict()
        for run in ("whole", "back")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    question = ("chat", "What is 3 times 4?", "--max-new-tokens", "8", "--json")
    replies = [trained(*question, "--run", run, code=0).stdout for run in ("whole", "back")]
    assert replies[0] == replies[1]
    trained("import", made["path"], "--run", "back", code=2)


def test_the_stage_that_is_named_is_exported(trained: Cli):
    folder = trained.folder / "model"
    arguments = ("export", "--run", "whole", "--from", "sft", "--output", str(folder))
    outcome = trained(*arguments, "--no-verify", code=0)
    assert outcome.stdout.strip() == str(folder)
    assert json.loads((folder / "aquachat.json").read_text())["checkpoint"] == "sft@8"


def test_what_cannot_be_exported_or_imported_is_one_sentence(trained: Cli):
    (trained.folder / "full").mkdir(exist_ok=True)
    (trained.folder / "full" / "mine.txt").write_text("x")
    cases = [
        (("export", "--run", "nowhere"), 1, "there is no run `nowhere`"),
        (("export", "--run", "half", "--from", "rl"), 1, "no checkpoint of stage rl"),
        (("export", "--run", "whole", "--format", "gguf"), 2, "there is no format `gguf`"),
        (("export", "--run", "whole", "--output", "full"), 2, "`mine.txt`, which no export wrote"),
        (("import", "full"), 2, "holds neither"),
        (("import", "nowhere"), 1, "there is no `nowhere`"),
    ]
    for arguments, code, sentence in cases:
        outcome = trained(*arguments, code=code)
        assert sentence in outcome.stderr
        assert outcome.stdout == ""
        assert "Traceback" not in outcome.stderr
