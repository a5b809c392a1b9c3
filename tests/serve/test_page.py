"""The web page in a real browser: Debian's Chromium, driven through Playwright."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aquachat.serve.site import PAGE_FILES
from aquachat.track.logger import RunLogger
from tests.serve.servers import (
    Running,
    endless_engine,
    letter_engine,
    made_engine,
    running,
    scripted_engine,
)
from tests.text.test_render import TOKENIZER as LETTER_TOKENIZER

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PAGE = Path(__file__).parents[2] / "aquachat" / "serve" / "page"
TIMEOUT_MS = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class Opened:
    """A page, what it asked for and what went wrong in it."""

    def __init__(self, browser: Any, server: Running, **options: Any) -> None:
        self.page = browser.new_page(**options)
        self.page.set_default_timeout(TIMEOUT_MS)
        self.server = server
        self.problems: list[str] = []
        self.requests: list[Any] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._note)
        self.page.on("request", lambda request: self.requests.append(request))
        self.page.goto(server.url)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(message.text)

    def close(self) -> None:
        assert not self.problems
        assert all(request.url.startswith(self.server.url) for request in self.requests)
        self.page.close()

    def say(self, text: str) -> None:
        self.page.get_by_label("Your message", exact=True).fill(text)
        self.page.keyboard.press("Enter")

    def wait_for_reply(self) -> None:
        self.page.get_by_role("button", name="Send").wait_for()

    def asked(self) -> list[Any]:
        bodies = [request.post_data for request in self.requests if request.post_data]
        return [json.loads(body)["messages"] for body in bodies]


def test_what_a_model_says_is_shown_as_text(browser: Any, tmp_path: Path) -> None:
    question = "<img src=x onerror=alert(1)>"
    said = "<b>&amp;</b><script>alert(2)</script> <|python_start|>6*7<|python_end|>....42"
    with running(scripted_engine(question, said + "<|assistant_end|>"), tmp_path) as server:
        opened = Opened(browser, server)
        page = opened.page
        opened.say(question)
        opened.wait_for_reply()
        assert page.locator(".message.user .bubble").inner_text() == question
        shown = page.locator(".message.assistant .bubble")
        assert shown.inner_text() == "<b>&amp;</b><script>alert(2)</script> 6*7 = 4242"
        assert shown.locator(".call").inner_text() == "6*7 = 42"
        assert shown.locator("b").count() == page.locator(".bubble img").count() == 0
        opened.say("and then?")
        opened.wait_for_reply()
        # The reply goes back with its calculator call, as it was written.
        assert [part["type"] for part in opened.asked()[-1][1]["content"]] == [
            *("text", "python", "python_output", "text")
        ]
        opened.close()


def test_a_reply_is_stopped_retried_and_its_question_edited(browser: Any, tmp_path: Path) -> None:
    with running(endless_engine(max_seq_len=6000, pause_s=0.005), tmp_path) as server:
        opened = Opened(browser, server)
        page = opened.page
        page.get_by_text("Settings").click()
        page.get_by_label("Longest reply, tokens").fill("4096")
        opened.say("first")
        page.locator(".message.assistant .bubble", has_text="xxxx").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.get_by_text("stopped").wait_for()
        page.get_by_label("Longest reply, tokens").fill("5")
        page.get_by_role("button", name="Retry").click()
        page.get_by_text("cut off at the longest length").wait_for()
        assert page.locator(".message.assistant .bubble").inner_text() == "xxxxx"
        opened.say("second")
        page.locator(".message").nth(3).wait_for()
        opened.wait_for_reply()
        page.get_by_role("button", name="Edit").first.click()
        page.get_by_label("Your message, edited").fill("other")
        page.keyboard.press("Enter")
        page.locator(".message.user .bubble", has_text="other").wait_for()
        opened.wait_for_reply()
        assert page.locator(".message").count() == 2
        contents = [[message["content"] for message in asked] for asked in opened.asked()]
        assert contents[0] == contents[1] == ["first"]
        assert contents[2] == ["first", [{"type": "text", "text": "xxxxx"}], "second"]
        assert contents[3] == ["other"]
        page.get_by_role("button", name="New chat").click()
        assert page.locator(".message").count() == 0
        assert server.service.worker.counts.cancelled_samples == 1
        opened.close()


def test_a_question_is_drawn_and_the_letters_move_until_the_grade(
    browser: Any, tmp_path: Path
) -> None:
    with running(letter_engine(), tmp_path, tokenizer=LETTER_TOKENIZER) as server:
        opened = Opened(browser, server)
        page = opened.page
        page.get_by_role("tab", name="AQuA").click()
        page.locator("#source option").first.wait_for(state="attached")
        page.get_by_role("spinbutton", name="Number").fill("3")
        page.get_by_role("button", name="Draw a question").click()
        page.get_by_role("button", name="Let it answer").click()
        page.locator("#grade.right, #grade.wrong").wait_for()
        assert page.locator("#options li").count() == 5
        assert page.locator("#options .text").first.inner_text().startswith("11")
        shares = [
            float(text.removesuffix("%")) for text in page.locator(".share").all_inner_texts()
        ]
        assert sum(shares) == pytest.approx(100, abs=3)
        assert page.locator("#letters-plot path.line").count() == 5
        gold = page.locator("#options li.gold")
        assert gold.get_attribute("data-letter") == "B"
        page.get_by_text("The solution that the data set gives").click()
        assert "765/85 = 9" in page.locator("#gold-text").inner_text()
        opened.close()


def test_curves_grow_while_a_run_trains(browser: Any, tmp_path: Path) -> None:
    stage = tmp_path / "runs" / "mine" / "sft"
    stage.mkdir(parents=True)
    with running(made_engine(), tmp_path) as server, RunLogger(stage, "sft") as logger:
        for step in range(1, 4):
            logger.log(step, {"train/loss": 3.0 / step, "train/lr": 0.1})
        opened = Opened(browser, server)
        page = opened.page
        page.get_by_role("tab", name="Runs").click()
        page.get_by_role("img", name="train/loss over 3 logged steps").wait_for()
        assert page.locator("#run").input_value() == "mine"
        logger.log(4, {"train/loss": 0.5, "eval/accuracy": 0.25})
        page.get_by_role("img", name="train/loss over 4 logged steps, last 0.5").wait_for()
        assert "0.25" in page.locator("figure", has_text="eval/accuracy").inner_text()
        opened.close()


def test_the_page_is_used_with_the_keyboard_alone(browser: Any, server: Running) -> None:
    opened = Opened(browser, server)
    page = opened.page
    page.get_by_role("tab", name="Chat").focus()
    for name in ("AQuA", "Runs", "Chat", "AQuA"):
        page.keyboard.press("ArrowRight")
        tab = page.get_by_role("tab", name=name)
        assert tab.get_attribute("aria-selected") == "true"
        assert tab.evaluate("node => node === document.activeElement")
        panel = page.locator(f"#{tab.get_attribute('aria-controls')}")
        assert panel.is_visible()
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, a")].filter(
            (node) => !(node.getAttribute("aria-label") || node.textContent.trim()
                || (node.labels && [...node.labels].some((label) => label.textContent.trim())))
        ).map((node) => node.outerHTML)"""
    )
    assert unnamed == []
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_system_until_chosen(browser: Any, server: Running, scheme: str) -> None:
    opened = Opened(browser, server, color_scheme=scheme)
    page = opened.page
    background = "() => getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(246, 247, 249)", "rgb(16, 22, 28)"
    assert page.evaluate(background) == (light if scheme == "light" else dark)
    button = page.locator("#theme")
    button.click()
    assert page.evaluate(background) == light
    button.click()
    assert page.evaluate(background) == dark
    page.reload()
    assert page.evaluate(background) == dark
    assert button.get_attribute("aria-label") == "Colours: dark"
    opened.close()


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(browser: Any, tmp_path: Path, width: int) -> None:
    stage = tmp_path / "runs" / ("a-long-name-" * 8 + "x") / "sft"
    stage.mkdir(parents=True)
    with RunLogger(stage, "sft") as logger:
        logger.log(1, {"train/a_very_long_metric_name_without_any_place_to_break": 1.0})
        logger.log(2, {"train/a_very_long_metric_name_without_any_place_to_break": 2.0})
    with running(made_engine(), tmp_path) as server:
        opened = Opened(browser, server, viewport={"width": width, "height": 700})
        page = opened.page
        opened.say("w" * 200)
        opened.wait_for_reply()
        for name in ("Chat", "AQuA", "Runs"):
            page.get_by_role("tab", name=name).click()
            if name == "AQuA":
                page.get_by_role("button", name="Draw a question").click()
                page.locator("#options li").first.wait_for()
            if name == "Runs":
                page.locator("#plots svg").first.wait_for()
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        opened.close()


