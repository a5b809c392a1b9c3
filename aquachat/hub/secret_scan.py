"""Does a file that is about to be published hold a secret? Says where, never what."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from aquachat.log import secrets_of

MAX_SCANNED_BYTES: Final = 32 * 2**20
PATTERNS: Final[Mapping[str, re.Pattern[str]]] = {
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_\w{50,})\b"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "an API key": re.compile(r"\bsk-(?:[a-z]+-)*[A-Za-z0-9_]{32,}\b"),
    "a Google key": re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"),
    "a private key": re.compile(r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----"),
}


def find_secret(content: bytes, environ: Mapping[str, str]) -> tuple[int, str] | None:
    """The line (from 1) and the kind of the first secret in a text; None where there is none.

    Looked for are the values of secret variables of the environment, and what the tokens of common
    services look like. Binary files are not looked into.
    """
    if len(content) > MAX_SCANNED_BYTES or b"\0" in content[:8192]:
        return None
    text = content.decode("utf-8", errors="replace")
    for value, name in secrets_of(environ).items():
        if (place := text.find(value)) >= 0:
            return text.count("\n", 0, place) + 1, f"the value of `{name}`"
    for kind, pattern in PATTERNS.items():
        if found := pattern.search(text):
            return text.count("\n", 0, found.start()) + 1, f"what looks like {kind}"
    return None
