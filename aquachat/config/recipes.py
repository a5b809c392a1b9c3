"""The recipe of every stage: the only source of its flags, help, TOML keys and defaults.

A recipe is a frozen dataclass whose fields carry their help in `metadata`. Field names are the TOML
keys; the kebab-case of a field with `flag=True` is its command-line flag. Nothing here imports more
than the standard library, so that `aquachat --help` stays fast.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

Device = Literal["auto", "cuda", "mps", "cpu"]
Dtype = Literal["auto", "float32", "bfloat16"]
Packing = Literal["stream", "bos"]


def option(default: Any, help: str, *, flag: bool = False, choices: tuple[str, ...] = ()) -> Any:
    """A recipe field: its default, its help, and whether it is a flag or a TOML key only."""
    metadata = {"help": help, "flag": flag, "choices": choices}
    if isinstance(default, dict | list):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """What all stages of a run share: `[run]`."""

    seed: int = option(42, "Seed of every random choice", flag=True)
    device: Device = option(
        "auto", "Where to compute", flag=True, choices=("auto", "cuda", "mps", "cpu")
    )
    dtype: Dtype = option(
        "auto",
        "What matrices are multiplied in; masters stay float32",
        flag=True,
        choices=("auto", "float32", "bfloat16"),
    )
    num_threads: int = option(0, "CPU threads, 0 for all cores")


@dataclass(frozen=True, kw_only=True)
class ModelRecipe:
    """The shape of the model: `[model]`. Depth gives width and heads unless they are named."""

    depth: int = option(8, "Transformer layers; width is 64 times that", flag=True)
    arch: str = option(
        "nanochat",
        "Architecture: `nanochat` opens in transformers, `smear` binds letters sooner",
        choices=("nanochat", "smear"),
    )
    hidden_size: int = option(0, "Width, 0 for 64 x depth rounded up to whole heads")
    num_heads: int = option(0, "Query heads, 0 for width / 128")
    num_kv_heads: int = option(0, "Key and value heads, 0 for num_heads")
    max_seq_len: int = option(2048, "Longest context in tokens")


@dataclass(frozen=True, kw_only=True)
class PrepareRecipe:
    """Which datasets are made ready: `[prepare]`."""

    datasets: list[str] = option(["aqua"], "Datasets the pipeline needs")
    output_dir: str = option("", "Where to write, instead of AQUACHAT_HOME/data/DATASET", flag=True)
    max_train: int = option(0, "Keep at most this many training rows, 0 for all", flag=True)
    max_validation: int = option(0, "Keep at most this many validation rows, 0 for all", flag=True)
    max_test: int = option(0, "Keep at most this many test rows, 0 for all", flag=True)
    shards: int = option(8, "Training shards of fineweb or climbmix, about 100 MB each", flag=True)
    revision: str = option(
        "",
        "Commit, tag or branch on the hub, by default the recorded commit or else the newest",
        flag=True,
    )
    downloads_at_once: int = option(4, "Files that are downloaded at the same time")
    synthetic_eval_rows: int = option(400, "Rows in each synthetic evaluation split")
    heldout_rows: int = option(
        5000, "Rows of AQuA's training pool held out, at most a fifth of it, 0 for none"
    )
    keep_contaminated: bool = option(
        False, "Keep training rows that give an evaluation question away", flag=True
    )


@dataclass(frozen=True, kw_only=True)
class TokenizeRecipe:
    """The vocabulary and the token shards: `[tokenize]`."""

    name: str = option("", "Name of tokenizer and corpus, by default the preset's", flag=True)
    tokenizer: str = option("", "Use this trained tokenizer instead of training one", flag=True)
    vocab_size: int = option(32768, "Tokens, special tokens included", flag=True)
    num_digits: int = option(2, "Digits a token may hold: 1, 2 or 3", flag=True)
    max_chars: int = option(2_000_000_000, "Characters the vocabulary is trained on", flag=True)
    sources: dict[str, int] = option(
        {"text": 0}, "Corpus sources and how many documents of each, 0 for all"
    )
    shard_tokens: int = option(10_000_000, "Tokens in a shard")
    num_workers: int = option(0, "Processes that encode text, 0 for one a core", flag=True)
    validation_fraction: float = option(0.01, "Share of documents held out for val/bpb")
    keep_contaminated: bool = option(
        False, "Keep training documents that hold words of evaluation questions", flag=True
    )


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """What base, mid and SFT have in common."""

    num_iterations: int = option(
        0, "Optimizer steps, 0 to follow the stage's tokens or epochs", flag=True
    )
    device_batch_tokens: int = option(32_768, "Tokens in a micro-batch on one device", flag=True)
    embedding_lr: float = option(0.2, "AdamW learning rate of the embedding", flag=True)
    unembedding_lr: float = option(0.004, "AdamW learning rate of the head", flag=True)
    matrix_lr: float = option(0.02, "Muon learning rate of the matrices", flag=True)
    scalar_lr: float = option(0.01, "AdamW learning rate of scalars, where arch has any")
    weight_decay: float = option(0.0, "Decoupled weight decay of AdamW")
    lr_scale: float = option(1.0, "Factor on all learning rates", flag=True)
    warmup_steps: int = option(0, "Steps of linear warm-up")
    warmdown_ratio: float = option(0.2, "Last share of the steps, in which the rate decays")
    final_lr_fraction: float = option(0.0, "Where the decay ends")
    max_grad_norm: float = option(1.0, "Clip the global gradient norm, 0 for never")
    save_every: int = option(0, "Steps between checkpoints, 0 for the end only", flag=True)
    keep_last: int = option(2, "Checkpoints kept beside the final one")
    eval_every: int = option(250, "Steps between evaluations, 0 for the end only", flag=True)
    log_every: int = option(10, "Steps between lines in metrics.jsonl")


@dataclass(frozen=True, kw_only=True)
class BaseRecipe(TrainRecipe):
    """Base training on plain text: `[base]`."""

    corpus: str = option("", "Corpus to train on, by default the preset's", flag=True)
    tokens_per_step: int = option(524_288, "Tokens in an optimizer step", flag=True)
    seq_len: int = option(2048, "Tokens in a row", flag=True)
    packing: Packing = option(
        "stream",
        "Rows: `stream` runs documents on, `bos` begins each row with a document",
        flag=True,
        choices=("stream", "bos"),
    )
    document_mask: bool = option(False, "Keep attention inside a document")
    mixture: dict[str, float] = option(
        {}, "Sources of the corpus and their shares of the rows, none for all documents alike"
    )
    tokens_per_parameter: float = option(
        20.0, "Training tokens for each parameter, when num_iterations is 0", flag=True
    )
    eval_tokens: int = option(262_144, "Held-out tokens for val/bpb, 0 for all")
    core_examples: int = option(0, "Questions of each CORE task while training, 0 for no CORE")
    core_every: int = option(2000, "Steps between measurements of CORE, 0 for the end only")


@dataclass(frozen=True, kw_only=True)
class ChatRecipe(TrainRecipe):
    """What mid-training and SFT have in common: conversations."""

    examples_per_step: int = option(32, "Conversations in an optimizer step", flag=True)
    max_tokens: int = option(2048, "Longer conversations are cut", flag=True)
    num_epochs: float = option(1.0, "Passes over the mixture, when num_iterations is 0", flag=True)
    mixture: dict[str, float] = option({}, "Sources and their weights")
    examples_per_epoch: int = option(
        0, "Conversations in a pass over the mixture, 0 to use up every source at least once"
    )
    synthetic_tiers: dict[str, float] = option(
        {"one_step": 0.6, "two_three_steps": 0.4}, "Difficulty of synthetic problems"
    )
    synthetic_rows: int = option(40_000, "Synthetic problems in an epoch", flag=True)
    train_on: str = option(
        "assistant", "Tokens with loss: `assistant` or `all`", choices=("assistant", "all")
    )
    aqua_train_examples: int = option(0, "AQuA training rows, 0 for all", flag=True)
    aqua_val_examples: int = option(254, "AQuA validation rows for the accuracy", flag=True)
    calculator: bool = option(True, "Turn arithmetic in AQuA's rationales into calculator calls")
    eval_task: str = option("AQUA", "Task whose accuracy is logged as training goes")
    eval_split: str = option("validation", "Split of that task")
    eval_examples: int = option(254, "Questions in each of those evaluations")
    eval_max_new_tokens: int = option(256, "Longest reply in those evaluations")


@dataclass(frozen=True, kw_only=True)
class MidRecipe(ChatRecipe):
    """Mid-training on reasoning and chat: `[mid]`."""

    aqua_train_examples: int = option(50_000, "AQuA training rows, 0 for all", flag=True)
    train_on: str = option(
        "all", "Tokens with loss: `assistant` or `all`", choices=("assistant", "all")
    )


@dataclass(frozen=True, kw_only=True)
class SftRecipe(ChatRecipe):
    """Supervised fine-tuning: `[sft]`."""


@dataclass(frozen=True, kw_only=True)
class RlRecipe(TrainRecipe):
    """Reinforcement learning with verifiable rewards (GRPO): `[rl]`. Names follow TRL."""

    task: str = option("AQUA", "Task whose training split gives the prompts", flag=True)
    num_iterations: int = option(100, "Optimizer steps", flag=True)
    prompts_per_step: int = option(16, "Questions in an optimizer step", flag=True)
    num_generations: int = option(16, "Replies sampled for each question", flag=True)
    temperature: float = option(1.0, "Sampling temperature", flag=True)
    top_k: int = option(0, "Sample among the k likeliest tokens, 0 for all", flag=True)
    max_new_tokens: int = option(256, "Longest reply, tool results included", flag=True)
    epsilon: float = option(0.2, "Lower clip of the probability ratio")
    epsilon_high: float = option(0.2, "Upper clip of the probability ratio")
    synthetic_tiers: dict[str, float] = option(
        {"two_three_steps": 1.0}, "Difficulty of synthetic problems"
    )
    eval_split: str = option("", "Split whose accuracy is logged, by default the task's")
    eval_examples: int = option(254, "Questions in each evaluation")
    log_samples: int = option(8, "Rollouts a step written to samples.jsonl")


@dataclass(frozen=True, kw_only=True)
class EvalRecipe:
    """Evaluation: `[eval]`."""

    tasks: list[str] = option(["AQUA"], "Tasks, each `TASK` or `TASK/split`")
    protocols: list[str] = option(["generative"], "`generative`, `categorical` or both")
    stages: list[str] = option(["sft", "rl"], "Checkpoints that are compared")
    option_orders: int = option(0, "Cyclic option orders, 0 for all of them", flag=True)
    num_samples: int = option(1, "Replies a question, for pass@k and majority@k", flag=True)
    temperature: float = option(0.0, "Sampling temperature, 0 for greedy", flag=True)
    max_new_tokens: int = option(256, "Longest reply, tool results included", flag=True)
    max_examples: int = option(0, "Questions of each task, 0 for all", flag=True)
    options_only_rows: int = option(
        2000, "Training questions for the options-only baseline, 0 for none"
    )


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All stages of a run."""

    run: RunRecipe = field(default_factory=RunRecipe)
    model: ModelRecipe = field(default_factory=ModelRecipe)
    prepare: PrepareRecipe = field(default_factory=PrepareRecipe)
    tokenize: TokenizeRecipe = field(default_factory=TokenizeRecipe)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    mid: MidRecipe = field(default_factory=MidRecipe)
    sft: SftRecipe = field(default_factory=SftRecipe)
    rl: RlRecipe = field(default_factory=RlRecipe)
    eval: EvalRecipe = field(default_factory=EvalRecipe)


SECTIONS: dict[str, type[Any]] = {
    "run": RunRecipe,
    "model": ModelRecipe,
    "prepare": PrepareRecipe,
    "tokenize": TokenizeRecipe,
    "base": BaseRecipe,
    "mid": MidRecipe,
    "sft": SftRecipe,
    "rl": RlRecipe,
    "eval": EvalRecipe,
}


def keys_of(section: str) -> tuple[str, ...]:
    """The TOML keys of a section, in order."""
    return tuple(f.name for f in fields(SECTIONS[section]))
