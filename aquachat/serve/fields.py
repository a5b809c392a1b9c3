"""Fields of a JSON body, read with a sentence for each that cannot be used."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from aquachat.serve.errors import ApiError


class Fields:
    """The fields of one object. Read what is known, then call `refuse_others`.

    Null is absent, as OpenAI's clients send it.
    """

    def __init__(self, values: object, name: str = "the body") -> None:
        if not isinstance(values, Mapping):
            raise ApiError(400, f"{name} is not a JSON object")
        self._values: Mapping[str, Any] = values
        self._known: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def get(self, name: str) -> Any:
        """The value as it is, None where it is absent."""
        self._known.add(name)
        return self._values.get(name)

    def number(self, name: str, default: float, low: float, high: float) -> float:
        """A number between `low` and `high`."""
        value = self.get(name)
        if value is None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise _not_allowed(name, value, f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number between `low` and `high`."""
        value = self.get(name)
        if value is None:
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not low <= value <= high:
            raise _not_allowed(name, value, f"a whole number from {low} to {high}")
        return int(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise _not_allowed(name, value, "true or false")
        return value

    def text(self, name: str, default: str | None = None, *, max_chars: int = 1000) -> str:
        """A string; it must be there where there is no default."""
        value = self.get(name)
        if value is None and default is not None:
            return default
        if value is None:
            raise ApiError(
                400, f"`{name}` is missing", code="missing_required_parameter", parameter=name
            )
        if not isinstance(value, str) or len(value) > max_chars:
            raise _not_allowed(name, value, f"a string of at most {max_chars:,} characters")
        return value

    def texts(self, name: str, most: int, max_chars: int) -> tuple[str, ...]:
        """A string or a list of some; none may be empty."""
        value = self.get(name)
        found = [value] if isinstance(value, str) else value
        if found is None:
            return ()
        is_valid = isinstance(found, list) and len(found) <= most
        if not is_valid or not all(
            isinstance(each, str) and 0 < len(each) <= max_chars for each in found
        ):
            allowed = f"up to {most} strings of 1 to {max_chars} characters"
            raise _not_allowed(name, value, allowed)
        return tuple(found)

    def only(self, name: str, allowed: Collection[object], reason: str) -> None:
        """Refuse a field with any value but those; an absent one is allowed."""
        value = self.get(name)
        if value is not None and value not in allowed:
            raise ApiError(
                400,
                f"`{name}` cannot be used: {reason}",
                code="unsupported_parameter",
                parameter=name,
            )

    def ignore(self, *names: str) -> None:
        """Know fields that say nothing about the reply."""
        self._known.update(names)

    def refuse_others(self) -> None:
        """Refuse what nobody has read, so that no wish is ignored silently."""
        for name in self._values:
            if name not in self._known:
                shown = str(name)[:60]
                raise ApiError(
                    400,
                    f"there is no field `{shown}`",
                    code="unknown_parameter",
                    parameter=shown,
                )


def _not_allowed(name: str, value: object, allowed: str) -> ApiError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return ApiError(400, f"`{name}` is {shown}, it must be {allowed}", parameter=name)
