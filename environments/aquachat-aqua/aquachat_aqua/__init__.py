"""AQuA-RAT for verifiers and prime-rl."""

from aquachat_aqua.taskset import AquaTaskset

__all__ = ["AquaTaskset"]
