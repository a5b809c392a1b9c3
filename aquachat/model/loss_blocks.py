"""How large the blocks of logits are; without torch, so that memory can be estimated without it."""

from __future__ import annotations

from typing import Final

CPU_BLOCK_ELEMENTS: Final = 1 << 20
"""Logits of one block, 4 MB in float32: about a core's cache."""
DEVICE_BLOCK_ELEMENTS: Final = 1 << 26
"""256 MB in float32: large enough to keep a GPU busy."""
MIN_BLOCK_POSITIONS: Final = 128
