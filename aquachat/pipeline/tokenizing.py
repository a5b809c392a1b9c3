"""`aquachat tokenize`: a vocabulary and token shards from the sources of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from aquachat.config.recipes import Recipe
from aquachat.data.corpus_writer import CorpusReport, write_corpus
from aquachat.errors import ConfigError
from aquachat.paths import Home
from aquachat.pipeline.mixtures import corpus_documents
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
        note(f"tokenize: training a vocabulary of {section.vocab_size:,} tokens")
        tokenizer = Tokenizer.train_from_iterator(
            _documents(training),
            section.vocab_size,
            pattern=split_pattern(section.num_digits),
            max_chars=section.max_chars,
        )
        check_letters(tokenizer)
        tokenizer.save(home.tokenizer(name))
    note(f"tokenize: writing the corpus `{section.name}`")
    report = write_corpus(
        home.corpus(section.name),
        {source: read() for source, read in training.items()},
        tokenizer,
        shard_tokens=section.shard_tokens,
        validation_fraction=section.validation_fraction,
        validation_sources={source: read() for source, read in validation.items()},
        progress=progress,
    )
    return TokenizeResult(name, tokenizer, report, trained=not section.tokenizer)


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
