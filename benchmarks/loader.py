"""How fast does text become batches, and how much of it is kept, against nanochat's loader?

    python benchmarks/loader.py --data FOLDER --peer NANOCHAT --json

FOLDER holds parquet files with a column `text`; the last is left out, as nanochat leaves it out of
training. Both sides encode with one tiktoken encoding, trained here on those files, with as many
threads (nanochat) or processes (ours) as there are cores, unless `--num-workers` says otherwise.

Cold rows begin at the parquet files and end at batches on the CPU. Ours writes token shards and
reads them, one epoch from nothing, starting of processes included. The peer has read 5,000
documents before, so that its buffer of documents is in its usual state; a pass of it reads 3,000
more. Kept tokens are those that are targets in a batch. Warm rows begin at shards, which the peer
does not have: it encodes every time. Processor time is that of all processes of a side, so it says
the same on a machine that does other things. With `--write` the figures go to
`results/loader.json`, and as tables into `docs/corpus.md`.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import record

from aquachat.data.bos_packing import pack_documents
from aquachat.data.corpus import Corpus
from aquachat.data.corpus_writer import write_corpus
from aquachat.data.document_stream import Rereadable
from aquachat.data.loader import TextSource
from aquachat.data.text_documents import read_documents
from aquachat.data.text_rows import Packing
from aquachat.text.render import BOS
from aquachat.text.tokenizer import Tokenizer

PAGE = record.ROOT / "docs" / "corpus.md"
BEGIN, END = "<!-- begin of figures: benchmarks/loader.py -->", "<!-- end of figures -->"
ROWS = 32
"""Rows of a batch on both sides."""
PEER_WARM_UP_DOCUMENTS, PEER_DOCUMENTS = 5_000, 3_000
PEER_NAME = "nanochat 92d63d4, tokenizing_distributed_data_loader_bos_bestfit"


@dataclass(frozen=True)
class Pass:
    """One epoch's worth of documents through a loader."""

    read_tokens: int
    kept_tokens: int
    seconds: float
    processor_s: float

    @property
    def kept_per_second(self) -> float:
        """Targets a second."""
        return self.kept_tokens / self.seconds

    @property
    def read_per_second(self) -> float:
        """Tokens a second, whether they reach a batch or not."""
        return self.read_tokens / self.seconds


class Stopwatch:
    """Seconds since it was made, of the clock and of the processors (ended children included)."""

    def __init__(self) -> None:
        self._started = time.perf_counter()
        self._used = sum(os.times()[:4])

    def read(self) -> tuple[float, float]:
        """(seconds, processor seconds)."""
        return time.perf_counter() - self._started, sum(os.times()[:4]) - self._used


class PeerTokenizer:
    """What nanochat's loader asks of a tokenizer, over our vocabulary, counting as it encodes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.encoding = tokenizer.to_tiktoken()
        self.bos_id = tokenizer.special_id(BOS)
        self.num_documents = self.num_tokens = 0
        self.remembered: dict[str, list[int]] | None = None
        """With a dictionary, a text is encoded once: what is left is reading and packing."""

    def get_bos_token_id(self) -> int:
        """The id that begins each document."""
        return self.bos_id

    def encode(self, texts: list[str], prepend: int, num_threads: int) -> list[list[int]]:
        """As `RustBPETokenizer.encode` of a list does."""
        if self.remembered is not None and all(text in self.remembered for text in texts):
            ids = [self.remembered[text] for text in texts]
        else:
            ids = self.encoding.encode_ordinary_batch(texts, num_threads=num_threads)
            for row in ids:
                row.insert(0, prepend)
            if self.remembered is not None:
                self.remembered |= zip(texts, ids, strict=True)
        self.num_documents += len(ids)
        self.num_tokens += sum(map(len, ids))
        return ids


class PeerLoader:
    """nanochat's loader, which goes on from pass to pass."""

    def __init__(self, tokenizer: PeerTokenizer, seq_len: int, num_threads: int) -> None:
        module: Any = importlib.import_module("nanochat.dataloader")
        self._tokenizer = tokenizer
        self._batches: Iterator[Any] = module.tokenizing_distributed_data_loader_bos_bestfit(
            tokenizer, ROWS, seq_len, "train", tokenizer_threads=num_threads, device="cpu"
        )

    def one_pass(self, num_documents: int) -> Pass:
        """Take batches until `num_documents` more were encoded."""
        counted = self._tokenizer
        first_document, first_token = counted.num_documents, counted.num_tokens
        kept = 0
        watch = Stopwatch()
        while counted.num_documents - first_document < num_documents:
            _, targets = next(self._batches)
            kept += targets.numel()
        return Pass(counted.num_tokens - first_token, kept, *watch.read())


