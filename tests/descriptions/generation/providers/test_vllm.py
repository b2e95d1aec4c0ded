"""What the provider asks vLLM for; vLLM itself runs in ``tests/with_vllm``."""

from __future__ import annotations

import pytest

from abs_core.errors import UsageError
from abs_descriptions.generation.providers import vllm
from abs_descriptions.generation.providers.registry import ProviderOptions, build_provider
from abs_descriptions.generation.providers.vllm import VLLMProvider


def test_a_model_is_spread_over_the_gpus_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vllm, "_on_cpu", lambda: False)
    provider = build_provider("vllm", ProviderOptions(engine="ray", gpus=4))
    assert isinstance(provider, VLLMProvider)
    arguments = provider._arguments()
    assert arguments["distributed_executor_backend"] == "ray"
    assert arguments["tensor_parallel_size"] == 4
    alone = VLLMProvider()._arguments()
    assert "distributed_executor_backend" not in alone
    assert "tensor_parallel_size" not in alone
    # where a model runs does not decide which replies of it are taken from the journal
    assert provider.key() == VLLMProvider().key()


def test_where_no_model_can_be_spread_is_refused() -> None:
    with pytest.raises(UsageError, match="number of GPUs must be at least 1, got 0"):
        VLLMProvider(gpus=0)
    with pytest.raises(UsageError, match="unknown engine 'slurm'"):
        VLLMProvider(engine="slurm")
    with pytest.raises(UsageError, match="the backend 'local' has no option 'engine'"):
        build_provider("local", ProviderOptions(engine="ray"))
