"""Which documents a corpus leaves out since they hold words of evaluation questions, and the count.

Documents come in pieces, and pieces are searched in other processes. What a seam between two pieces
of a long document hides is searched here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from aquachat.data.document_stream import Piece
from aquachat.data.hygiene.document_guard import DocumentGuard

SEAM_BYTES: Final = 4096
"""Text on both sides of a seam: thirteen words, unless they are 300 bytes long on average."""


@dataclass(frozen=True, slots=True)
class DocumentPolicy:
    """What is done about contaminated training documents."""

    guard: DocumentGuard
    sources: tuple[str, ...]
    """Whose documents are searched."""
    keeps_contaminated: bool = False
    """Only count them."""

    def key(self) -> dict[str, Any]:
        """What decides which documents are left out; a corpus goes on only under the same."""
        return {
            "guard": self.guard.fingerprint,
            "sources": [*self.sources],
            "keeps_contaminated": self.keeps_contaminated,
        }


@dataclass(frozen=True, slots=True)
class Contaminated:
    """Documents of one source that hold words of one evaluation split."""

    source: str
    split: str
    """For example `mmlu/test`, that of the first question that was found."""
    documents: int
    text_bytes: int


@dataclass(frozen=True, slots=True)
class ContaminationReport:
    """What was found in the training documents of a corpus."""

    policy: DocumentPolicy
    found: tuple[Contaminated, ...]

    @property
    def documents(self) -> int:
        """Documents that hold words of evaluation questions."""
        return sum(entry.documents for entry in self.found)

    @property
    def text_bytes(self) -> int:
        """Their text."""
        return sum(entry.text_bytes for entry in self.found)

    def by_split(self) -> dict[str, int]:
        """Documents by evaluation split."""
        counts: dict[str, int] = {}
        for entry in self.found:
            counts[entry.split] = counts.get(entry.split, 0) + entry.documents
        return counts

    def to_json(self) -> dict[str, Any]:
        """As the index of the corpus holds it."""
        return {
            **self.policy.key(),
            "searched": [asdict(split) for split in self.policy.guard.searched],
            "documents": self.documents,
            "text_bytes": self.text_bytes,
            "found": [asdict(entry) for entry in self.found],
        }


class DocumentWatch:
    """Follows the pieces of documents for training, and says which are not to be written."""

    def __init__(self, policy: DocumentPolicy) -> None:
        self.policy = policy
        self._counts: dict[tuple[str, str], tuple[int, int]] = {}
        self._found: str | None = None
        self._text_bytes = 0
        self._end = b""

    def leaves_out(self, piece: Piece, found: str | None) -> bool:
        """Whether the document of a piece is to be left out, as far as it has been read.

        Args:
            piece: of a training document; pieces come in order.
            found: the evaluation split of a question whose words are in the piece.
        """
        if piece.starts:
            self._found, self._text_bytes = None, 0
        elif self._found is None:
            self._found = self._at_seam(piece.content)
        self._found = self._found or found
        self._text_bytes += len(piece.content)
        self._end = b"" if piece.ends else piece.content[-SEAM_BYTES:]
        if piece.ends and self._found is not None:
            key = (piece.source, self._found)
            documents, text_bytes = self._counts.get(key, (0, 0))
            self._counts[key] = (documents + 1, text_bytes + self._text_bytes)
        return self._found is not None and not self.policy.keeps_contaminated

    def report(self) -> ContaminationReport:
        """What was found so far."""
        found = (Contaminated(*key, *counts) for key, counts in sorted(self._counts.items()))
        return ContaminationReport(self.policy, tuple(found))

    def take_up(self, found: Iterable[Mapping[str, Any]]) -> None:
        """Go on from what a report's `found` held."""
        entries = [Contaminated(**entry) for entry in found]
        self._counts = {(e.source, e.split): (e.documents, e.text_bytes) for e in entries}

    def begin_anew(self) -> None:
        """Forget what was counted."""
        self._counts = {}

    def _at_seam(self, content: bytes) -> str | None:
        text = (self._end + content[:SEAM_BYTES]).decode(errors="ignore")
        # The outermost words may be parts of longer ones, so only the others are looked at.
        whole = text.split(" ", 1)[-1].rsplit(" ", 1)[0]
        found = self.policy.guard.search([whole.encode()])
        return found[0].split if found else None
