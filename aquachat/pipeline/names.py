"""The stages of `aquachat run`, in order."""

PIPELINE = ("prepare", "tokenize", "base", "mid", "sft", "rl", "eval", "report")
TRAINING = ("base", "mid", "sft", "rl")
