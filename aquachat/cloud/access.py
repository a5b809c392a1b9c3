"""The key and the address of a provider, from the environment."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aquachat.cloud.clock import Clock
from aquachat.cloud.pacer import Pacer
from aquachat.cloud.wire import Transport, exchange, parse_base_url
from aquachat.errors import ConfigError

MIN_KEY_CHARS: Final = 8
_KEY = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a provider's client gets from outside: clock, chance, network, environment."""

    environ: Mapping[str, str]
    clock: Clock
    rng: random.Random
    pacer: Pacer
    transport: Transport = exchange
    read_timeout_s: float = 30.0
    write_timeout_s: float = 60.0


def key_of(environ: Mapping[str, str], names: tuple[str, ...], *, service: str, page: str) -> str:
    """The key in the first of `names` that is set.

    Raises:
        ConfigError: none is set, or it cannot be a key. The value is never in the message.
    """
    for name in names:
        key = environ.get(name, "").strip()
        if not key:
            continue
        if _KEY.fullmatch(key) is None or len(key) < MIN_KEY_CHARS:
            raise ConfigError(
                f"{name} is no key: it is too short, or holds a space or a line break",
                hint=f"copy the key again from {page} into `.env`, without quotes around it",
            )
        return key
    raise ConfigError(
        f"{service} needs a key in {names[0]}",
        hint=f"make one at {page} and put `{names[0]}=...` into `.env`",
    )


def base_url_of(environ: Mapping[str, str], variable: str, default: str) -> str:
    """The address in `variable`, else `default`; a bare host gets the path of the default."""
    named = environ.get(variable, "").strip()
    if not named:
        return default
    parts = parse_base_url(named, variable=variable)
    path = parts.path.rstrip("/") or parse_base_url(default, variable=variable).path
    return f"{parts.scheme}://{parts.netloc}{path}"
