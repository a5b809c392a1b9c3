"""Addresses of files: which strings are one, how one is shown, and what names its local copy."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from aquachat.errors import ConfigError

HTTP_SCHEMES: Final = ("http", "https")
DEFAULT_FILE_NAME: Final = "download"

_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://")
_SECRET_PARAMETER = re.compile(
    r"token|secret|sig|key|auth|pass|cred|session|policy|expires|^x-(amz|goog)-|^(se|sp|sv|sr|st)$",
    re.IGNORECASE,
)
_MAX_SHOWN_VALUE_CHARS = 20
_UNSAFE_CHARACTER = re.compile(r"[^A-Za-z0-9._+=-]+")


def scheme_of(source: str) -> str | None:
    """`https` of `https://host/file`; None for a path, also one with a drive letter."""
    match = _ADDRESS.match(source)
    return match[1].lower() if match else None


def check_address(url: str) -> str:
    """`url` if it can be asked for.

    Raises:
        ConfigError: it has no host, or one that cannot be read. The address is not shown, since
            without its parts the secrets in it are not known.
    """
    try:
        parts = urlsplit(url)
        problem = None if parts.hostname and parts.port != 0 else "it names no host"
    except ValueError as error:
        problem = str(error)
    if problem is not None:
        raise ConfigError(
            f"the `{scheme_of(url)}` address is not valid: {problem}",
            hint="write it as `https://host/path/file`",
        )
    return url


def shown_url(url: str) -> str:
    """An address as it may be shown and written down: without user, password and secrets.

    Parameters that look like a secret by their name, or by a long value, lose their value.

    Example:
        shown_url("https://me:pw@host/a.zip?token=abc&v=2") == "https://host/a.zip?token=...&v=2"
    """
    parts = urlsplit(url)
    query = "&".join(
        f"{name}=..." if _is_secret(name, value) else urlencode({name: value})
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
    )
    return urlunsplit((parts.scheme, _host_of(parts.netloc), parts.path, query, ""))


def address_key(url: str) -> str:
    """What stays the same for one file: a hash of its address without logins and signatures.

    A signed address is another one every hour, and still names the same bytes.
    """
    parts = urlsplit(url)
    query = urlencode(
        [
            (name, value)
            for name, value in parse_qsl(parts.query, keep_blank_values=True)
            if not _SECRET_PARAMETER.search(name)
        ]
    )
    plain = urlunsplit((parts.scheme, _host_of(parts.netloc), parts.path, query, ""))
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def file_name_of(url: str) -> str:
    """The last part of an address as the name of a file on any system.

    Example:
        file_name_of("https://host/a%20b/rows.jsonl.gz?x=1") == "rows.jsonl.gz"
    """
    last = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return _UNSAFE_CHARACTER.sub("_", last).lstrip(".")[-100:] or DEFAULT_FILE_NAME


def local_place(folder: Path, url: str) -> Path:
    """Where in a cache folder the file of an address lies."""
    return folder / address_key(url) / file_name_of(url)


def _is_secret(name: str, value: str) -> bool:
    return _SECRET_PARAMETER.search(name) is not None or len(value) > _MAX_SHOWN_VALUE_CHARS


def _host_of(netloc: str) -> str:
    return netloc.rpartition("@")[2].lower()
