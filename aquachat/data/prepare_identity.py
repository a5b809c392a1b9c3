"""Conversations about who the model is, generated: see `aquachat.tasks.identity`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final

from aquachat.data.catalogue import IDENTITY
from aquachat.data.manifest import MANIFEST_NAME, PrepareReport, SourceFile, SplitReport
from aquachat.files import (
    install_files,
    json_line,
    sha256_of,
    staging_directory,
    write_json,
    writing,
)
from aquachat.tasks.identity import identity_conversations
from aquachat.text.conversation import conversation_to_json

LICENCE: Final = "MIT"
DEFAULT_COUNT: Final = 1000


def prepare_identity(output_dir: Path, seed: int = 0, count: int = DEFAULT_COUNT) -> PrepareReport:
    """Write `train.jsonl` with `count` different conversations; equal seeds give equal bytes.

    Raises:
        ConfigError: there are not so many different ones.
        DataError: the disk refused a write.
    """
    conversations = identity_conversations(seed, count)
    turns = Counter(len(conversation.messages) // 2 for conversation in conversations)
    with writing(output_dir), staging_directory(output_dir, "prepare") as staging:
        path = staging / "train.jsonl"
        with path.open("wb") as file:
            for conversation in conversations:
                file.write(json_line({"messages": conversation_to_json(conversation)}))
        split = SplitReport(
            file=path.name,
            rows=count,
            rows_read=count,
            sha256=sha256_of(path),
            num_bytes=path.stat().st_size,
            sources=(SourceFile(f"identity/{seed}"),),
            counts={"turns": {str(n): turns[n] for n in sorted(turns)}},
        )
        origin = f"aquachat.tasks.identity, seed {seed}"
        report = PrepareReport(IDENTITY, output_dir, origin, LICENCE, {"train": split})
        write_json(staging / MANIFEST_NAME, report.to_json())
        install_files(staging, output_dir)
    return report
