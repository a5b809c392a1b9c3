"""`aquachat doctor`: is this machine ready, and are the files here what they were?

Every check is a function of what it looks at and gives one `Finding`; what a check raises for a
damaged or unreadable file is its failure. Nothing is changed, downloaded or sent, and of a
credential only its name is ever read out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from typing import Any

from aquachat.config.recipes import Recipe
from aquachat.errors import AquachatError
from aquachat.paths import Home
from aquachat.pipeline import doctor_files, doctor_machine


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """Something does not work that not every run needs."""
    FAILURE = "failure"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    status: Status
    sentence: str
    """Without a full stop."""
    way_out: str | None = None
    """What to do about it; None where nothing is wrong."""

    def to_json(self) -> dict[str, Any]:
        """An entry of `checks`."""
        return asdict(self)


Check = Callable[[], doctor_machine.Said]


def examine(
    home: Home,
    recipe: Recipe,
    preset: str,
    *,
    environ: Mapping[str, str],
    key_names: Mapping[str, Sequence[str]],
) -> list[Finding]:
    """All checks, in the order in which a run would meet what they look at.

    Args:
        home: where data, tokenizers and runs are.
        recipe: what a run would need; its model, device and data.
        preset: its name, for sentences.
        environ: where credentials, programs and folders are looked up.
        key_names: provider -> variables that may hold its key.
    """
    machine, files = doctor_machine, doctor_files
    checks: list[tuple[str, Check]] = [
        ("python", machine.check_python),
        ("torch", machine.check_torch),
        ("device", partial(machine.check_device, recipe.run.device)),
        ("memory", partial(machine.check_memory, recipe, preset)),
        ("disk", partial(machine.check_disk, home.root, recipe, preset)),
        ("extension", machine.check_extension),
        ("sandbox", partial(machine.check_sandbox, recipe)),
        ("tokenizers", partial(files.check_tokenizers, home)),
        ("data", partial(files.check_data, home)),
        ("corpora", partial(files.check_corpora, home)),
        ("checkpoint", partial(files.check_newest_checkpoint, home)),
        ("launch programs", partial(machine.check_programs, environ)),
        ("hugging face", partial(files.check_hugging_face, environ)),
        ("wandb", partial(files.check_wandb, environ)),
    ]
    checks += [
        (f"{provider} key", partial(files.check_key, provider, names, environ))
        for provider, names in key_names.items()
    ]
    return [_run(name, check) for name, check in checks]


def worst(findings: Sequence[Finding]) -> Status:
    """The status of all together."""
    found = {finding.status for finding in findings}
    return next((s for s in (Status.FAILURE, Status.WARNING) if s in found), Status.OK)


def _run(name: str, check: Check) -> Finding:
    try:
        status, sentence, way_out = check()
    except AquachatError as error:
        status, sentence, way_out = "failure", error.message, error.hint
    except ImportError as error:
        status, sentence, way_out = "not applicable", f"`{error.name}` cannot be loaded", None
    except OSError as error:
        status = "failure"
        sentence = f"`{error.filename}` cannot be read: {error.strerror or error}"
        way_out = "check its permissions, or set `AQUACHAT_HOME` to another folder"
    return Finding(name, Status(status), sentence, way_out)
