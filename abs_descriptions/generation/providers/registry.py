"""Ways to reach a language model, one file each, and the table of them.

build_backend("local")                                               the embedded SmolLM2, in this process
build_backend("openai", BackendOptions(model="gpt-5-mini"))          a server that speaks the OpenAI protocol
build_backend("openai-batch", BackendOptions(model=..., keep=...))   the same through its Batch API
build_backend("vllm", BackendOptions(model="models/qwen"))           a Hugging Face folder through vLLM, in this process
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

from abs_core.errors import UnknownNameError, UsageError
from abs_descriptions.generation.providers.base import Provider
from abs_descriptions.generation.providers.model_files import EMBEDDED
from abs_descriptions.generation.providers.openai_batch import OpenAIBatchProvider
from abs_descriptions.generation.providers.openai_batch_api import MOST_REQUESTS
from abs_descriptions.generation.providers.openai_chat import OpenAIChatProvider
from abs_descriptions.generation.providers.transformers_local import TransformersProvider
from abs_descriptions.generation.providers.vllm import VLLMProvider

__all__ = ["BACKENDS", "ProviderOptions", "build_provider"]


@dataclass(frozen=True, slots=True)
class ProviderOptions:
    """What a user may say about a backend; None leaves it to the backend.

    Args:
        model: its name, or the path of a local one.
        base_url: of a server.
        key_variable: the environment variable with the key for that server.
        concurrency: requests under way at a server, or batches.
        requests_per_minute, tokens_per_minute: what a server allows; tokens of prompts and replies together.
        batch_size: rows drawn at once by a local model, or requests in one batch of a server.
        poll_interval: seconds between two looks at a batch of a server.
        threads: CPU threads of a local model.
        keep: a folder in which a local model may keep what it unpacked, and batches of a server their records.
    """

    model: str | None = None
    base_url: str | None = None
    key_variable: str | None = None
    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    batch_size: int | None = None
    poll_interval: float | None = None
    threads: int | None = None
    keep: Path | None = None


def build_provider(name: str, options: ProviderOptions | None = None) -> Provider:
    """The backend of this name. No model is loaded and no server is asked before its first request.

    Raises:
        UnknownNameError: no such backend; lists those that there are.
        UsageError: an option that the backend does not have, or a model that it needs.
        WeightsError, FatalBackendError: a local model that is missing or is not the expected one.
    """
    entry = BACKENDS.get(name)
    if entry is None:
        raise UnknownNameError("backend", name, BACKENDS)
    options = options or ProviderOptions()
    given = [one.name for one in fields(options) if getattr(options, one.name) is not None]
    strange = [one for one in given if one not in entry.options]
    if strange:
        raise UsageError(f"the backend {name!r} has no option {strange[0]!r}", remedy="Leave it out")
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
        raise UsageError("the backend 'openai' needs a model", remedy="Name one, as the server calls it")
    return OpenAIChatProvider(
        options.model,
        base_url=options.base_url,
        key_variable=options.key_variable,
        concurrency=16 if options.concurrency is None else options.concurrency,
        requests_per_minute=options.requests_per_minute,
        tokens_per_minute=options.tokens_per_minute,
    )


def _openai_batch(options: ProviderOptions) -> Provider:
    if not options.model:
        raise UsageError("the backend 'openai-batch' needs a model", remedy="Name one, as the server calls it")
    if options.keep is None:
        raise UsageError("the backend 'openai-batch' needs a folder for its records", remedy="Give it with 'keep'")
    return OpenAIBatchProvider(
        options.model,
        options.keep / "openai-batch",
        base_url=options.base_url,
        key_variable=options.key_variable,
        concurrency=8 if options.concurrency is None else options.concurrency,
        batch_size=MOST_REQUESTS if options.batch_size is None else options.batch_size,
        poll_interval=30.0 if options.poll_interval is None else options.poll_interval,
    )


def _vllm(options: ProviderOptions) -> Provider:
    return VLLMProvider(options.model or EMBEDDED, batch_size=options.batch_size, keep=options.keep)


_SERVER = frozenset(("model", "base_url", "key_variable", "concurrency", "keep"))


#: Backend by name. ``keep`` is a wish and never an error; "openai-batch" needs it.
BACKENDS: Mapping[str, _ProviderEntry] = MappingProxyType(
    {
        "local": _ProviderEntry(_local, frozenset(("model", "batch_size", "threads", "keep"))),
        "openai": _ProviderEntry(_openai, _SERVER | {"requests_per_minute", "tokens_per_minute"}),
        "openai-batch": _ProviderEntry(_openai_batch, _SERVER | {"batch_size", "poll_interval"}),
        "vllm": _ProviderEntry(_vllm, frozenset(("model", "batch_size", "keep"))),
    }
)
