"""What runs inside the sandbox: a whole program, or a function beside the tests that judge it.

A judged function and its tests are two processes, so that nothing in the function's program can
reach the tests: it sees the arguments of each call and sends back plain data, and the comparison
happens where it has no say. An object that says it equals everything does not survive the journey.
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

ALIVE_FD, READ_FD, WRITE_FD = 3, 4, 5

FAILED: Final = 1
OUT_OF_MEMORY: Final = 71
FUNCTION_DIED: Final = 72
"""Of the judge: the other process ended in the middle of a call."""
INTERNAL_ERROR: Final = 73

MAX_MESSAGE_BYTES: Final = 4 * 2**20
MAX_NESTING: Final = 40
MAX_ERROR_CHARS: Final = 500

_MODULE_NAMES: Final = """
    abc array ast base64 binascii bisect builtins calendar cmath collections contextlib copy csv
    dataclasses datetime decimal difflib enum errno fractions functools gc hashlib heapq hmac html
    inspect io itertools json keyword locale logging math numbers operator os platform pprint queue
    random re secrets signal statistics string struct sys textwrap threading time timeit traceback
    types typing unicodedata uuid warnings weakref zlib
"""
MODULES: Final = frozenset(_MODULE_NAMES.split())
"""What a program may import. It is loaded before the program is shut in, since nothing can be
loaded afterwards, and only where the program's text has the name."""
_LATE_IMPORTS: Final = {
    "collections": ("collections.abc", "heapq", "copy"),
    "datetime": ("_strptime",),
    "decimal": ("numbers",),
    "functools": ("types", "typing"),
    "os": ("os.path",),
    "statistics": ("random", "math"),
    "string": ("re",),
    "typing": ("collections.abc",),
}
"""Modules that one imports later, inside its functions."""
_CODECS: Final = ("encodings.ascii", "encodings.latin_1", "encodings.utf_16")


def modules_named(sources: Iterable[str]) -> list[str]:
    """The modules that sources may import, by every name in their text."""
    words = set(re.findall(r"[A-Za-z_]+", "\n".join(sources)))
    found = [
        module
        for name in sorted(words & MODULES)
        for module in (name, *_LATE_IMPORTS.get(name, ()))
    ]
    return found + (list(_CODECS) if {"encode", "decode", "codecs"} & words else [])


def load_modules(names: Iterable[str]) -> None:
    """Import the modules, then make further imports fail as if there were none."""
    for name in names:
        importlib.import_module(name)
    sys.path.clear()
    sys.path_hooks.clear()
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [finder for finder in sys.meta_path if "Path" not in repr(finder)]


def run(program: Mapping[str, Any]) -> int:
    """Run a program in its role and return the exit code of the process."""
    try:
        if program["role"] == "function":
            _serve(program["source"], program["entry_point"])
        elif program["role"] == "tests":
            _judge(program["preamble"], program["source"], program["entry_point"])
        else:
            os.closerange(READ_FD, WRITE_FD + 1)
            _execute(program["source"])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except MemoryError:
        code = OUT_OF_MEMORY
    except _FunctionDied:
        code = FUNCTION_DIED
    except BaseException as error:
        code = FAILED
        complain(error)
    try:
        sys.stdout.flush()
    except BaseException:
        code = code or FAILED
    return code & 0xFF


def complain(error: BaseException) -> None:
    """Say what went wrong, at most so much."""
    try:
        text = f"{type(error).__name__}: {str(error)[:MAX_ERROR_CHARS]}\n"
        os.write(2, text.encode("utf-8", "replace"))
    except BaseException:
        os.write(2, b"an exception that cannot be printed\n")


def _execute(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins}
    exec(compile(source, "<program>", "exec", dont_inherit=True), namespace)
    return namespace


def _serve(source: str, entry_point: str) -> None:
    """Run the program, then answer calls of its function until there are no more."""
    function = _execute(source)[entry_point]
    while (message := _receive()) is not None:
        try:
            reply = ["value", encode(function(*(decode(value) for value in message)))]
        except MemoryError:
            reply = ["raised", "MemoryError"]
        except Exception as error:
            reply = ["raised", type(error).__name__]
        _send(reply)


