from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.data.hygiene.groups import choose_held_out, connected, group_rows
from aquachat.data.hygiene.words import normalised_question
from tests.data.hygiene.questions import REAL_LIKE, edited, generated_questions

POOL = [normalised_question(q) for q in (*generated_questions(150), *REAL_LIKE)]


@given(st.integers(1, 12), st.data())
def test_links_make_groups(count: int, data: st.DataObject) -> None:
    node = st.integers(0, count - 1)
    links = data.draw(st.lists(st.tuples(node, node), max_size=12))
    groups = connected(count, links)
    assert sorted(member for group in groups for member in group) == list(range(count))
    of = {member: place for place, group in enumerate(groups) for member in group}
    assert all(of[one] == of[other] for one, other in links)
    # Without a link across, no two groups are one: each group is reached from its first member.
    for group in groups:
        reached = {group[0]}
        for _ in range(count):
            reached |= {a for a, b in links if b in reached} | {b for a, b in links if a in reached}
        assert reached == set(group)


def test_a_question_its_near_duplicates_and_its_quotations_stay_together() -> None:
    rng = random.Random(1)
    near = [normalised_question(edited(q, 2, rng)) for q in REAL_LIKE]
    questions = [*POOL, *near, *POOL[-5:], "another question of 12 and 15"]
    texts = [*questions[:-1], f"another question of 12 and 15 {POOL[-1]}"]
    group_of = {row: tuple(group) for group in group_rows(questions, texts) for row in group}
    start = len(POOL)
    for place in range(5):
        family = {start - 5 + place, start + place, start + 5 + place}
        assert len({group_of[row] for row in family}) == 1
    assert group_of[len(questions) - 1] == group_of[start - 1]


@settings(deadline=None, max_examples=15)
@given(st.randoms(use_true_random=False), st.integers(0, 40))
def test_the_slice_is_a_function_of_the_questions_and_not_of_their_order(
    rng: random.Random, max_rows: int
) -> None:
    shuffled = rng.sample(POOL, len(POOL))
    one = choose_held_out(POOL, POOL, max_rows=max_rows)
    other = choose_held_out(shuffled, shuffled, max_rows=max_rows)
    assert {POOL[row] for row in one.rows} == {shuffled[row] for row in other.rows}
    assert len(one.rows) <= max_rows


def test_the_slice_is_a_fifth_of_a_small_pool_and_its_limit_of_a_large_one() -> None:
    assert len(choose_held_out(POOL, POOL).rows) == len(POOL) // 5
    assert len(choose_held_out(POOL, POOL, max_rows=7).rows) == 7
    assert choose_held_out(POOL[:4], POOL[:4]).rows == frozenset()
    assert choose_held_out([], []).rows == frozenset()


def test_a_few_more_rows_hardly_change_the_slice() -> None:
    more = [*POOL, "a question that came later about 3 and 17 cows"]
    before = {POOL[row] for row in choose_held_out(POOL, POOL).rows}
    after = {more[row] for row in choose_held_out(more, more).rows}
    assert len(before - after) <= 1


def test_a_large_group_is_no_likelier_to_be_held_out_than_a_small_one() -> None:
    """By the least hash of all its rows it would be: 76% of the slice instead of half."""
    rng = random.Random(2)
    names = [f"{a}{b}" for a in "bdfglmnprstvz" for b in ("andel", "orwick", "ustavia")]
    bases = [
        f"the {names[i % 39]} {names[(i * 7 + i // 39) % 39]} sells {i + 20} hats for {3 * i} coins"
        for i in range(180)
    ]
    grouped = [edited(base, 1, rng) for base in bases[:30] for _ in range(4)] + bases[:30]
    questions = [*grouped, *bases[30:]]
    assert max(map(len, group_rows(questions, questions))) <= 6
    chosen = choose_held_out(questions, questions, max_rows=150, fraction=0.5).rows
    share = sum(row < len(grouped) for row in chosen) / len(chosen)
    assert 0.35 < share < 0.65
