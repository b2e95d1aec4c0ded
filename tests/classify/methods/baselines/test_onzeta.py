"""OnZeta: the numbers of the public codes, within the tolerances that came with them, and its limits."""

from __future__ import annotations

import pytest
import torch
from feature_vectors import run_stream, texts_with, vectors
from golden_baselines import agrees, both, inputs, table

from abs_classify.methods.baselines import OnZeta
from abs_core.errors import UsageError


@pytest.mark.golden
@both
def test_onzeta(dtype: torch.dtype) -> None:
    stream = inputs("stream", dtype)
    assert agrees("onzeta", "scores", run_stream(OnZeta(), {"whole": stream[:, None]}, table(dtype)))
    assert agrees("onzeta", "scores_upstream", run_stream(OnZeta(), {"whole": stream[:, None]}, table(dtype)))
    state, duals = OnZeta().start(table(dtype), 40), []
    for row in stream:
        OnZeta().step(state, {"whole": row[None]})
        duals.append(state.dual)
    assert agrees("onzeta", "rho", torch.stack(duals), rows_are_scores=False)
    assert agrees("onzeta", "w_final", state.proxies.T, rows_are_scores=False)


def test_onzeta_refuses_more_images_than_it_was_told() -> None:
    state = OnZeta().start(texts_with([1, 1]), 1)
    OnZeta().step(state, {"whole": vectors(8, 1, 32)})
    with pytest.raises(UsageError, match="started for 1 images"):
        OnZeta().step(state, {"whole": vectors(8, 1, 32)})