def _judge(preamble: str, tests: str, entry_point: str) -> None:
    """Run the tests on the other process's function; returns only where all of them passed."""
    if "random" in sys.modules:
        sys.modules["random"].seed(0)
    try:
        compile(preamble, "<preamble>", "exec", dont_inherit=True)
    except SyntaxError:
        preamble += "\n    pass\n"  # the head of a function without a body
    namespace = _execute(preamble)
    exec(compile(tests, "<tests>", "exec", dont_inherit=True), namespace)
    namespace[entry_point] = _call
    namespace["check"](_call)


class _FunctionDied(BaseException):
    """The function's process is gone; not an `Exception`, so that no test takes it for one."""


class _FunctionRaised(Exception):
    """The function raised an exception."""


class Opaque:
    """Stands for a value that is no plain data; it equals nothing."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return False


def _call(*arguments: object) -> Any:
    try:
        _send([encode(argument) for argument in arguments])
        reply = _receive()
    except BrokenPipeError:
        reply = None
    if reply is None:
        raise _FunctionDied
    if reply[0] != "value":
        if reply[1] == "MemoryError":
            raise MemoryError
        raise _FunctionRaised(reply[1])
    return decode(reply[1])


def encode(value: object, depth: int = 0) -> Any:
    """A value as JSON that tells types apart; subclasses become the plain type.

    Example:
        encode((1, 2.5))   # ["tuple", [["int", "0x1"], ["float", "0x1.4000000000000p+1"]]]
    """
    if depth > MAX_NESTING:
        return ["opaque"]
    if value is None or isinstance(value, bool):
        return ["literal", value]
    for kind, write in _WRITERS.items():
        if isinstance(value, kind):
            return [kind.__name__, write(value)]
    if isinstance(value, dict):
        pairs = list(value.items())
        return ["dict", [[encode(k, depth + 1), encode(v, depth + 1)] for k, v in pairs]]
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return [kind.__name__, [encode(item, depth + 1) for item in value]]
    name = type(value).__name__
    if name in _NUMBER_MODULES:
        return [name, str(value)]
    return ["opaque"]


def decode(value: Any) -> Any:
    """The value that `encode` wrote; anything else raises."""
    kind = value[0]
    if kind == "literal" and value[1] in (None, True, False):
        return value[1]
    if kind == "dict":
        return {decode(key): decode(item) for key, item in value[1]}
    if kind in _CONTAINERS:
        return _CONTAINERS[kind](decode(item) for item in value[1])
    if kind in _NUMBER_MODULES:
        return getattr(importlib.import_module(_NUMBER_MODULES[kind]), kind)(value[1])
    return Opaque() if kind == "opaque" else _READERS[kind](value[1])


_NUMBER_MODULES: Final = {"Decimal": "decimal", "Fraction": "fractions"}
"""Loaded before the fork wherever a program's text names them, so in both processes."""
_WRITERS: Final[Mapping[type, Callable[[Any], Any]]] = {
    int: lambda value: hex(value),
    float: lambda value: float.hex(value),
    complex: lambda value: [float.hex(value.real), float.hex(value.imag)],
    str: lambda value: str(value),
    bytes: lambda value: bytes(value).hex(),
}
_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "int": lambda text: int(text, 16),
    "float": float.fromhex,
    "complex": lambda pair: complex(float.fromhex(pair[0]), float.fromhex(pair[1])),
    "str": str,
    "bytes": bytes.fromhex,
}
_CONTAINERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}


def _send(message: Any) -> None:
    payload = json.dumps(message).encode()
    if len(payload) > MAX_MESSAGE_BYTES:
        payload = json.dumps(["raised", "ValueError"]).encode()
    content = memoryview(len(payload).to_bytes(4, "big") + payload)
    while content:
        content = content[os.write(WRITE_FD, content) :]


def _receive() -> Any:
    """The next message; None where the other side is gone or sends what is none."""
    head = _read(4)
    if head is None or int.from_bytes(head, "big") > MAX_MESSAGE_BYTES:
        return None
    payload = _read(int.from_bytes(head, "big"))
    return None if payload is None else json.loads(payload)


def _read(count: int) -> bytes | None:
    content = b""
    while len(content) < count:
        piece = os.read(READ_FD, count - len(content))
        if not piece:
            return None
        content += piece
    return content
