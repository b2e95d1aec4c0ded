"""The table of providers, the values of ``--backend``.

build_provider("local")                                                the embedded SmolLM2, in this process
build_provider("openai", ProviderOptions(model="gpt-5-mini"))          a server that speaks the OpenAI protocol
build_provider("openai-batch", ProviderOptions(model=..., keep=...))   the same through its Batch API
build_provider("vllm", ProviderOptions(model="models/qwen"))           a folder through vLLM, in this process
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from abs_core.errors import UnknownNameError, UsageError
from abs_descriptions.generation.providers.base import Provider
from abs_descriptions.generation.providers.model_files import EMBEDDED
from abs_descriptions.generation.providers.openai_batch import OpenAIBatchProvider
from abs_descriptions.generation.providers.openai_batch_api import MAX_REQUESTS
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.transformers_local import TransformersProvider
from abs_descriptions.generation.providers.vllm import VLLMProvider

__all__ = ["PROVIDERS", "ProviderOptions", "build_provider"]

_NAME_MODEL = "Name the model as the server calls it: --model, or --language-model where --model is that of the images"


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """Options of providers; None leaves one to the provider.

    Args:
        model: its name, or the path of a local one.
        base_url: address of a server.
        key_variable: the environment variable with the key for that server.
        concurrency: requests, or batches, in flight to a server.
        requests_per_minute, tokens_per_minute: limits of a server; tokens of prompts and replies together.
        timeout: seconds for one reply of a server.
        extra_body: further members of each request to a server, as JSON values.
        batch_size: rows decoded together by a local model, or requests in one batch file of a server.
        poll_interval: seconds between two checks of a server's batches.
        threads: CPU threads of a local model.
        engine, gpus: where vLLM spreads a model, "local" or "ray", and over how many GPUs.
        keep: a folder where a local model keeps what it unpacks, and the Batch API its records.
    """

    model: str | None = None
    base_url: str | None = None
    key_variable: str | None = None
    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float | None = None
    extra_body: Mapping[str, Any] | None = None
    batch_size: int | None = None
    poll_interval: float | None = None
    threads: int | None = None
    engine: str | None = None
    gpus: int | None = None
    keep: Path | None = None


def build_provider(name: str, options: ProviderOptions | None = None) -> Provider:
    """The provider of this name. No model is loaded and no server is contacted before its first request.

    Raises:
        UnknownNameError: no such provider; lists those that exist.
        UsageError: an option that the provider does not have, or a missing model.
        WeightsError, FatalProviderError: a local model that is missing or is not the expected one.
    """
    entry = PROVIDERS.get(name)
    if entry is None:
        raise UnknownNameError("backend", name, PROVIDERS)
    options = options or ProviderOptions()
    for option in fields(options):
        if getattr(options, option.name) is not None and option.name not in entry.options:
            raise UsageError(f"the backend {name!r} has no option {option.name!r}", remedy="Leave it out")
    return entry.build(options)


@dataclass(frozen=True, slots=True)
class _ProviderEntry:
    build: Callable[[ProviderOptions], Provider]
    options: frozenset[str]


def _local(options: ProviderOptions) -> Provider:
    return TransformersProvider(
        options.model or EMBEDDED,
        batch_size=64 if options.batch_size is None else options.batch_size,
        threads=options.threads,
        keep=options.keep,
    )


def _openai(options: ProviderOptions) -> Provider:
    if not options.model:
        raise UsageError("the backend 'openai' needs a model", remedy=_NAME_MODEL)
    return OpenAIChatProvider(
        options.model,
        base_url=options.base_url,
        key_variable=options.key_variable,
        concurrency=16 if options.concurrency is None else options.concurrency,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
        timeout=options.timeout,
        extra_body=options.extra_body,
    )


def _openai_batch(options: ProviderOptions) -> Provider:
    if not options.model:
        raise UsageError("the backend 'openai-batch' needs a model", remedy=_NAME_MODEL)
    if options.keep is None:
        raise UsageError("the backend 'openai-batch' needs a folder for its records", remedy="Set the option keep")
    return OpenAIBatchProvider(
        options.model,
        options.keep / "openai-batch",
        base_url=options.base_url,
        key_variable=options.key_variable,
        concurrency=8 if options.concurrency is None else options.concurrency,
        batch_size=MAX_REQUESTS if options.batch_size is None else options.batch_size,
        poll_interval=30.0 if options.poll_interval is None else options.poll_interval,
        extra_body=options.extra_body,
    )


def _vllm(options: ProviderOptions) -> Provider:
    return VLLMProvider(
        options.model or EMBEDDED,
        batch_size=options.batch_size,
        keep=options.keep,
        engine=options.engine or "local",
        gpus=options.gpus,
    )


_SERVER = frozenset(("model", "base_url", "key_variable", "concurrency", "extra_body", "keep"))

#: Name -> provider. Every provider accepts ``keep``; "openai-batch" needs it.
PROVIDERS: Mapping[str, _ProviderEntry] = MappingProxyType(
    {
        "local": _ProviderEntry(_local, frozenset(("model", "batch_size", "threads", "keep"))),
        "openai": _ProviderEntry(_openai, _SERVER | {"requests_per_minute", "tokens_per_minute", "timeout"}),
        "openai-batch": _ProviderEntry(_openai_batch, _SERVER | {"batch_size", "poll_interval"}),
        "vllm": _ProviderEntry(_vllm, frozenset(("model", "batch_size", "keep", "engine", "gpus"))),
    }
)
