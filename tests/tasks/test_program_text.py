"""Which program is found in a reply; whether it runs is shown in `test_humaneval`."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aquachat.tasks.program_text import find_program

PROMPT = 'import math\n\ndef half(x):\n    return x / 2\n\ndef add(a, b):\n    """Add."""\n'
WHOLE = "def add(a, b):\n    return a + b\n"


def _names(program: str | None) -> dict[str, object]:
    assert program is not None
    namespace: dict[str, object] = {}
    exec(compile(ast.parse(program), "<test>", "exec"), namespace)
    return namespace


@pytest.mark.parametrize(
    "reply",
    [
        WHOLE,
        f"```python\n{WHOLE}```",
        f"Sure! Here it is:\n\n```py\n{WHOLE}```\nIt adds `a` and `b`.",
        f"```\n{WHOLE}",
        f"~~~\n{WHOLE}~~~",
        f"First try:\n```python\ndef add(a, b):\n    return 0\n```\nBetter:\n```python\n{WHOLE}```",
        f"```python\n{WHOLE}```\nUse it so:\n```python\nprint(add(1, 2))\n```",
        f"The function you want is this.\n\n{WHOLE}\nIt works because + adds.\nprint(add(1, 2))\n",
        f"Indented:\n\n    {WHOLE.replace(chr(10), chr(10) + '    ')}\nDone.",
        "from functools import reduce\n\n@staticmethod\n" + WHOLE,
        "LIMIT = [\n    1,\n]\n" + WHOLE,
        PROMPT + "    return a + b\n",
        "    return a + b\n",
        "    return a + b",
        "return a + b",
        "return a + b\n",
        "    total = a + b\n    return total\n\nThis returns the total.\n",
        "total = a + b\n    return total",
        "total = a + b\nreturn total",
        "if a:\n        return a + b\n    return b",
        "if a:\n    return a + b\nreturn b",
        "for _ in range(b):\n    a += 1\nreturn a",
        "total = sum([\n    a,\n    b,\n])\nreturn total",
        "```python\nreturn a + b\n```",
        "```python\n    return a + b\n```",
        "The answer is:\n    return a + b\nI hope this helps.",
        "    return a + b\n\ndef other():\n    return None\n",
        "    # add\n    return half(2 * a) + b\n",
    ],
)
def test_reply_becomes_a_program_that_adds(reply: str) -> None:
    names = _names(find_program(reply, PROMPT, "add"))
    add = names["add"]
    assert callable(add)
    function = add if not isinstance(add, staticmethod) else add.__func__
    assert function(2, 3) == 5
    assert "half" in names


@pytest.mark.parametrize(
    "reply",
    [
        "",
        " \n\t\n",
        PROMPT,
        PROMPT.strip(),
        f"```python\n{PROMPT}```",
        "```python\n```",
        "```",
        'def add(a, b):\n    """Add."""\n'.replace("def add", "import math\n\ndef add").replace(
            "import math\n\n", "import math\n\ndef half(x):\n    return x / 2\n\n"
        ),
        "I do not know.",
        "Adding is easy and fun.",
    ],
)
def test_reply_that_adds_nothing_has_no_program(reply: str) -> None:
    assert find_program(reply, PROMPT, "add") is None


@given(st.text(alphabet="`~ \n\tdefadd(ab):return+#\"'x=", max_size=200))
def test_any_text_is_read_without_an_error(reply: str) -> None:
    program = find_program(reply, PROMPT, "add")
    assert program is None or program.endswith("\n")


@pytest.mark.parametrize("text", ["```\n", "def add(", "    ", "a ", "x = ", "'", "#"])
def test_long_text_is_read_in_time(text: str) -> None:
    find_program(text * 50_000, PROMPT, "add")
    find_program(text.strip("\n") * 50_000, PROMPT, "add")
