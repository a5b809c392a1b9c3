"""Which offers fit a request, and in which order they are tried."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from aquachat.cloud.base import GpuRequest, Offer
from aquachat.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Candidate:
    """One order that could be placed."""

    offer: Offer
    region: str


def fitting(offers: Iterable[Offer], want: GpuRequest) -> list[Offer]:
    """The offers that fit, in the order of preference, then cheapest, then by name."""
    found = [offer for offer in offers if _fits(offer, want)]
    return sorted(
        found,
        key=lambda offer: (
            *_preference(offer, want),
            _price(offer),
            offer.gpus,
            offer.instance_type,
        ),
    )


def candidates(offers: Sequence[Offer], want: GpuRequest) -> list[Candidate]:
    """Every order worth placing now: first what is listed as free, then pinned regions.

    The list of what is free is advice: of what it named, a third was refused a moment later, so a
    region that a person named is tried even where the list says no.
    """
    listed: list[Candidate] = []
    pinned: list[Candidate] = []
    for offer in offers:
        regions = want.regions or offer.regions
        free = set(offer.regions) if offer.available else set()
        listed += [Candidate(offer, region) for region in regions if region in free]
        pinned += [
            Candidate(offer, region)
            for region in want.regions
            if region not in free and (want.instance_types or want.gpus)
        ]
    return listed + pinned


def by_price(offers: Iterable[Offer]) -> list[Offer]:
    """Cheapest first; those without a price last."""
    return sorted(offers, key=lambda o: (_price(o), o.gpus, o.provider, o.instance_type))


def check_known(kind: str, wanted: Iterable[str], known: Iterable[str], service: str) -> None:
    """Refuse a name that the provider does not have.

    `kind` is `instance type`, `region` or `supplier`.

    Raises:
        ConfigError: with the closest names, or all of them where none is close.
    """
    names = sorted(set(known))
    for name in wanted:
        if name in names:
            continue
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
        shown = ", ".join(close or names[:12]) or "none now"
        raise ConfigError(
            f"{service} has no {kind} `{name}`",
            hint=f"{'did you mean' if close else 'there are'}: {shown}; "
            "`aquachat launch offers` lists all",
        )


def _fits(offer: Offer, want: GpuRequest) -> bool:
    if want.instance_types and offer.instance_type not in want.instance_types:
        return False
    if want.gpus and not any(_names(part, offer) for part in want.gpus):
        return False
    if want.count is not None and offer.gpus != want.count:
        return False
    if offer.gpus == 0 and offer.instance_type not in want.instance_types:
        return False
    is_named = offer.instance_type in want.instance_types
    if offer.architecture != "x86_64" and not (want.include_arm or is_named):
        return False
    if want.max_price_usd_per_hour is None:
        return True
    price = offer.price_usd_per_hour
    return price is not None and price <= want.max_price_usd_per_hour


def _names(part: str, offer: Offer) -> bool:
    text = f"{offer.instance_type} {offer.gpu_name}".lower()
    return part.lower() in text


def _preference(offer: Offer, want: GpuRequest) -> tuple[int, int]:
    by_type = want.instance_types.index(offer.instance_type) if want.instance_types else 0
    by_gpu = next((i for i, part in enumerate(want.gpus) if _names(part, offer)), 0)
    return by_type, by_gpu


def _price(offer: Offer) -> Decimal:
    return Decimal("Infinity") if offer.price_usd_per_hour is None else offer.price_usd_per_hour
