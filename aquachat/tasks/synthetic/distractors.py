"""Five options of which nothing but the mathematics tells the right one.

Five sibling instances of one kind of problem are grown, each out of another by a real mistake:

- a slip: a quantity off by one or a little more, its digits in the wrong order, two quantities
  taken for one another, a number used that belongs elsewhere or does not matter; the sibling is the
  problem as misread;
- a wrong operation, a missed step and the like (`Kind.mistakes`); the sibling is an instance whose
  right answer is the number that the mistake gives.

Only then is one of the five, at random, made the question. Since the choice comes last, each of
the five answers is the right one with the same probability, whatever the options look like: that
holds exactly, for every classifier that does not do the mathematics. For the same reason all five
siblings of a training question have training numbers, and all five of a held-out one have reserved
numbers: else someone who knows by heart which numbers a split uses could tell.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from aquachat.tasks.synthetic.draw import Draw
from aquachat.tasks.synthetic.expressions import (
    Number,
    Quantities,
    format_fraction,
    format_number,
)
from aquachat.tasks.synthetic.kinds import Kind

NUM_OPTIONS = 5
_MISTAKE_SHARE = 0.6
_ATLAS_DRAWS = 500
_RESERVED_ATLAS_DRAWS = 1500
_RESERVED_ONE_IN = 8
_SHIFTS = (1, 1, 1, 2, 2, 3)
_WIDE_SHIFTS = (1, 1, 2, 2, 3, 5, 10)
_WIDE = 40
_MAX_GROWTHS = 60
_MAX_RESERVED_GROWTHS = 300
_MAX_ATTEMPTS = 5000


@dataclass(frozen=True, slots=True)
class Instance:
    """A kind of problem with its numbers filled in."""

    params: Mapping[str, int]
    quantities: Quantities
    answer: Number


@dataclass(frozen=True, slots=True)
class Puzzle:
    """An instance, five options as numbers and which of them is right."""

    instance: Instance
    values: tuple[Number, ...]
    answer_index: int


def solve(kind: Kind, params: Mapping[str, int], constants: Mapping[str, int]) -> Instance | None:
    """Work a problem out, or return None where its numbers do not come out well."""
    quantities: dict[str, Number] = {**params, **constants}
    for name, expression in kind.derived:
        value = quantities[name] = expression.value(quantities)
        if value <= 0 or value > kind.limit or type(value) is not int:
            return None
    for condition in kind.where:
        if not condition.holds(quantities):
            return None
    for step in kind.steps:
        value = quantities[step.result] = step.expression.value(quantities)
        if value <= 0 or value > kind.limit or type(value) is not int:
            return None
    answer = kind.answer(quantities)
    if kind.ratio is not None and answer.denominator != quantities[kind.ratio[1]]:
        return None
    return Instance(params, quantities, answer)


def draw_params(kind: Kind, draw: Draw) -> dict[str, int]:
    """Parameters drawn uniformly and independently."""
    return {name: draw.choice(domain) for name, domain in kind.params.items()}


def slip(kind: Kind, params: Mapping[str, int], draw: Draw) -> dict[str, int] | None:
    """The parameters as a hasty reader would take them, or None where that leaves their range."""
    changed = dict(params)
    point = draw.random()
    if kind.swaps and point < 0.2:
        first, second = draw.choice(kind.swaps)
        changed[first], changed[second] = changed[second], changed[first]
        in_range = changed[first] in kind.params[first] and changed[second] in kind.params[second]
        return changed if in_range else None
    name = draw.choice(kind.varied)
    domain, value = kind.params[name], params[name]
    if point > 0.9:
        changed[name] = params[draw.choice(tuple(kind.params))]
    elif point > 0.8 and value > 9:
        changed[name] = int(str(value)[::-1])
    else:
        shift = draw.choice(_WIDE_SHIFTS if len(domain) > _WIDE else _SHIFTS) * domain.step
        changed[name] = value + shift if draw.chance(0.5) else value - shift
    return changed if changed[name] in domain else None


def is_reserved(kind: Kind, constants: Mapping[str, int], instance: Instance) -> bool:
    """Whether these numbers are kept out of training: one in eight, by a hash."""
    stated = ",".join(map(str, sorted(instance.quantities[name] for name in kind.stated)))
    key = f"{kind.family}/{kind.name}/{list(constants.values())}/{stated}".encode()
    return hashlib.blake2b(key, digest_size=8).digest()[0] % _RESERVED_ONE_IN == 0


def draw_puzzle(kind: Kind, constants: Mapping[str, int], reserved: bool, draw: Draw) -> Puzzle:
    """A question with its five options, all on reserved numbers or all on others."""
    for _ in range(_MAX_ATTEMPTS):
        root = solve(kind, draw_params(kind, draw), constants)
        if root is None or is_reserved(kind, constants, root) != reserved:
            continue
        siblings = _grow(root, kind, constants, reserved, draw)
        if len(siblings) == NUM_OPTIONS:
            siblings = draw.shuffled(siblings)
            answer_index = draw.below(NUM_OPTIONS)
            values = tuple(sibling.answer for sibling in siblings)
            return Puzzle(siblings[answer_index], values, answer_index)
    raise AssertionError(f"{kind.family}/{kind.name} has too few numbers that come out well")


def _grow(
    root: Instance, kind: Kind, constants: Mapping[str, int], reserved: bool, draw: Draw
) -> list[Instance]:
    """Instances with different answers, each a mistake away from another; five if all goes well."""
    siblings, answers = [root], {root.answer}
    answer_atlas = atlas(kind, tuple(constants.items()), reserved)
    for attempt in range(_MAX_RESERVED_GROWTHS if reserved else _MAX_GROWTHS):
        parent = draw.choice(siblings)
        sibling: Instance | None
        if answer_atlas and draw.chance(_MISTAKE_SHARE):
            sibling = answer_atlas.get(draw.choice(kind.mistakes).value(parent.quantities))
        else:
            params = slip(kind, parent.params, draw)
            if reserved:
                params = _widen(kind, params, attempt, draw)
            sibling = None if params is None else solve(kind, params, constants)
        if (
            sibling is not None
            and sibling.answer not in answers
            and is_reserved(kind, constants, sibling) == reserved
        ):
            siblings.append(sibling)
            answers.add(sibling.answer)
            if len(siblings) == NUM_OPTIONS:
                break
    return siblings


def _widen(
    kind: Kind, params: dict[str, int] | None, attempt: int, draw: Draw
) -> dict[str, int] | None:
    """Look further than one slip: only one in eight of the neighbours has reserved numbers."""
    if attempt > _MAX_RESERVED_GROWTHS // 2:
        return draw_params(kind, draw)
    if params is not None and draw.chance(0.5):
        params = slip(kind, params, draw)
    if params is not None:
        params.update({name: draw.choice(kind.params[name]) for name in sorted(kind.fixed)})
    return params


@cache
def atlas(
    kind: Kind, constants: tuple[tuple[str, int], ...], reserved: bool
) -> Mapping[Number, Instance]:
    """An instance for each of many answers of a kind; empty where the kind lists no mistakes."""
    found: dict[Number, Instance] = {}
    fixed = dict(constants)
    draw = Draw(f"atlas/{kind.family}/{kind.name}")
    num_draws = (_RESERVED_ATLAS_DRAWS if reserved else _ATLAS_DRAWS) if kind.mistakes else 0
    for _ in range(num_draws):
        instance = solve(kind, draw_params(kind, draw), fixed)
        if instance is not None and is_reserved(kind, fixed, instance) == reserved:
            found[instance.answer] = instance
    return found


def format_answer(kind: Kind, value: Number) -> str:
    """An option as text: `150`, `2.5`, or `3/8` where the kind's answers are fractions."""
    return format_fraction(value) if kind.ratio is not None else format_number(value)
