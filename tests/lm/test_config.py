from __future__ import annotations

from typing import Any

import pytest

from unstuck.lm.config import DEFAULTS, KINDS, ModelConfig
from unstuck.lm.errors import LmError


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("lstm", {}, "unknown model 'lstm': choose one of mlp, gru, transformer"),
        ("mlp", {"heads": 2}, "heads is 2 and a model of kind mlp has 1: leave it out, or choose another model"),
        ("mlp", {"dropout": 0.5}, "dropout is 0.5 and a model of kind mlp has 0.0: leave it out, or choose another"),
        ("gru", {"norm": "batch"}, "norm is batch and a model of kind gru has none: leave it out, or choose another"),
        ("gru", {"init": "naive"}, "init is naive and a model of kind gru has fan-in: leave it out, or choose"),
        ("transformer", {"norm": "batch"}, "norm is batch and a model of kind transformer has layer: leave it out"),
        ("transformer", {"residual": True}, "residual is True and a model of kind transformer has False: leave it"),
        ("mlp", {"residual": True}, "residual does nothing with depth 1: leave it out, or give a depth of 2 or more"),
        ("transformer", {"heads": 3}, "embedding is 64 and heads is 3: give an embedding that is a multiple of it"),
        ("transformer", {"heads": 0}, "heads is 0: give a whole number from 1 to 65536"),
        ("gru", {"dropout": 1.0}, "dropout is 1.0: give a share from 0 up to, not including, 1"),
        ("gru", {"dropout": -0.1}, "dropout is -0.1: give a number of at least 0"),
    ],
)
def test_values_that_a_kind_of_model_cannot_have_are_refused(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(LmError) as caught:
        ModelConfig.of(kind, 27, **options)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_own_defaults_and_takes_other_sizes(kind: str) -> None:
    config = ModelConfig.of(kind, 27)
    assert {name: getattr(config, name) for name in DEFAULTS[kind]} == DEFAULTS[kind]
    assert ModelConfig.of(kind, 27, context=7, depth=2, hidden=12).context == 7
    assert config.reads_words == (kind != "mlp")


def test_a_config_without_a_kind_is_the_lecture_s() -> None:
    assert ModelConfig(27) == ModelConfig.of("mlp", 27)
    assert (ModelConfig(27).context, ModelConfig(27).embedding, ModelConfig(27).hidden) == (3, 10, 200)
