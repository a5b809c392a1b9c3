from __future__ import annotations

import itertools
import json
import random
import re
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aquachat.tasks.annotate import (
    StepCounts,
    Verdict,
    annotated,
    count_steps,
    find_steps,
    with_calls,
)
from aquachat.tasks.arithmetic_tokens import tokenize
from aquachat.tasks.base import ChoiceItem
from aquachat.tasks.choice_task import load_choice_task
from aquachat.tasks.multiple_choice import choice_conversation
from aquachat.tasks.rationale import calculator_parts
from aquachat.text.calculator import evaluate, evaluate_exactly, format_number, parse_number
from aquachat.text.conversation import PartKind

CALL = re.compile(r"<<[^<>=\n]*=[^<>=\n]*>>")
AQUA_FILES = ("aqua/dev.json", "aqua/flan_cot_train.jsonl", "mathqa/mathqa_dev_test.jsonl")

TIMES, OVER, MINUS = "\u00d7", "\u00f7", "\u2212"


def check_laws(text: str) -> None:
    """What holds for every text whatever: nothing visible changes, every call is confirmed."""
    marked = annotated(text)
    assert CALL.sub("", marked) == text
    read = calculator_parts(marked)
    assert read.num_disagreeing == 0
    assert "".join(p.text for p in read.parts if p.kind is PartKind.TEXT) == text
    calls = [p.text for p in read.parts if p.kind is PartKind.PYTHON]
    outputs = [p.text for p in read.parts if p.kind is PartKind.PYTHON_OUTPUT]
    assert outputs == [evaluate(call) for call in calls]
    steps = find_steps(text)
    assert calls == [step.call for step in steps if step.has_call]
    for step in steps:
        assert 0 <= step.start < step.call_at < step.end <= len(text)
        assert step.has_call == (step.verdict in (Verdict.EXACT, Verdict.ROUNDED))


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("60*3 = 180", "60*3 = <<60*3=180>>180"),
        ("60 * 3=180 km", "60 * 3=<<60*3=180>>180 km"),
        ("(3+4)*2=14", "(3+4)*2=<<(3+4)*2=14>>14"),
        ("[(3+4)*2]/7 = 2", "[(3+4)*2]/7 = <<((3+4)*2)/7=2>>2"),
        ("x = 12/4 = 3", "x = 12/4 = <<12/4=3>>3"),
        ("a+b = 3*4 = 12", "a+b = 3*4 = <<3*4=12>>12"),
        ("2x = 5+5 = 10", "2x = 5+5 = <<5+5=10>>10"),
        (f"60 {TIMES} 3 = 180", f"60 {TIMES} 3 = <<60*3=180>>180"),
        (f"60 {OVER} 3 = 20", f"60 {OVER} 3 = <<60/3=20>>20"),
        (f"60 {MINUS} 3 = 57", f"60 {MINUS} 3 = <<60-3=57>>57"),
        ("5 x 3 = 15", "5 x 3 = <<5*3=15>>15"),
        ("5x3 = 15", "5x3 = <<5*3=15>>15"),
        ("1,200 + 300 = 1,500", "1,200 + 300 = <<1200+300=1500>>1,500"),
        ("1,00,000/2 = 50,000", "1,00,000/2 = <<100000/2=50000>>50,000"),
        ("$5 * 3 = $15", "$5 * 3 = <<5*3=15>>$15"),
        ("Rs. 50 + Rs. 30 = Rs. 80", "Rs. 50 + Rs. 30 = <<50+30=80>>Rs. 80"),
        ("60 km/hr * 3 hr = 180 km", "60 km/hr * 3 hr = <<60*3=180>>180 km"),
        ("60 miles per hour * 3 = 180", "60 miles per hour * 3 = <<60*3=180>>180"),
        ("20% of 50 = 10", "20% of 50 = <<20/100*50=10>>10"),
        ("(38-33)% of 36500 = 1825.", "(38-33)% of 36500 = <<(38-33)/100*36500=1825>>1825."),
        ("1/2 of 60 = 30", "1/2 of 60 = <<1/2*60=30>>30"),
        ("50/20% = 250", "50/20% = <<50/(20/100)=250>>250"),
        ("1/4 = 25%", "1/4 = <<1/4=0.25>>25%"),
        ("30/120*100 = 25%", "30/120*100 = <<30/120*100=25>>25%"),
        ("100% - 20% = 80%", "100% - 20% = <<100-20=80>>80%"),
        ("2^3 = 8", "2^3 = <<2**3=8>>8"),
        ("5\u00b2 = 25", "5\u00b2 = <<5**2=25>>25"),
        ("5/2 = 2.5", "5/2 = <<5/2=2.5>>2.5"),
        ("3 - 5 = -2", "3 - 5 = <<3-5=-2>>-2"),
        ("3 - 5 = -$2", "3 - 5 = <<3-5=-2>>-$2"),
        ("-3 + 5 = 2", "-3 + 5 = <<-3+5=2>>2"),
        ("22/7 = 3.14", "22/7 = <<22/7=3.142857>>3.14"),
        ("22/7 = 3.1428...", "22/7 = <<22/7=3.142857>>3.1428..."),
        ("12 men x 5 days = 60", "12 men x 5 days = <<12*5=60>>60"),
        ("10/3 \u2248 3", "10/3 \u2248 <<10/3=3.333333>>3"),
        ("60*3\n= 180", "60*3\n= <<60*3=180>>180"),
        ("a) 5*3 = 15", "a) 5*3 = <<5*3=15>>15"),
        ("(so 60*3 = 180)", "(so 60*3 = <<60*3=180>>180)"),
        ("2 + 2 = 4 1 + 2 = 3", "2 + 2 = <<2+2=4>>4 1 + 2 = <<1+2=3>>3"),
        ("2+3=5=10/2=5", "2+3=<<2+3=5>>5=10/2=<<10/2=5>>5"),
        ("6*2 = 12 C", "6*2 = <<6*2=12>>12 C"),
    ],
)
def test_a_step_that_holds_gets_a_call(text: str, marked: str) -> None:
    assert annotated(text) == marked
    check_laws(text)


