"""Values on their way to JSON: numbers of any library become plain ones.

JSON has no NaN and no infinity, yet "the loss became NaN at step 40" must survive in a file. One
rule holds everywhere: a number that is not finite is written as the string `"NaN"`, `"Infinity"` or
`"-Infinity"`, which both Python's `float` and JavaScript's `Number` read back.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def jsonable(value: object) -> Any:
    """Turn `value` into what `json.dumps(..., allow_nan=False)` accepts.

    NumPy and torch scalars and arrays, dataclasses, enumerations, paths, tuples and sets (sorted)
    are understood.

    Raises:
        TypeError: a value of a kind that has no JSON form.

    Example:
        jsonable({"loss": float("nan"), "at": Path("runs/a")}) -> {"loss": "NaN", "at": "runs/a"}
    """
    if isinstance(value, Enum):
        return jsonable(value.value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, PurePath):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: jsonable(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(jsonable(key)): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [jsonable(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(jsonable(item) for item in value)
    to_list = getattr(value, "tolist", None)  # NumPy and torch, scalars included
    if callable(to_list):
        return jsonable(to_list())
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def to_json(value: object, *, indent: int | None = None) -> str:
    """One JSON text; see `jsonable` for what is understood."""
    return json.dumps(jsonable(value), ensure_ascii=False, allow_nan=False, indent=indent)


def as_number(value: object) -> float | None:
    """Read a number as `jsonable` writes it, None where `value` is not one.

    Example:
        as_number("NaN") -> nan; as_number(3) -> 3.0; as_number("attn/heatmap.png") -> None
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    return NON_FINITE.get(value) if isinstance(value, str) else None


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)  # numpy.float64 is a float too; its repr is not ours
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
