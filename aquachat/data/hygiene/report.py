"""What `aquachat prepare --check` found: one document, the same for tables, JSON and page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from aquachat.data.hygiene.minhash import FEW_NUMBERS, MIN_NUMBERS, NUM_PERMUTATIONS, SAME_NUMBERS
from aquachat.data.hygiene.ngrams import MIN_QUESTION_WORDS, NGRAM_WORDS
from aquachat.data.hygiene.statistics import ChiSquare, Lengths
from aquachat.data.hygiene.words import SHINGLE_CHARS

FORMAT: Final = "aquachat-hygiene"
VERSION: Final = 1
REPORT_NAME: Final = "hygiene.json"
PAGE_NAME: Final = "hygiene.html"
MAX_EXAMPLES: Final = 5
SIGNIFICANT: Final = 0.001
"""Many figures are looked at, so that one in twenty by chance would be a finding each time."""

RULES: Final[Mapping[str, float]] = {
    "shingle_characters": SHINGLE_CHARS,
    "minhash_permutations": NUM_PERMUTATIONS,
    "near_jaccard_same_numbers": SAME_NUMBERS.jaccard,
    "near_jaccard_few_numbers": FEW_NUMBERS.jaccard,
    "min_numbers": MIN_NUMBERS,
    "ngram_words": NGRAM_WORDS,
    "min_question_words": MIN_QUESTION_WORDS,
}


@dataclass(frozen=True, slots=True)
class LetterBalance:
    """How often each letter is the gold one, and whether chance would do it."""

    observed: Mapping[str, int]
    expected: Mapping[str, float]
    test: ChiSquare | None


@dataclass(frozen=True, slots=True)
class GoldLength:
    """Does the length of an option give the gold away?"""

    rows: int
    """In which one option is longer than all others."""
    gold_is_longest: int
    expected: float
    """By chance: one over the number of options, summed."""
    p_value: float
    mean_gold_characters: float
    mean_other_characters: float


@dataclass(frozen=True, slots=True)
class Contradictions:
    """Rationales that speak against their gold letter."""

    stating_a_letter: int
    """Rows whose rationale ends with a letter."""
    naming_other_letter: int
    """Of those, not the gold one."""
    reaching_other_option: int
    """Rows whose rationale ends in `= NUMBER`, another option's, and never has the gold one's."""
    examples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows that repeat others of their split."""

    same_question: int
    """Rows beyond the first with a question, compared without case, spacing and punctuation."""
    same_question_and_options: int
    near_question: int
    """Rows whose question is a near duplicate of another, and not the same."""
    same_template: int
    """Rows whose question differs from another's in its numbers only."""
    examples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Overlap:
    """Rows of one split whose question another split has too."""

    split: str
    other: str
    same_question: int
    near_question: int
    examples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Leak:
    """Training rows that give questions of one evaluation split away, by reason."""

    split: str
    evaluation: str
    reasons: Mapping[str, int]
    examples: tuple[Mapping[str, Any], ...] = ()

    @property
    def rows(self) -> int:
        """All of them."""
        return sum(self.reasons.values())


@dataclass(frozen=True, slots=True)
class SplitHygiene:
    """One split."""

    rows: int
    unreadable: int
    licences: Mapping[str, int]
    quarantined: Mapping[str, int]
    """Rows that `prepare` left out, by reason."""
    flagged: Mapping[str, int]
    """Rows that are in the split though something is wrong with them, by reason."""
    option_references: Mapping[str, int]
    lengths: Mapping[str, Lengths]
    """In characters: `question`, `option`, `rationale`, `text`."""
    repeats: Repeats
    letters: LetterBalance | None = None
    gold_length: GoldLength | None = None
    contradictions: Contradictions | None = None


@dataclass(frozen=True, slots=True)
class HygieneReport:
    """One data set."""

    dataset: str
    source: str
    licence: str
    splits: Mapping[str, SplitHygiene]
    overlaps: tuple[Overlap, ...]
    leaks: tuple[Leak, ...]
    evaluation_splits: tuple[str, ...]
    """All whose questions were searched for."""
    keeps_contaminated: bool
    findings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """The contents of `hygiene.json`."""
        return {"format": FORMAT, "version": VERSION, "rules": dict(RULES), **asdict(self)}


def findings_of(report: HygieneReport) -> tuple[str, ...]:
    """What a person should know first, one sentence each; nothing where nothing is wrong."""
    found = []
    for leak in report.leaks:
        reasons = ", ".join(f"{count} {reason}" for reason, count in leak.reasons.items())
        given = f"give questions of {leak.evaluation} away"
        found.append(f"{leak.rows:,} rows of {leak.split} {given}: {reasons}")
    for overlap in report.overlaps:
        if overlap.same_question or overlap.near_question:
            found.append(
                f"{overlap.same_question:,} rows of {overlap.split} have a question of "
                f"{overlap.other}, {overlap.near_question:,} nearly one"
            )
    for name, split in report.splits.items():
        found += _findings_of_split(name, split)
    return tuple(found)


def _findings_of_split(name: str, split: SplitHygiene) -> list[str]:
    found = []
    if split.unreadable:
        found.append(f"{split.unreadable:,} rows of {name} cannot be read")
    if split.flagged:
        reasons = ", ".join(f"{count} {reason}" for reason, count in split.flagged.items())
        found.append(f"{name} keeps rows with flaws: {reasons}")
    letters = split.letters
    if letters is not None and letters.test is not None and letters.test.p_value < SIGNIFICANT:
        shares = {x: n / letters.expected[x] for x, n in letters.observed.items() if n}
        high, low = max(shares, key=shares.__getitem__), min(shares, key=shares.__getitem__)
        found.append(
            f"gold letters of {name} are not balanced: {high} {shares[high]:.2f} and {low} "
            f"{shares[low]:.2f} times as often as chance (p = {letters.test.p_value:.1g})"
        )
    gold = split.gold_length
    if gold is not None and gold.p_value < SIGNIFICANT:
        found.append(
            f"in {name} the longest option is right in {gold.gold_is_longest:,} of {gold.rows:,} "
            f"rows, by chance {gold.expected:,.0f} (p = {gold.p_value:.1g})"
        )
    against = split.contradictions
    if against is not None and against.naming_other_letter:
        found.append(
            f"{against.naming_other_letter:,} rationales of {name} name another letter than the "
            f"gold one"
        )
    if against is not None and against.reaching_other_option:
        found.append(
            f"{against.reaching_other_option:,} rationales of {name} come out at the number "
            f"of another option"
        )
    repeats = split.repeats
    if repeats.same_question or repeats.near_question:
        found.append(
            f"{name} repeats itself: {repeats.same_question:,} rows have a question again, "
            f"{repeats.near_question:,} nearly"
        )
    return found
