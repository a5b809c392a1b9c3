"""Finding the program in a reply: code blocks, a whole function, or only its body.

The reply is never parsed or compiled here, only read line by line: text that a model wrote can
crash Python's own parser, so that happens in the sandbox.
"""

from __future__ import annotations

import itertools
import re

_FENCE = re.compile(r"^[ \t]*(?:```+|~~~+)[^\n]*$", re.MULTILINE)
_TOP_LEVEL = re.compile(
    r"(?:async[ ]+def|def)[ ]+\w+[ ]*\(|class[ ]+\w+[ ]*[(:]|@\w|import[ ]+[\w.]+(?:[ ]+as[ ]+\w+)?"
    r"(?:[ ]*,[ ]*[\w.]+)*[ ]*$|from[ ]+[\w.]+[ ]+import[ ]|\w+(?:[ ]*:[ ]*[\w\[\], .]+)?[ ]*=[^=]"
)
"""How a line of a module's own level begins that a solution may need."""
_STATEMENT = re.compile(
    r"(?:return|for|while|if|try|with|assert|raise|pass|global|nonlocal|def|class|import|from)\b"
    r"|[\w.\[\], \"'()]+[ ]*[-+*/%|&^]?=[^=]|[\w.]+\(|#|\"\"\"|'''"
)
_INDENT = "    "
_BEGINNING_CHARS = 200
"""How much of a line decides what it is."""


def find_program(reply: str, prompt: str, entry_point: str) -> str | None:
    r"""The program that `reply` makes of `prompt`, None where it adds nothing to it.

    - Of code blocks the last one that defines the function counts, else the first.
    - Text that defines the function is a program; what stands before the definition in the prompt
      (imports, functions it may use) is put in front. Outside of code blocks, prose between
      definitions is left out.
    - Other text is the function's body and is put after the prompt, indented. It ends where a line
      of the function's own level or outside of it follows.

    Example:
        find_program("    return x + 1\n\nThis adds one.", 'def f(x):\n    "..."\n', "f")
        # 'def f(x):\n    "..."\n    return x + 1\n'
    """
    definition = re.compile(
        rf"^[ \t]*(?:async[ ]+)?def[ ]+{re.escape(entry_point)}\b", re.MULTILINE
    )
    blocks = _blocks(reply)
    defining = [block for block in blocks if definition.search(block)]
    if defining:
        return _whole(_dedented(defining[-1], definition), prompt, entry_point)
    if blocks:
        return _with_body(blocks[0], prompt)
    if definition.search(reply):
        code = _without_prose(_dedented(reply, definition))
        return _whole(code, prompt, entry_point)
    return _with_body(_body_lines(reply), prompt)


def _blocks(reply: str) -> list[str]:
    """What stands in fences that are not blank; the last may be open, as in a reply cut short."""
    fences = list(_FENCE.finditer(reply))
    blocks = []
    for opening, closing in zip(fences[::2], [*fences[1::2], None], strict=False):
        block = reply[opening.end() : closing.start() if closing else len(reply)]
        if block.strip():
            blocks.append(block.removeprefix("\n"))
    return blocks


def _whole(code: str, prompt: str, entry_point: str) -> str | None:
    if not code.strip() or _words(code) == _words(prompt):
        return None
    before = re.split(rf"^def[ ]+{re.escape(entry_point)}\b", prompt, flags=re.MULTILINE)[0]
    return f"{before}\n{code.rstrip()}\n"


def _with_body(body: str, prompt: str) -> str | None:
    indented = _indented(body)
    if not indented.strip() or _words(body) in _words(prompt):
        return None
    return f"{prompt.rstrip()}\n{indented.rstrip()}\n"


def _words(text: str) -> str:
    return " ".join(text.split())


def _dedented(text: str, definition: re.Pattern[str]) -> str:
    """The text moved left by the indent of the function's definition."""
    match = definition.search(text)
    start = match[0] if match else ""
    width = len(start) - len(start.lstrip(" \t"))
    if not width:
        return text
    return "\n".join(line[min(width, _width(line)) :] for line in text.split("\n"))


def _width(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _without_prose(text: str) -> str:
    """The definitions, imports and assignments of a text, with what is indented below them."""
    kept: list[str] = []
    keep = in_string = False
    for line in text.split("\n"):
        if line.strip() and not in_string and not _width(line) and line[0] not in ")]}":
            keep = _TOP_LEVEL.match(line, 0, _BEGINNING_CHARS) is not None
        if keep:
            kept.append(line)
            in_string ^= (line.count('"""') + line.count("'''")) % 2 == 1
    return "\n".join(kept)


def _body_lines(reply: str) -> str:
    """The lines of a reply without code blocks that can be a body."""
    lines = reply.split("\n")
    spoken = [index for index, line in enumerate(lines) if line.strip()]
    if not spoken:
        return ""
    first = spoken[0]
    if not _width(lines[first]) and not _STATEMENT.match(lines[first], 0, _BEGINNING_CHARS):
        # prose first: the body is what is indented
        first = next((index for index in spoken if _width(lines[index])), len(lines))
    end = len(lines)
    if first < len(lines) and (_width(lines[first]) or _lost_its_indent(lines[first:])):
        outside = (i for i in spoken if i > first and not _width(lines[i]))
        end = next(outside, end)
    return "\n".join(lines[first:end])


def _lost_its_indent(lines: list[str]) -> bool:
    """Whether only the first line stands at the left, as where a reply was stripped of spaces."""
    widths = [_width(line) for line in lines if line.strip()]
    below = list(itertools.takewhile(bool, widths[1:]))
    if not widths or widths[0] or not below or min(below) < len(_INDENT):
        return False
    if lines[0].rstrip().endswith((":", "(", "[", "{", ",", "\\")):
        return min(below) < below[0] or below[0] >= 2 * len(_INDENT)
    return True


def _indented(body: str) -> str:
    """The body at the level of a function's: four spaces at least."""
    lines = body.strip("\n").split("\n")
    if _lost_its_indent(lines):
        lines[0] = _INDENT + lines[0]
    if all(_width(line) or not line.strip() for line in lines):
        return "\n".join(lines)
    return "\n".join(_INDENT + line if line.strip() else line for line in lines)
