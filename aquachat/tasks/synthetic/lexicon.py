"""The words that fill the slots of a phrasing. Words that must agree are drawn together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aquachat.tasks.synthetic.draw import Draw

NAMES = (
    "Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Ivy", "Jack",
    "Kate", "Leo", "Maria", "Nick", "Olga", "Paul", "Rosa", "Sam", "Tina", "Victor",
)  # fmt: skip

ITEMS = (
    ("pen", "pens"), ("book", "books"), ("cup", "cups"), ("toy", "toys"), ("lamp", "lamps"),
    ("chair", "chairs"), ("shirt", "shirts"), ("ball", "balls"), ("cake", "cakes"),
    ("plate", "plates"),
)  # fmt: skip

WORDS: Mapping[str, Sequence[str]] = {
    "vehicle": ("car", "bus", "truck", "van"),
    "machine": ("machine", "robot", "printer", "press"),
    "place": ("school", "club", "town", "village", "camp"),
    "field": ("field", "garden", "park", "yard", "floor"),
    "liquid": ("acid", "juice", "salt", "sugar"),
}


def draw_words(
    slots: Iterable[str], own: Mapping[str, Sequence[str]], draw: Draw
) -> dict[str, str]:
    """A word for each slot that is one: names (different people), things, and the lists."""
    words: dict[str, str] = {}
    needed = set(slots)
    if needed & {"name", "name2"}:
        first = draw.below(len(NAMES))
        words["name"] = NAMES[first]
        words["name2"] = NAMES[(first + 1 + draw.below(len(NAMES) - 1)) % len(NAMES)]
    if needed & {"item", "items", "item2", "items2"}:
        first = draw.below(len(ITEMS))
        words["item"], words["items"] = ITEMS[first]
        second = (first + 1 + draw.below(len(ITEMS) - 1)) % len(ITEMS)
        words["item2"], words["items2"] = ITEMS[second]
    for slot in sorted(needed):
        options = own.get(slot) or WORDS.get(slot)
        if options:
            words[slot] = draw.choice(options)
    return words
