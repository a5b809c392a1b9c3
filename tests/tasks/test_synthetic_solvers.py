"""A second solver for every kind: numbers are read from the question's text and worked out anew.

The solvers search, count and simulate where the generator uses a formula, so that a wrong formula,
a number left out of the text or two quantities exchanged in a phrasing is found.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from itertools import combinations, count, permutations, product

import pytest

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.synthetic import Split
from aquachat.tasks.synthetic.catalogue import native_kinds
from aquachat.tasks.synthetic.draw import Draw
from aquachat.tasks.synthetic.generate import write_item
from aquachat.tasks.synthetic.kinds import Kind
from aquachat.tasks.synthetic.wording import reworded

Numbers = Mapping[str, int]
Solver = Callable[[Numbers], int | Fraction]
ITEMS_PER_KIND = 12


def _percent(share: int, whole: int | Fraction) -> Fraction:
    return Fraction(whole) * Fraction(share, 100)


def _grown(amount: int, percent: int, years: int) -> Fraction:
    money = Fraction(amount)
    for _ in range(years):
        money += _percent(percent, money)
    return money


def _sequence(first: int, step: int, length: int) -> list[int]:
    return [first + step * place for place in range(length)]


def _unknown(holds: Callable[[int], bool]) -> int:
    """The only whole number from 0 to 3999 for which an equation holds."""
    (found,) = [x for x in range(4000) if holds(x)]
    return found


def _pair(total: int, difference: int) -> tuple[int, int]:
    return next((x, total - x) for x in count(1) if x - (total - x) == difference)


def _lcm_from(product_of_both: int, divisor: int) -> int:
    """Search two numbers with this product and GCD, and take the LCM of what is found."""
    found = {
        math.lcm(first, product_of_both // first)
        for first in range(1, product_of_both + 1)
        if product_of_both % first == 0 and math.gcd(first, product_of_both // first) == divisor
    }
    (lcm,) = found
    return lcm


def _pairs(members: int) -> int:
    return sum(1 for _ in combinations(range(members), 2))


def _groups(only_first: int, only_second: int, both: int) -> tuple[set[int], set[int]]:
    people = range(only_first + only_second + both)
    return set(people[: only_first + both]), set(people[only_first:])


def _sets(q: Numbers) -> tuple[set[int], set[int]]:
    return _groups(q["a"] - q["c"], q["b"] - q["c"], q["c"])


def _bag(**balls: int) -> list[str]:
    return [colour for colour, number in balls.items() for _ in range(number)]


def _chance(outcomes: list[bool]) -> Fraction:
    return Fraction(sum(outcomes), len(outcomes))


TRAVEL: dict[str, Solver] = {
    "motion/distance": lambda q: sum(q["s"] for _ in range(q["t"])),
    "motion/time": lambda q: _unknown(lambda t: q["s"] * t == q["d"]),
    "motion/speed": lambda q: _unknown(lambda s: s * q["t"] == q["d"]),
    "motion/two_parts": lambda q: sum([q["s"]] * q["t"] + [q["r"]] * q["u"]),
    "motion/still_to_go": lambda q: _unknown(lambda left: left + q["s"] * q["t"] == q["d"]),
    "trains/length": lambda q: sum(q["s"] for _ in range(q["t"])),
    "trains/towards": lambda q: 1000 - len(range(q["a"], 1000 - q["b"])),
    "trains/meet": lambda q: _unknown(lambda t: q["d"] - q["a"] * t == q["b"] * t),
    "trains/platform": lambda q: _unknown(lambda p: p + q["l"] == q["s"] * q["t"]),
    "trains/pass_each_other": lambda q: _unknown(
        lambda t: q["a"] * t + q["b"] * t == q["p"] + q["r"]
    ),
    "fuel/litres": lambda q: _unknown(lambda litres: litres * q["k"] == q["d"]),
    "fuel/range": lambda q: sum(q["k"] for _ in range(q["l"])),
    "fuel/cost": lambda q: Fraction(q["d"], q["k"]) * q["p"],
}
MONEY: dict[str, Solver] = {
    "shopping/cost": lambda q: sum(q["p"] for _ in range(q["n"])),
    "shopping/price": lambda q: _unknown(lambda p: q["n"] * p == q["c"]),
    "shopping/change": lambda q: _unknown(lambda left: q["n"] * q["p"] + left == q["m"]),
    "shopping/two_goods": lambda q: sum([q["p"]] * q["n"] + [q["q"]] * q["m"]),
    "wages/pay": lambda q: sum(q["r"] for _ in range(q["h"])),
    "wages/hours": lambda q: _unknown(lambda h: q["r"] * h == q["p"]),
    "wages/bonus": lambda q: sum([q["r"]] * q["h"], q["b"]),
    "wages/overtime": lambda q: sum([q["r"]] * q["h"] + [q["q"]] * q["o"]),
    "profit/profit": lambda q: _unknown(lambda p: q["c"] + p == q["s"]),
    "profit/loss": lambda q: _unknown(lambda p: q["s"] + p == q["c"]),
    "profit/many": lambda q: sum(q["s"] for _ in range(q["n"])) - q["n"] * q["c"],
    "profit/percent": lambda q: (Fraction(q["s"], q["c"]) - 1) * 100,
    "discount/amount": lambda q: _percent(q["p"], q["c"]),
    "discount/sale_price": lambda q: _percent(100 - q["p"], q["c"]),
    "discount/basket": lambda q: q["n"] * _percent(100 - q["p"], q["c"]),
    "simple_interest/interest": lambda q: sum(_percent(q["r"], q["p"]) for _ in range(q["t"])),
    "simple_interest/rate": lambda q: _unknown(lambda r: q["t"] * _percent(r, q["p"]) == q["i"]),
    "simple_interest/amount": lambda q: q["p"] + q["t"] * _percent(q["r"], q["p"]),
    "compound_interest/one_year": lambda q: _grown(q["p"], q["r"], 1),
    "compound_interest/two_years": lambda q: _grown(q["p"], q["r"], 2),
    "compound_interest/three_years": lambda q: _grown(q["p"], q["r"], 3),
}
PEOPLE: dict[str, Solver] = {
    "ages/future": lambda q: len(range(q["a"])) + q["y"],
    "ages/past": lambda q: _unknown(lambda age: age + q["y"] == q["a"]),
    "ages/times": lambda q: sum(q["b"] for _ in range(q["k"])),
    "ages/times_later": lambda q: sum([q["b"]] * q["k"], q["y"]),
    "ages/sum_later": lambda q: (q["b"] + q["y"]) + (q["b"] + q["d"] + q["y"]),
    "work/rate": lambda q: _unknown(lambda hours: hours * q["r"] == q["n"]),
    "work/crew": lambda q: 1 / (Fraction(q["b"]) * Fraction(1, q["a"] * q["d"])),
    "work/two_machines": lambda q: q["t"] * q["a"] + q["t"] * q["b"],
    "work/together": lambda q: 1 / (Fraction(1, q["a"]) + Fraction(1, q["b"])),
    "work/fewer_workers": lambda q: (1 - Fraction(q["c"], q["d"])) * q["n"] * q["d"] / q["m"],
    "packing/boxes": lambda q: len(range(0, q["n"], q["k"])),
    "packing/content": lambda q: len(list(product(range(q["b"]), range(q["k"])))),
    "packing/left": lambda q: len(list(product(range(q["b"]), range(q["k"])))[q["m"] :]),
    "packing/share_out": lambda q: _unknown(lambda x: x * q["c"] + q["m"] == q["b"] * q["k"]),
}
SHARES: dict[str, Solver] = {
    "ratios/map": lambda q: sum(q["k"] for _ in range(q["m"])),
    "ratios/map_back": lambda q: _unknown(lambda cm: cm * q["k"] == q["d"]),
    "ratios/other_part": lambda q: _unknown(lambda girls: q["n"] * q["b"] == girls * q["a"]),
    "ratios/share": lambda q: _unknown(lambda x: x * q["b"] == (q["n"] - x) * q["a"]),
    "percentages/of": lambda q: _percent(q["p"], q["n"]),
    "percentages/what_percent": lambda q: _unknown(lambda p: _percent(p, q["n"]) == q["a"]),
    "percentages/increase": lambda q: _grown(q["n"], q["p"], 1),
    "percentages/of_the_rest": lambda q: _percent(q["q"], _percent(100 - q["p"], q["n"])),
    "mixtures/part": lambda q: _percent(q["p"], q["v"]),
    "mixtures/strength": lambda q: _unknown(lambda p: _percent(p, q["a"] + q["w"]) == q["a"]),
    "mixtures/two_solutions": lambda q: _percent(q["p"], q["v"]) + _percent(q["q"], q["w"]),
    "averages/of_three": lambda q: _unknown(lambda m: sum(q[n] - m for n in "abc") == 0),
    "averages/total": lambda q: sum(q["m"] for _ in range(q["n"])),
    "averages/missing": lambda q: _unknown(lambda x: Fraction(q["s"] + x, q["n"]) == q["m"]),
    "averages/one_more": lambda q: Fraction(sum([*[q["m"]] * q["n"], q["z"]]), q["n"] + 1),
    "proportion/price": lambda q: Fraction(q["m"], q["n"]) * q["c"],
    "proportion/recipe": lambda q: Fraction(q["m"], q["n"]) * q["g"],
    "proportion/change": lambda q: q["k"] - Fraction(q["m"], q["n"]) * q["c"],
}
ALGEBRA: dict[str, Solver] = {
    "linear_equations/plus": lambda q: _unknown(lambda x: x + q["a"] == q["b"]),
    "linear_equations/minus": lambda q: _unknown(lambda x: x - q["a"] == q["b"]),
    "linear_equations/times": lambda q: _unknown(lambda x: q["a"] * x == q["b"]),
    "linear_equations/over": lambda q: _unknown(lambda x: Fraction(x, q["a"]) == q["b"]),
    "linear_equations/times_plus": lambda q: _unknown(lambda x: q["a"] * x + q["b"] == q["c"]),
    "linear_equations/times_minus": lambda q: _unknown(lambda x: q["a"] * x - q["b"] == q["c"]),
    "linear_equations/both_sides": lambda q: _unknown(
        lambda x: q["a"] * x + q["b"] == q["c"] * x + q["d"]
    ),
    "simultaneous_equations/larger": lambda q: max(_pair(q["s"], q["d"])),
    "simultaneous_equations/smaller": lambda q: min(_pair(q["s"], q["d"])),
    "simultaneous_equations/heads_and_legs": lambda q: _unknown(
        lambda cows: cows * 4 + (q["h"] - cows) * 2 == q["l"]
    ),
    "simultaneous_equations/price_of_other": lambda q: _unknown(
        lambda x: q["n"] * q["p"] + q["m"] * x == q["c"]
    ),
    "simultaneous_equations/product": lambda q: math.prod(_pair(q["s"], q["d"])),
    "arithmetic_sequences/term": lambda q: _sequence(q["a"], q["d"], q["n"])[-1],
    "arithmetic_sequences/term_from_list": lambda q: _sequence(
        q["a"], _unknown(lambda d: [q["a"] + d, q["a"] + 2 * d] == [q["b"], q["c"]]), q["n"]
    )[-1],
    "arithmetic_sequences/sum": lambda q: sum(_sequence(q["a"], q["d"], q["n"])),
    "arithmetic_sequences/step": lambda q: _unknown(
        lambda d: _sequence(q["a"], d, q["n"])[-1] == q["l"]
    ),
    "geometric_sequences/growth": lambda q: q["a"] * math.prod([q["r"]] * q["n"]),
    "geometric_sequences/next_term": lambda q: Fraction(q["b"] ** 2, q["a"]),
    "geometric_sequences/sum": lambda q: sum(q["a"] * q["r"] ** n for n in range(3)),
    "number_theory/dividend": lambda q: next(
        n for n in count() if divmod(n, q["d"]) == (q["q"], q["r"])
    ),
    "number_theory/lcm": lambda q: _lcm_from(q["p"], q["g"]),
    "number_theory/other_number": lambda q: _unknown(
        lambda x: math.gcd(x, q["a"]) == q["g"] and math.lcm(x, q["a"]) == q["l"]
    ),
    "number_theory/in_a_row": lambda q: 2 + _unknown(lambda x: sum(range(x, x + 3)) == q["s"]),
}
SHAPES: dict[str, Solver] = {
    "area/rectangle": lambda q: len(list(product(range(q["a"]), range(q["b"])))),
    "area/triangle": lambda q: Fraction(q["b"] * q["h"], 2),
    "area/square_from_perimeter": lambda q: _unknown(lambda side: 4 * side == q["p"]) ** 2,
    "area/tiles": lambda q: _unknown(lambda n: n * q["t"] == q["l"] * q["b"]),
    "area/pond": lambda q: _unknown(lambda x: x + q["c"] * q["d"] == q["a"] * q["b"]),
    "perimeter/rectangle": lambda q: q["a"] + q["b"] + q["a"] + q["b"],
    "perimeter/missing_side": lambda q: _unknown(lambda x: x + q["a"] + x + q["a"] == q["p"]),
    "perimeter/from_area": lambda q: 2 * q["a"] + 2 * Fraction(q["s"], q["a"]),
    "volume/box": lambda q: math.prod([q["a"], q["b"], q["c"]]),
    "volume/depth": lambda q: _unknown(lambda h: q["a"] * q["b"] * h == q["v"]),
    "volume/cubes": lambda q: math.prod(len(range(0, q[side], q["e"])) for side in "abc"),
}
CHANCE: dict[str, Solver] = {
    "sets/either": lambda q: len(set.union(*_sets(q))),
    "sets/only": lambda q: len(set(range(q["a"])) - set(range(q["c"]))),
    "sets/neither": lambda q: len(set(range(q["n"])) - set.union(*_sets(q))),
    "sets/exactly_one": lambda q: len(set.symmetric_difference(*_sets(q))),
    "counting/outfits": lambda q: len(list(product(*(range(q[n]) for n in "abc")))),
    "counting/pairs": lambda q: _pairs(q["n"]),
    "counting/two_prizes": lambda q: sum(1 for _ in permutations(range(q["n"]), 2)),
    "counting/team": lambda q: sum(_pairs(q["n"]) for _ in range(q["m"])),
    "counting/two_and_two": lambda q: _pairs(q["n"]) * _pairs(q["m"]),
    "probability/one_colour": lambda q: _chance(
        [ball == "one" for ball in _bag(one=q["r"], two=q["b"])]
    ),
    "probability/not_colour": lambda q: _chance([ball >= q["r"] for ball in range(q["n"])]),
    "probability/not_of_three": lambda q: _chance(
        [ball != "one" for ball in _bag(one=q["r"], two=q["b"], three=q["g"])]
    ),
    "probability/twice": lambda q: _chance(
        [both == ("one", "one") for both in product(_bag(one=q["r"], two=q["b"]), repeat=2)]
    ),
}
SOLVERS = {**TRAVEL, **MONEY, **PEOPLE, **SHARES, **ALGEBRA, **SHAPES, **CHANCE}
SIDES = {"triangle": 3, "square": 4, "pentagon": 5, "hexagon": 6}
SMALL_UNITS = {
    ("hours", "minutes"): 60, ("minutes", "seconds"): 60, ("m", "cm"): 100, ("km", "m"): 1000,
    ("kg", "g"): 1000, ("litres", "ml"): 1000, ("weeks", "days"): 7, ("days", "hours"): 24,
    ("years", "months"): 12,
}  # fmt: skip


def _solve(name: str, slots: Mapping[str, str]) -> int | Fraction:
    numbers = {slot: int(text) for slot, text in slots.items() if text.isdigit()}
    if name == "perimeter/polygon":
        return SIDES[slots["shape"]] * numbers["a"]
    if name.startswith("unit_conversion/"):
        factor = SMALL_UNITS[slots["big"], slots["small"]]
        if name.endswith("to_big"):
            return Fraction(numbers["n"], factor)
        return numbers["n"] * factor + numbers.get("m", 0)
    return SOLVERS[name](numbers)


@cache
def _readers(sentences: tuple[str, ...]) -> list[re.Pattern[str]]:
    return [_reader(form) for sentence in sentences for form in reworded(sentence)]


def _reader(form: str) -> re.Pattern[str]:
    """A regular expression whose groups are the slots; a slot met again must say the same."""
    seen: set[str] = set()
    pieces = []
    for place, piece in enumerate(re.split(r"\{(\w+)\}", form)):
        if place % 2 == 0:
            pieces.append(re.escape(piece))
        elif piece in seen:
            pieces.append(f"(?P={piece})")
        else:
            seen.add(piece)
            is_quantity = len(piece) == 1
            pieces.append(f"(?P<{piece}>{'[0-9]+' if is_quantity else '[A-Za-z ]+?'})")
    return re.compile("".join(pieces))


def _read(kind: Kind, item: ChoiceItem) -> list[dict[str, str]]:
    """The slots of the question, for each form that its text fits."""
    *_, wording, number = str(item.attributes["phrasing"]).split("/")
    pattern = (kind.heldout if wording == "heldout" else kind.train)[int(number)]
    matches = [reader.fullmatch(item.question) for reader in _readers(tuple(pattern.sentences()))]
    return [match.groupdict() for match in matches if match]


@pytest.mark.parametrize("split", ["train", "new_phrasings"])
def test_a_second_solver_that_reads_the_question_agrees(split: Split) -> None:
    for kind in native_kinds():
        name = f"{kind.family}/{kind.name}"
        draw = Draw(f"solvers/{split}/{name}")
        for _ in range(ITEMS_PER_KIND):
            item = write_item(name, kind, split, draw)
            readings = _read(kind, item)
            assert readings, item.question
            for slots in readings:
                answer = _solve(name, slots)
                right = [Fraction(option) == answer for option in item.options]
                assert right == [index == item.answer_index for index in range(5)], item


def test_every_kind_has_a_second_solver() -> None:
    by_words = {"perimeter/polygon"} | {
        f"unit_conversion/{name}" for name in ("to_small", "to_big", "mixed")
    }
    assert {f"{kind.family}/{kind.name}" for kind in native_kinds()} == set(SOLVERS) | by_words
