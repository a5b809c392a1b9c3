"""The shape of a model: all that is needed to build one, and nothing about how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from aquachat.errors import ConfigError

ARCHITECTURES: Final[Mapping[str, Mapping[str, Any]]] = {
    "nanochat": {"smear": False, "x0_lambdas": False, "qk_scale": 1.0},
    "smear": {"smear": True, "x0_lambdas": True, "qk_scale": 1.0},
}
"""What each architecture name turns on; see `GPTConfig.for_arch`."""

MAX_LOGIT_SOFTCAP: Final = 60.0
"""exp(60) x 2**20 tokens still fits float32, so the fused loss needs no maximum subtraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GPTConfig:
    """The shape and the switches of a `GPT`.

    `arch = "nanochat"` is the October 2025 nanochat architecture exactly (RoPE, then QK norm,
    ReLU^2, untied head, RMS norm without weights, logit softcap, grouped-query attention), so its
    weights fit `transformers.NanoChatForCausalLM`. `arch = "smear"` is the same with
    the switches below.

    Raises:
        ConfigError: the values do not make a model.
    """

    arch: str = "nanochat"
    vocab_size: int
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    """Key and value heads; a divisor of `num_heads`, equal to it for multi-head attention."""
    max_seq_len: int
    """Positions the rotary tables cover; a longer sequence is an error."""
    rope_base: float = 10_000.0
    logit_softcap: float = 15.0
    mlp_ratio: int = 4
    smear: bool = False
    """Add to each embedding a learned share, per channel, of the one before it (starts at 0)."""
    x0_lambdas: bool = False
    """Before layer i, x = r_i x + l_i x0, with x0 the normed embedding (starts at r = 1, l = 0)."""
    qk_scale: float = 1.0
    """Factor on the normed queries: 1 is nanochat; above 1 attention can be sharper."""

    def __post_init__(self) -> None:
        self._check_sizes()
        if self.arch not in ARCHITECTURES:
            names = ", ".join(ARCHITECTURES)
            raise ConfigError(f"there is no architecture `{self.arch}`", hint=f"use one of {names}")
        has_extras = self.smear or self.x0_lambdas or self.qk_scale != 1.0
        if has_extras != (self.arch != "nanochat"):
            raise ConfigError(
                f"arch `{self.arch}` does not go with smear={self.smear}, "
                f"x0_lambdas={self.x0_lambdas}, qk_scale={self.qk_scale}",
                hint="`nanochat` has none of them, `smear` at least one: use `GPTConfig.for_arch`",
            )

    def _check_sizes(self) -> None:
        for name in (
            "vocab_size",
            "num_layers",
            "hidden_size",
            "num_heads",
            "num_kv_heads",
            "max_seq_len",
            "mlp_ratio",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(
                    f"{name} is {value!r}, which is not a whole number above 0",
                    hint=f"set {name} to at least 1",
                )
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot make {self.num_heads} heads of even width",
                hint="make hidden_size a multiple of 2 x num_heads",
            )
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(
                f"{self.num_heads} heads cannot share {self.num_kv_heads} key-value heads evenly",
                hint="make num_kv_heads a divisor of num_heads",
            )
        if not 0 < self.logit_softcap <= MAX_LOGIT_SOFTCAP:
            raise ConfigError(
                f"logit_softcap is {self.logit_softcap}",
                hint=f"set it above 0 and at most {MAX_LOGIT_SOFTCAP:g}; nanochat has 15",
            )
        if self.rope_base <= 1 or self.qk_scale <= 0:
            raise ConfigError(
                f"rope_base is {self.rope_base} and qk_scale {self.qk_scale}",
                hint="rope_base must be above 1 and qk_scale above 0",
            )

    @classmethod
    def for_arch(cls, arch: str, **shape: Any) -> GPTConfig:
        """The config of a named architecture; a switch given in `shape` overrides the name's own.

        Example: `GPTConfig.for_arch("smear", vocab_size=512, ...)` has smear and x0 lambdas.
        """
        if arch not in ARCHITECTURES:
            names = ", ".join(ARCHITECTURES)
            raise ConfigError(f"there is no architecture `{arch}`", hint=f"use one of {names}")
        return cls(arch=arch, **{**ARCHITECTURES[arch], **shape})

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.hidden_size // self.num_heads

    @property
    def mlp_size(self) -> int:
        """Channels inside the MLP."""
        return self.mlp_ratio * self.hidden_size

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal config."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> GPTConfig:
        """The config that `to_json` described.

        Raises:
            ConfigError: a key is unknown or missing, or a value cannot be used.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(
                f"the model config has an unknown key `{unknown[0]}`",
                hint="it was written by a newer version: `pip install --upgrade aquachat`",
            )
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(
                f"the model config is not complete: {error}",
                hint="use the config that was saved beside the weights",
            ) from error
