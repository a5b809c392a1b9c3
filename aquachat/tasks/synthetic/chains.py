"""Chained problems: a start and one, two or three links of matching sorts make one kind.

`families/chains.toml` holds the pieces. A start gives a first amount of some sort (`km`, `items`,
`money`...); a link takes an amount of one sort and gives another. In a link's step `q` is the
amount so far and `p` the link's own number.

A chain has at most one division, and everything that is counted before it is drawn as a multiple of
its divisor (from the ranges `scaled`), so that all results are whole. Chains of two and three steps
are for training; a few of their phrasings carry a fact that does not matter. Chains of four steps,
always with such facts, are the split `more_steps`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from aquachat.tasks.synthetic.expressions import Expression
from aquachat.tasks.synthetic.kinds import Kind, Phrasing, Step, parse_params, read_table

_SCALED = range(2, 10)
_IDLE = range(18, 53)
_NAME = re.compile(r"[a-z]\w*")


@dataclass(frozen=True, slots=True)
class Start:
    """The first step of a chain. `scaled` holds the ranges used where a division comes later."""

    family: str
    gives: str
    step: str
    params: str
    scaled: str
    train: tuple[str, ...]
    heldout: tuple[str, ...]

    @property
    def label(self) -> str:
        """What stands before the first calculator call."""
        return self.step.split(": ")[0]


@dataclass(frozen=True, slots=True)
class Link:
    """A further step: the amount `q` and the number `p` make the next amount."""

    family: str
    name: str
    needs: str
    gives: str
    step: str
    params: str
    train: tuple[str, ...]
    heldout: tuple[str, ...]
    ask: tuple[str, ...]
    heldout_ask: tuple[str, ...]

    @property
    def divides(self) -> bool:
        """Whether the amount so far must be a multiple of `p`."""
        return "/" in self.step

    @property
    def is_additive(self) -> bool:
        """Whether `p` counts the same things as the amount so far."""
        return "*" not in self.step and not self.divides


@dataclass(frozen=True, slots=True)
class Pieces:
    """What chains are made of. `idle` are facts that do not matter, with a number `z`."""

    starts: tuple[Start, ...]
    links: tuple[Link, ...]
    idle: tuple[str, ...]


@cache
def read_pieces() -> Pieces:
    """The pieces in `families/chains.toml`."""
    table = read_table("chains")
    return Pieces(
        tuple(Start(**_frozen(entry)) for entry in table["start"]),
        tuple(Link(**_frozen(entry)) for entry in table["link"]),
        tuple(table["idle"]),
    )


def _frozen(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in entry.items()}


def chain_kinds(num_steps: int) -> tuple[Kind, ...]:
    """Every chain with this number of steps, 2 to 4, in a fixed order."""
    return tuple(
        _kind(start, links)
        for start in read_pieces().starts
        for links in _paths(start.gives, num_steps - 1, ())
    )


def _paths(sort: str, length: int, used: tuple[Link, ...]) -> Iterator[tuple[Link, ...]]:
    """Ways to go on from an amount, no link twice, at most one division."""
    if not length:
        yield used
        return
    has_division = any(link.divides for link in used)
    for link in read_pieces().links:
        if link.needs == sort and link not in used and not (has_division and link.divides):
            yield from _paths(link.gives, length - 1, (*used, link))


def _kind(start: Start, links: Sequence[Link]) -> Kind:
    params, derived = _quantities(start, links)
    steps = [_step(start.step, "r0", {})]
    for place, link in enumerate(links, 1):
        steps.append(_step(link.step, f"r{place}", {"q": f"r{place - 1}", "p": f"x{place}"}))
    with_idle = len(steps) > 3
    divisor = _divisor(links)
    return Kind(
        family=start.family,
        name=">".join((start.label.lower(), *(link.name for link in links))),
        params={**params, "z": _IDLE, "w": _IDLE},
        steps=tuple(steps),
        train=_phrasings(
            [start.train, *(link.train for link in links)], links[-1].ask, with_idle=with_idle
        ),
        heldout=_phrasings(
            [start.heldout, *(link.heldout for link in links)],
            links[-1].heldout_ask,
            with_idle=with_idle,
        ),
        derived=tuple(derived),
        fixed=frozenset({"z", "w", divisor} - {""}),
        chain=">".join((start.family, *(link.family for link in links))),
    )


def _step(text: str, result: str, names: Mapping[str, str]) -> Step:
    label, expression = text.split(": ")
    renamed = _NAME.sub(lambda match: names.get(match.group(), match.group()), expression)
    return Step(label, result, Expression(renamed))


def _divisor(links: Sequence[Link]) -> str:
    return next((f"x{place}" for place, link in enumerate(links, 1) if link.divides), "")


def _quantities(
    start: Start, links: Sequence[Link]
) -> tuple[dict[str, range], list[tuple[str, Expression]]]:
    """The parameters of a chain; what comes before its division is a multiple of the divisor."""
    divisor = _divisor(links)
    params = parse_params(start.params)
    derived: list[tuple[str, Expression]] = []
    if divisor:
        for name, domain in parse_params(start.scaled).items():
            del params[name]
            params[f"{name}0"] = domain
            derived.append((name, Expression(f"{divisor}*{name}0")))
    before = bool(divisor)
    for place, link in enumerate(links, 1):
        name = f"x{place}"
        if before and link.is_additive:
            params[f"{name}0"] = _SCALED
            derived.append((name, Expression(f"{divisor}*{name}0")))
        else:
            params[name] = parse_params(link.params)["p"]
        before = before and not link.divides
    return params, derived


def _phrasings(
    facts: Sequence[Sequence[str]], asks: Sequence[str], *, with_idle: bool
) -> tuple[Phrasing, ...]:
    """The facts in order and the question, with facts that do not matter in between."""
    segments = [_either(facts[0])]
    for place, sentences in enumerate(facts[1:], 1):
        segments.append(_either([text.replace("{p}", f"{{x{place}}}") for text in sentences]))
    question, idle, other = _either(asks), _idle("z"), _idle("w")
    patterns = [
        [*segments[:place], idle, *segments[place:], question] for place in range(1, len(facts) + 1)
    ]
    if with_idle:
        patterns += [[segments[0], idle, *segments[1:], other, question]]
    else:
        plain = [*segments, question]
        patterns = [plain] * (2 * len(patterns)) + patterns
    return tuple(Phrasing(" ".join(pattern)) for pattern in patterns)


def _either(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"[{'|'.join(texts)}]"


def _idle(name: str) -> str:
    facts = [fact.replace("{z}", f"{{{name}}}") for fact in read_pieces().idle]
    return _either(facts if name == "z" else facts[:2])