@pytest.mark.parametrize(
    "text",
    [
        # unknowns
        *("2x = 10", "3a+4 = 7", "3a + 4*5 = 20", "x5*2=10", "5x = 15", "N*3*4 = 12", "y^2*3 = 12"),
        *("6*2 = 12x", "6*2 = 12 x", "6*2=12 + y", "6*2 = 12/y", "x*3 = 12", "6*2 = 12a"),
        *("(x+2)(3+4) = 7", "(x + 2) * 3 = 15", "0.80x + (20 - x) 0.60/20 = 0.03"),
        # functions, roots, factorials, powers of unknowns
        *("f(3)*2 = 6", "C(5,2)=10", "5! = 120", "5!/3! = 20", "6*2=12!", "\u221a16 + 3 = 7"),
        *("sqrt 16 + 3 = 7", "log(10)*5 = 50"),
        # ratios, ranges, dates, times of day, lists
        *("3:4*2 = 8", "ages 5-10", "on 12/05/2011", "12/05/2011 = Monday", "12:30 + 1 = 13"),
        *("5 + 3 = 8:30", "5 + 3 = 8 : 4", "5,6+7=13", "2.5.6+1=7", "0900 - 0130 = 0770"),
        # parts of something larger
        *("5 +\n10*2 = 20", "6*2=12*x", "3*4 = 12 times", "7*2 = 14 of them"),
        *("3*4==12", "3*4=>12", "3*4 <= 12", "5 times 3 + 4 = 7"),
        # no operator
        *("x = 5", "12 = 12", "5% = 0.05", "-5 = -5"),
    ],
)
def test_what_may_be_more_than_arithmetic_is_no_step(text: str) -> None:
    assert find_steps(text) == ()
    assert annotated(text) == text


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("60*3 = 190", Verdict.WRONG),
        ("10/3 = 3", Verdict.WRONG),
        ("22/7 = 3.15", Verdict.WRONG),
        ("1/250 = 0.0", Verdict.WRONG),
        ("1/9 = 0.2", Verdict.WRONG),
        ("20 + 24 + 16 = 60/2", Verdict.WRONG),
        ("15/2 = 7 1/2", Verdict.UNCLEAR),
        ("17/3 = 5 and 2/3", Verdict.UNCLEAR),
        ("1 1/2 + 3 = 4.5", Verdict.UNCLEAR),
        ("12/88*100 = 14%", Verdict.UNCLEAR),
        ("3 men + 4 women = 43", Verdict.UNCLEAR),
        ("10^9 - 1 = 9999...", Verdict.UNCLEAR),
        ("1/3 + 1/6 = 1/2", Verdict.FRACTION),
        ("3/12 = 1/4", Verdict.FRACTION),
    ],
)
def test_any_other_step_is_named_and_gets_no_call(text: str, verdict: Verdict) -> None:
    assert [step.verdict for step in find_steps(text)] == [verdict]
    assert annotated(text) == text


