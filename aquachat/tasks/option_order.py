"""Putting the options of an item in another order without making an option, or the gold, wrong.

Most options may stand anywhere, `None of these` too. An option that names others by letter (`Both A
and B`) is relabelled, one that points at them (`All of the above`) is reworded (`All of these`),
and an item in which such letters may as well be people or points of the question keeps its order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum

from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.rationale import split_letter_statement

_LETTER = r"\(?[A-Z]\)?"
_JOINED = rf"{_LETTER}(?:(?:[ ]*,[ ]*|[ ]*&[ ]*|[ ]+)(?:(?:and|or|nor)[ ]+)?{_LETTER})"
_NAMES_LETTERS = re.compile(
    rf"""
    # `Both A and B`, `Neither (A) nor (C)`, `Options A and D`, `either a or b`
    (?: (?i: both | either | ne?i?ther | options? | choices? | answers? ) [ ]+ )+
        (?: (?i:{_JOINED})+ | (?<=[spe][ ]) {_LETTER} ) (?![\w']) .*
    |   # `(A), (B), and (C) are part of the theory`
    \( [A-Z] \) (?: [ ,&] | and | or | nor )+ \( [A-Z] \) .*
    |   # `A and C only`, `A, B, and C`
    {_JOINED}+ (?: [ ]+ (?: only | both | together | alone | are | true | correct ) )*
    """,
    re.VERBOSE,
)
_POINTS = re.compile(
    r"(?P<who>(?:none|all|any|each|both|either|ne?i?ther|some|any (?:one|two|three|\d))"
    r"(?: (?:of|from))?)"
    r" (?:the |these )?(?:above|below|foregoing|preceding)"
    r"(?: (?:options?|answers?|choices?|values?))?",
    re.IGNORECASE,
)
_POINTS_UNCLEARLY = re.compile(
    r"(?:(?:both|either|none|all|any|each|only)(?: of)? )?(?:the )?"
    r"(?:first|last|previous|preceding|following|other)(?: (?:two|three|four))?"
    r" (?:options?|choices?|answers?)",
    re.IGNORECASE,
)
_IN_WORDS = r"""
    \b (?: options? | choices? | answers? | ans ) \b [ \t]* (?: is\b )? [ \t:=-]*
    \(? (?P<letter>[A-Z]) \)? (?: (?: ,[ ]* | [ ]+ (?:and|or) [ ]+ ) \(?[A-Z]\)? )*
    (?! \.[ ]?[a-z] (?: \. | [ ]?= ) )
    (?= [ \t]* (?: [).,:;=\n] | \Z | (?: is|are|and|or|gives?|says?|has|can|must ) \b ) )
    # `the answer must be D, since`, `ans b it is`, `option (C) 20 + 20`. What follows shows that it
    # is no unknown (`answer b + 2`), no abbreviation (`answer: c. p. = 40`), and no article
  | \b (?: options? | choices? | (?: answers? | ans ) \b (?: [ ] (?: option | choice ) \b )? )
    [ \t]? ['\u2019]? [ \t]? (?: (?: is|was | (?:must|should|will|would|has[ ]to)[ ]be ) \b )?
    [ \t]{0,2} [:=.-]? [ \t]{0,2} ['\u2018(]? [ ]?
    (?P<inside> [B-E] | A (?= \)? [ \t]* (?: [0-9(!?'\u2019] | because|since|as[ ]|it[ ]
        | explanation|alternatively|will|would|should|satisf|meets?\b|fits?\b|works?\b ) ) )
    (?: (?: ,[ ]* | [ ]+ (?:and|or) [ ]+ ) \(?[A-E]\)? )*
    (?! [\w^] | ['\u2019]\w | [ \t]* [-+*/^=<>_] | \.[ ]?[a-z](?:\.|[ ]?=) )
    # `2/5 = 0.4 (d)` at the end
  | (?: (?<=[0-9%][ ]) | \b(?:be|is|get|choose|none)[ ] ) \([ ]? (?P<last>[A-E]) [ ]?\)
    (?= [\s.!]* \Z )
    """
_MENTION = re.compile(_IN_WORDS, re.VERBOSE | re.IGNORECASE)
_MENTION_OR_BRACKETED = re.compile(
    rf"{_IN_WORDS} | (?<![^\s]) \( (?P<bracketed>(?-i:[A-Z])) \)", re.VERBOSE | re.IGNORECASE
)
_SINGLE_LETTER = re.compile(r"(?<![A-Za-z'\u2019])[A-Za-z](?![A-Za-z'\u2019])")


class OptionReferences(StrEnum):
    """How the options of an item refer to each other, and what a new order does to it."""

    NONE = "none"
    """They do not: options move as they are."""
    CLEAR = "relabelled"
    """They do, and letters and words of reference follow."""
    UNCLEAR = "kept_in_order"
    """They do, in words that may mean something else: the item keeps its order."""


def refers_to_options(item: ChoiceItem) -> bool:
    """Whether an option refers to others by letter or position: `Both A and B`, `All of the above`.

    `None of these` does not: it means the same wherever it stands.
    """
    return option_references(item) is not OptionReferences.NONE


def rotate(item: ChoiceItem, by: int) -> ChoiceItem:
    """Move every option `by` places down, the last ones to the top: one of the cyclic orders."""
    count = len(item.options)
    return reorder(item, [(index - by) % count for index in range(count)])


def reorder(item: ChoiceItem, order: Sequence[int]) -> ChoiceItem:
    """The item with option `order[i]` in place `i`, the gold and mentions of letters relabelled.

    An item whose references are unclear is returned as it is, so ask the result for its
    `answer_letter`. From a rationale, a closing statement of the letter is left out.

    Raises:
        ValueError: `order` is not a permutation of the options' indices.
    """
    if sorted(order) != list(range(len(item.options))):
        raise ValueError(f"{list(order)} is no order of {len(item.options)} options")
    if list(order) == sorted(order) or option_references(item) is OptionReferences.UNCLEAR:
        return item
    places = {old: new for new, old in enumerate(order)}
    relabel = {item.letters[old]: item.letters[new] for old, new in places.items()}
    rationale, _ = split_letter_statement(item.rationale, item.letters)
    return replace(
        item,
        options=tuple(_relabelled_option(item.options[old], relabel) for old in order),
        answer_index=places[item.answer_index],
        rationale=_relabelled_rationale(rationale, item, relabel),
    )


def option_references(item: ChoiceItem) -> OptionReferences:
    """How the options of an item refer to each other."""
    found = OptionReferences.NONE
    for option in item.options:
        text = option.rstrip(" .")
        if _POINTS_UNCLEARLY.fullmatch(text):
            return OptionReferences.UNCLEAR
        if _POINTS.fullmatch(text):
            found = OptionReferences.CLEAR
        elif _names_letters(text):
            named = {letter.upper() for letter in _SINGLE_LETTER.findall(text)}
            if not named <= set(item.letters):
                continue  # `V and U`: names of something else
            if named & _letters_in_use(item):
                return OptionReferences.UNCLEAR
            found = OptionReferences.CLEAR
    return found


def _names_letters(option: str) -> bool:
    return _NAMES_LETTERS.fullmatch(option) is not None


def _letters_in_use(item: ChoiceItem) -> set[str]:
    """Capital letters that the question uses as names: people, points, sets, statements.

    A single `A` may be the article; a second name beside it gives the names away.
    """
    letters = {letter for letter in _SINGLE_LETTER.findall(item.question) if letter.isupper()}
    return letters - {"A", "I"} if letters <= {"A", "I"} else letters


def _relabelled_option(option: str, relabel: Mapping[str, str]) -> str:
    text = option.rstrip(" .")
    if match := _POINTS.fullmatch(text):
        quantifier = match["who"]
        if not quantifier.lower().endswith(("of", "from")):
            quantifier += " of"
        return f"{quantifier} these{option[len(text) :]}"
    return _relabelled(option, relabel) if _names_letters(text) else option


def _relabelled_rationale(rationale: str, item: ChoiceItem, relabel: Mapping[str, str]) -> str:
    def substitute(match: re.Match[str]) -> str:
        offset = match.start(match.lastgroup) - match.start() if match.lastgroup else 0
        return match[0][:offset] + _relabelled(match[0][offset:], relabel)

    # One pass, or a letter would be moved twice.
    pattern = _MENTION if _letters_in_use(item) else _MENTION_OR_BRACKETED
    return pattern.sub(substitute, rationale)


def _relabelled(text: str, relabel: Mapping[str, str]) -> str:
    def substitute(match: re.Match[str]) -> str:
        letter = match[0]
        new = relabel.get(letter.upper(), letter)
        return new if letter.isupper() else new.lower()

    return _SINGLE_LETTER.sub(substitute, text)
