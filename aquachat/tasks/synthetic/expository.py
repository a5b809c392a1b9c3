"""Prose for base training: explanations, worked examples, number facts and unit tables.

Only training phrasings and training numbers appear, so that the held-out splits stay unseen.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.synthetic.catalogue import kinds_of_tier, read_about
from aquachat.tasks.synthetic.draw import Draw
from aquachat.tasks.synthetic.generate import write_item
from aquachat.tasks.synthetic.kinds import Tier

_CALL = re.compile(r"<<([^=>]*)=([^>]*)>>\2")
_UNITS = (
    ("A minute has 60 seconds.", "An hour has 60 minutes.", "A day has 24 hours."),
    ("A week has 7 days.", "A year has 12 months.", "A year has 52 weeks."),
    ("A metre (m) has 100 cm.", "A km has 1000 m.", "A cm has 10 mm."),
    ("A kg has 1000 g.", "A litre has 1000 ml.", "A ton has 1000 kg."),
    ("A square has four equal sides.", "A triangle has three sides.", "A hexagon has six sides."),
    ("One percent is one part of 100.", "Half is 50 percent.", "A quarter is 25 percent."),
)


def generate_documents(seed: int, count: int, start: int = 0) -> Iterator[str]:
    """Documents `start` to `start + count - 1`, each a pure function of (seed, index)."""
    for index in range(start, start + count):
        draw = Draw(f"{seed}/documents/{index}")
        yield _lesson(draw) if draw.chance(0.7) else _number_facts(draw)


def _lesson(draw: Draw) -> str:
    """A family explained, with worked examples."""
    family = draw.choice(tuple(read_about()))
    about = read_about()[family]
    title = family.replace("_", " ").capitalize()
    paragraphs = draw.choice(([title], [f"{title}: {about.summary}."], []))
    explanation = [about.meaning, about.rule, about.caution]
    kept = explanation[draw.below(3) : 1 + draw.below(3)]
    paragraphs = [*paragraphs, *([" ".join(kept)] if kept and draw.chance(0.5) else kept)]
    for _ in range(draw.between(1, 3)):
        paragraphs.append(_worked_example(_draw_item(family, draw), draw))
    if draw.chance(0.2):
        paragraphs.append(about.rule)
    return "\n\n".join(paragraphs)


def _draw_item(family: str, draw: Draw) -> ChoiceItem:
    tiers: list[Tier] = ["one_step", "two_three_steps"]
    known = [kinds_of_tier(tier)[family] for tier in tiers if family in kinds_of_tier(tier)]
    return write_item("", draw.choice(draw.choice(draw.choice(known))), "train", draw)


def _worked_example(item: ChoiceItem, draw: Draw) -> str:
    answer = item.options[item.answer_index]
    steps = _CALL.sub(r"\1=\2", item.rationale).split("\n")
    solution = " ".join(f"{step}." for step in steps if step != answer)
    opening = draw.choice(("Example. ", "Problem: ", "", "Question: "))
    leading = draw.choice(("Solution. ", "", "We work it out. "))
    text = f"{opening}{item.question} {leading}{solution}"
    if draw.chance(0.5):
        return f"{text} {draw.choice(('The answer is', 'So the answer is', 'Answer:'))} {answer}."
    lines = [
        f"{option} {letter}" for option, letter in zip(item.options, item.letters, strict=True)
    ]
    return "\n".join([text, *lines, f"The right one is {answer} {item.answer_letter}."])


def _number_facts(draw: Draw) -> str:
    facts = draw.choice((_times_table, _sums, _comparisons, _units, _halves))
    return draw.choice(("\n", " ")).join(facts(draw))


def _times_table(draw: Draw) -> list[str]:
    factor, first = draw.between(2, 25), draw.between(1, 15)
    return [
        f"{factor} times {n} is {factor * n}." for n in range(first, first + draw.between(4, 10))
    ]


def _sums(draw: Draw) -> list[str]:
    number = draw.between(2, 200)
    sentences = []
    for _ in range(draw.between(4, 9)):
        other = draw.between(2, 200)
        low, high = sorted((number, other))
        sentences.append(
            f"{number} plus {other} is {number + other}."
            if draw.chance(0.5) or low == high
            else f"{high} minus {low} is {high - low}."
        )
    return sentences


def _comparisons(draw: Draw) -> list[str]:
    sentences = []
    for _ in range(draw.between(4, 9)):
        low = draw.between(1, 900)
        high = low + draw.between(1, 100)
        sentences.append(
            draw.choice(
                (
                    f"{high} is greater than {low}.",
                    f"{low} is less than {high}.",
                    f"The difference of {high} and {low} is {high - low}.",
                    f"{low} is {'even' if low % 2 == 0 else 'odd'}.",
                )
            )
        )
    return sentences


def _halves(draw: Draw) -> list[str]:
    numbers = [draw.between(2, 300) for _ in range(draw.between(3, 8))]
    shapes: tuple[Callable[[int], str], ...] = (
        lambda n: f"Half of {2 * n} is {n}.",
        lambda n: f"{n} is half of {2 * n}.",
        lambda n: f"Twice {n} is {2 * n}.",
        lambda n: f"A third of {3 * n} is {n}.",
        lambda n: f"Ten times {n} is {10 * n}.",
        lambda n: f"{5 * n} divided by 5 is {n}.",
        lambda n: f"{n} percent of 100 is {n}.",
    )
    return [draw.choice(shapes)(n) for n in numbers]


def _units(draw: Draw) -> list[str]:
    first = draw.below(len(_UNITS))
    second = (first + 1 + draw.below(len(_UNITS) - 1)) % len(_UNITS)
    return draw.shuffled([*_UNITS[first], *_UNITS[second]])