def test_a_rationale_with_calls_is_left_alone() -> None:
    text = "60*3 = <<60*3=180>>180 and 5*5 = 25"
    assert annotated(text) == text


def test_division_by_zero_and_huge_powers_are_no_steps() -> None:
    for text in ("5/0 = 1", "9^9^9 = 1", "0^-1 = 2", f"{'9' * 300}*2 = 18"):
        assert find_steps(text) == ()


fragments = st.sampled_from(
    [
        *"0123456789+-*/^().,=%$:;xXaAbBfn!?&<>#\n\t \u00d7\u00f7\u2212\u2248\u00b2\u2026\u20ac",
        *(" = ", " of ", " km ", "Rs. ", "12", "3.5", "1,200", "100%", " and ", "sqrt", "=>", "0."),
        *("<<", ">>", "<<2+2=4>>", " 2 + 2 = 4 ", "20% of 50 = 10", "x = ", "'s ", "...", "-$"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.lists(fragments, max_size=30).map("".join) | st.text(max_size=60))
def test_no_visible_character_changes_and_every_call_is_confirmed(text: str) -> None:
    if "<<" not in text:
        check_laws(text)
    else:
        assert annotated(text) == text


@given(st.lists(fragments, max_size=30).map("".join) | st.text(max_size=60))
def test_tokens_are_the_text_without_its_spaces(text: str) -> None:
    tokens = tokenize(text)
    assert [token.text for token in tokens] == [text[t.start : t.end] for t in tokens]
    assert "".join("".join(t.text.split()) for t in tokens) == "".join(text.split())
    assert all(a.end <= b.start for a, b in itertools.pairwise(tokens))


@st.composite
def spelt_expressions(draw: st.DrawFn) -> tuple[str, str]:
    """An expression as the calculator reads it, and as a person might write it."""
    style = random.Random(draw(st.integers(0, 2**32)))

    def number() -> tuple[str, str]:
        value = draw(st.integers(1, 5000) | st.decimals("0.01", "99.9", places=2))
        text = f"{value}"
        spelt = f"{value:,}" if style.random() < 0.5 else text
        if style.random() < 0.2:
            spelt = f"${spelt}"
        if style.random() < 0.2:
            spelt = f"{spelt} {style.choice(['km', 'books', 'square feet', 'hrs'])}"
        return text, spelt

    def expression(depth: int) -> tuple[str, str]:
        if depth == 0 or draw(st.booleans()):
            return number()
        left, right = expression(depth - 1), expression(depth - 1)
        operator = draw(st.sampled_from("+-*/"))
        space = " " if left[1][-1].isalpha() else style.choice(["", " "])
        signs = {"*": ["*", TIMES, " x "], "/": ["/", OVER], "-": ["-", MINUS], "+": ["+"]}
        sign = style.choice(signs[operator])
        plain, spelt = f"{left[0]}{operator}{right[0]}", f"{left[1]}{space}{sign}{space}{right[1]}"
        return (f"({plain})", f"({spelt})") if depth < 2 else (plain, spelt)

    left, right = expression(1), expression(1)
    operator = draw(st.sampled_from("+-*/"))
    return f"{left[0]}{operator}{right[0]}", f"{left[1]} {operator} {right[1]}"


@settings(max_examples=100, deadline=None)
@given(spelt_expressions(), st.sampled_from(["", "so ", "x = ", "Total: ", "(", "12.\n"]))
def test_arithmetic_is_found_in_any_spelling_and_only_its_value_gets_a_call(
    spelt: tuple[str, str], before: str
) -> None:
    plain, expression = spelt
    value = evaluate_exactly(plain)
    if value is None:
        return
    printed = format_number(value)
    text = f"{before}{expression} = {printed} in all."
    (step,) = find_steps(text)
    assert evaluate_exactly(step.call) == value
    assert text[step.start : step.call_at] == f"{expression} = "
    has_words = any(word in expression for word in ("km", "books", "feet", "hrs"))
    is_exact = parse_number(printed) == value
    if is_exact:
        assert step.verdict is Verdict.EXACT
    elif has_words:
        assert step.verdict is Verdict.UNCLEAR
    else:  # 0.0000003 is printed as 0, and 2.9999999 as 3
        assert step.verdict is (Verdict.ROUNDED if "." in printed else Verdict.WRONG)
    check_laws(text)
    other = format_number(value + 1)
    if parse_number(other) == value + 1:
        wrong = f"{before}{expression} = {other} in all."
        assert annotated(wrong) == wrong


@given(st.fractions(-1000, 1000, max_denominator=997), st.integers(1, 5), st.booleans())
def test_a_decimal_holds_if_and_only_if_it_is_the_value_rounded_or_cut_off(
    value: Fraction, places: int, is_up: bool
) -> None:
    scaled = abs(value) * 10**places
    floor = scaled.numerator // scaled.denominator
    claimed = floor + is_up
    holds = claimed == scaled or (claimed > 0 and (not is_up or scaled - floor >= Fraction(1, 2)))
    digits = str(claimed).rjust(places + 1, "0")
    sign = "-" if value < 0 else ""
    decimal = f"{digits[:-places]}.{digits[-places:]}"
    text = f"{sign}{abs(value.numerator)}/{value.denominator} = {sign}{decimal}"
    (step,) = find_steps(text)
    assert step.has_call == holds


def test_long_hostile_texts_are_read_quickly() -> None:
    for unit in ("1+", "(", ")", "= ", "5 km ", "- ", "=", "1,", "% of ", "5 aaa bbb ", "\n", "< "):
        check_laws(unit * 3_000)
        check_laws(unit * 3_000 + "1 + 1 = 2")


def test_counts_add_up() -> None:
    counts = count_steps(["2+2 = 4; 2+2 = 5", "no step", "22/7 = 3.14, 1/2+1/4 = 3/4"])
    assert counts == StepCounts(3, 2, 2, exact=1, rounded=1, fraction=1, wrong=1)
    assert (counts.steps, counts.calls) == (4, 2)
    assert counts.to_json()["rationales_with_call"] == 2


def test_an_item_keeps_everything_but_its_rationale_and_loses_the_closing_letter() -> None:
    item = ChoiceItem("x/1", "How far?", ("180 km", "90 km"), 0, "60*3 = 180 km\nAnswer: A")
    marked = with_calls(item)
    assert marked.rationale == "60*3 = <<60*3=180>>180 km"
    assert (marked.question, marked.options, marked.answer_index) == (
        *(item.question, item.options, item.answer_index),
    )


@pytest.mark.parametrize("file", AQUA_FILES)
def test_every_real_row_reads_the_same_with_calls(real_data: Path, file: str) -> None:
    task = load_choice_task(real_data / file, name="AQUA", split="test", dataset="aqua")
    num_calls = 0
    for item in task.items:
        check_laws(item.rationale)
        plain, marked = (choice_conversation(i).messages for i in (item, with_calls(item)))
        assert [m.text for m in marked] == [m.text for m in plain], item.id
        parts = marked[-1].parts
        num_calls += sum(part.kind is PartKind.PYTHON for part in parts)
    assert num_calls > len(task) / 2


def test_calls_agree_with_those_that_people_wrote_into_gsm8k(real_data: Path) -> None:
    """GSM8K with its annotations taken out: what is found stands where they stood, and agrees."""
    num_own = num_found = 0
    with (real_data / "gsm8k/train.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line)["answer"] for line in lines]
    for answer in rows[::4]:
        own, text = _without_annotations(answer)
        found = {step.call_at: step for step in find_steps(text) if step.has_call}
        for place, value in own.items():
            num_own += 1
            if place in found:
                num_found += 1
                assert evaluate_exactly(found[place].call) == value, text
    assert num_found > 0.92 * num_own > 5_000


def _without_annotations(answer: str) -> tuple[dict[int, Fraction], str]:
    """Where confirmed annotations stood in the text without them, with their values."""
    own: dict[int, Fraction] = {}
    text, position = "", 0
    for match in re.finditer(r"<<([^<>=\n]*)=([^<>=\n]*)>>", answer):
        text += answer[position : match.start()]
        position = match.end()
        value = evaluate_exactly(match[1])
        if value is not None and parse_number(match[2]) == value:
            own[len(text.rstrip("$"))] = value  # `$<<12/60=0.20>>0.20`; ours stand before the sign
    return own, text + answer[position:]
