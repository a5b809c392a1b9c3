"""The same question in another order of clauses, for training: facts first, or question first.

A model that has only read "A car drives 3 hours at 60 km per hour. How far does it go, in km?"
takes the facts from their places. With "How far does it go, in km, if a car drives ...?" and "If a
car drives ..., how far does it go, in km?" among its problems it must read what they say. Both are
made from the training patterns alone; the held-out phrasings are used as they are written.
"""

from __future__ import annotations

import re

from aquachat.tasks.synthetic.draw import Draw

_SENTENCE_END = re.compile(r"(?<=[.?])\s+(?=[A-Z0-9{])")
_QUESTION = re.compile(r"(What|How|Which)\b[^.?]*\?")
_LOWERED_WORDS = """
    a an the it in for at on each one two three first then after there they some all every
    this these half of to from now by with when until cubes among later
"""
_LOWERED = frozenset(_LOWERED_WORDS.split())
"""First words of a fact that lose their capital inside a sentence; names keep theirs."""
_REFUSED = ("If ", "Find ", "Give ", "What ", "How ", "Which ", "Let ", "Solve ")
MAX_FACTS = 3
CONNECTORS = ("if", "when", "given that")


def question_first(sentence: str, connector: str) -> str | None:
    """The question, then its facts, as one sentence; None where the text has another form.

    Example:
        question_first("A car drives 9 km. How far is that?", "if")
        -> "How far is that, if a car drives 9 km?"
    """
    parts = _facts_and_question(sentence)
    if parts is None:
        return None
    facts, question = parts
    return f"{question.removesuffix('?')}, {connector} {' and '.join(facts)}?"


def facts_first(sentence: str) -> str | None:
    """The facts as a condition of the question; None where the text has another form.

    Example:
        facts_first("A car drives 9 km. How far is that?")
        -> "If a car drives 9 km, how far is that?"
    """
    parts = _facts_and_question(sentence)
    if parts is None:
        return None
    facts, question = parts
    return f"If {' and '.join(facts)}, {question[0].lower()}{question[1:]}"


def reworded(sentence: str) -> list[str]:
    """Every form that training may use of a sentence pattern, the pattern itself first."""
    forms = [question_first(sentence, connector) for connector in CONNECTORS]
    return [sentence, *(form for form in [*forms, facts_first(sentence)] if form is not None)]


def draw_wording(sentence: str, draw: Draw) -> str:
    """A form of the sentence pattern: as it is half of the time."""
    if draw.chance(0.5):
        return sentence
    return draw.choice(reworded(sentence))


def _facts_and_question(sentence: str) -> tuple[list[str], str] | None:
    *facts, question = _SENTENCE_END.split(sentence)
    if not 1 <= len(facts) <= MAX_FACTS or not _QUESTION.fullmatch(question):
        return None
    if any(not fact.endswith(".") or fact.startswith(_REFUSED) for fact in facts):
        return None
    return [_inside(fact.removesuffix(".")) for fact in facts], question


def _inside(fact: str) -> str:
    first, space, rest = fact.partition(" ")
    return f"{first.lower()}{space}{rest}" if first.lower() in _LOWERED else fact
