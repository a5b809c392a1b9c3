"""The stages of `aquachat run`, in order, and the names that `--task` takes beside tasks."""

PIPELINE = ("prepare", "tokenize", "base", "mid", "sft", "rl", "eval", "report")
TRAINING = ("base", "mid", "sft", "rl")

BASE_TASKS = ("CORE", "BPB")
"""Asked without a chat format, so that a base model can answer."""


def is_base_task(reference: str) -> bool:
    """Whether `--task REFERENCE` is CORE or bits per byte, whole or a part such as `CORE/copa`."""
    return reference.partition("/")[0].upper() in BASE_TASKS