def test_the_token_is_asked_for_and_kept_for_the_tab(browser: Any, tmp_path: Path) -> None:
    token = "a-long-secret-token"
    with running(made_engine(), tmp_path, token=token) as server:
        opened = Opened(browser, server)
        page = opened.page
        page.get_by_label("Token, the server's AQUACHAT_SERVE_TOKEN").fill(token)
        page.get_by_role("button", name="Go on").click()
        page.locator("#suggestions button").first.wait_for()
        opened.say("hello")
        opened.wait_for_reply()
        assert page.locator(".message").count() == 2
        assert all(token not in request.url for request in opened.requests)
        opened.problems = [text for text in opened.problems if "401" not in text]
        opened.close()


def test_an_error_is_said_and_the_question_is_not_lost(browser: Any, server: Running) -> None:
    opened = Opened(browser, server)
    page = opened.page
    opened.say("x" * 600)
    page.get_by_role("alert").wait_for()
    assert "context of 512" in page.get_by_role("alert").inner_text()
    assert page.get_by_label("Your message", exact=True).input_value() == "x" * 600
    opened.problems.clear()  # the browser notes the 400
    opened.close()


def test_the_files_of_the_page_are_all_there_is_and_name_nothing_outside() -> None:
    assert {file.name for file in PAGE.iterdir()} == set(PAGE_FILES)
    for file in PAGE.iterdir():
        text = file.read_text("utf-8")
        assert "innerHTML" not in text
        assert "http://" not in text.replace("http://www.w3.org/2000/svg", "")
        assert "https://" not in text
