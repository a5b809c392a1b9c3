"""Calculator calls for rationales that have none: arithmetic steps found, checked and annotated.

A step is arithmetic with at least one operator, an equals sign and a number. One that holds gets a
call in front of its number, written as GSM8K writes it:

    60 * 3 = 180 km      ->  60 * 3 = <<60*3=180>>180 km
    22/7 = 3.14          ->  22/7 = <<22/7=3.142857>>3.14
    60 * 3 = 190         ->  60 * 3 = 190

The visible text never changes: without the calls, the annotated text is the text that was given.

A number holds if it is the exact value; or if it has k decimals and is the value rounded or cut off
to k places; or, after `≈`, if it is within half a unit of its last place. A whole number after `=`
has to be exact. `25%` may mean 25 or 0.25.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace
from enum import StrEnum
from fractions import Fraction

from aquachat.tasks.arithmetic_text import Claim, Expression, claim_after, expression_before
from aquachat.tasks.arithmetic_tokens import Kind, tokenize
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.rationale import split_letter_statement
from aquachat.text.calculator import evaluate_exactly, format_number

_HALF = Fraction(1, 2)
_CALL_MARK = "<<"


class Verdict(StrEnum):
    """What the calculator says of a step."""

    EXACT = "exact"
    """Right, and the number is the exact value."""
    ROUNDED = "rounded"
    """Right, and the number is the value rounded or cut off."""
    FRACTION = "fraction"
    """Right, but the result is written as `3/4`: a call would print 0.75, so there is none."""
    WRONG = "wrong"
    UNCLEAR = "unclear"
    """Does not hold as it is read, but may mean something else: words or percent signs stand in
    it, or numbers beside it (`15/2 = 7 1/2`)."""


@dataclass(frozen=True, slots=True)
class Step:
    """An arithmetic step of a rationale."""

    start: int
    """Where its expression begins in the text."""
    call_at: int
    """Where a call belongs: before the number that is claimed."""
    end: int
    """Behind that number."""
    call: str
    """The expression in the calculator's grammar."""
    result: str
    """What the calculator prints."""
    verdict: Verdict

    @property
    def has_call(self) -> bool:
        """Whether the step is annotated."""
        return self.verdict in (Verdict.EXACT, Verdict.ROUNDED)


@dataclass(frozen=True, slots=True)
class StepCounts:
    """How many steps of each kind some rationales hold."""

    rationales: int = 0
    with_step: int = 0
    """Rationales with at least one step."""
    with_call: int = 0
    """Rationales with at least one call."""
    exact: int = 0
    rounded: int = 0
    fraction: int = 0
    wrong: int = 0
    unclear: int = 0

    @property
    def steps(self) -> int:
        """Steps of all kinds."""
        return self.exact + self.rounded + self.fraction + self.wrong + self.unclear

    @property
    def calls(self) -> int:
        """Steps that get a call."""
        return self.exact + self.rounded

    def __add__(self, other: StepCounts) -> StepCounts:
        mine, others = astuple(self), astuple(other)
        return StepCounts(*(a + b for a, b in zip(mine, others, strict=True)))

    def to_json(self) -> dict[str, int]:
        """The counts by name, for example for a manifest."""
        return {
            "rationales": self.rationales,
            "rationales_with_step": self.with_step,
            "rationales_with_call": self.with_call,
            "steps": self.steps,
            **{verdict.value: getattr(self, verdict) for verdict in Verdict},
        }


def find_steps(rationale: str) -> tuple[Step, ...]:
    """The steps of a rationale, in order; none where it has calculator calls already."""
    if _CALL_MARK in rationale or not any(sign in rationale for sign in "=≈≅"):
        return ()
    return tuple(_steps(rationale))


def annotated(rationale: str) -> str:
    """The rationale with a call `<<60*3=180>>` before the result of every step that holds.

    Example:
        annotated("20% of 50 = 10, so 50 + 10 = 61") -> "20% of 50 = <<20/100*50=10>>10, so ..."
    """
    pieces, position = [], 0
    for step in find_steps(rationale):
        if step.has_call:
            pieces += [rationale[position : step.call_at], f"<<{step.call}={step.result}>>"]
            position = step.call_at
    return "".join([*pieces, rationale[position:]])


def with_calls(item: ChoiceItem) -> ChoiceItem:
    """The item with calls in its rationale, whose closing statement of the letter is left out."""
    rationale, _ = split_letter_statement(item.rationale, item.letters)
    return replace(item, rationale=annotated(rationale))


def count_steps(rationales: Iterable[str]) -> StepCounts:
    """How many steps the rationales hold, and what the calculator says of them."""
    return sum((_counts(find_steps(rationale)) for rationale in rationales), StepCounts())


def _counts(steps: Sequence[Step]) -> StepCounts:
    """Of one rationale."""
    by_verdict = Counter(step.verdict.value for step in steps)
    has_call = any(step.has_call for step in steps)
    return StepCounts(1, int(bool(steps)), int(has_call), **by_verdict)


def _steps(text: str) -> Iterator[Step]:
    tokens = tokenize(text)
    for place, token in enumerate(tokens):
        if token.kind is not Kind.EQUALS:
            continue
        claim = claim_after(tokens, place)
        expression = None if claim is None else expression_before(tokens, place)
        if claim is not None and expression is not None:
            step = _checked(expression, claim)
            if step is not None:
                yield step


def _checked(expression: Expression, claim: Claim) -> Step | None:
    """The step with its verdict; None where the calculator cannot compute it."""
    readings = list(_readings(expression, claim))
    values = [evaluate_exactly(call) for call, _ in readings]
    if None in values:
        return None
    verdicts = [
        _compared(value, claim, scale)
        for value, (_, scale) in zip(values, readings, strict=True)
        if value is not None
    ]
    best = min(range(len(verdicts)), key=lambda index: list(Verdict).index(verdicts[index]))
    verdict, value = verdicts[best], values[best]
    assert value is not None
    is_certain = expression.is_certain and claim.is_certain
    has_percent = expression.has_percent or claim.is_percent
    if verdict is Verdict.WRONG and (has_percent or not is_certain):
        verdict = Verdict.UNCLEAR
    if verdict is Verdict.ROUNDED and not is_certain:
        verdict = Verdict.UNCLEAR
    return Step(
        expression.start,
        claim.start,
        claim.end,
        readings[best][0],
        format_number(value),
        verdict,
    )


def _readings(expression: Expression, claim: Claim) -> Iterator[tuple[str, int]]:
    """(call, what the claimed number is divided by), the likeliest first."""
    if claim.is_percent:
        # `100% - 20% = 80%` and `30/120*100 = 25%` before `30/120 = 25%`
        yield expression.call_without_percent, 1
        yield expression.call, 100
    else:
        yield expression.call, 1


def _compared(value: Fraction, claim: Claim, scale: int) -> Verdict:
    claimed = evaluate_exactly(claim.number)
    if claimed is None:
        return Verdict.WRONG
    if claimed == value * scale:
        return Verdict.FRACTION if claim.is_fraction else Verdict.EXACT
    places = 0 if claim.is_fraction else len(claim.number.partition(".")[2])
    unit = Fraction(1, 10**places)
    difference = abs(value * scale - claimed)
    if claim.is_fraction or claimed == 0:
        return Verdict.WRONG
    is_rounded = difference <= unit * _HALF
    is_cut_off = difference < unit and abs(claimed) < abs(value * scale)
    if places:
        return Verdict.ROUNDED if is_rounded or is_cut_off else Verdict.WRONG
    return Verdict.ROUNDED if claim.is_approximate and is_rounded else Verdict.WRONG
