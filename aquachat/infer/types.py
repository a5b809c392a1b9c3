"""What goes into the generation engine and what comes out: no torch, no state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from aquachat.errors import ConfigError
from aquachat.text.render import StopReason

RequestId = NewType("RequestId", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How replies to one prompt are sampled.

    The tokens are a function of the prompt, these parameters and the weights, and of nothing else
    in the batch: each sample draws from its own stream, keyed by (seed, prompt, sample index).

    Raises:
        ConfigError: a value out of range.
    """

    max_new_tokens: int = 256
    """Longest reply: forced tokens and the stop token count."""
    temperature: float = 1.0
    """0 is greedy, and so is what is below 1e-5."""
    top_k: int = 0
    """Sample among the k likeliest tokens; 0 is all. Tokens tied with the k-th stay."""
    top_p: float = 1.0
    """Sample among the smallest set of likeliest tokens with this probability; 1 is all."""
    num_samples: int = 1
    seed: int = 0
    tools: bool = True
    """Run calculator calls and force their results into the reply."""
    stop_ids: tuple[int, ...] | None = None
    """Tokens that end a reply and are part of it; None is the engine's `<|assistant_end|>`."""

    def __post_init__(self) -> None:
        checks = (
            ("max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, "at least 1"),
            ("temperature", self.temperature, self.temperature >= 0.0, "0 (greedy) or above"),
            ("top_k", self.top_k, self.top_k >= 0, "0 (all) or above"),
            ("top_p", self.top_p, 0.0 < self.top_p <= 1.0, "above 0 and at most 1"),
            ("num_samples", self.num_samples, self.num_samples >= 1, "at least 1"),
        )
        for name, value, is_valid, allowed in checks:
            if not is_valid:
                raise ConfigError(f"{name} is {value}", hint=f"use a value of {allowed}")


@dataclass(frozen=True, slots=True)
class Request:
    """A prompt and how to continue it."""

    prompt: tuple[int, ...]
    params: SamplingParams
    streams: bool = False
    """Whether each token is an event of its own, as chat wants it; costs a look at every row."""
    num_alternatives: int | None = None
    """With `streams`: how many of the likeliest tokens each event names; None scores nothing."""


@dataclass(frozen=True, slots=True)
class TokenScore:
    """How likely a token was under the model itself: temperature 1, no top-k, no top-p."""

    logprob: float
    """Nats."""
    alternatives: tuple[tuple[int, float], ...]
    """The likeliest tokens and their nats, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled reply. The three sequences are equally long."""

    tokens: tuple[int, ...]
    """Ids after the prompt, the stop token and forced tokens included."""
    logprobs: tuple[float, ...]
    """Nats, under the policy actually sampled from: after temperature, top-k and top-p.

    0.0 for forced tokens, and for greedy ones (temperature 0 is certain of its choice).
    """
    sampled: tuple[bool, ...]
    """False where a tool forced the token."""
    finish: StopReason


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to one sample of a request during a step.

    Each sample of each request has exactly one event with a `completion`, its last one.
    """

    request: RequestId
    sample: int
    tokens: tuple[int, ...] = ()
    """New tokens, for requests that stream."""
    scores: tuple[TokenScore, ...] = ()
    """One for each of `tokens`, for requests with `num_alternatives`."""
    completion: Completion | None = None
