"""Random orders that are functions of what they are for: (seed, purpose, epoch), nothing else."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
from numpy.typing import NDArray


def generator_for(*key: int | str) -> np.random.Generator:
    """A random generator that depends on `key` alone, the same on every machine and process.

    Example:
        generator_for(seed, "options", epoch, index).permutation(5)
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))


class EpochOrders:
    """The order of `count` things in each epoch; the last two epochs are kept.

    Args:
        count: how many things there are.
        key: what the orders are for, for example `(seed, "text")`.
    """

    def __init__(self, count: int, *key: int | str) -> None:
        self._count = count
        self._key = key
        self._kept: OrderedDict[int, NDArray[np.int64]] = OrderedDict()

    def __getitem__(self, epoch: int) -> NDArray[np.int64]:
        """(count,) the things of `epoch` (0-based) in their order."""
        if epoch not in self._kept:
            order = generator_for(*self._key, epoch).permutation(self._count)
            self._kept[epoch] = order.astype(np.int64, copy=False)
            while len(self._kept) > 2:
                self._kept.popitem(last=False)
        return self._kept[epoch]
