"""The model that is served, and what the API says of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aquachat.infer.engine import Engine
from aquachat.serve.errors import ApiError
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One checkpoint of one run, ready to generate."""

    run: str
    checkpoint: str
    """For example `rl@40`."""
    engine: Engine
    renderer: ChatRenderer
    tokenizer: Tokenizer
    created_s: int
    """Unix time of the checkpoint."""

    @property
    def name(self) -> str:
        """As `/v1/models` lists it, for example `tiny/rl@40`."""
        return f"{self.run}/{self.checkpoint}"

    @property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: equal seeds give equal replies where it is equal."""
        dtype = str(self.engine.dtype).removeprefix("torch.")
        return f"{self.checkpoint}-{self.tokenizer.fingerprint[:12]}-{dtype}"

    def check_length(self, prompt: Sequence[int]) -> None:
        """Make sure that a reply of one token fits.

        Raises:
            ApiError: the prompt fills the context.
        """
        context = self.engine.context_tokens
        if len(prompt) >= context:
            raise ApiError(
                400,
                f"the prompt has {len(prompt):,} tokens, and the model's context of {context:,} "
                "must hold a reply too",
                code="context_length_exceeded",
                parameter="messages",
            )
