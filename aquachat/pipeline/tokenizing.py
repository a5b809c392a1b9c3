"""`aquachat tokenize`: a vocabulary and token shards from the sources of a recipe."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

from aquachat.config.recipes import Recipe
from aquachat.data.corpus_writer import CorpusReport, write_corpus
from aquachat.data.document_hygiene import ContaminationReport, DocumentPolicy
from aquachat.data.document_stream import Rereadable
from aquachat.data.hygiene.prepared import document_guard
from aquachat.data.manifest import MANIFEST_NAME
from aquachat.data.unfinished import is_unfinished
from aquachat.errors import AquachatError, ConfigError
from aquachat.files import sha256_of
from aquachat.paths import Home
from aquachat.pipeline.mixtures import corpus_documents, text_sources
from aquachat.text.patterns import split_pattern
from aquachat.text.render import ChatRenderer
from aquachat.text.tokenizer import Tokenizer

Readers = Mapping[str, Callable[[], Iterable[str]]]
LETTERS = "ABCDE"


@dataclass(frozen=True, slots=True)
class TokenizeResult:
    """What `aquachat tokenize` made."""

    tokenizer_name: str
    tokenizer: Tokenizer
    corpus: CorpusReport
    trained: bool
    """Whether the vocabulary was trained now, not named."""

    def to_json(self) -> dict[str, Any]:
        """The document of `--json`."""
        contamination = self.corpus.contamination
        return {
            "tokenizer": self.tokenizer_name,
            "vocab_size": self.tokenizer.n_vocab,
            "trained": self.trained,
            "fingerprint": self.tokenizer.fingerprint,
            "corpus": str(self.corpus.directory),
            "tokens": {split: self.corpus.num_tokens(split) for split in self.corpus.splits},
            "sources": {
                name: {
                    "documents": count.documents,
                    "bytes": count.text_bytes,
                    "tokens": count.tokens,
                    "bytes_per_token": count.bytes_per_token,
                }
                for name, count in self.corpus.sources.items()
            },
            "contamination": None if contamination is None else contamination.to_json(),
        }


def tokenize(
    recipe: Recipe,
    home: Home,
    *,
    note: Callable[[str], None],
    progress: Callable[[int], None] | None = None,
) -> TokenizeResult:
    """Train the vocabulary, unless one is named, and write the corpus.

    Args:
        recipe: its `tokenize` section, with names filled in.
        home: where tokenizers and corpora lie.
        note: told what is being done.
        progress: called with the number of documents that were added to the corpus.

    Raises:
        ConfigError: a source has no such name, or the letters are no single tokens.
        MissingFileError: a source was not prepared.
    """
    section, seed = recipe.tokenize, recipe.run.seed
    training, validation = corpus_documents(
        section.sources, seed=seed, consumer="tokenize", home=home
    )
    if section.tokenizer:
        name = section.tokenizer
        tokenizer = Tokenizer.load(home.tokenizer(name))
    else:
        name = section.name
        tokenizer = _trained_before(recipe, home) or _trained_now(recipe, home, training, note)
    policy = _document_policy(recipe, home, note)
    note(f"tokenize: writing the corpus `{section.name}`")
    report = write_corpus(
        home.corpus(section.name),
        {source: Rereadable(read) for source, read in training.items()},
        tokenizer,
        shard_tokens=section.shard_tokens,
        validation_fraction=section.validation_fraction,
        validation_sources={source: Rereadable(read) for source, read in validation.items()},
        policy=policy,
        num_workers=section.num_workers,
        progress=progress,
        note=lambda text: note(f"tokenize: {text}"),
    )
    if report.contamination is not None and report.contamination.documents:
        note(f"tokenize: {_found_text(report.contamination)}")
    return TokenizeResult(name, tokenizer, report, trained=not section.tokenizer)


def _document_policy(
    recipe: Recipe, home: Home, note: Callable[[str], None]
) -> DocumentPolicy | None:
    """What prepared text is searched for; generated documents keep apart by how they are made."""
    sources = text_sources(recipe.tokenize.sources)
    if not sources:
        return None
    guard = document_guard(home.root / "data")
    names = ", ".join(f"`{name}`" for name in sources)
    if guard is None:
        note(
            f"tokenize: no set with evaluation questions is prepared, so {names} cannot be "
            "searched for any; prepare them first, or write the corpus again then"
        )
        return None
    splits = ", ".join(split.split for split in guard.searched)
    note(f"tokenize: {names} is searched for {guard.num_questions:,} questions of {splits}")
    return DocumentPolicy(guard, sources, recipe.tokenize.keep_contaminated)


def _found_text(found: ContaminationReport) -> str:
    verb = "kept" if found.policy.keeps_contaminated else "left out"
    by_split = ", ".join(f"{count:,} {split}" for split, count in found.by_split().items())
    return (
        f"{verb} {found.documents:,} training documents ({found.text_bytes:,} bytes) that hold "
        f"words of evaluation questions ({by_split})"
    )


def _trained_now(
    recipe: Recipe, home: Home, training: Readers, note: Callable[[str], None]
) -> Tokenizer:
    section = recipe.tokenize
    note(f"tokenize: training a vocabulary of {section.vocab_size:,} tokens")
    tokenizer = Tokenizer.train_from_iterator(
        _documents(training),
        section.vocab_size,
        pattern=split_pattern(section.num_digits),
        max_chars=section.max_chars,
    )
    check_letters(tokenizer)
    record = {**tokenizer.training, "request": _request(recipe, home)}
    tokenizer = replace(tokenizer, training=record)
    tokenizer.save(home.tokenizer(section.name))
    return tokenizer


def _trained_before(recipe: Recipe, home: Home) -> Tokenizer | None:
    """The vocabulary that an interrupted start of the same request trained, so as to go on."""
    name = recipe.tokenize.name
    if not is_unfinished(home.corpus(name)):
        return None
    try:
        tokenizer = Tokenizer.load(home.tokenizer(name))
    except AquachatError:
        return None
    return tokenizer if tokenizer.training.get("request") == _request(recipe, home) else None


def _request(recipe: Recipe, home: Home) -> str:
    """A hash of all that decides the vocabulary: settings, seed and prepared text."""
    section = recipe.tokenize
    settings = [section.vocab_size, section.num_digits, section.max_chars, recipe.run.seed]
    manifests = {name: home.data(name) / MANIFEST_NAME for name in section.sources}
    texts = {name: sha256_of(path) for name, path in manifests.items() if path.is_file()}
    text = json.dumps([settings, dict(section.sources), texts], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def check_letters(tokenizer: Tokenizer) -> None:
    """Make sure that each answer letter is one token.

    Raises:
        ConfigError: it is not, so answers could not be scored.
    """
    try:
        ChatRenderer(tokenizer).letter_ids(LETTERS)
    except ValueError as error:
        raise ConfigError(
            f"the vocabulary of {tokenizer.n_vocab:,} tokens does not hold ` A` to ` E` as tokens",
            hint="raise `--vocab-size`, or add `problems` to `tokenize.sources`",
        ) from error


def _documents(readers: Readers) -> Iterator[str]:
    return chain.from_iterable(read() for read in readers.values())
