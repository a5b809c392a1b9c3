"""Providers by name, and those that the environment has a key for."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from aquachat.cloud.access import Surroundings
from aquachat.cloud.base import CloudProvider, GpuRequest, Offer
from aquachat.cloud.choosing import by_price
from aquachat.cloud.clock import Clock, SystemClock
from aquachat.cloud.errors import CloudError, NoCapacityError
from aquachat.cloud.hyperbolic import Hyperbolic
from aquachat.cloud.hyperbolic_marketplace import URLS, HyperbolicMarketplace
from aquachat.cloud.lambda_labs import LambdaLabs
from aquachat.cloud.ledger import Ledger
from aquachat.cloud.pacer import Pacer
from aquachat.cloud.redaction import Redactor
from aquachat.cloud.session import CloudSession
from aquachat.errors import AquachatError, ConfigError
from aquachat.paths import Home

logger = logging.getLogger(__name__)

GENERATION_VARIABLE: Final = "AQUACHAT_HYPERBOLIC_API"
ON_DEMAND: Final = "on-demand"
KEY_ENVS: Final[Mapping[str, tuple[str, ...]]] = {
    LambdaLabs.name: LambdaLabs.key_envs,
    Hyperbolic.name: Hyperbolic.key_envs,
}
URL_VARIABLES: Final[Mapping[str, tuple[str, ...]]] = {
    LambdaLabs.name: ("AQUACHAT_LAMBDA_URL",),
    Hyperbolic.name: ("AQUACHAT_HYPERBOLIC_URL", GENERATION_VARIABLE),
}
"""What else decides whom a provider's client asks."""


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


def open_session(
    name: str,
    *,
    environ: Mapping[str, str],
    home: Home,
    clock: Clock | None = None,
    say: Callable[[str], None] = logger.info,
) -> CloudSession:
    """A provider with the ledger of `home`; one per provider and process.

    Raises:
        ConfigError: there is no provider of this name, or no key for it.
    """
    clock = clock or SystemClock()
    around = surroundings(environ, clock)
    provider = open_provider(name, around)
    keys = [environ.get(variable, "").strip() for variable in provider.key_envs]
    ledger = Ledger(home.cloud / "ledger.jsonl", clock, redactor=Redactor(keys, environ))
    return CloudSession(provider, ledger, clock, around.rng, say)


def offers_of(
    providers: Iterable[CloudProvider], want: GpuRequest
) -> tuple[list[Offer], dict[str, AquachatError]]:
    """The offers of several providers, cheapest first, and why a provider gave none.

    One provider that cannot be asked, or does not have what was named, hides no other.
    """
    offers: list[Offer] = []
    problems: dict[str, AquachatError] = {}
    for provider in providers:
        try:
            offers += provider.offers(want)
        except (CloudError, NoCapacityError, ConfigError) as error:
            problems[provider.name] = error
    return by_price(offers), problems


def with_keys(environ: Mapping[str, str]) -> list[str]:
    """The names of the providers that `environ` has a key for."""
    return [
        name
        for name, variables in KEY_ENVS.items()
        if any(environ.get(variable, "").strip() for variable in variables)
    ]
