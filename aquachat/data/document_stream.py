"""The documents of all sources as one stream that knows where it is: batched, skipped, checked."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from aquachat.files import encode_text
from aquachat.text.long_text import Continued

DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Rereadable:
    """Documents that are read anew by each loop over them."""

    read: Callable[[], Iterable[str]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.read())


@dataclass(frozen=True, slots=True)
class Place:
    """How far the stream was read, and a hash of all that was read."""

    pieces: int
    documents: int
    digest: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A document, or a part of a long one."""

    source: str
    content: bytes
    """UTF-8; empty for a document without a visible character."""
    starts: bool
    ends: bool
    only_validation: bool
    is_searched: bool = False
    """Whether it may hold what a training document must not."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Pieces that are encoded together."""

    pieces: tuple[Piece, ...]
    place: Place
    """Behind the last piece."""

    @property
    def contents(self) -> list[bytes]:
        """The text of each piece."""
        return [piece.content for piece in self.pieces]

    @property
    def searched(self) -> list[int]:
        """The places of the pieces that are searched."""
        return [place for place, piece in enumerate(self.pieces) if piece.is_searched]

    @property
    def size_bytes(self) -> int:
        """Bytes of all pieces."""
        return sum(len(piece.content) for piece in self.pieces)

    @property
    def num_documents(self) -> int:
        """Documents that end here."""
        return sum(piece.ends for piece in self.pieces)


class DocumentStream:
    """The documents of `sources`, then those of `validation_sources`.

    Args:
        sources: documents by source, long ones in `Continued` parts.
        validation_sources: documents that are for validation whatever their hash.
        searched_sources: those among `sources` whose documents are to be searched.
    """

    def __init__(
        self,
        sources: Mapping[str, Iterable[str]],
        validation_sources: Mapping[str, Iterable[str]],
        searched_sources: Collection[str] = (),
    ) -> None:
        self._searched_sources = searched_sources
        self._named = [(name, documents, False) for name, documents in sources.items()]
        self._named += [(name, documents, True) for name, documents in validation_sources.items()]
        self._begin()

    def batches(self, size_bytes: int) -> Iterator[Batch]:
        """What is left, in batches that the piece which reaches `size_bytes` closes."""
        pieces: list[Piece] = []
        held_bytes = 0
        for piece in self._counted_pieces:
            pieces.append(piece)
            held_bytes += len(piece.content)
            if held_bytes >= size_bytes:
                yield Batch(tuple(pieces), self._place())
                pieces, held_bytes = [], 0
        if pieces:
            yield Batch(tuple(pieces), self._place())

    def skip_to(self, place: Place) -> bool:
        """Read up to a place; whether what was read is what had been read then."""
        while self._num_pieces < place.pieces and next(self._counted_pieces, None) is not None:
            pass
        return self._place() == place

    def rewind(self) -> bool:
        """Begin again; False where a source can be read only once."""
        if any(iter(documents) is documents for _, documents, _ in self._named):
            return False
        self._begin()
        return True

    def _begin(self) -> None:
        self._digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        self._num_pieces = self._num_documents = 0
        self._counted_pieces = self._counted()

    def _place(self) -> Place:
        return Place(self._num_pieces, self._num_documents, self._digest.hexdigest())

    def _counted(self) -> Iterator[Piece]:
        for piece in self._pieces():
            head = f"{piece.source}\0{len(piece.content)}\0{piece.ends:d}\0"
            self._digest.update(head.encode("utf-8", "replace"))
            self._digest.update(piece.content)
            self._num_pieces += 1
            self._num_documents += piece.ends
            yield piece

    def _pieces(self) -> Iterator[Piece]:
        for name, documents, only_validation in self._named:
            is_searched = name in self._searched_sources and not only_validation
            starts = True
            for text in documents:
                ends = not isinstance(text, Continued)
                is_empty = starts and ends and (not text or text.isspace())
                content = b"" if is_empty else encode_text(text)
                yield Piece(name, content, starts, ends, only_validation, is_searched)
                starts = ends
            if not starts:
                yield Piece(name, b"", False, True, only_validation, is_searched)
