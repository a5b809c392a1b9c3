from collections.abc import Callable, Iterable, Sequence

class TokenizerError(ValueError):
    """A pattern or a document that BPE training cannot use."""

def train_from_iterator(
    documents: Iterable[str],
    num_ranks: int,
    pattern: str,
    *,
    num_threads: int | None = None,
    progress: Callable[[str, int, int | None], object] | None = None,
    max_chars: int | None = None,
) -> tuple[list[bytes], dict[str, int]]: ...
def train_from_files(
    paths: Sequence[str],
    num_ranks: int,
    pattern: str,
    *,
    num_threads: int | None = None,
    progress: Callable[[str, int, int | None], object] | None = None,
    max_chars: int | None = None,
) -> tuple[list[bytes], dict[str, int]]: ...
def split(text: str, pattern: str, *, regex: bool = False) -> list[str]: ...
