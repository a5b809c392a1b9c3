"""Short exercises for training: finding the letter of an option, and plain arithmetic.

A tiny model works out the right value long before it finds the letter of that value. Looking
options up, among near misses and among options of arbitrary text, teaches the second on its own.
Options are shown as everywhere: the value first, its letter right after it, one a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction

from aquachat.tasks.synthetic.draw import Draw
from aquachat.tasks.synthetic.expressions import format_fraction, format_number
from aquachat.tasks.synthetic.lexicon import ITEMS, NAMES
from aquachat.text.conversation import Conversation, Message, Part, PartKind, Role, text_message

LETTERS = "ABCDE"
LOOKUP_SHARE = 0.65

_WORDS = (
    "red", "blue", "green", "white", "black", "north", "south", "east", "west", "spring",
    "summer", "autumn", "winter", "morning", "evening", "circle", "square", "triangle", "line",
    "point", "first", "second", "third", "last", "none", "even", "odd", "prime", "increase",
    "decrease", "equal", "greater", "less", "half", "double", "twice", "metre", "litre", "gram",
    "hour", "minute", "year", "dollar", "rectangle", "cube", "sphere", "angle", "radius",
    "profit", "loss", "speed", "distance", "time", "rate", "average", "ratio", "monday",
    "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday",
)  # fmt: skip
_UNITS = (
    "km", "m", "cm", "kg", "g", "litres", "hours", "minutes", "days", "years", "dollars", "%",
    "square m", "cubic cm", "km per hour",
)  # fmt: skip
_FORMULAS = ("x", "y", "2x", "3x", "x + 1", "x - 1", "x + y", "x - y", "xy", "2x + 3", "x^2", "y/2")
_PHRASES = (
    "none of these", "cannot be found", "all of these", "the same", "more than half",
    "less than half", "at most", "at least", "only the first", "only the second", "both", "neither",
)  # fmt: skip


def generate_drills(
    seed: int, count: int, start: int = 0, lookup_share: float = LOOKUP_SHARE
) -> Iterator[Conversation]:
    """Drills `start` to `start + count - 1`; `lookup_share` of them look up an option."""
    for index in range(start, start + count):
        draw = Draw(f"{seed}/drills/{index}")
        yield lookup_drill(draw) if draw.chance(lookup_share) else arithmetic_drill(draw)


def lookup_drill(draw: Draw) -> Conversation:
    """Five options and a task that is solved by reading them."""
    options = _draw_options(draw)
    lines = [f"{option} {letter}" for option, letter in zip(options, LETTERS, strict=True)]
    wanted = draw.below(len(options))
    shape = draw.random()
    if shape < 0.45:
        task = draw.choice(("Find {}.", "Which letter has {}?", "Look for {}."))
        question = task.format(options[wanted])
        reply = f"{lines[wanted]}\nAnswer: {LETTERS[wanted]}"
    elif shape < 0.6:
        task = draw.choice(("What is {}?", "Read {}.", "Which option is {}?"))
        question, reply = task.format(LETTERS[wanted]), lines[wanted]
    else:
        question = draw.choice(("Say all of them in another order.", "Mix them."))
        reply = "\n".join(draw.shuffled(lines))
    return _conversation("\n".join([*lines, question]), reply)


def _draw_options(draw: Draw) -> list[str]:
    shape = draw.random()
    if shape < 0.6:
        return _near_numbers(draw)
    if shape < 0.7:
        return _five(draw, lambda: _draw_decimal(draw))
    if shape < 0.8:
        return _five(draw, lambda: _draw_fraction(draw))
    pools: Sequence[Callable[[], str]] = (
        lambda: draw.choice(_WORDS),
        lambda: f"{draw.choice(_WORDS)} {draw.choice(_WORDS)}",
        lambda: draw.choice(NAMES),
        lambda: draw.choice(draw.choice(ITEMS)),
        lambda: draw.choice(_FORMULAS),
        lambda: draw.choice(_PHRASES),
    )
    if draw.chance(0.3):
        unit = draw.choice(_UNITS)
        return [f"{number} {unit}" for number in _near_numbers(draw)]
    if draw.chance(0.3):
        return _five(draw, lambda: draw.choice(pools)())
    pool = draw.choice(pools)
    return _five(draw, pool)


def _draw_decimal(draw: Draw) -> str:
    return format_number(Fraction(draw.between(1, 999), draw.choice((2, 5, 10))))


def _draw_fraction(draw: Draw) -> str:
    below = draw.between(2, 24)
    return format_fraction(Fraction(draw.between(1, below - 1), below))


def _near_numbers(draw: Draw) -> list[str]:
    """Numbers that are easily taken for one another: close by, or with digits moved."""
    number = draw.between(1, draw.choice((20, 99, 999, 999, 9999)))

    def near() -> str:
        shape = draw.random()
        if shape < 0.35:
            other = number + draw.choice((-1, 1)) * draw.choice((1, 2, 3, 5, 10, 20, 100))
        elif shape < 0.55:
            other = int("".join(draw.shuffled(str(number))))
        elif shape < 0.75:
            other = draw.choice((number * 2, number * 10, number // 2, number + number // 10))
        else:
            other = draw.between(1, 2 * number + 10)
        return str(abs(other) + (other == 0))

    return _five(draw, near)


def _five(draw: Draw, make: Callable[[], str]) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < len(LETTERS):
        found[make()] = None
    return draw.shuffled(tuple(found))


def arithmetic_drill(draw: Draw) -> Conversation:
    """One sum, worked out by a calculator call."""
    question, call, result = draw_sum(draw)
    parts = (
        Part(PartKind.PYTHON, call),
        Part(PartKind.PYTHON_OUTPUT, result),
        Part(PartKind.TEXT, result),
    )
    return Conversation((text_message(Role.USER, question), Message(Role.ASSISTANT, parts)))


def draw_sum(draw: Draw) -> tuple[str, str, str]:
    """A question in words, the calculator call that answers it and the result."""
    first = draw.between(2, draw.choice((20, 99, 999)))
    second = draw.between(2, draw.choice((12, 99)))
    low, high = sorted((first, second + (first == second)))
    shape = draw.below(7)
    if shape == 0:
        words = draw.choice(("What is {} plus {}?", "Add {} and {}.", "Find the sum of {} and {}."))
        return words.format(first, second), f"{first}+{second}", str(first + second)
    if shape == 1:
        words = draw.choice(("What is {} minus {}?", "How much is {} less {}?"))
        return words.format(high, low), f"{high}-{low}", str(high - low)
    if shape == 2:
        return f"Take {low} away from {high}.", f"{high}-{low}", str(high - low)
    if shape == 3:
        first = first % 99 + 2
        words = draw.choice(("What is {} times {}?", "Multiply {} by {}."))
        return words.format(first, second), f"{first}*{second}", str(first * second)
    if shape == 4:
        second = second % 30 + 2
        words = draw.choice(("What is {} divided by {}?", "Divide {} by {}."))
        return words.format(first * second, second), f"{first * second}/{second}", str(first)
    if shape == 5:
        percent, whole = draw.between(1, 19) * 5, draw.between(1, 40) * 20
        words = draw.choice(("What is {} percent of {}?", "Find {} percent of {}."))
        return words.format(percent, whole), f"{whole}*{percent}/100", str(whole * percent // 100)
    name, factor = draw.choice((("Double", 2), ("Three times", 3), ("Ten times", 10)))
    question = f"Double {first}." if factor == 2 else f"What is {name.lower()} {first}?"
    return question, f"{first}*{factor}", str(first * factor)


def _conversation(question: str, reply: str) -> Conversation:
    return Conversation((text_message(Role.USER, question), text_message(Role.ASSISTANT, reply)))