def read_epoch(corpus: Corpus, seq_len: int, packing: Packing) -> int:
    """Read an epoch of a corpus as batches; how many targets it has."""
    source = TextSource(
        corpus,
        tokens_per_step=ROWS * seq_len,
        seq_len=seq_len,
        device_batch_size=ROWS,
        seed=0,
        packing=packing,
    )
    kept = step = 0
    while kept < corpus.num_tokens:
        for batch in source.step_batches(step):
            kept += batch.num_targets
        step += 1
    source.close()
    return kept


def cold_pass(files: Sequence[Path], tokenizer: Tokenizer, seq_len: int, num_workers: int) -> Pass:
    """Parquet to shards to batches, in a folder that did not exist."""
    with tempfile.TemporaryDirectory() as folder:
        watch = Stopwatch()
        write(Path(folder) / "corpus", files, tokenizer, num_workers)
        corpus = Corpus.open(Path(folder) / "corpus")
        kept = read_epoch(corpus, seq_len, "bos")
        return Pass(corpus.num_tokens, kept, *watch.read())


def write(folder: Path, files: Sequence[Path], tokenizer: Tokenizer, num_workers: int) -> None:
    """Write the documents of all files as a corpus."""

    def documents() -> Iterator[str]:
        for file in files:
            yield from (text for text in read_documents(file) if text is not None)

    write_corpus(folder, {"text": Rereadable(documents)}, tokenizer, num_workers=num_workers)


def compare(
    name: str,
    ours: Callable[[], Pass],
    peer: Callable[[], Pass],
    rate: Callable[[Pass], float],
    repeats: int,
) -> dict[str, Any]:
    """A row of the results: both sides in turn, each going first every other time."""
    passes: tuple[list[Pass], list[Pass]] = ([], [])
    for repeat in range(repeats):
        for side in (0, 1) if repeat % 2 == 0 else (1, 0):
            result = (ours, peer)[side]()
            passes[side].append(result)
            who = "ours" if side == 0 else "peer"
            print(f"{name}: {who} {rate(result) / 1e6:.2f} M tokens/s", file=sys.stderr)
    ratios = [rate(a) / rate(b) for a, b in zip(*passes, strict=True)]
    return {
        "name": name,
        "unit": "tokens/s",
        "ours": median(map(rate, passes[0])),
        "peer": median(map(rate, passes[1])),
        "peer_name": PEER_NAME,
        "ratio_median": median(ratios),
        "ratio_min": min(ratios),
        "ratio_max": max(ratios),
        "repeats": repeats,
        "share_kept": {
            who: median(p.kept_tokens / p.read_tokens for p in side)
            for who, side in zip(("ours", "peer"), passes, strict=True)
        },
        "processor_us_per_token": {
            who: median(1e6 * p.processor_s / (rate(p) * p.seconds) for p in side)
            for who, side in zip(("ours", "peer"), passes, strict=True)
        },
        "tokens_read_per_second": {
            who: median(p.read_per_second for p in side)
            for who, side in zip(("ours", "peer"), passes, strict=True)
        },
    }


def measure(
    files: Sequence[Path], tokenizer: Tokenizer, repeats: int, num_workers: int
) -> dict[str, list[dict[str, Any]]]:
    """All rows, and what packing costs."""
    rows: list[dict[str, Any]] = []
    costs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "corpus", files, tokenizer, num_workers)
        corpus = Corpus.open(Path(folder) / "corpus")
        for seq_len in (512, 2048):
            peer = PeerLoader(PeerTokenizer(tokenizer), seq_len, num_workers)
            peer.one_pass(PEER_WARM_UP_DOCUMENTS)
            rows.append(
                compare(
                    f"cold, T={seq_len}: parquet to batches, tokens kept",
                    lambda seq_len=seq_len: cold_pass(files, tokenizer, seq_len, num_workers),
                    lambda peer=peer: peer.one_pass(PEER_DOCUMENTS),
                    lambda result: result.kept_per_second,
                    repeats,
                )
            )
            share = rows[-1]["share_kept"]["peer"]
            costs.append(packing_costs(corpus.lengths, seq_len) | {"peer_kept": share})
        remembering = PeerTokenizer(tokenizer)
        remembering.remembered = {}
        packer = PeerLoader(remembering, 2048, num_workers)
        packer.one_pass(corpus.num_documents)
        for packing, loader, what in (
            ("bos", peer, "the peer encodes"),
            ("stream", peer, "the peer encodes"),
            ("bos", packer, "the peer's encoding left out"),
        ):
            rows.append(
                compare(
                    f"warm, T=2048: shards to batches (`{packing}`), tokens read; {what}",
                    lambda packing=packing: warm_pass(corpus, packing),
                    lambda loader=loader: loader.one_pass(PEER_DOCUMENTS),
                    lambda result: result.read_per_second,
                    repeats,
                )
            )
    return {"rows": rows, "packing": costs}


