from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from aquachat.errors import ConfigError
from aquachat.model.config import GPTConfig
from tests.model.models import SHAPE


def test_config_survives_json():
    config = GPTConfig.for_arch("smear", **SHAPE, rope_base=5000.0)
    assert GPTConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_nanochat_has_no_extras_and_smear_has_them():
    plain, smear = (GPTConfig.for_arch(arch, **SHAPE) for arch in ("nanochat", "smear"))
    assert (plain.smear, plain.x0_lambdas, plain.qk_scale) == (False, False, 1.0)
    assert (smear.smear, smear.x0_lambdas) == (True, True)


def test_config_is_frozen():
    config = GPTConfig(**SHAPE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.num_layers = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"num_heads": 3}, "32 cannot make 3 heads"),
        ({"hidden_size": 20}, "20 cannot make 4 heads of even width"),
        ({"num_kv_heads": 3}, "4 heads cannot share 3"),
        ({"num_layers": 0}, "num_layers is 0"),
        ({"vocab_size": 1.5}, "vocab_size is 1.5"),
        ({"logit_softcap": 0.0}, "logit_softcap is 0.0"),
        ({"logit_softcap": 100.0}, "logit_softcap is 100.0"),
        ({"rope_base": 1.0}, "rope_base is 1.0"),
        ({"arch": "llama"}, "no architecture `llama`"),
        ({"smear": True}, "arch `nanochat` does not go with smear=True"),
        ({"arch": "smear"}, "arch `smear` does not go with"),
    ],
)
def test_values_that_make_no_model_are_refused(changes: dict[str, Any], part: str):
    with pytest.raises(ConfigError) as caught:
        GPTConfig(**{**SHAPE, **changes})
    assert part in caught.value.message
    assert caught.value.hint


def test_unknown_and_missing_keys_are_named():
    values = GPTConfig(**SHAPE).to_json()
    with pytest.raises(ConfigError, match="unknown key `backout`"):
        GPTConfig.from_json({**values, "backout": True})
    del values["num_heads"]
    with pytest.raises(ConfigError, match="num_heads"):
        GPTConfig.from_json(values)
