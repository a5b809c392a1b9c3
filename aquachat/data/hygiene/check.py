"""`aquachat prepare --check`: a prepared set read once, and everything that is wrong with it.

Questions are compared within and across splits; training text, documents too, is searched for the
questions of every prepared evaluation split. Documents are a stream: of those only a hash and a
length stay in memory. Near duplicates are looked for among questions, not among documents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from aquachat.data.catalogue import PreparedRow
from aquachat.data.hygiene.guard import Contamination, EvaluationGuard, TrainingText
from aquachat.data.hygiene.minhash import near_pairs
from aquachat.data.hygiene.prepared import (
    TRAIN,
    NumberedRow,
    add_questions,
    prepared_sets,
    reader_of,
    rows_of,
)
from aquachat.data.hygiene.report import (
    MAX_EXAMPLES,
    HygieneReport,
    Leak,
    Overlap,
    SplitHygiene,
    findings_of,
)
from aquachat.data.hygiene.tallies import SHOWN_CHARS, ChoiceTally, LengthTally, RepeatTally
from aquachat.data.manifest import PrepareReport, SplitReport, read_manifest
from aquachat.data.text_documents import read_documents
from aquachat.errors import MissingFileError
from aquachat.text.long_text import Continued

BATCH_CHARS: Final = 2_000_000
"""Training text that is searched together."""
PROGRESS_ROWS: Final = 500

CheckProgress = Callable[[str, int], None]
"""Called with a split and the rows read of it so far, every `PROGRESS_ROWS` and at the end."""


def check_dataset(
    directory: Path, data_root: Path, *, progress: CheckProgress | None = None
) -> HygieneReport:
    """Everything that is wrong with a prepared set.

    Args:
        directory: the folder with its manifest.
        data_root: the folder of all prepared sets, whose evaluation questions are searched for.
        progress: called as rows are read.

    Raises:
        MissingFileError: the set is not prepared, or a file of it is gone.
        DataError: a file cannot be read.
    """
    try:
        manifest = read_manifest(directory)
    except MissingFileError as error:
        raise MissingFileError(
            f"`{directory.name}` is not prepared: there is no `{directory}`"
            if not directory.is_dir()
            else error.message,
            hint=f"run `aquachat prepare {directory.name}`",
        ) from error
    guard = EvaluationGuard()
    searched = add_questions(guard, manifest)
    for other in prepared_sets(data_root):
        if other.dataset != manifest.dataset:
            searched += add_questions(guard, other)
    scans = {name: _Scan(manifest, name, guard, progress).read() for name in manifest.splits}
    near = _NearQuestions(scans)
    report = HygieneReport(
        dataset=manifest.dataset,
        source=manifest.source,
        licence=manifest.licence,
        splits={name: scan.hygiene(near.within(name)) for name, scan in scans.items()},
        overlaps=tuple(near.overlaps()),
        leaks=tuple(leak for scan in scans.values() for leak in scan.leaks()),
        evaluation_splits=tuple(split.split for split in searched),
        keeps_contaminated=manifest.keeps_contaminated,
    )
    return replace(report, findings=findings_of(report))


class _Scan:
    """One pass over a split."""

    def __init__(
        self,
        manifest: PrepareReport,
        name: str,
        guard: EvaluationGuard,
        progress: CheckProgress | None,
    ) -> None:
        self._manifest = manifest
        self._split: SplitReport = manifest.splits[name]
        self._name = name
        self._guard = guard
        self._progress = progress
        self._num_rows = self._num_unreadable = 0
        self._flagged = Counter[str]()
        self._choices = ChoiceTally()
        self._lengths = LengthTally()
        self.repeats = RepeatTally()
        self._batch: list[tuple[int, TrainingText]] = []
        self._batch_chars = 0
        self._leaks: dict[str, list[tuple[int, str, Contamination]]] = {}

    def read(self) -> _Scan:
        """Read the whole split."""
        last = 0
        for line, read in self._rows():
            if line != last:
                self._num_rows += 1
                last = line
                if self._progress is not None and self._num_rows % PROGRESS_ROWS == 0:
                    self._progress(self._name, self._num_rows)
            self._take(line, read)
        self._search()
        if self._progress is not None:
            self._progress(self._name, self._num_rows)
        return self

    def hygiene(self, near: Sequence[tuple[str, str, float]]) -> SplitHygiene:
        """What was found; `near` are near duplicates within the split."""
        licences = self._split.counts.get("licence") or {self._manifest.licence: self._num_rows}
        return SplitHygiene(
            rows=self._num_rows,
            unreadable=self._num_unreadable,
            licences=dict(licences),
            quarantined=dict(self._split.rejected),
            flagged=dict(self._flagged.most_common()),
            option_references=self._choices.references(),
            lengths=self._lengths.lengths(),
            repeats=self.repeats.repeats(near),
            letters=self._choices.letters(),
            gold_length=self._choices.gold_length(),
            contradictions=self._choices.contradictions(),
        )

    def leaks(self) -> Iterator[Leak]:
        """What training rows give away, by evaluation split."""
        for evaluation, found in sorted(self._leaks.items()):
            reasons = Counter(contamination.reason for _, _, contamination in found)
            examples = [
                {"row": row, "text": text, "reason": contamination.reason}
                | {"evaluation": contamination.to_json()}
                for row, text, contamination in found[:MAX_EXAMPLES]
            ]
            yield Leak(self._name, evaluation, dict(reasons.most_common()), tuple(examples))

    def _rows(self) -> Iterator[tuple[int, PreparedRow]]:
        """The rows with their lines; documents count over all files of the split.

        A long document comes in parts, all with its number.
        """
        if self._split.file is None:
            documents = (
                document
                for source in self._split.sources
                for document in read_documents(Path(source.file))
            )
            number, is_new = 0, True
            for document in documents:
                number += is_new
                yield number, PreparedRow({"text": document} if document is not None else None)
                is_new = not isinstance(document, Continued)
            return
        read_row = reader_of(self._manifest.dataset) or PreparedRow
        row: NumberedRow
        for row in rows_of(self._manifest, self._name, read_row):
            yield row.line, row.read

    def _take(self, line: int, read: PreparedRow) -> None:
        self._flagged.update(map(str, read.reasons))
        if read.value is None:
            self._num_unreadable += 1
            return
        self._lengths.add(read)
        self.repeats.add(read, line)
        if read.item is not None:
            self._choices.add(read.item, line)
        if self._name == TRAIN:
            text = read.text
            self._batch.append((line, TrainingText(read.question, text)))
            self._batch_chars += len(text)
            if self._batch_chars >= BATCH_CHARS:
                self._search()

    def _search(self) -> None:
        found = self._guard.check([text for _, text in self._batch])
        for (line, text), contamination in zip(self._batch, found, strict=True):
            if contamination is not None:
                shown = (text.question or text.text)[:SHOWN_CHARS]
                leaks = self._leaks.setdefault(contamination.question.split, [])
                leaks.append((line, shown, contamination))
        self._batch, self._batch_chars = [], 0


class _NearQuestions:
    """Near duplicates among the questions of all splits together."""

    def __init__(self, scans: dict[str, _Scan]) -> None:
        self._repeats = {name: scan.repeats for name, scan in scans.items()}
        questions = dict.fromkeys(
            question
            for repeats in self._repeats.values()
            for question in repeats.questions
            if not question.startswith("#")
        )
        listed = list(questions)
        self._pairs = [
            (listed[pair.left], listed[pair.right], pair.jaccard) for pair in near_pairs(listed)
        ]

    def within(self, name: str) -> list[tuple[str, str, float]]:
        """Pairs whose questions are both in a split, with their similarity."""
        asked = self._repeats[name].questions
        return [pair for pair in self._pairs if pair[0] in asked and pair[1] in asked]

    def overlaps(self) -> Iterator[Overlap]:
        """Each two splits, in order: what rows of the first share with the second."""
        names = list(self._repeats)
        for place, name in enumerate(names):
            for other in names[place + 1 :]:
                yield self._overlap(name, other)

    def _overlap(self, name: str, other: str) -> Overlap:
        mine, theirs = self._repeats[name], self._repeats[other]
        same = [question for question in mine.questions if question in theirs.questions]
        nearest: dict[str, tuple[float, str]] = {}
        for one, two, similarity in self._pairs:
            for left, right in ((one, two), (two, one)):
                is_across = left in mine.questions and right in theirs.questions
                if is_across and left not in theirs.questions:
                    nearest[left] = max(nearest.get(left, (0.0, "")), (similarity, right))
        closest = [(question, 1.0, question) for question in same]
        closest += [
            (left, similarity, right)
            for left, (similarity, right) in sorted(nearest.items(), key=lambda one: -one[1][0])
        ]
        examples: list[dict[str, Any]] = [
            {
                "rows": [mine.questions[left], theirs.questions[right]],
                "jaccard": round(similarity, 3),
                "texts": [mine.shown(left), theirs.shown(right)],
            }
            for left, similarity, right in closest[:MAX_EXAMPLES]
        ]
        return Overlap(
            split=name,
            other=other,
            same_question=sum(mine.rows_asking(question) for question in same),
            near_question=sum(mine.rows_asking(question) for question in nearest),
            examples=tuple(examples),
        )
