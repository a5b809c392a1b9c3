"""Questions to plant near duplicates among: the generated problems, and edits of them."""

from __future__ import annotations

import random
import re

from aquachat.tasks.synthetic import generate_items

REAL_LIKE = (
    "A train 360 m long is running at a speed of 45 km/hr. In what time will it pass a bridge "
    "140 m long?",
    "The banker's gain on a sum due 3 years hence at 12% per annum is Rs. 270. What is the "
    "banker's discount?",
    "Two pipes can fill a tank in 10 hours and 12 hours respectively, while a third pipe empties "
    "the full tank in 20 hours. If all three operate together, when will the tank be full?",
    "In a class of 40 students, 12 enrolled for both English and German and 22 enrolled for "
    "German. How many students enrolled for only English and not German?",
    "A shopkeeper sells 15 dozen eggs at 60 rupees a dozen and gains 25 percent. How much did he "
    "pay for all of the eggs that he sold?",
)
_FILLERS = ("find", "please", "exactly", "given", "total", "nearly", "same", "certain", "whole")


def generated_questions(count: int, seed: int = 5) -> list[str]:
    """Different questions of the built-in problems."""
    items = generate_items("train", seed, 3 * count)
    return list(dict.fromkeys(item.question for item in items))[:count]


def edited(question: str, num_words: int, rng: random.Random) -> str:
    """`num_words` words without digits replaced, left out or added, one after another."""
    words = question.split()
    for _ in range(num_words):
        plain = [i for i, word in enumerate(words) if not re.search(r"\d", word)]
        place = rng.choice(plain)
        kind = rng.choice(("replace", "drop", "add"))
        if kind == "replace":
            words[place] = rng.choice(_FILLERS)
        elif kind == "drop":
            del words[place]
        else:
            words.insert(place, rng.choice(_FILLERS))
    return " ".join(words)


def restyled(question: str, rng: random.Random) -> str:
    """Another case, spacing and punctuation."""
    marked = re.sub(r"\s", lambda _: rng.choice((" ", "  ", " , ")), question.upper())
    return f"({marked}...)"


def renumbered(question: str) -> str:
    """The same question about other numbers."""
    return re.sub(r"\d+", lambda match: str(int(match[0]) + 3), question)
