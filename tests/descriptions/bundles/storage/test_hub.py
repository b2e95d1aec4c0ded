"""The Hugging Face hub: what is read belongs to one commit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hub_server import Hub, commit_name, serving_hub
from sharing import (
    add,
    hub_environment,
    send,
    take,
)

from abs_core.errors import StorageError, UsageError

# --- the hub ---


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's client about itself
def test_a_pull_belongs_to_one_commit(tmp_path: Path, enter: Callable[..., None]) -> None:
    add(tmp_path / "a")
    add(tmp_path / "a", "Another cat. " + "It goes on." * 100, "1.1.0")
    with serving_hub(Hub(datasets={"org/pets": [{}]})) as hub:
        enter(hub_environment(hub, tmp_path))
        send(tmp_path / "a", "hf://datasets/org/pets", "pets@1.0.0")
        old = commit_name("org/pets", 1)
        send(tmp_path / "a", "hf://datasets/org/pets", "pets@1.1.0")
        assert hub.lfs  # the longer one went up as a large file
        assert take(tmp_path / "b", f"hf://datasets/org/pets@{old}")[0].manifest.version == "1.0.0"
        assert take(tmp_path / "b", "hf://datasets/org/pets")[0].manifest.version == "1.1.0"
        with pytest.raises(UsageError, match="is a commit, which cannot change"):
            send(tmp_path / "a", f"hf://datasets/org/pets@{old}")
        with pytest.raises(StorageError, match="no such revision"):
            take(tmp_path / "b", "hf://datasets/org/pets@v9")
        with pytest.raises(StorageError, match="no such repository, or not for you"):
            take(tmp_path / "b", "hf://datasets/org/dogs")
        with pytest.raises(StorageError, match="no such repository, or not for you"):
            send(tmp_path / "a", "hf://datasets/org/dogs")
    records = [json.loads(line) for line in (tmp_path / "b" / "bundles" / "pulls.jsonl").read_text().splitlines()]
    assert [record["from"] for record in records] == [
        f"hf://datasets/org/pets@{commit_name('org/pets', number)}" for number in (1, 2)
    ]


def test_a_repository_that_ignores_bundles_is_noticed(tmp_path: Path, enter: Callable[..., None]) -> None:
    add(tmp_path / "a")
    with serving_hub(Hub(datasets={"org/pets": [{}]}, ignored=".jsonl")) as hub:
        enter(hub_environment(hub, tmp_path))
        with pytest.raises(StorageError, match="lacks a part of what was pushed"):
            send(tmp_path / "a", "hf://datasets/org/pets")