def packing_costs(lengths: Any, seq_len: int) -> dict[str, Any]:
    """What `bos` rows of an epoch cost, as shares of their positions and of the documents."""
    pieces, _, num_rows = pack_documents(lengths, seq_len)
    positions = num_rows * seq_len
    goes_on = pieces.start > 0
    return {
        "seq_len": seq_len,
        "padding": 1 - int(pieces.num_positions.sum()) / positions,
        "repeated_bos": int(goes_on.sum()) / positions,
        "documents_longer_than_a_row": float((lengths > seq_len).mean()),
        "documents_cut": len(set(pieces.document[goes_on].tolist())) / len(lengths),
    }


def tables(document: Mapping[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "| rows of T | nanochat drops | `bos` drops | `bos` pads | `<\\|bos\\|>` repeated "
        "| documents cut (longer than T) |",
        "|---|---|---|---|---|---|",
    ]
    for row in document["packing"]:
        lines.append(
            f"| {row['seq_len']} | {1 - row['peer_kept']:.0%} of tokens | 0 | {row['padding']:.3%} "
            f"| {row['repeated_bos']:.2%} | {row['documents_cut']:.0%} "
            f"({row['documents_longer_than_a_row']:.0%}) |"
        )
    lines += [
        "",
        "| what | ours, M tokens/s | nanochat | ratio (least, most) | processor time, ratio |",
        "|---|---|---|---|---|",
    ]
    for row in document["rows"]:
        used = row["processor_us_per_token"]
        lines.append(
            f"| {row['name']} | {row['ours'] / 1e6:.2f} | {row['peer'] / 1e6:.2f} "
            f"| {row['ratio_median']:.1f} ({row['ratio_min']:.1f}, {row['ratio_max']:.1f}) "
            f"| {used['peer'] / used['ours']:.1f} |"
        )
    sentences = (
        f"`{document['command']}` on {document['machine']}; load average "
        f"{document['load_average']} at the start; {document['rows'][0]['repeats']} repeats, "
        f"medians; revision {document['revision'][:12]}, {document['date']}."
    )
    return "\n".join([*lines, "", textwrap.fill(sentences, 118, break_on_hyphens=False)])


def page_with(text: str, page: str) -> str:
    """A page with other figures between its marks."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}"


def warm_pass(corpus: Corpus, packing: Packing) -> Pass:
    """Shards to batches, five epochs, since one takes some hundredths of a second."""
    watch = Stopwatch()
    kept = sum(read_epoch(corpus, 2048, packing) for _ in range(5))
    return Pass(5 * corpus.num_tokens, kept, *watch.read())


def open_peer(checkout: Path, files: Sequence[Path], folder: Path) -> None:
    """Make nanochat importable, with `files` (and the last again, for validation) as its data."""
    if not (checkout / "nanochat" / "dataloader.py").is_file():
        raise SystemExit(
            f"`{checkout}` is no checkout of nanochat: it has no nanochat/dataloader.py"
        )
    data = folder / "base_data_climbmix"
    data.mkdir()
    for number, file in enumerate((*files, files[-1])):
        (data / f"shard_{number:05d}.parquet").symlink_to(file.absolute())
    os.environ["NANOCHAT_BASE_DIR"] = str(folder)
    sys.path.insert(0, str(checkout))


def main() -> None:
    """Measure, print, and with `--write` keep the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="a folder of parquet files")
    parser.add_argument("--peer", type=Path, required=True, help="a checkout of nanochat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--vocab-size", type=int, default=32768)
    parser.add_argument("--num-workers", type=int, default=0, help="0 for one a core")
    parser.add_argument("--json", action="store_true", help="print the document")
    parser.add_argument("--write", action="store_true", help="keep it in results/loader.json")
    arguments = parser.parse_args()
    files = sorted(arguments.data.glob("*.parquet"))[:-1]
    if not files:
        raise SystemExit(f"`{arguments.data}` has fewer than two parquet files")
    texts = (text for file in files for text in read_documents(file) if text is not None)
    tokenizer = Tokenizer.train_from_iterator(texts, arguments.vocab_size)
    num_workers = arguments.num_workers or os.cpu_count() or 1
    folder = Path(tempfile.mkdtemp())
    try:
        open_peer(arguments.peer, files, folder)
        command = (
            f"python benchmarks/loader.py --data DATA --peer NANOCHAT --repeats "
            f"{arguments.repeats} --vocab-size {tokenizer.n_vocab} --num-workers {num_workers}"
        )
        document = record.setting(command)
        document |= measure(files, tokenizer, arguments.repeats, num_workers)
    finally:
        shutil.rmtree(folder)
    text = json.dumps(document, indent=1) + "\n"
    if arguments.write:
        record.RESULTS.mkdir(exist_ok=True)
        (record.RESULTS / "loader.json").write_text(text, "utf-8")
        PAGE.write_text(page_with(tables(document), PAGE.read_text("utf-8")), "utf-8")
    if arguments.json or not arguments.write:
        print(text, end="")


if __name__ == "__main__":
    main()
