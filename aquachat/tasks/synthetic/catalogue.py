"""All kinds of problems, by tier and family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from aquachat.tasks.synthetic.chains import chain_kinds
from aquachat.tasks.synthetic.kinds import Kind, Tier, read_kinds, read_table

FAMILY_FILES = ("travel", "money", "people", "shares", "algebra", "shapes", "chance")
_CHAIN_STEPS: Mapping[Tier, tuple[int, ...]] = {
    "one_step": (),
    "two_three_steps": (2, 3),
    "more_steps": (4,),
}


@dataclass(frozen=True, slots=True)
class About:
    """A family in a line, and in short paragraphs for a learner."""

    summary: str
    meaning: str
    rule: str
    caution: str


@dataclass(frozen=True, slots=True)
class FamilyRow:
    """A family in a table: how many whole sentence patterns its kinds have, chains left out."""

    name: str
    description: str
    num_train_phrasings: int
    num_heldout_phrasings: int


@cache
def read_about() -> Mapping[str, About]:
    """What `families/about.toml` says of each family, in alphabetical order."""
    return {name: About(**entry) for name, entry in sorted(read_table("about").items())}


def families() -> list[FamilyRow]:
    """Every family with its number of phrasings, in alphabetical order."""
    rows = []
    for name, about in read_about().items():
        kinds = [kind for kind in native_kinds() if kind.family == name]
        train = sum(len(p.sentences()) for kind in kinds for p in kind.train)
        heldout = sum(len(p.sentences()) for kind in kinds for p in kind.heldout)
        rows.append(FamilyRow(name, about.summary, train, heldout))
    return rows


@cache
def native_kinds() -> tuple[Kind, ...]:
    """Every kind of one family, that is, without the chains."""
    return tuple(kind for name in FAMILY_FILES for kind in read_kinds(name))


@cache
def kinds_of_tier(tier: Tier) -> Mapping[str, tuple[tuple[Kind, ...], ...]]:
    """The kinds of a tier by family, in groups that are drawn equally often.

    In the tier of two and three steps a family that starts chains has its own kinds in one half,
    chains of two steps in a quarter and chains of three in a quarter.
    """
    native: dict[str, list[Kind]] = {}
    for kind in native_kinds():
        if kind.tier == tier:
            native.setdefault(kind.family, []).append(kind)
    chained: dict[str, list[tuple[Kind, ...]]] = {}
    for num_steps in _CHAIN_STEPS[tier]:
        by_family: dict[str, list[Kind]] = {}
        for kind in chain_kinds(num_steps):
            by_family.setdefault(kind.family, []).append(kind)
        for family, kinds in by_family.items():
            chained.setdefault(family, []).append(tuple(kinds))
    groups: dict[str, tuple[tuple[Kind, ...], ...]] = {}
    for family in sorted({*native, *chained}):
        chains = chained.get(family, [])
        own = [tuple(native[family])] * max(1, len(chains)) if family in native else []
        groups[family] = (*own, *chains)
    return groups
