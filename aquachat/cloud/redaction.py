"""Takes keys, tokens and private keys out of what a provider says before anybody sees it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import Final

from aquachat.log import redact

MAX_MESSAGE_CHARS: Final = 300
_PATTERNS: Final = (
    (re.compile(r"-----BEGIN[^-]*PRIVATE KEY-----.*?(-----END[^-]*-----|\Z)", re.DOTALL), "key"),
    (re.compile(r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}"), "authorization"),
    (re.compile(r"(?i)(?<=token=)[^\s&\"']+"), "token"),
    (re.compile(r"(?i)(?<=jupyter_token\": \")[^\"]+|(?<=jupyter_token\":\")[^\"]+"), "token"),
)


class Redactor:
    """Knows the secrets of one client; `clean` is for every text that came from outside."""

    def __init__(
        self, secrets: Iterable[str] = (), environ: Mapping[str, str] | None = None
    ) -> None:
        self._secrets = sorted({secret for secret in secrets if secret}, key=len, reverse=True)
        self._environ = environ

    def clean(self, text: str) -> str:
        """One printable line of at most 300 characters, without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "[key redacted]")
        text = redact(text, os.environ if self._environ is None else self._environ)
        for pattern, name in _PATTERNS:
            text = pattern.sub(f"[{name} redacted]", text)
        text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
