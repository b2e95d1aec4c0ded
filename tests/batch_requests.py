"""Requests to the Batch API and what comes of them, for the tests of the provider openai-batch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from servers import BatchServer, completion_body

from abs_core.errors import FatalProviderError
from abs_descriptions.generation.providers.base import (
    Message,
    Outcome,
    Parameters,
    Reply,
    Request,
)
from abs_descriptions.generation.providers.openai_batch import OpenAIBatchProvider
from abs_descriptions.generation.providers.retry import RetryPolicy

KEY = "sk-test-0123456789-very-secret"
HASTE = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.02, longest_retry_after=5, give_up_after=20, timeout=10)


def echo(bodies: Sequence[dict[str, Any]]) -> list[tuple[int, Any]]:
    return [(200, completion_body(f"re: {body['messages'][-1]['content']}")) for body in bodies]


def request(number: int) -> Request:
    return Request((Message("user", f"question {number}"),), Parameters(max_tokens=20), tag=number)


def provider_at(server: Any, keep: Path, **options: Any) -> OpenAIBatchProvider:
    settings = {"poll_interval": 0.01, "retry_policy": HASTE, **options}
    return OpenAIBatchProvider("m", keep, base_url=server.url, **settings)


def ask(provider: OpenAIBatchProvider, count: int) -> dict[int, Outcome]:
    return {asked.tag: outcome for asked, outcome in provider.complete(request(number) for number in range(count))}


def ask_until_the_end(provider: OpenAIBatchProvider, count: int) -> tuple[dict[int, Outcome], FatalProviderError]:
    """What a run that ends with an error gives before it."""
    got = {}
    outcomes = provider.complete(request(number) for number in range(count))
    while True:
        try:
            asked, outcome = next(outcomes)
        except FatalProviderError as end:
            return got, end
        got[asked.tag] = outcome


def replies(numbers: Any) -> dict[int, Outcome]:
    return {number: Reply(f"re: question {number}", "stop", 7, 3) for number in numbers}


def posts(server: BatchServer, path: str) -> int:
    return sum((one.method, one.path) == ("POST", f"/v1/{path}") for one in server.seen)


def empty(bodies: Sequence[dict[str, Any]]) -> list[tuple[int, Any]]:
    return [(200, completion_body(None)) for _ in bodies]
