from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aquachat.errors import MissingFileError
from aquachat.eval.predictions import Prediction
from aquachat.track.report import summary_tables, write_report
from aquachat.track.report_data import gather, read_entry
from aquachat.track.report_markdown import escaped, fenced
from aquachat.track.report_tables import against_baselines, reading_of
from aquachat.track.samples import Stretch, collect_samples, stretches_of

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'|`](javascript:1)"
VOID = {"meta", "br", "img", "hr", "link", "input"}


class Page(HTMLParser):
    """Checks nesting and collects tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def write_stage(run: Path, stage: str, metrics: list[dict[str, Any]]) -> None:
    folder = run / stage
    folder.mkdir(parents=True)
    lines = "".join(
        json.dumps({"step": i + 1, "stage": stage, "time_s": 2.0 * (i + 1), **row}) + "\n"
        for i, row in enumerate(metrics)
    )
    (folder / "metrics.jsonl").write_text(lines)
    (folder / "recipe.toml").write_text(f"[model]\ndepth = 3\n\n[{stage}]\nlr_scale = 0.5\n")


def result(stage: str, split: str, accuracy: float, **more: Any) -> dict[str, Any]:
    return {
        "stage": stage,
        "checkpoint": f"{stage}@{20 if stage == 'sft' else 5}",
        "task": "SYNTHETIC",
        "split": split,
        "protocol": "generative",
        "num_examples": 400,
        "num_scored": 400,
        "accuracy": accuracy,
        "ci95": [accuracy - 0.04, accuracy + 0.04],
        "baselines": {"chance": 0.2, "majority_letter": 0.215},
        "letter_histogram": {"A": 30, "B": 20, "C": 20, "D": 20, "E": 10},
        "seconds": 3.0,
        "by_num_steps": {
            "1": {"accuracy": accuracy, "ci95": [accuracy - 0.05, accuracy + 0.05]},
            "10": {"accuracy": accuracy / 2, "num_examples": 50},
            "2": {"accuracy": accuracy / 2, "num_examples": 50},
        },
        "by_family": {"motion": {"accuracy": accuracy, "num_examples": 30}},
        **more,
    }


def prediction(index: int, stage: str) -> dict[str, Any]:
    is_right = stage == "rl" or index != 1
    return {
        "id": f"q{index}",
        "order": 0,
        "sample": 0,
        "question": f"How far in {index} hours at 60 km/h?",
        "options": ["A)60 km", "B)120 km"],
        "reply": f"<|python_start|>60*{index}<|python_end|><|output_start|>{60 * index}"
        f"<|output_end|> km\nAnswer: {'B' if is_right else 'A'}",
        "answer": "B" if is_right else "A",
        "gold": "B",
        "correct": is_right,
    }


def write_eval(run: Path, entry: dict[str, Any], *, with_predictions: bool = False) -> None:
    folder = run / "eval"
    folder.mkdir(exist_ok=True)
    name = "{checkpoint}-{task}-{split}-{protocol}".format(**entry)
    (folder / f"{name}.json").write_text(json.dumps({"run": run.name, **entry}))
    if with_predictions:
        rows = [
            {**prediction(index, entry["stage"]), "order": order}
            for index in range(5)
            for order in (1, 0)
        ]
        rows.sort(key=lambda row: row["order"], reverse=True)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.predictions.jsonl").write_text(text)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "tiny-1"
    write_stage(folder, "base", [{"train/loss": 5.0 - i / 10} for i in range(20)])
    losses = [{"train/loss": 3.0 - i / 10, "eval/aqua_accuracy": 0.2} for i in range(20)]
    write_stage(folder, "sft", [*losses[:-1], {"train/loss": 1.1, "val/loss": 1.25}])
    write_stage(folder, "rl", [{"rl/acc": 0.5, "rl/mean_reward": 0.6, "train/loss": 0.0}] * 5)
    write_eval(folder, result("sft", "new_numbers", 0.5), with_predictions=True)
    write_eval(folder, result("rl", "new_numbers", 0.6), with_predictions=True)
    write_eval(folder, result("sft", "more_steps", 0.22))
    return folder


def document_of(run: Path) -> dict[str, Any]:
    return {
        "run": run.name,
        "preset": "tiny",
        "seconds": 431.0,
        "peak_rss_bytes": 2_100_000_000,
        "stages": [
            {"stage": "prepare", "seconds": 3.0, "tokens": 0, "metrics": {}},
            {"stage": "sft", "seconds": 120.0, "tokens": 40960, "metrics": {"train/loss": 1.1}},
        ],
        "eval": [result("sft", "new_numbers", 0.5), result("rl", "new_numbers", 0.6)],
        "comparisons": [
            {
                "task": "SYNTHETIC",
                "split": "new_numbers",
                "a": "sft@20",
                "b": "rl@5",
                "difference": 0.1,
                "ci95": [0.06, 0.14],
                "p_value": 0.0001,
            }
        ],
        "report": None,
    }


def test_the_report_has_stages_accuracies_curves_samples_and_environment(run: Path) -> None:
    paths = write_report(run, document_of(run))
    page = Page(paths.html.read_text("utf-8"))
    markdown = paths.markdown.read_text("utf-8")
    for text in (page.text, markdown):
        assert "50.0% [46.0, 54.0]" in text
        assert "60.0% [56.0, 64.0]" in text
        assert "21.5%" in text
        assert "+10.0 [+6.0, +14.0]" in text
        assert "40,960" in text
        assert "lr_scale = 0.5" in text
        assert "Accuracy by number of steps: SYNTHETIC new" in text
    assert page.tags.count("svg") >= 5
    assert page.text.count("answered B: right") == 5
    assert page.text.count("answered A: wrong") == 1
    assert "= 120" in page.text
    figures = re.findall(r"!\[.*?\]\((.*?)\)", markdown)
    assert len(figures) == page.tags.count("svg")
    for figure in figures:
        assert ElementTree.parse(run / figure).getroot().tag.endswith("svg")


def test_the_report_says_what_each_stage_took_from_each_source(run: Path) -> None:
    source = {
        "source": "aqua", "rows": 20_000, "taken": 30_000, "share": 0.4264, "epochs": 1.5,
        "examples": 29_990, "tokens": 6_000_000, "targets": 2_500_000, "truncated": 12,
        "skipped": 10,
    }  # fmt: skip
    (run / "sft" / "mixture.json").write_text(json.dumps({"sources": [source, {"source": "x"}]}))
    paths = write_report(run)
    text = paths.markdown.read_text("utf-8")
    row = "| aqua | 20,000 | 30,000 | 42.6% | 1.50 | 6,000,000 | 2,500,000 | 12 | 10 |"
    assert "## Mixture of sft" in text
    assert row in text
    page = Page(paths.html.read_text("utf-8"))
    assert "Mixture of sft" in page.text
    assert "6,000,000" in page.text
    (run / "sft" / "mixture.json").write_text("{")
    assert "Mixture of" not in write_report(run).markdown.read_text("utf-8")


def test_the_page_asks_no_network_and_runs_no_script(run: Path) -> None:
    page = Page(write_report(run, document_of(run)).html.read_text("utf-8"))
    assert not {"script", "link", "img", "iframe", "object", "form"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in ("href", "xlink:href", "src"):
            assert value.startswith("#"), (tag, name, value)
        assert "url(http" not in value
    policy = next(value for _, name, value in page.attributes if name == "content")
    assert policy.startswith("default-src 'none'")


def test_the_page_can_be_read_by_structure(run: Path) -> None:
    page = Page(write_report(run, document_of(run)).html.read_text("utf-8"))
    assert page.tags.count("h1") == page.tags.count("main") == 1
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    headings = {value for tag, name, value in page.attributes if tag == "h2" and name == "id"}
    links = {value[1:] for tag, name, value in page.attributes if tag == "a" and name == "href"}
    assert links == headings
    labels = [v for tag, name, v in page.attributes if tag == "svg" and name == "aria-label"]
    assert len(labels) == page.tags.count("svg") == len(set(labels))
    assert ("th", "scope", "row") in page.attributes


def test_what_a_model_or_a_file_wrote_stays_text(run: Path) -> None:
    hostile = {**result("rl", HOSTILE, 0.6), "task": HOSTILE, "by_family": {HOSTILE: 0.5}}
    document = document_of(run)
    document["eval"].append(hostile)
    document["preset"] = HOSTILE
    document["environment"] = {HOSTILE: HOSTILE}
    document["samples"] = [
        {
            "id": HOSTILE,
            "question": HOSTILE,
            "options": [HOSTILE],
            "reply": HOSTILE + "\n```\n# heading\n",
            "answer": HOSTILE,
            "gold": "A",
            "correct": False,
        }
    ]
    (run / "sft" / "recipe.toml").write_text(f"# {HOSTILE}\n")
    paths = write_report(run, document)
    page = Page(paths.html.read_text("utf-8"))
    assert not {"script", "img"} & set(page.tags)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count("<script>alert(1)</script>") > 6
    outside = re.sub(r"(?ms)^(`{3,})\w*\n.*?^\1$", "", paths.markdown.read_text("utf-8"))
    assert "alert(1)" in outside
    assert not re.search(r"(?<!\\)<(script|img)", outside)
    assert not re.search(r"(?<!\\)\]\(javascript", outside)
    assert "\n# heading" not in outside


def test_files_alone_give_the_report_back(run: Path) -> None:
    first = write_report(run, document_of(run))
    page, text = first.html.read_bytes(), first.markdown.read_bytes()
    again = write_report(run)
    assert again.html.read_bytes() == page
    assert again.markdown.read_bytes() == text


def test_a_run_that_never_had_a_document_is_reported_from_its_files(run: Path) -> None:
    text = write_report(run).markdown.read_text("utf-8")
    assert "| sft | 20 | 1.250 | 50.0% [46.0, 54.0] | - | 40.0 |" in text
    assert "| base | 20 | 3.100 (training) | - | - | 40.0 |" in text
    assert "not told apart from guessing" in text
    assert "Paired differences" not in text


def test_a_new_evaluation_replaces_the_old_one_and_comparisons_of_lost_models_go(
    run: Path,
) -> None:
    write_report(run, document_of(run))
    (run / "eval" / "rl@5-SYNTHETIC-new_numbers-generative.json").unlink()
    write_eval(run, result("sft", "new_numbers", 0.55))
    text = write_report(run).markdown.read_text("utf-8")
    assert "55.0% [51.0, 59.0]" in text
    assert "50.0% [46.0, 54.0]" not in text
    assert "Paired differences" not in text


def test_torn_and_missing_files_leave_only_their_own_section_out(run: Path) -> None:
    whole = (run / "sft" / "metrics.jsonl").read_text()
    (run / "sft" / "metrics.jsonl").write_text(whole + '{"step": 21, "train/lo')
    (run / "rl" / "metrics.jsonl").write_bytes(b"\xff\xfe not json\n[1, 2]\n{}\n")
    (run / "rl" / "recipe.toml").write_text("[rl\n")
    (run / "base" / "metrics.jsonl").unlink()
    (run / "base" / "recipe.toml").unlink()
    (run / "eval" / "torn.json").write_text('{"accuracy": 0.9')
    (run / "eval" / "odd.json").write_text('{"accuracy": "high", "ci95": 3}')
    (run / "eval" / "list.json").write_text("[1]")
    (run / "report.json").write_text("{")
    predictions = run / "eval" / "rl@5-SYNTHETIC-new_numbers-generative.predictions.jsonl"
    predictions.write_text(predictions.read_text()[:-40])
    text = write_report(run).markdown.read_text("utf-8")
    assert "| base | - | - | - | - | - |" in text
    assert "| sft | 20 | 1.250 |" in text
    assert "| rl | - | - | 60.0% [56.0, 64.0] | - | - |" in text
    assert "## Sample answers" in text


def test_an_empty_run_has_a_report_that_says_so_little(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    paths = write_report(tmp_path / "empty")
    assert "Environment" in Page(paths.html.read_text("utf-8")).text
    assert "Accuracy" not in paths.markdown.read_text("utf-8")


def test_a_missing_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="there is no run") as caught:
        write_report(tmp_path / "absent")
    assert "aquachat runs" in (caught.value.hint or "")


def test_no_secret_reaches_a_report(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "a-key-that-is-secret")
    document = document_of(run)
    document["environment"] = {"note": "a-key-that-is-secret"}
    (run / "sft" / "recipe.toml").write_text("# a-key-that-is-secret\n")
    paths = write_report(run, document)
    for path in (paths.html, paths.markdown, paths.document):
        assert "a-key-that-is-secret" not in path.read_text("utf-8")


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.22, 0.3, "above the baselines"),
        (0.20, 0.3, "not told apart from guessing"),
        (0.215, 0.3, "not told apart from guessing"),
        (0.10, 0.21, "below the baselines"),
    ],
)
def test_no_accuracy_is_called_more_than_its_interval(low: float, high: float, words: str) -> None:
    entry = read_entry({**result("sft", "new_numbers", 0.25), "ci95": [low, high]})
    assert entry is not None
    assert against_baselines(entry) == words


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        ([0.01, 0.05], "a gain"),
        ([0.0, 0.05], "not told apart from no change"),
        ([-0.05, -0.01], "a loss"),
        (None, "no interval to judge by"),
    ],
)
def test_no_difference_is_called_more_than_its_interval(interval: object, words: str) -> None:
    assert reading_of({"difference": 0.03, "ci95": interval}) == words


@pytest.mark.parametrize(("adjusted", "words"), [(0.04, "a gain"), (0.2, "perhaps a gain")])
def test_one_of_several_differences_is_called_a_gain_after_adjustment(
    adjusted: float, words: str
) -> None:
    row = {"difference": 0.03, "ci95": [0.01, 0.05], "p_value_holm": adjusted}
    assert reading_of(row).partition(":")[0] == words


def test_summary_tables_take_whatever_a_document_holds(run: Path) -> None:
    assert summary_tables({}) == []
    titles = [table.title for table in summary_tables(document_of(run))]
    assert titles == [
        "Stages",
        "Accuracy",
        "Accuracy by number of steps: SYNTHETIC new_numbers, generative",
        "Paired differences",
    ]
    for table in summary_tables(document_of(run)):
        assert all(len(row) == len(table.columns) for row in table.rows)
    steps = summary_tables(document_of(run))[2]
    assert [row[0] for row in steps.rows] == ["1", "2", "10"]


def test_several_samples_get_their_own_table(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    at_k = {"maj_at_k": {"1": 0.5, "8": 0.75}, "pass_at_k": {"1": 0.5, "8": 0.9}}
    write_eval(tmp_path / "a", {**result("rl", "new_numbers", 0.5), **at_k})
    text = write_report(tmp_path / "a").markdown.read_text("utf-8")
    assert "| questions | model | maj@1 | maj@8 | pass@1 | pass@8 |" in text
    assert "| 50.0% | 75.0% | 50.0% | 90.0% |" in text


def test_an_rl_loss_and_a_nan_are_not_dressed_up(tmp_path: Path) -> None:
    write_stage(tmp_path / "a", "sft", [{"train/loss": "NaN"}])
    write_stage(tmp_path / "a", "rl", [{"train/loss": 0.01}])
    text = write_report(tmp_path / "a").markdown.read_text("utf-8")
    assert "| sft | 1 | nan (training) | - | - | 2.0 |" in text
    assert "| rl | 1 | - | - | - | 2.0 |" in text


def test_replies_are_split_into_words_calls_and_results() -> None:
    expected = (
        Stretch("text", "so "),
        Stretch("python", "60*3"),
        Stretch("python_output", "180"),
        Stretch("text", " km"),
    )
    marked = "so <|python_start|>60*3<|python_end|><|output_start|>180<|output_end|> km"
    assert stretches_of(marked + "<|assistant_end|>") == expected
    assert stretches_of("so <<60*3=180>> km") == expected
    parts = [{"type": s.kind, "text": s.text} for s in expected]
    assert stretches_of(parts) == expected
    assert stretches_of("<|python_start|>60*") == (Stretch("python", "60*"),)
    assert stretches_of(None) == ()


def test_samples_are_the_first_questions_with_both_models_replies() -> None:
    rows = {stage: [prediction(i, stage) for i in range(5)] for stage in ("sft", "rl")}
    samples = collect_samples(rows)
    assert [sample.id for sample in samples] == ["q0", "q1", "q2"]
    assert [a.is_correct for a in samples[1].answers] == [False, True]
    assert collect_samples({}) == []


def test_predictions_of_an_evaluation_are_understood() -> None:
    made = Prediction(
        id="aqua/dev/1",
        question="What is 2 + 3?\n4 A\n5 B",
        gold="B",
        choices=("A", "B"),
        answer=None,
        correct=False,
        reward=0.0,
        reply="It is ",
        parts=({"type": "text", "text": "It is "}, {"type": "python", "text": "2+"}),
        finish="length",
    )
    (sample,) = collect_samples({"rl@5": [json.loads(json.dumps(made.to_json()))]})
    assert (sample.question, sample.gold) == (made.question, "B")
    (answer,) = sample.answers
    assert answer.stretches == (Stretch("text", "It is "), Stretch("python", "2+"))
    assert (answer.letter, answer.is_correct) == (None, False)


def test_rollouts_stand_in_where_nothing_was_evaluated(tmp_path: Path) -> None:
    write_stage(tmp_path / "a", "rl", [{"rl/acc": 0.5}])
    rows = [
        {"step": s, "id": "q1", "prompt": "2+2?", "text": f"t{s}", "answer": "A", "gold": "B"}
        for s in (1, 2)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a" / "rl" / "samples.jsonl").write_text(text)
    (sample,) = gather(tmp_path / "a").samples
    assert (sample.question, sample.gold) == ("2+2?", "B")
    assert sample.answers[0].model == "rl@2"
    assert sample.answers[0].stretches == (Stretch("text", "t2"),)
    assert sample.answers[0].is_correct is False


def test_markdown_escapes_what_could_be_markup_and_nothing_else() -> None:
    assert escaped("new_numbers 81.2% [78.0, 84.1] -> b") == "new_numbers 81.2% [78.0, 84.1] -> b"
    assert escaped("a|b\n<b> _x_ *y*") == r"a\|b \<b> \_x\_ \*y\*"
    assert fenced("a ```` b").startswith("`````text\n")
