"""Providers by name, and those that the environment has a key for."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Final

from aquachat.cloud.access import Surroundings
from aquachat.cloud.base import CloudProvider
from aquachat.cloud.clock import Clock
from aquachat.cloud.hyperbolic import Hyperbolic
from aquachat.cloud.hyperbolic_marketplace import URLS, HyperbolicMarketplace
from aquachat.cloud.lambda_labs import LambdaLabs
from aquachat.cloud.pacer import Pacer
from aquachat.errors import ConfigError

GENERATION_VARIABLE: Final = "AQUACHAT_HYPERBOLIC_API"
ON_DEMAND: Final = "on-demand"
KEY_ENVS: Final[Mapping[str, tuple[str, ...]]] = {
    LambdaLabs.name: LambdaLabs.key_envs,
    Hyperbolic.name: Hyperbolic.key_envs,
}


def surroundings(environ: Mapping[str, str], clock: Clock) -> Surroundings:
    """What a client of one provider needs; make one per provider, since it holds the pacer."""
    return Surroundings(environ, clock, random.Random(), Pacer(clock))


def open_provider(name: str, around: Surroundings) -> CloudProvider:
    """The provider of this name; nothing is asked yet.

    Raises:
        ConfigError: there is none of this name, or no key for it.
    """
    if name == LambdaLabs.name:
        return LambdaLabs(around)
    if name != Hyperbolic.name:
        raise ConfigError(
            f"there is no provider `{name}`", hint=f"use {' or '.join(sorted(KEY_ENVS))}"
        )
    generation = around.environ.get(GENERATION_VARIABLE, "").strip() or ON_DEMAND
    if generation == ON_DEMAND:
        return Hyperbolic(around)
    for known in URLS:
        if generation == known:
            return HyperbolicMarketplace(around, known)
    raise ConfigError(
        f"{GENERATION_VARIABLE} cannot be `{generation}`",
        hint=f"use {', '.join((ON_DEMAND, *URLS))}",
    )


def with_keys(environ: Mapping[str, str]) -> list[str]:
    """The names of the providers that `environ` has a key for."""
    return [
        name
        for name, variables in KEY_ENVS.items()
        if any(environ.get(variable, "").strip() for variable in variables)
    ]
