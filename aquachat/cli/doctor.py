"""`aquachat doctor`: the checks as a table or a document, and an exit code of 3 on a failure."""

from __future__ import annotations

from aquachat.cli.command import Command, execute, resolve_recipe
from aquachat.cli.options import OUTPUT_OPTIONS, Settings, recipe_command

DEFAULT_PRESET = "tiny"


@recipe_command(common=("preset", "config", *OUTPUT_OPTIONS))
def doctor(settings: Settings) -> None:
    """Check this machine and the files of aquachat on it; changes nothing.

    Examples:
        aquachat doctor

        aquachat doctor --preset d12 --json
    """
    execute(settings, _doctor)


def _doctor(command: Command) -> None:
    from aquachat.cloud.providers import KEY_ENVS
    from aquachat.errors import PreflightError
    from aquachat.pipeline.doctor import Status, examine, worst

    output = command.output
    preset = command.settings["preset"] or DEFAULT_PRESET
    recipe = resolve_recipe(command, preset=preset).recipe
    findings = examine(command.home, recipe, preset, environ=command.environ, key_names=KEY_ENVS)
    status = worst(findings)
    output.result(
        {"preset": preset, "status": status, "checks": [finding.to_json() for finding in findings]}
    )
    rows = [(finding.check, finding.status, finding.sentence) for finding in findings]
    output.table("Doctor", ["check", "status", "what was found"], rows)
    for finding in findings:
        if finding.way_out is not None:
            output.hint(f"{finding.check}: {finding.way_out}")
    failed = [finding for finding in findings if finding.status is Status.FAILURE]
    if failed:
        names = ", ".join(finding.check for finding in failed)
        raise PreflightError(
            f"{len(failed)} of {len(findings)} checks failed: {names}", hint=failed[0].way_out
        )
    output.next_command(f"aquachat run {preset}")
