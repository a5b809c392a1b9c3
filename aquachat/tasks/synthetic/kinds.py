"""What a kind of problem is: its quantities, its steps, its phrasings and its mistakes, as data.

A family (`motion`) holds kinds (`distance`, `time`, ...). Each is written once, in
`families/*.toml`:

    [[kind]]
    family = "fuel"
    name = "litres"
    params = "k:6-25 x:4-60"              # drawn: name, lowest, highest, and the stride after `/`
    derived = ["d = k*x"]                 # stated in the question so that the answer comes out well
    where = ["d > 50"]                    # conditions on the numbers
    steps = ["Fuel: y = d/k"]             # label, name of the result, calculator call
    mistakes = ["d-k"]                    # what wrong solutions give
    swaps = ["k x"]                       # quantities of one sort that can be taken for one another
    fixed = "k"                           # parameters that the answer does not depend on
    train = ["[A {vehicle} goes|It goes] {k} km per litre. How many litres are needed for {d} km?"]
    heldout = ["..."]

A step is one calculator call: one relation applied to quantities that are already known. A kind of
one step belongs to the tier `one_step`, of two or three to `two_three_steps`, of four (chains only)
to `more_steps`. `ratio = "r/n"` makes the answer the fraction r/n, `cases` are words and constants
that go together, `words` are word lists over those of the lexicon.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from importlib.resources import files
from itertools import product
from typing import Any, Literal

from aquachat.tasks.synthetic.draw import Draw
from aquachat.tasks.synthetic.expressions import Condition, Expression, Number, Quantities

Tier = Literal["one_step", "two_three_steps", "more_steps"]
TIERS: tuple[Tier, ...] = ("one_step", "two_three_steps", "more_steps")
DEFAULT_LIMIT = 9999

_CHOICE = re.compile(r"\[([^\]]*)\]")
_SLOT = re.compile(r"\{(\w+)\}")
_STEP = re.compile(r"(\w[\w ]*): (\w+) = (.+)")
_SPAN = re.compile(r"(\w+):(\d+)-(\d+)(?:/(\d+))?")


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a rationale: `label: <<expression=result>>result`."""

    label: str
    result: str
    expression: Expression


class Phrasing:
    """A sentence pattern: `[one|another]` is a free choice, `{slot}` a number or a word."""

    __slots__ = ("_segments", "pattern", "slots")

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        pieces = _CHOICE.split(pattern)
        self._segments: tuple[tuple[str, ...], ...] = tuple(
            tuple(piece.split("|")) if place % 2 else (piece,) for place, piece in enumerate(pieces)
        )
        self.slots: frozenset[str] = frozenset(_SLOT.findall(pattern))

    def draw(self, draw: Draw) -> str:
        """One of the sentences of the pattern, its slots still open."""
        return "".join(
            segment[0] if len(segment) == 1 else draw.choice(segment) for segment in self._segments
        )

    def sentences(self) -> list[str]:
        """Every sentence of the pattern, its slots still open."""
        return ["".join(choice) for choice in product(*self._segments)]


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of problem. Quantities are drawn from `params`, then `derived`, then `steps`."""

    family: str
    name: str
    params: Mapping[str, range]
    steps: tuple[Step, ...]
    train: tuple[Phrasing, ...]
    heldout: tuple[Phrasing, ...]
    derived: tuple[tuple[str, Expression], ...] = ()
    where: tuple[Condition, ...] = ()
    mistakes: tuple[Expression, ...] = ()
    swaps: tuple[tuple[str, str], ...] = ()
    fixed: frozenset[str] = frozenset()
    cases: tuple[Mapping[str, int | str], ...] = ({},)
    ratio: tuple[str, str] | None = None
    limit: int = DEFAULT_LIMIT
    chain: str = ""
    """The families that a chained problem passes through, `motion>fuel>shopping`."""
    words: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def num_steps(self) -> int:
        """How many calculator calls the rationale has."""
        return len(self.steps)

    @property
    def tier(self) -> Tier:
        """The rung of the difficulty dial."""
        return TIERS[(self.num_steps > 1) + (self.num_steps > 3)]

    @cached_property
    def stated(self) -> tuple[str, ...]:
        """The quantities that the question gives, in a fixed order."""
        return tuple(sorted(self.train[0].slots & {*self.params, *dict(self.derived)}))

    @cached_property
    def varied(self) -> tuple[str, ...]:
        """The parameters that the answer depends on."""
        return tuple(name for name in self.params if name not in self.fixed)

    def answer(self, quantities: Quantities) -> Number:
        """The right answer, once every step's result is among the quantities."""
        if self.ratio is not None:
            top, bottom = self.ratio
            return Fraction(quantities[top]) / Fraction(quantities[bottom])
        return quantities[self.steps[-1].result]


def read_table(name: str) -> dict[str, Any]:
    """One of the files of `families/`, for example `travel`."""
    text = files(__package__).joinpath("families", f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def read_kinds(name: str) -> tuple[Kind, ...]:
    """The kinds that a file of `families/` describes, in its order."""
    return tuple(_kind(entry) for entry in read_table(name)["kind"])


def _kind(entry: Mapping[str, Any]) -> Kind:
    return Kind(
        family=entry["family"],
        name=entry["name"],
        params=parse_params(entry["params"]),
        steps=tuple(parse_step(text) for text in entry["steps"]),
        train=tuple(Phrasing(pattern) for pattern in entry["train"]),
        heldout=tuple(Phrasing(pattern) for pattern in entry["heldout"]),
        derived=tuple(parse_derived(text) for text in entry.get("derived", ())),
        where=tuple(Condition(text) for text in entry.get("where", ())),
        mistakes=tuple(Expression(text) for text in entry.get("mistakes", ())),
        swaps=tuple(_pair(text, " ") for text in entry.get("swaps", ())),
        fixed=frozenset(entry.get("fixed", "").split()),
        cases=tuple(entry.get("cases", ({},))),
        ratio=_pair(entry["ratio"], "/") if "ratio" in entry else None,
        limit=entry.get("limit", DEFAULT_LIMIT),
        words=entry.get("words", {}),
    )


def _pair(text: str, separator: str) -> tuple[str, str]:
    first, second = text.split(separator)
    return first, second


def parse_params(text: str) -> dict[str, range]:
    """Read `s:20-95/5 t:2-12`: name, lowest, highest and, where it is not 1, the stride."""
    params: dict[str, range] = {}
    for item in text.split():
        match = _SPAN.fullmatch(item)
        assert match, f"{item!r} is not `name:low-high/stride`"
        name, low, high, stride = match.groups()
        params[name] = range(int(low), int(high) + 1, int(stride or 1))
    return params


def parse_step(text: str) -> Step:
    """Read `Distance: x = s*t`."""
    match = _STEP.fullmatch(text)
    assert match, f"{text!r} is not `Label: name = expression`"
    label, result, expression = match.groups()
    return Step(label, result, Expression(expression))


def parse_derived(text: str) -> tuple[str, Expression]:
    """Read `d = s*t`."""
    name, expression = _pair(text, " = ")
    return name, Expression(expression)
