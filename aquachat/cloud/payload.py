"""Reading JSON that others wrote: what must be there, and what may be missing.

New keys, statuses and regions are no error; a missing or misshapen essential (an id, the list
itself) is one, because a machine that cannot be read could otherwise be overlooked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from aquachat.cloud.errors import UnreadableError

MAX_WORD_CHARS: Final = 100


def unreadable(service: str, what: str) -> UnreadableError:
    """The error for an answer that lacks `what`."""
    return UnreadableError(
        f"{service} answered without {what}",
        hint="update aquachat; the API may have changed",
    )


def as_object(value: Any, service: str, what: str) -> Mapping[str, Any]:
    """`value` as a JSON object.

    Raises:
        UnreadableError: it is something else.
    """
    if not isinstance(value, dict):
        raise unreadable(service, what)
    return value


def as_objects(value: Any, service: str, what: str) -> list[Mapping[str, Any]]:
    """`value` as an array of objects; a single odd element makes the whole unreadable."""
    if not isinstance(value, list):
        raise unreadable(service, what)
    return [as_object(item, service, what) for item in value]


def text_at(value: Any, *path: str | int) -> str:
    """The text (or number, as text) at a path; empty where there is none.

    Example:
        text_at({"region": {"name": "us-west-1"}}, "region", "name") -> "us-west-1"
    """
    found = item_at(value, *path)
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return ""
    return str(found)


def word_at(value: Any, *path: str | int) -> str:
    """The text at a path, fit to be shown: one printable line of at most 100 characters."""
    text = text_at(value, *path)[:MAX_WORD_CHARS]
    return "".join(c if c.isprintable() else " " for c in text).strip()


def whole_at(value: Any, *path: str | int) -> int | None:
    """The whole number at a path, also where it is written as text; None where there is none."""
    text = text_at(value, *path).strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def item_at(value: Any, *path: str | int) -> Any:
    """Whatever is at a path of keys and indices; None where there is nothing."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value
