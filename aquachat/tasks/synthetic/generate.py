"""Items of a split, each a pure function of (split, seed, index)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Literal

from aquachat.errors import ConfigError
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.synthetic.catalogue import kinds_of_tier
from aquachat.tasks.synthetic.distractors import Instance, draw_puzzle, format_answer
from aquachat.tasks.synthetic.draw import Draw
from aquachat.tasks.synthetic.expressions import format_number
from aquachat.tasks.synthetic.kinds import Kind, Tier
from aquachat.tasks.synthetic.lexicon import draw_words
from aquachat.tasks.synthetic.wording import draw_wording

Split = Literal["train", "new_numbers", "new_phrasings", "more_steps"]
SPLITS: tuple[Split, ...] = ("train", "new_numbers", "new_phrasings", "more_steps")
DEFAULT_TIERS: Mapping[Tier, float] = {"one_step": 0.5, "two_three_steps": 0.5}


def generate_items(
    split: Split,
    seed: int,
    count: int,
    tiers: Mapping[str, float] | None = None,
    start: int = 0,
) -> Iterator[ChoiceItem]:
    """Items `start` to `start + count - 1` of a split, families in turn.

    `tiers` weighs `one_step` and `two_three_steps` (equal by default); `more_steps` has one tier
    and takes no weights. Ids read `synthetic/train/42/17` (split, seed, index).

    Raises:
        ConfigError: a split or tier that is not known, or weights that are not positive.
    """
    weights = _weights(split, tiers)
    for index in range(start, start + count):
        yield _item(split, seed, index, weights)


def _weights(split: str, tiers: Mapping[str, float] | None) -> tuple[tuple[Tier, float], ...]:
    if split not in SPLITS:
        hint = f"choose one of {', '.join(SPLITS)}"
        raise ConfigError(f"there is no synthetic split `{split}`", hint=hint)
    if split == "more_steps":
        if tiers and set(tiers) != {"more_steps"}:
            raise ConfigError("the split `more_steps` has one tier and takes no weights")
        return (("more_steps", 1.0),)
    wanted = DEFAULT_TIERS if tiers is None else tiers
    for name in wanted:
        if name not in DEFAULT_TIERS:
            raise ConfigError(
                f"no tier `{name}` in the split `{split}`",
                hint=f"choose among {', '.join(DEFAULT_TIERS)}",
            )
    weights: tuple[tuple[Tier, float], ...] = tuple(
        (tier, float(wanted.get(tier, 0.0))) for tier in DEFAULT_TIERS
    )
    if min(weight for _, weight in weights) < 0 or not sum(weight for _, weight in weights) > 0:
        raise ConfigError(f"tier weights {dict(wanted)} are not positive")
    return weights


def _item(
    split: Split, seed: int, index: int, weights: tuple[tuple[Tier, float], ...]
) -> ChoiceItem:
    draw = Draw(f"{seed}/{split}/{index}")
    kind = _draw_kind(split, seed, index, weights, draw)
    return write_item(f"synthetic/{split}/{seed}/{index}", kind, split, draw)


def write_item(item_id: str, kind: Kind, split: Split, draw: Draw) -> ChoiceItem:
    """One question of a kind, with the numbers and phrasings of the split."""
    case = draw.choice(kind.cases)
    constants = {name: value for name, value in case.items() if isinstance(value, int)}
    puzzle = draw_puzzle(kind, constants, split != "train", draw)
    wording = "heldout" if split == "new_phrasings" else "train"
    phrasings = kind.heldout if wording == "heldout" else kind.train
    number = draw.below(len(phrasings))
    sentence = phrasings[number].draw(draw)
    if wording == "train":
        sentence = draw_wording(sentence, draw)
    slots = {name: format_number(value) for name, value in puzzle.instance.quantities.items()}
    slots.update({name: value for name, value in case.items() if isinstance(value, str)})
    slots.update(draw_words(phrasings[number].slots - slots.keys(), kind.words, draw))
    options = tuple(format_answer(kind, value) for value in puzzle.values)
    return ChoiceItem(
        id=item_id,
        question=sentence.format_map(slots),
        options=options,
        answer_index=puzzle.answer_index,
        rationale=write_rationale(kind, puzzle.instance, options[puzzle.answer_index]),
        attributes={
            "family": kind.family,
            "kind": kind.name,
            "chain": kind.chain,
            "tier": kind.tier,
            "num_steps": kind.num_steps,
            "phrasing": f"{kind.family}/{kind.name}/{wording}/{number}",
        },
    )


def _draw_kind(
    split: Split, seed: int, index: int, weights: tuple[tuple[Tier, float], ...], draw: Draw
) -> Kind:
    point = draw.random() * sum(weight for _, weight in weights)
    tier = weights[0][0]
    for name, weight in weights:
        tier = name
        if point < weight:
            break
        point -= weight
    families = kinds_of_tier(tier)
    block, place = divmod(index, len(families))
    groups = families[_family_order(split, seed, tier, block)[place]]
    return draw.choice(draw.choice(groups))


@lru_cache(maxsize=64)
def _family_order(split: Split, seed: int, tier: Tier, block: int) -> list[str]:
    """Each family once per block of items, in an order of its own."""
    return Draw(f"{seed}/{split}/{tier}/families/{block}").shuffled(list(kinds_of_tier(tier)))


def write_rationale(kind: Kind, instance: Instance, answer: str) -> str:
    """One line for each step; the last text is the answer as the option has it."""
    lines = []
    for step in kind.steps:
        result = format_number(instance.quantities[step.result])
        call = step.expression.written(instance.quantities)
        lines.append(f"{step.label}: <<{call}={result}>>{result}")
    if kind.ratio is not None:
        lines.append(answer)
    return "\n".join(lines)
