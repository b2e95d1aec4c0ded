"""Checkpoints of training scripts: what belongs to the model is found, and the rest is named."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from abs_classify.models.checkpoint import find_tensors
from abs_core.errors import WeightsError

STATE = {name: torch.ones(1) for name in ("logit_scale", "visual.conv1.weight", "transformer.resblocks.0.ln_1.bias")}


def put(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


OPTIMIZER = {"state": {0: {"exp_avg": torch.zeros(1)}}, "param_groups": [{"lr": 0.1}]}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": put("model."), "optimizer_states": [OPTIMIZER], "epoch": 3},
        {"state_dict": put("module."), "optimizer": OPTIMIZER},
        {"model": put("_orig_mod."), "optimizer": OPTIMIZER, "scaler": {"scale": torch.ones(1)}},
        {"model": put("_orig_mod.module."), "iteration": 3},
        {"module": put("module.model.")},
        {"checkpoint": {"state_dict": {"model": STATE}}},
        {"ema": put("ema_model.module.")},
        put("my_clip."),
        put("net.clip_model."),
        {name.replace("visual.", "visual._orig_mod."): tensor for name, tensor in STATE.items()},
        {name.replace("visual.", "visual._fsdp_wrapped_module."): tensor for name, tensor in STATE.items()},
    ],
)
def test_the_same_tensors_whatever_wraps_them(content: Any) -> None:
    named = find_tensors("'x'", content)
    assert set(named.tensors) == set(STATE)
    assert named.left_out == ()


@pytest.mark.parametrize(
    ("content", "left_out"),
    [
        ({"state_dict": {**put("model."), "criterion.weight": torch.ones(1)}}, "1 tensors .* 'criterion.weight'"),
        ({**put("model."), **put("model_ema.")}, "3 tensors .* begin with 'model.' .*'model_ema.logit_scale'"),
        ({"model": STATE, "ema": STATE}, "under 'ema', beside 'model'"),
        ({"student": put("backbone."), "teacher": put("backbone.")}, "under 'teacher', beside 'student'"),
        ({"state_dict": STATE, "ema_state_dict": STATE, "optimizer": OPTIMIZER}, "under 'ema_state_dict', beside"),
    ],
)
def test_what_is_left_out_is_named(content: Any, left_out: str) -> None:
    import re

    named = find_tensors("'x'", content)
    assert set(named.tensors) == set(STATE)
    assert len(named.left_out) == 1
    assert re.search(left_out, named.left_out[0])


def test_names_of_the_model_itself_are_no_prefix() -> None:
    state = {"backbone.weight": torch.ones(1), "head.weight": torch.ones(1), "norm.weight": torch.ones(1)}
    assert set(find_tensors("'x'", {**state, "logit_scale": torch.ones(1)}).tensors) == {*state, "logit_scale"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"one": STATE, "two": STATE}, "several models: 'one', 'two'"),
        ({**STATE, "visual.attn.lora_A.default.weight": torch.ones(1)}, "1 LoRA tensors .*lora_A.*merge_and_unload"),
        ({"base_model.model.x.lora_B.weight": torch.ones(1)}, "is a LoRA adapter, not a model"),
        ({"epoch": 3}, "holds no tensors"),
        ({}, "holds no state dict"),
        ([torch.ones(1)], "holds no state dict"),
        (torch.ones(1), "holds no state dict"),
    ],
)
def test_what_cannot_be_used(content: Any, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        find_tensors("'x'", content)


def test_dictionaries_without_end() -> None:
    ring: dict[Any, Any] = {}
    ring["model"] = ring
    with pytest.raises(WeightsError, match="holds no"):
        find_tensors("'x'", ring)
    # printing such a name takes 2**200 steps
    name: tuple[Any, ...] = ("x",)
    for _ in range(200):
        name = (name, name)
    assert find_tensors("'x'", {7: name, **STATE}).tensors == STATE
    deep: dict[str, Any] = STATE
    for _ in range(5000):
        deep = {"model": deep}
    with pytest.raises(WeightsError, match="holds no"):
        find_tensors("'x'", deep)
