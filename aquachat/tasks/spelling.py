"""SPELLING: how many of a letter a word has, how long it is, how it is spelled.

A model reads tokens and not letters, so it has to learn what a word is made of; the replies spell
it out, with a space before each letter so that each is a token. After nanochat's SpellingBee.
Problems are a pure function of (split, seed, index). Words are common English ones of our own list
and made-up ones, and no word is in both splits.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final

from aquachat.errors import ConfigError
from aquachat.tasks.base import Example, Grade, ScoringProtocol
from aquachat.tasks.gsm8k import INSTRUCTION as NUMBER_INSTRUCTION
from aquachat.tasks.multiple_choice import CORRECT_REWARD, VALID_ANSWER_REWARD
from aquachat.tasks.synthetic.draw import Draw
from aquachat.text.answer import answer_line, parse_numeric_answer, parse_text_answer
from aquachat.text.calculator import format_number
from aquachat.text.conversation import (
    Conversation,
    Message,
    Part,
    PartKind,
    Role,
    text_message,
)

SPELLING_SPLITS: Final = ("test", "train")
DEFAULT_NUM_ITEMS: Final = {"test": 1000, "train": 20_000}
LETTERS_INSTRUCTION: Final = "End with Answer: and the letters, with spaces between them."
KINDS: Final = (("count", 0.6), ("length", 0.15), ("spell", 0.25))
MADE_UP_SHARE: Final = 0.4
_TEST_SHARE: Final = 8
"""One word of so many is for testing only, by a hash of the word."""

COUNT_QUESTIONS: Final = (
    "How many {l} are in {w}?",
    "How many {l} are there in {w}?",
    "How many {l}'s are in {w}?",
    "How many {l}'s are there in the word {w}?",
    "How many times does {l} appear in {w}?",
    "How many times does the letter {l} occur in {w}?",
    "How often does the letter {l} come up in the word {w}?",
    "How often is {l} used in {w}?",
    "Count the {l}'s in {w}.",
    "Count how many {l} there are in {w}.",
    "Count the number of times {l} appears in {w}.",
    "In the word {w}, how many {l}'s are there?",
    "In {w}, how often does {l} appear?",
    "What is the number of {l}'s in {w}?",
    "What is the count of the letter {l} in the word {w}?",
    "Tell me how many {l}'s the word {w} has.",
    "Please count the letter {l} in {w}.",
    "Can you tell me how many {l} are in {w}?",
    "The word {w} has how many {l}'s?",
    "Find the number of {l}'s in {w}.",
    "If you write {w}, how many times do you write {l}?",
    "I want to know how many times {l} is in the word {w}.",
)
LENGTH_QUESTIONS: Final = (
    "How many letters are in {w}?",
    "How many letters does {w} have?",
    "How many letters does the word {w} have?",
    "How long is the word {w}, in letters?",
    "Count the letters of {w}.",
    "What is the number of letters in {w}?",
    "Tell me the length of the word {w}.",
    "Of how many letters is {w} made?",
)
SPELL_QUESTIONS: Final = (
    "Spell the word {w}.",
    "Spell {w}.",
    "How do you spell {w}?",
    "How is {w} spelled?",
    "Please spell {w} for me.",
    "Write {w} letter by letter.",
    "Which letters make up the word {w}?",
    "Give me the letters of {w}, one by one.",
    "Can you spell {w}?",
    "Break the word {w} into its letters.",
)
_QUESTIONS: Final = {"count": COUNT_QUESTIONS, "length": LENGTH_QUESTIONS, "spell": SPELL_QUESTIONS}
_ONSETS: Final = (
    "b bl br c ch cl cr d dr f fl fr g gl gr h j k l m n p pl pr qu r s sh sk sl sp st str t th tr"
    " v w z"
)
_VOWELS: Final = "a e i o u a e i o ai ea ee oa oo ou"
_CODAS: Final = "b ck d f ff g l ll m n nd ng nt p r rd rk rt s ss st t tt x z"
_SPELLED_OUT: Final = re.compile(r"[a-z](?:(?:[ ]*[,\-.][ ]*|[ ]+)[a-z])*")


@dataclass(frozen=True, slots=True)
class SpellingProblem:
    """A question about the letters of a word; `answer` is a number, or the letters with spaces."""

    id: str
    kind: str
    word: str
    letter: str
    question: str
    answer: str
    adds_up: bool
    """Whether the reply uses the calculator."""


class SpellingTask:
    """Generated problems, graded by their number or their letters."""

    name = "SPELLING"
    protocols: frozenset[ScoringProtocol] = frozenset({"generative"})

    def __init__(self, split: str, *, seed: int = 0, count: int | None = None) -> None:
        if split not in SPELLING_SPLITS:
            raise ConfigError(
                f"SPELLING has no split `{split}`", hint=f"use one of {', '.join(SPELLING_SPLITS)}"
            )
        self.split = split
        self._seed = seed
        self._count = DEFAULT_NUM_ITEMS[split] if count is None else count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Example:
        if not 0 <= index < self._count:
            raise IndexError(index)
        problem = spelling_problem(self.split, self._seed, index)
        return Example(
            id=problem.id,
            conversation=spelling_conversation(problem),
            answer=problem.answer,
            attributes={"category": problem.kind},
        )

    def grade(self, example: Example, reply: str) -> Grade:
        """1.0 for the right number, or the right letters spelled out, plus 0.1 for either at all.

        `Answer: s t r a w`, `s-t-r-a-w` and `S, T, R, A, W` agree; `Answer: straw` is not spelled.
        """
        answer = _letters(reply) if " " in example.answer else _number(reply)
        correct = answer == example.answer
        reward = CORRECT_REWARD * correct + VALID_ANSWER_REWARD * (answer is not None)
        return Grade(correct, answer, reward)


def _number(reply: str) -> str | None:
    number = parse_numeric_answer(reply)
    return None if number is None else format_number(number)


def _letters(reply: str) -> str | None:
    text = (parse_text_answer(reply) or "").lower().removesuffix(".")
    if not _SPELLED_OUT.fullmatch(text):
        return None
    return " ".join(letter for letter in text if letter.isalpha())


def spelling_problem(split: str, seed: int, index: int) -> SpellingProblem:
    """Problem `index` of a split's endless sequence; half of them are about a repeated letter."""
    draw = Draw(f"spelling/{seed}/{split}/{index}")
    kind, word = _draw_kind(draw), _draw_word(split, draw)
    letter = _draw_letter(word, draw) if kind == "count" else ""
    answer = {
        "count": str(word.count(letter)) if letter else "",
        "length": str(len(word)),
        "spell": " ".join(word),
    }[kind]
    shown = draw.choice([str.lower, str.lower, str.lower, str.upper, str.title])
    quoted = draw.choice(["{}", "{}", '"{}"', "'{}'"])
    question = draw.choice(_QUESTIONS[kind]).format(
        w=quoted.format(shown(word)),
        l=(letter.upper() if shown is str.upper or draw.chance(0.2) else letter),
    )
    return SpellingProblem(
        id=f"spelling/{split}/{seed}/{index}",
        kind=kind,
        word=word,
        letter=letter,
        question=question if draw.chance(0.85) else question.lower(),
        answer=answer,
        adds_up=draw.chance(0.5),
    )


