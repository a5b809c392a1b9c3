"""The documentation is a site that loads nothing from elsewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html import escape as html_text
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SETTINGS: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))

_LOADED = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=\"?([^\s\">]+)")
_REL_THAT_LOADS_NOTHING = re.compile(r"<link\b[^>]*rel=\"?(?:canonical|next|prev)[^>]*>")
_OF_A_STYLE = re.compile(r"(?:url\(|@import )[\"']?((?:https?:)?//[^\"')]+)")


def _paths(entries: list[Any]) -> Iterator[str]:
    """The pages of a navigation, in order."""
    for entry in entries:
        for target in entry.values():
            if isinstance(target, str):
                yield target
            else:
                yield from _paths(target)


def test_every_page_is_in_the_navigation_once() -> None:
    listed = list(_paths(SETTINGS["nav"]))
    assert sorted(listed) == [page.name for page in PAGES], "put the new page into `mkdocs.yml`"


def test_every_page_begins_with_its_only_title() -> None:
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        titles = re.findall(r"^# (.*)$", text, re.M)
        assert len(titles) == 1, page.name
        assert text.startswith(f"# {titles[0]}"), page.name


def test_nothing_in_the_settings_needs_another_server() -> None:
    assert SETTINGS["theme"]["font"] is False
    assert SETTINGS["strict"] is True
    assert not {"analytics", "repo_url"} & {*SETTINGS, *SETTINGS["extra"]}
    assert not {"extra_javascript", "extra_css"} & SETTINGS.keys()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed; `pip install '.[docs]'` brings it")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environ = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, done.stderr
    return folder


def test_the_site_has_each_page(site: Path) -> None:
    for page in PAGES:
        html = (site / f"{page.stem}.html").read_text(encoding="utf-8")
        title = page.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        assert html_text(title.partition("`")[0], quote=False) in html
    assert not list(site.glob("*.py"))


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages, styles = list(site.rglob("*.html")), list(site.rglob("*.css"))
    assert pages
    assert styles
    for page in pages:
        html = _REL_THAT_LOADS_NOTHING.sub("", page.read_text(encoding="utf-8"))
        loaded = _LOADED.findall(html)
        assert loaded, page
        assert not [url for url in loaded if re.match(r"(https?:)?//", url)], page
    for style in styles:
        assert not _OF_A_STYLE.findall(style.read_text(encoding="utf-8")), style
