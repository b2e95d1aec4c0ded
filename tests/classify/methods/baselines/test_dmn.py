"""DMN: the numbers of the public codes, within the tolerances that came with them."""

from __future__ import annotations

import pytest
import torch
from feature_vectors import run_stream
from golden_baselines import C, agrees, both, inputs, load, stored, table

from abs_classify.methods.baselines import DMN


@pytest.mark.golden
@both
@pytest.mark.parametrize(("name", "scorer"), [("scores", DMN()), ("scores_cap2", DMN(capacity=2))])
def test_dmn(name: str, scorer: DMN, dtype: torch.dtype) -> None:
    stream = inputs("stream", dtype)
    assert agrees("dmn", name, run_stream(scorer, {"whole": stream[:, None]}, table(dtype)))
    state = scorer.start(table(dtype), 40)
    for row in stream:
        scorer.step(state, {"whole": row[None]})
    slots = [state.memory.slots(c) for c in range(C)]
    if scorer.capacity == 50:
        assert [len(own) for own in slots] == load("dmn")["counts"].tolist()
        return
    # the stored table keeps entries in places of their own and has 0 in empty ones
    for own, want in zip(slots, stored("dmn", "entropy_mem_cap2", dtype), strict=True):
        got = [state.memory.entropy(slot) for slot in own] + [0.0] * (2 - len(own))
        assert torch.allclose(torch.tensor(sorted(got)).to(dtype), want.sort().values, rtol=0, atol=3e-5)
