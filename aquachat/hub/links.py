"""The files that a Markdown text links to, confined to the folder it lies in.

Links are found by a CommonMark parser (`markdown-it-py`, which rich brings along) and, in HTML, by
the standard library's: inline links with titles and angle brackets, images, reference definitions,
`href`, `src`, `srcset`, `poster` and `data`. What is shown as code links to nothing.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from aquachat.errors import DataError

if TYPE_CHECKING:
    from markdown_it.token import Token

_ATTRIBUTES: Final = ("href", "src", "poster", "data", "xlink:href")
_GIT_TIMEOUT_S: Final = 30.0
_HINT: Final = "link to it by its address on the web, or remove the link"


@dataclass(frozen=True, slots=True)
class LinkedFiles:
    """What the links of a text lead to."""

    files: dict[str, Path]
    """Path below the root, with `/` -> the file; sorted."""
    missing: tuple[str, ...]
    """Targets that are not there."""


def find_targets(markdown: str) -> list[str]:
    """The targets of all links, in order and each once, as they are written (percent-encoded)."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    environment: dict[str, dict[str, dict[str, str]]] = {}
    found: list[str] = []
    for token in _walk(parser.parse(markdown, environment)):
        if token.type == "link_open":
            found.append(str(token.attrs.get("href", "")))
        elif token.type == "image":
            found.append(str(token.attrs.get("src", "")))
        elif token.type in ("html_block", "html_inline"):
            found += _html_targets(token.content)
    found += [entry["href"] for entry in environment.get("references", {}).values()]
    return list(dict.fromkeys(found))


def linked_files(
    text: str, root: Path, *, without: Sequence[Path] = (), source: str = "README.md"
) -> LinkedFiles:
    """The files below `root` that a text in `root` links to.

    A folder stands for the files in it: those that git tracks, where it is a repository, else all
    that are not hidden.

    Args:
        text: Markdown.
        root: the folder of the text; nothing outside it is read.
        without: folders whose files are left out.
        source: name of the text, for messages.

    Raises:
        DataError: a link leaves `root`, or leads to a hidden file or through a symbolic link.
    """
    files: dict[str, Path] = {}
    missing: list[str] = []
    excluded = [folder.resolve() for folder in without]
    for target in find_targets(text):
        path = _local_path(target, source)
        if path is None or not path.parts:
            continue  # elsewhere on the web, a place in the page, or the folder of the text itself
        place = root / path
        _refuse_symlinks(root, path, target, source)
        if place.is_dir():
            below = dict(_files_in(root, path))
        elif place.is_file():
            below = {path.as_posix(): place}
        else:
            missing.append(path.as_posix())
            continue
        files |= {
            name: file
            for name, file in below.items()
            if not any(file.resolve().is_relative_to(folder) for folder in excluded)
        }
    return LinkedFiles(dict(sorted(files.items())), tuple(dict.fromkeys(missing)))


class _Attributes(HTMLParser):
    """Collects what the tags of a piece of HTML refer to."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take the attributes that hold addresses."""
        for name, value in attrs:
            if not value:
                continue
            if name in _ATTRIBUTES:
                self.found.append(value)
            elif name == "srcset":
                candidates = re.split(r",\s+|,$", value.strip())
                self.found += [each.split()[0] for each in candidates if each.strip()]


def _html_targets(html: str) -> list[str]:
    parser = _Attributes()
    parser.feed(html)
    parser.close()
    return parser.found


def _walk(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _walk(token.children or ())


def _local_path(target: str, source: str) -> PurePosixPath | None:
    """The path that a target names, None where it is an address elsewhere.

    Raises:
        DataError: it is absolute, leaves the folder, or is hidden.
    """
    try:
        parts = urlsplit(target)
    except ValueError:
        return None  # no address either, for example `http://[`
    if parts.scheme == "file" or len(parts.scheme) == 1:
        raise _refused(target, source, "is a path of this machine")
    if parts.scheme or parts.netloc:
        return None
    text = unquote(parts.path)
    if text.startswith("/"):
        raise _refused(target, source, "is an absolute path")
    if "\\" in text or "\0" in text:
        raise _refused(target, source, "holds a character that no path here has")
    path = PurePosixPath(os.path.normpath(text)) if text else PurePosixPath()
    if ".." in path.parts:
        raise _refused(target, source, "lies outside its folder")
    if any(part.startswith(".") for part in path.parts):
        raise _refused(target, source, "is hidden")
    return path


def _refuse_symlinks(root: Path, path: PurePosixPath, target: str, source: str) -> None:
    place = root
    for part in path.parts:
        place = place / part
        if place.is_symlink():
            raise _refused(target, source, "goes through a symbolic link")


def _files_in(root: Path, folder: PurePosixPath) -> Iterator[tuple[str, Path]]:
    tracked = _tracked(root, folder)
    for file in sorted((root / folder).rglob("*")):
        path = file.relative_to(root)
        if tracked is not None and path.as_posix() not in tracked:
            continue
        steps = [root.joinpath(*path.parts[: n + 1]) for n in range(len(path.parts))]
        is_plain = file.is_file() and not any(step.is_symlink() for step in steps)
        if is_plain and not any(part.startswith(".") for part in path.parts):
            yield path.as_posix(), file


def _tracked(root: Path, folder: PurePosixPath) -> set[str] | None:
    """What git tracks in a folder; None where there is no repository, or no git."""
    command = ["git", "ls-files", "-z", "--", f"{folder.as_posix()}/"]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, timeout=_GIT_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}


def _refused(target: str, source: str, why: str) -> DataError:
    return DataError(f"`{source}` links to `{target}`, which {why}", hint=_HINT)
