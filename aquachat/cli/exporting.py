"""What `export` and `sync-hf` share: which checkpoint, where to, and the comparison."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aquachat.cli.command import STAGES, Command

if TYPE_CHECKING:
    from aquachat.hub.export import Export
    from aquachat.train.lineage import Origin


def chosen_origin(command: Command, run: str) -> Origin:
    """`--from`, else the newest checkpoint of the run's latest stage.

    Raises:
        MissingFileError: the run has none.
    """
    from aquachat.train.lineage import find_origin

    home = command.home
    stages = [stage for stage in reversed(STAGES) if home.stage(run, stage).is_dir()]
    reference = command.settings["from_"] or (stages[0] if stages else "sft")
    return find_origin(reference, home, run)


def default_folder(command: Command, run: str, origin: Origin) -> Path:
    """Where an export goes that no `--output` places."""
    return command.home.run(run) / "export" / f"{origin.stage}_{origin.step:06d}"


def export_origin(
    command: Command, origin: Origin, destination: Path, *, dtype: str, verify: bool
) -> Export:
    """Export a checkpoint, compared with transformers where that is installed and wanted."""
    import torch

    from aquachat.hub.export import export_hf, refuse_foreign_folder
    from aquachat.hub.verify import is_transformers_installed, verify_export
    from aquachat.train.lineage import load_model

    output = command.output
    refuse_foreign_folder(destination)
    loaded = load_model(origin, torch.device("cpu"))

    def check(folder: Path) -> dict[str, Any]:
        return verify_export(folder, loaded.model, loaded.tokenizer, dtype)

    can_verify = verify and is_transformers_installed()
    if verify and not can_verify:
        output.note("not compared with transformers, which is not installed")
    made = export_hf(loaded, destination, dtype=dtype, verify=check if can_verify else None)
    if made.check is not None:
        output.note(
            f"compared with transformers {made.check['transformers']}: same ids, same greedy text, "
            f"logits within {made.check['max_logit_difference']:.1g}"
        )
    return made
