"""How large a request may be: the predecessor's limits, and a few that its API did not need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

DEFAULT_MAX_TOKENS: Final = 256
DEFAULT_TEMPERATURE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Checked before anything is tokenized; a request beyond one is refused with 400."""

    messages: int = 500
    message_chars: int = 8000
    total_chars: int = 32_000
    temperature: float = 2.0
    top_k: int = 200
    new_tokens: int = 4096
    choices: int = 16
    prompts: int = 16
    """Of one request to `/v1/completions`."""
    stops: int = 4
    stop_chars: int = 200
    alternatives: int = 20
    """`top_logprobs`; 5 for `logprobs` of `/v1/completions`."""
    body_bytes: int = 2**20
    body_s: float = 30.0
    """Time to send a request."""
    write_s: float = 60.0
    """Time for which a client may leave its reply unread before its connection is closed."""


LIMITS: Final = Limits()
