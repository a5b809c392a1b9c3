"""Rationales: calculator annotations as parts, and statements of the answer's letter at the end."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from aquachat.text.calculator import evaluate, evaluate_exactly, parse_number
from aquachat.text.conversation import Part, PartKind

_ANNOTATION = re.compile(r"<<([^<>=\n]*)=([^<>=\n]*)>>")
_MAX_STATEMENT_CHARS = 160
_LOOSE_ENDS = ",;:-\u2013('\"`"
"""What is cut off with a statement that it led to."""
_MARKS = r"[ \t:=.,\-\u2013(\[*'\"`\u2018\u2019]*"
_LEAD = (
    r"(?:(?:so|hence|thus|therefore|and|the|this|our|my|final|correct|right|best|only|required|imo"
    r"|gives|us|is|=+>?|-+>|⇒|∴)[ \t,:]+)*"
)
_LETTER_STATEMENT = re.compile(
    rf"""
    (?<![^\s.;,:=(]) {_LEAD}
    (?:
        # `Answer: C`, `The correct answer is (C).`, `ANSWER D 8000`, `Ans - Option C) 0.4`
        (?: answers? | ans | correct[ ]option ) \b {_MARKS}
        (?: (?: is | was | (?:will|must|should|has[ ]to)[ ]be ) \b {_MARKS} )?
        (?: (?: option | choice ) \b {_MARKS} )?
        (?P<after>[a-z]) (?![\w/^+*])
        (?: [ \t]*[).:=,'\"-] [^\n]{{0,60}}
          | [ \t]+ (?: is[ ] )? (?: the[ ] )?
            (?: correct | right | answer | option | choice | [ \t] )*
          | [ \t]+ [$€£]?[0-9] [^\n]{{0,30}} )?
    |   # `Option C`, `so the right choice is c`
        (?: option | choice ) \b {_MARKS} (?: is \b {_MARKS} )? (?P<option>[a-z])
        (?: {_MARKS} is[ ]+ (?:the[ ]+)? (?: correct | right ) (?: [ ]+ (?: answer | one ) )? )?
    |   # `Thus, C is the correct answer`
        {_MARKS} (?P<before>[a-z]) [)\]'\"\u2019 \t]* [ \t] is [ \t]+ (?:the[ \t]+)?
        (?: correct | right | best | required )? [ \t]* (?: answer | ans | option | choice )
        (?: [ ]choice )?
    |   # `C is correct`; a small letter here may be the article or an unknown
        \(? (?P<capital>(?-i:[A-Z])) \)? [ ] is [ ] (?: correct | right )
    )
    [ \t)\].:*,=!'\"`\u2019-]* \s* \Z
    |   # a last line that is nothing but the letter
    (?: \A | \n ) [ \t(*]* (?P<alone>(?-i:[A-Z])) [ \t).*]* \s* \Z
    """,
    re.VERBOSE | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class AnnotatedText:
    """A rationale as parts, and how many of its annotations the calculator confirmed or not."""

    parts: tuple[Part, ...]
    num_calls: int
    num_disagreeing: int


def calculator_parts(rationale: str) -> AnnotatedText:
    """Turn each `<<expression=result>>` that the calculator confirms into a call and its result.

    The result is written as the calculator prints it, since that is what generation will force
    into the stream. An annotation that disagrees (`<<10/3=3.33>>`) becomes plain text: nothing
    where the result follows anyway, as in GSM8K, else `10/3=3.33`.
    """
    parts: list[Part] = []
    plain: list[str] = []
    num_calls = num_disagreeing = position = 0
    for match in _ANNOTATION.finditer(rationale):
        plain.append(rationale[position : match.start()])
        position = match.end()
        expression, claimed = match[1].strip(), match[2].strip()
        result = evaluate(expression)
        if result is not None and parse_number(claimed) == evaluate_exactly(result):
            parts += [
                Part(PartKind.TEXT, "".join(plain)),
                Part(PartKind.PYTHON, expression),
                Part(PartKind.PYTHON_OUTPUT, result),
            ]
            plain.clear()
            num_calls += 1
        else:
            num_disagreeing += 1
            if not rationale.startswith(claimed, position):
                plain.append(f"{expression}={claimed}")
    plain.append(rationale[position:])
    parts.append(Part(PartKind.TEXT, "".join(plain)))
    kept = tuple(part for part in parts if part.text or part.kind is not PartKind.TEXT)
    return AnnotatedText(kept, num_calls, num_disagreeing)


def split_letter_statement(rationale: str, letters: Collection[str]) -> tuple[str, str | None]:
    r"""Cut statements of the answer's letter off the end of a rationale.

    Returns the rationale without them and the last letter stated, None where none of `letters` was.

    Example:
        split_letter_statement("540 * 60 = 32400\nCorrect answer - A", "ABCDE")
        # ("540 * 60 = 32400", "A")
    """
    end = len(rationale.rstrip())
    last_stated: str | None = None
    while True:
        start = max(0, end - _MAX_STATEMENT_CHARS)
        match = _LETTER_STATEMENT.search(rationale, start, end)
        if match is None or match.lastgroup is None:
            return rationale[:end], last_stated
        letter = match[match.lastgroup].upper()
        if letter not in letters:
            return rationale[:end], last_stated
        last_stated = last_stated or letter
        end = match.start()
        while end and (rationale[end - 1].isspace() or rationale[end - 1] in _LOOSE_ENDS):
            end -= 1