def _draw_kind(draw: Draw) -> str:
    left = draw.random()
    for kind, share in KINDS:
        if left < share:
            return kind
        left -= share
    return KINDS[0][0]


def _draw_word(split: str, draw: Draw) -> str:
    make: Callable[[Draw], str] = _made_up if draw.chance(MADE_UP_SHARE) else _listed
    repeats = draw.chance(0.5)
    while True:
        word = make(draw)
        if is_test_word(word) == (split == "test") and (not repeats or len(set(word)) < len(word)):
            return word


def _listed(draw: Draw) -> str:
    return draw.choice(common_words())


def _made_up(draw: Draw) -> str:
    syllables = []
    for _ in range(draw.between(2, 4)):
        syllables += [draw.choice(_ONSETS.split()), draw.choice(_VOWELS.split())]
    if draw.chance(0.6):
        syllables.append(draw.choice(_CODAS.split()))
    return "".join(syllables)


def _draw_letter(word: str, draw: Draw) -> str:
    """A letter whose count is drawn first among those that occur, 0 included."""
    by_count: dict[int, list[str]] = {}
    for letter in "abcdefghijklmnopqrstuvwxyz":
        by_count.setdefault(word.count(letter), []).append(letter)
    return draw.choice(by_count[draw.choice(sorted(by_count))])


@cache
def common_words() -> tuple[str, ...]:
    """The words of `spelling_words.txt`."""
    text = (files("aquachat.tasks") / "spelling_words.txt").read_text("utf-8")
    return tuple(text.split())


def is_test_word(word: str) -> bool:
    """Whether a word is kept for the test split; the same for ever, on every platform."""
    return zlib.crc32(word.encode()) % _TEST_SHARE == 0


def spelling_conversation(problem: SpellingProblem) -> Conversation:
    """The problem asked and answered: the word is spelled, its letters counted, then the answer."""
    word, letter = problem.word, problem.letter
    text = f"{word} is spelled {' '.join(word)}.\n"
    instruction = LETTERS_INSTRUCTION if problem.kind == "spell" else NUMBER_INSTRUCTION
    if problem.kind == "length":
        text += ", ".join(f"{each} {n}" for n, each in enumerate(word, start=1)) + ".\n"
    elif problem.kind == "count":
        counted = (f"{each} {word[: n + 1].count(letter)}" for n, each in enumerate(word))
        text += f"Counting {letter}: {', '.join(counted)}.\n"
    parts = [Part(PartKind.TEXT, text)]
    if problem.adds_up and problem.kind == "count" and int(problem.answer) > 1:
        ones = "+".join("1" * int(problem.answer))
        parts[0] = Part(PartKind.TEXT, f"{text}One for each: ")
        parts += [
            Part(PartKind.PYTHON, ones),
            Part(PartKind.PYTHON_OUTPUT, problem.answer),
            Part(PartKind.TEXT, f"{problem.answer}\n"),
        ]
    parts.append(Part(PartKind.TEXT, answer_line(problem.answer)))
    user = text_message(Role.USER, f"{problem.question}\n{instruction}")
    return Conversation((user, Message(Role.ASSISTANT, tuple(parts))))
