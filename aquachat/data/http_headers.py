"""Headers of an answer that a downloader goes by."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Final

from aquachat.data.http_transport import Response

ENCODINGS: Final = ("gzip", "deflate", "br", "zstd", "compress")

_PART = re.compile(r"bytes\s+(\d+)-(\d+)/(\d+|\*)", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def whole_number(text: str | None) -> int | None:
    """A header that is a number; None where it is missing or something else."""
    return int(text) if text is not None and text.strip().isdecimal() else None


def content_range(text: str | None) -> tuple[int, int | None] | None:
    """The first byte of a part and the length of the whole, None where it is not said.

    Example:
        content_range("bytes 100-199/200") == (100, 200); content_range("bytes 5-9/*") == (5, None)
    """
    match = _PART.fullmatch((text or "").strip())
    return (int(match[1]), whole_number(match[3])) if match else None


def retry_after_s(text: str | None, now_s: float) -> float | None:
    """Seconds to wait by a `Retry-After` header: a number or a date (RFC 9110, section 10.2.3).

    Args:
        text: the header.
        now_s: seconds since 1970.
    """
    if text is None:
        return None
    if (seconds := whole_number(text)) is not None:
        return float(seconds)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now_s)
    except (TypeError, ValueError):
        return None


def linked_file(response: Response) -> tuple[int | None, str | None]:
    """Size and sha256 that the Hugging Face hub tells of a large file when it redirects to it."""
    etag = (response.header("X-Linked-ETag") or "").strip('"').lower()
    size = whole_number(response.header("X-Linked-Size"))
    return size, etag if _SHA256.fullmatch(etag) else None


def encoding_of(response: Response) -> str | None:
    """The compression that the server added, None where it sends the file as it is."""
    encoding = (response.header("Content-Encoding") or "").strip().lower()
    return encoding if encoding in ENCODINGS else None
