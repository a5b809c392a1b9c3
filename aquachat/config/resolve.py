"""From presets, files and flags to one recipe, with the origin of every value.

Precedence: defaults < preset (or the recipe an earlier stage of the run recorded) < `--config FILE`
< flags. Hyper-parameters never come from the environment.
"""

from __future__ import annotations

import difflib
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any

from aquachat.config.recipes import SECTIONS, Recipe, keys_of
from aquachat.errors import ConfigError, MissingFileError

Layer = Mapping[str, Mapping[str, Any]]
"""Section -> key -> value."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A recipe and, for each `section.key`, where its value came from."""

    recipe: Recipe
    origins: Mapping[str, str]

    def rows(self) -> list[tuple[str, str, str]]:
        """(`section.key`, value, origin) for every value, for `--dry-run`."""
        values = asdict(self.recipe)
        return [
            (f"{section}.{key}", _show(values[section][key]), self.origins[f"{section}.{key}"])
            for section in SECTIONS
            for key in keys_of(section)
        ]


def resolve(layers: Sequence[tuple[str, Layer]]) -> Resolved:
    """Apply layers, later ones winning, on top of the defaults.

    Args:
        layers: (origin, section -> key -> value) from weakest to strongest.

    Raises:
        ConfigError: an unknown section or key (naming the closest one), or a value of another type.
    """
    recipe = Recipe()
    origins = {f"{s}.{k}": "default" for s in SECTIONS for k in keys_of(s)}
    for origin, layer in layers:
        for section, values in layer.items():
            if section not in SECTIONS:
                raise _unknown("section", f"[{section}]", section, list(SECTIONS), origin)
            checked = {key: _checked(section, key, value, origin) for key, value in values.items()}
            stage = replace(getattr(recipe, section), **checked)
            recipe = replace(recipe, **{section: stage})
            origins.update({f"{section}.{key}": origin for key in checked})
    return Resolved(recipe, origins)


def preset_names() -> list[str]:
    """The presets that ship with aquachat."""
    folder = resources.files("aquachat.config") / "presets"
    names = [entry.name.removesuffix(".toml") for entry in folder.iterdir()]
    return sorted((n for n in names if "." not in n and not n.startswith("_")), key=_preset_order)


def preset_layers(name: str, *, with_data: bool = False) -> list[tuple[str, Layer]]:
    """The layers of a preset; `with_data` adds what `--data DIR` changes in it.

    Raises:
        ConfigError: no such preset.
    """
    if name not in preset_names():
        raise ConfigError(
            f"there is no preset `{name}`", hint=_closest(name, preset_names(), "presets")
        )
    own = _preset_file(name)
    assert own is not None
    shared = own.pop("extends", None)
    files = [(f"preset {name}", _preset_file(shared) if shared else None), (f"preset {name}", own)]
    if with_data:
        files += [(f"preset {name}.data", _preset_file(f"{n}.data")) for n in (shared, name) if n]
    return [(origin, layer) for origin, layer in files if layer is not None]


def _preset_file(name: str) -> dict[str, Any] | None:
    """A file among the presets; None where there is none."""
    file = resources.files("aquachat.config") / "presets" / f"{name}.toml"
    return tomllib.loads(file.read_text("utf-8")) if file.is_file() else None


def file_layer(path: Path) -> tuple[str, Layer]:
    """Read a TOML file as a layer.

    Raises:
        MissingFileError: no such file.
        ConfigError: it is not TOML, or a key stands outside a section.
    """
    try:
        text = path.read_text("utf-8")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MissingFileError(
            f"there is no configuration file `{path}`", hint="check `--config`"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"`{path}` is not a text file in UTF-8", hint="check `--config`"
        ) from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"`{path}` is not valid TOML: {error}", hint="correct that line"
        ) from error
    for key, value in document.items():
        if not isinstance(value, dict):
            raise ConfigError(
                f"`{key}` in `{path}` stands outside a section",
                hint=f"put it under one of {', '.join(f'[{s}]' for s in SECTIONS)}",
            )
    return str(path), document


def to_toml_document(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The recipe as plain tables, ready for a TOML writer; read back by `resolve`."""
    return asdict(recipe)


def _checked(section: str, key: str, value: Any, origin: str) -> Any:
    known = keys_of(section)
    if key not in known:
        raise _unknown("key", f"{section}.{key}", key, list(known), origin)
    stage = SECTIONS[section]
    wanted = typing.get_type_hints(stage)[key]
    try:
        coerced = _coerce(value, wanted)
    except TypeError as error:
        raise ConfigError(
            f"`{section}.{key}` in {origin} is {value!r}, which is not {error}",
            hint="see `aquachat run tiny --dry-run` for every key and its value",
        ) from error
    shown = f"`--{key.replace('_', '-')}`" if origin == "flag" else f"`{section}.{key}` in {origin}"
    choices = next(f for f in fields(stage) if f.name == key).metadata["choices"]
    if choices and coerced not in choices:
        raise ConfigError(f"{shown} is `{coerced}`", hint=f"use {' or '.join(choices)}")
    if isinstance(coerced, int | float) and not isinstance(coerced, bool) and coerced < 0:
        raise ConfigError(f"{shown} is {coerced}, which is negative", hint="use 0 or more")
    return coerced


def _coerce(value: Any, wanted: Any) -> Any:
    """`value` as the field's type; an int is a float where one is wanted, nothing else changes."""
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin in (typing.Union, types.UnionType):
        return value
    if origin is typing.Literal:
        wanted, origin = str, None
    if origin is list:
        if not isinstance(value, list | tuple):
            raise TypeError("a list")
        return [_coerce(entry, arguments[0]) for entry in value]
    if origin is dict:
        if not isinstance(value, dict):
            raise TypeError("a table")
        return {str(k): _coerce(v, arguments[1]) for k, v in value.items()}
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
        raise TypeError(names[wanted])
    return value


def _unknown(kind: str, shown: str, word: str, known: Sequence[str], origin: str) -> ConfigError:
    return ConfigError(
        f"unknown {kind} `{shown}` in {origin}", hint=_closest(word, known, f"{kind}s")
    )


def _closest(word: str, known: Sequence[str], plural: str) -> str:
    matches = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"did you mean `{matches[0]}`?" if matches else f"the {plural} are {', '.join(known)}"


def _preset_order(name: str) -> tuple[int, str]:
    digits = "".join(c for c in name if c.isdigit())
    return (int(digits) if digits else 0, name)


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value) if value != "" else "-"
