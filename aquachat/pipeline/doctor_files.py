"""Checks of `aquachat doctor` that look at files: data, tokenizers, checkpoints, credentials.

Each returns (status, sentence, way out); see `aquachat.pipeline.doctor`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aquachat.data.corpus import INDEX_NAME, verify_corpus
from aquachat.data.manifest import MANIFEST_NAME, read_manifest
from aquachat.errors import AquachatError
from aquachat.files import sha256_of
from aquachat.paths import Home
from aquachat.pipeline.doctor_machine import Said
from aquachat.text.tokenizer import Tokenizer
from aquachat.track.runs import STAGES, list_runs
from aquachat.track.wandb_sink import has_credentials

HUGGING_FACE_KEYS: Final = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
WANDB_KEYS: Final = ("WANDB_API_KEY", "WANDB_IDENTITY_TOKEN_FILE")
MIN_KEY_CHARS: Final = 8


def check_tokenizers(home: Home) -> Said:
    """Whether every saved tokenizer loads and is what its manifest says."""
    folders = _folders(home.tokenizers)
    folders += [run.path / "tokenizer" for run in list_runs(home.runs)]
    folders = [folder for folder in folders if folder.is_dir()]
    if not folders:
        return "not applicable", "there is no tokenizer yet", None
    for folder in folders:
        try:
            tokenizer = Tokenizer.load(folder)
            text = "What is 12 times 7?"
            is_exact = tokenizer.decode(tokenizer.encode_ordinary(text)) == text
        except AquachatError as error:
            return "failure", error.message, error.hint
        if not is_exact:
            return "failure", f"`{folder}` does not give a text back", "run `aquachat tokenize`"
    return "ok", f"{_count(len(folders), 'tokenizer')} loaded, files as written", None


def check_data(home: Home) -> Said:
    """Whether every prepared split has the size and hash of its manifest."""
    manifests = [f for f in _folders(home.root / "data") if (f / MANIFEST_NAME).is_file()]
    if not manifests:
        return "not applicable", "no data is prepared yet", None
    num_files = 0
    for folder in manifests:
        report = read_manifest(folder)
        for split in report.splits.values():
            if split.file is None or split.sha256 is None:
                continue  # text that stays where it is
            num_files += 1
            problem = _difference(folder / split.file, split.num_bytes, split.sha256)
            if problem:
                return "failure", problem, f"run `aquachat prepare {report.dataset}` again"
    return "ok", f"{_count(num_files, 'file')} of {_count(len(manifests), 'data set')} intact", None


def check_corpora(home: Home) -> Said:
    """Whether every corpus of token shards is what its index says."""
    folders = [f for f in _folders(home.root / "corpora") if (f / INDEX_NAME).is_file()]
    if not folders:
        return "not applicable", "there is no corpus yet", None
    for folder in folders:
        verify_corpus(folder)
    plural = "corpus" if len(folders) == 1 else "corpora"
    return "ok", f"{len(folders)} {plural} of token shards intact", None


def check_newest_checkpoint(home: Home) -> Said:
    """Whether the checkpoint that the next command would use can be read."""
    from aquachat.train.checkpoint import list_checkpoints, load_checkpoint

    for run in list_runs(home.runs):
        for stage in reversed(STAGES):
            found = list_checkpoints(run.path / stage)
            if not found:
                continue
            checkpoint = load_checkpoint(found[-1])
            count = sum(tensor.numel() for tensor in checkpoint.model.values())
            name = f"{run.name}/{stage}@{checkpoint.step}"
            return "ok", f"`{name}` is whole, {count:,} parameters", None
    return "not applicable", "there is no checkpoint yet", None


def check_hugging_face(environ: Mapping[str, str]) -> Said:
    """Whether there is a token for `aquachat sync-hf`; its value is not looked at."""
    named = [name for name in HUGGING_FACE_KEYS if environ.get(name, "").strip()]
    if named:
        return "ok", f"{named[0]} is set", None
    home = Path(environ.get("HOME") or Path.home())
    cache = Path(environ.get("HF_HOME") or home / ".cache" / "huggingface")
    login = Path(environ.get("HF_TOKEN_PATH") or cache / "token")
    if login.is_file() and login.stat().st_size:
        return "ok", f"logged in to Hugging Face by `{login}`", None
    return (
        "warning",
        "there is no Hugging Face token: public data comes, nothing can be uploaded",
        "set HF_TOKEN, or log in with `hf auth login`",
    )


def check_wandb(environ: Mapping[str, str]) -> Said:
    """Whether W&B could log in without asking."""
    named = [name for name in WANDB_KEYS if environ.get(name)]
    if has_credentials(environ):
        where = f"{named[0]} is set" if named else "there is a login for W&B in the netrc file"
        return "ok", where, None
    return (
        "warning",
        "there is no W&B key: `--wandb online` would log offline",
        "set WANDB_API_KEY, or run `wandb login`",
    )


def check_key(provider: str, names: Sequence[str], environ: Mapping[str, str]) -> Said:
    """Whether a provider's key is set; a value that cannot be one is a failure."""
    named = [name for name in names if environ.get(name, "").strip()]
    if not named:
        return (
            "warning",
            f"there is no key for {provider}: `aquachat launch {provider}` cannot rent",
            f"set {' or '.join(names)} in the environment or in `.env`",
        )
    value = environ[named[0]].strip()
    if len(value) < MIN_KEY_CHARS or not value.isascii() or any(c.isspace() for c in value):
        return "failure", f"{named[0]} cannot be a key", f"set {named[0]} to the key as copied"
    return "ok", f"{named[0]} is set", None


def _difference(file: Path, num_bytes: int | None, sha256: str) -> str | None:
    """How a file differs from its manifest, in a sentence; None where it does not."""
    if not file.is_file():
        return f"`{file}` is missing, its manifest names it"
    size = file.stat().st_size
    if num_bytes is not None and size != num_bytes:
        return f"`{file}` has {size:,} bytes, its manifest says {num_bytes:,}"
    if sha256_of(file) != sha256:
        return f"`{file}` has another SHA-256 than its manifest says"
    return None


def _folders(parent: Path) -> list[Path]:
    if not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and path.name[0] != ".")


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
