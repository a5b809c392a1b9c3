"""A report as one HTML file that works without a network: pictures inline, light and dark.

Every text that is not ours goes through `html.escape`, and a content security policy forbids
scripts and requests, so that what a model wrote can do nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from aquachat.track.plots import STAGE_COLORS
from aquachat.track.report_data import ReportData
from aquachat.track.report_markdown import VERDICTS
from aquachat.track.report_tables import Table, count, findings, seconds
from aquachat.track.samples import ModelAnswer, SampleQuestion, Stretch
from aquachat.track.stage_pictures import StagePicture
from aquachat.track.surface import Surface
from aquachat.track.surface_picture import script, script_policy, surface_figure

DARK_STAGE_COLORS = {"base": "#a3aab5", "mid": "#e3aa2e", "sft": "#4da6e0", "rl": "#ff8a45"}
WHISKERS = "Whiskers: 95% intervals."
MAX_OPEN_ROWS = 12
"""Longer tables are folded."""
LONG_CELL_CHARS = 24
"""Columns with longer words may take several lines."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_STYLE = """
:root { color-scheme: light dark; --font: system-ui, -apple-system, 'Segoe UI', sans-serif;
  --ground: #ffffff; --card: #f6f8fa; --ink: #1f2328; --soft: #57606a; --rule: #d0d7de;
  --right: #1a7f37; --wrong: #b3261e; --call: #ddf0ff; STAGES }
@media (prefers-color-scheme: dark) { :root { --ground: #12161c; --card: #1b212a; --ink: #e6edf3;
  --soft: #9da7b3; --rule: #343d49; --right: #56c271; --wrong: #ff8a80; --call: #17324a; DARK } }
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; background: var(--ground);
  color: var(--ink); font: 1rem/1.55 var(--font) }
h1 { font-size: 1.9rem; margin: 0; overflow-wrap: anywhere } h2 { margin: 2.8rem 0 .6rem }
h2, h3 { line-height: 1.25 } h3 { font-size: 1.02rem; margin: 1.6rem 0 .4rem }
.soft, .note { color: var(--soft); font-size: .9rem } .note { max-width: 46rem }
nav a { color: inherit; margin-right: 1.1rem } a:focus-visible, .scroll:focus-visible,
summary:focus-visible { outline: 2px solid var(--sft); outline-offset: 2px }
.scroll { overflow-x: auto } table { border-collapse: collapse; font-size: .9rem;
  font-variant-numeric: tabular-nums } th, td { padding: .35rem .8rem; text-align: right;
  border-bottom: 1px solid var(--rule); white-space: nowrap } thead th { color: var(--soft);
  font-weight: 600 } th[scope=row], thead th:first-child { text-align: left }
td.words, th.words { text-align: left } .long { white-space: normal; min-width: 9rem;
  overflow-wrap: anywhere } tbody tr:hover { background: var(--card) }
.figures { display: grid; gap: 1.4rem; grid-template-columns: repeat(auto-fit, minmax(min(100%,
  24rem), 1fr)); align-items: start } figure { margin: 0 } figure.wide { grid-column: 1 / -1;
  max-width: 50rem } figure svg { width: 100%; height: auto; font-family: var(--font) }
figure img { max-width: 100%; height: auto; background: #fff }
figure svg * { stroke-linejoin: round } figure.surface { max-width: 46rem }
.surface svg:focus-visible { outline: 2px solid var(--sft) } .halo { paint-order: stroke;
  stroke: var(--ground); stroke-width: 3px }
.sample { background: var(--card); border: 1px solid var(--rule); border-radius: .6rem;
  padding: .2rem 1.2rem 1rem; margin: 1rem 0 } .sample p { margin: .5rem 0 }
.words-of-model, .question { white-space: pre-wrap; overflow-wrap: anywhere }
.options { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .3rem 1.4rem;
  margin: .4rem 0 } .reply { border-left: 3px solid var(--rule); padding-left: .9rem;
  margin: .9rem 0 } .verdict { font-weight: 700 } .right { color: var(--right) }
.wrong { color: var(--wrong) } code.call { background: var(--call); border-radius: .25rem;
  padding: .05rem .3rem } pre { background: var(--card); padding: 1rem; overflow-x: auto;
  border-radius: .5rem; font-size: .85rem } details { margin: .8rem 0 } summary { cursor: pointer;
  font-weight: 600 } dl { display: grid; grid-template-columns: max-content 1fr;
  gap: .2rem 1.2rem } dt { color: var(--soft) } dd { margin: 0; overflow-wrap: anywhere }
@media (max-width: 36rem) { body { padding: 1rem .8rem 3rem } h1 { font-size: 1.5rem }
  th, td { padding: .35rem .5rem } th[scope=row] { white-space: normal } }
@media print { .scroll { overflow: visible } details > * { display: block } }
"""


def render_html(
    data: ReportData,
    tables: Sequence[Table],
    accuracy_svgs: Sequence[str],
    curve_svgs: Sequence[str],
    recipes: Mapping[str, str],
    surfaces: Sequence[Surface] = (),
    pictures: Sequence[StagePicture] = (),
) -> str:
    """The whole page.

    Args:
        data: what there is to say.
        tables: in order of appearance.
        accuracy_svgs: `<svg>` elements made by `aquachat.track.plots`.
        curve_svgs: the same for the curves.
        recipes: stage -> TOML.
        surfaces: of the loss, drawn in 3D.
        pictures: that stages logged.
    """
    sections = [
        ("short", "In short", _findings(data)),
        ("tables", "Results", "".join(table_html(table) for table in tables)),
        (
            "accuracy",
            "Accuracy and letters",
            figures_html(accuracy_svgs, "Whiskers: 95% intervals."),
        ),
        ("curves", "Curves", figures_html(curve_svgs)),
        ("pictures", "Pictures of the stages", pictures_html(pictures)),
        ("landscape", "Loss landscape", "".join(map(surface_figure, surfaces))),
        ("samples", "Sample answers", _samples(data.samples)),
        ("environment", "Environment", _definitions(data.environment)),
        ("recipe", "Recipe", "".join(_recipe(stage, text) for stage, text in recipes.items())),
    ]
    run = escape(data.run)
    return page_html(
        f"{run} - aquachat report",
        f"<h1>Run {run}</h1>{_facts(data)}",
        sections,
        turns=bool(surfaces),
    )


def page_html(
    title: str, heading: str, sections: Sequence[tuple[str, str, str]], *, turns: bool = False
) -> str:
    """A page that needs no network and runs no script, or only the one that turns surfaces.

    Args:
        title: of the window, already escaped.
        heading: HTML above the list of sections.
        sections: id, title and HTML of each; those without HTML are left out.
        turns: whether there are surfaces to turn.
    """
    policy = f"{_POLICY}; {script_policy()}" if turns else _POLICY
    program = f"<script>{script()}</script>\n" if turns else ""
    shown = [section for section in sections if section[2]]
    links = "".join(f'<a href="#{name}">{title}</a>' for name, title, _ in shown)
    body = "".join(
        f'<section aria-labelledby="{name}"><h2 id="{name}">{title}</h2>{content}</section>\n'
        for name, title, content in shown
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_style()}</style>\n</head>\n<body>\n"
        f'<header>{heading}<nav aria-label="Sections">{links}</nav>'
        f"</header>\n<main>\n{body}</main>\n{program}</body>\n</html>\n"
    )


def _style() -> str:
    def variables(colors: Mapping[str, str]) -> str:
        return "".join(f"--{stage}: {color}; " for stage, color in colors.items())

    style = _STYLE.replace("STAGES", variables(STAGE_COLORS))
    return style.replace("DARK", variables(DARK_STAGE_COLORS))


def _facts(data: ReportData) -> str:
    document = data.document
    facts = [f"preset {document['preset']}"] if document.get("preset") else []
    if document.get("seconds"):
        facts.append(f"{seconds(document['seconds'])} s")
    if document.get("peak_rss_bytes"):
        facts.append(f"{count(document['peak_rss_bytes'] / 1e6)} MB of memory at most")
    return f'<p class="soft">{escape(", ".join(facts))}</p>' if facts else ""


def _findings(data: ReportData) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in findings(data))
    return f"<ul>{items}</ul>" if items else ""


def table_html(table: Table) -> str:
    """A table under its title; a long one is folded."""
    title = escape(table.title)
    wordy = [
        any(row[index] and not _is_figure(row[index]) for row in table.rows)
        for index in range(len(table.columns))
    ]
    kinds = [
        _kind(is_wordy, max((len(row[index]) for row in table.rows), default=0))
        for index, is_wordy in enumerate(wordy)
    ]
    head = "".join(
        f'<th scope="col"{kind}>{escape(name)}</th>'
        for name, kind in zip(table.columns, kinds, strict=True)
    )
    rows = "".join(_row(row, kinds) for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    content = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>{note}"
    )
    if len(table.rows) > MAX_OPEN_ROWS:
        return f"<details><summary>{title} ({len(table.rows)} rows)</summary>{content}</details>"
    return f"<h3>{title}</h3>{content}"


def _kind(is_wordy: bool, longest: int) -> str:
    """The class of a column: words stand on the left, long ones in several lines."""
    if not is_wordy:
        return ""
    return ' class="words long"' if longest > LONG_CELL_CHARS else ' class="words"'


def _row(row: Sequence[str], kinds: Sequence[str]) -> str:
    cells = "".join(
        f"<td{kind}>{escape(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True)
    )
    return f'<tr><th scope="row">{escape(row[0])}</th>{cells}</tr>'


def _is_figure(cell: str) -> bool:
    return cell[0].isdigit() or cell[0] in "+-<"


def figures_html(svgs: Sequence[str], note: str = "") -> str:
    """Pictures side by side, a note above them; nothing without pictures."""
    if not svgs:
        return ""
    items = []
    for svg in svgs:
        wide = ' class="wide"' if 'width="547' in svg else ""
        items.append(f"<figure{wide}>{svg}</figure>")
    above = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'{above}<div class="figures">{"".join(items)}</div>'


def pictures_html(pictures: Sequence[StagePicture]) -> str:
    """The pictures that stages logged, inline."""
    if not pictures:
        return ""
    items = "".join(
        f'<figure><img alt="{escape(p.caption, quote=True)}" src="{p.data_url}">'
        f'<figcaption class="note">{escape(p.caption)}</figcaption></figure>'
        for p in pictures
    )
    return f'<div class="figures">{items}</div>'


def _samples(samples: Sequence[SampleQuestion]) -> str:
    if not samples:
        return ""
    return '<p class="note">The first questions of the set, not picked.</p>' + "".join(
        _sample(sample) for sample in samples
    )


def _sample(sample: SampleQuestion) -> str:
    options = "".join(f"<li>{escape(option)}</li>" for option in sample.options)
    listed = f'<ul class="options" aria-label="Options">{options}</ul>' if options else ""
    gold = f'<p class="soft">Right answer: {escape(sample.gold)}</p>' if sample.gold else ""
    answers = "".join(_answer(answer) for answer in sample.answers)
    return (
        f'<article class="sample"><h3>{escape(sample.id)}</h3>'
        f'<p class="question">{escape(sample.question)}</p>{listed}{gold}{answers}</article>'
    )


def _answer(answer: ModelAnswer) -> str:
    verdict = VERDICTS[answer.is_correct]
    kind = verdict if answer.is_correct is not None else "soft"
    words = "".join(_stretch(stretch) for stretch in answer.stretches)
    return (
        f'<div class="reply"><p><strong>{escape(answer.model)}</strong> answered '
        f'{escape(answer.letter or "no letter")}: <span class="verdict {kind}">{verdict}</span></p>'
        f'<p class="words-of-model">{words}</p></div>'
    )


def _stretch(stretch: Stretch) -> str:
    text = escape(stretch.text)
    if stretch.kind == "python":
        return f'<code class="call" title="calculator call">{text}</code>'
    if stretch.kind == "python_output":
        return f'<code class="call" title="calculator result">= {text}</code>'
    return text


def _definitions(values: Mapping[str, str]) -> str:
    items = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in values.items())
    return f"<dl>{items}</dl>" if items else ""


def _recipe(stage: str, text: str) -> str:
    return f"<details><summary>{escape(stage)}</summary><pre>{escape(text)}</pre></details>"
