"""TDA: the numbers of the public codes, within the tolerances that came with them."""

from __future__ import annotations

import pytest
import torch
from feature_vectors import run_stream
from golden_baselines import C, agrees, both, inputs, load, table

from abs_classify.methods import similarity as matching
from abs_classify.methods.baselines import TDA
from abs_classify.methods.baselines.tda import TDACache

OFF = TDACache(0, 0.0, 0.0)


@pytest.mark.golden
@both
@pytest.mark.parametrize(
    ("name", "scorer"),
    [
        ("logits", TDA()),
        ("logits_pos_only", TDA(negative=OFF)),
        ("logits_neg_only", TDA(positive=OFF)),
        ("logits_upstream", TDA(floor=0.0)),
    ],
)
def test_tda(name: str, scorer: TDA, dtype: torch.dtype) -> None:
    stream = inputs("stream", dtype)
    stream = matching.unit(stream) if name == "logits_upstream" else stream
    assert agrees("tda", name, run_stream(scorer, {"whole": stream[:, None]}, table(dtype)))


@pytest.mark.golden
@both
def test_tda_caches(dtype: torch.dtype) -> None:
    state = TDA().start(table(dtype), 40)
    stream = inputs("stream", dtype)
    for row, sizes in zip(stream, load("tda")["cache_sizes"].tolist(), strict=True):
        TDA().step(state, {"whole": row[None]})
        assert [state.positive.count, state.negative.count] == sizes
    for memory, name in ((state.positive, "final_pos"), (state.negative, "final_neg")):
        got = [
            [c, place, int((stream == memory.features[slot]).all(1).nonzero()[0]), memory.entropy(slot)]
            for c in range(C)
            for place, slot in enumerate(memory.slots(c))
        ]
        assert agrees("tda", name, torch.tensor(got, dtype=dtype), rows_are_scores=False)
