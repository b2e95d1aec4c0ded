"""Batches of a model that does not take requests as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from servers import BatchServer, Bodies, Executed, completion_body, serving

from abs_descriptions.generation.providers.base import Adaptation, Message, Parameters, Reply, Request, Tokens
from abs_descriptions.generation.providers.openai_batch import OpenAIBatchProvider

pytest.importorskip("openai")


def refuse(message: str) -> tuple[int, Any]:
    return 400, {"error": {"message": message, "type": "invalid_request_error", "code": "unsupported_value"}}


def execute(bodies: Bodies) -> Executed:
    """A model that takes no temperature and no seed, and reasons for more than 100 tokens."""
    results: Executed = []
    for body in bodies:
        if "temperature" in body:
            results.append(refuse("'temperature' does not support 0.8 with this model."))
        elif "seed" in body:
            results.append(refuse("Unknown parameter: 'seed'."))
        elif body["max_tokens"] < 100:
            results.append((200, completion_body("", "length", drawn=20)))
        else:
            results.append((200, completion_body("A cat.")))
    return results


def test_what_is_refused_is_left_out_of_the_next_batch_and_an_attempt_it_is_not(
    no_ambient_key: None, tmp_path: Path
) -> None:
    with serving(BatchServer(execute=execute)) as server:
        provider = OpenAIBatchProvider(
            "m", tmp_path, base_url=server.url, poll_interval=0.01, attempts=1, extra_body={"reasoning_effort": "low"}
        )
        asked = [Request((Message("user", "A cat?"),), Parameters(max_tokens=20), sample) for sample in range(3)]
        outcomes = [outcome for _, outcome in provider.complete(asked)]
        adaptation = Adaptation(("seed", "temperature"), (), 1024)
        assert len(server.batches) == 4
    assert outcomes == [Reply("A cat.", "stop", 7, 3, Tokens(7, 20), adaptation)] * 3
    assert provider.adaptation == adaptation
    assert provider.key()["extra_body"] == {"reasoning_effort": "low"}
