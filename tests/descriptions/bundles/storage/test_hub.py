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
    opened,
    send,
    take,
)

from abs_core import service_errors
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


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_folder_of_a_branch_is_a_place_of_its_own(tmp_path: Path, enter: Callable[..., None]) -> None:
    entry, newer = add(tmp_path / "a"), add(tmp_path / "a", "A newer cat. " + "It goes on." * 100, "1.1.0")
    hub = Hub(datasets={"org/pets": [{"README.md": b"x"}], "branch": [{"other/versions/pets/9.0.0.json": b"x"}]})
    hub.branches["org/pets@feature/x"] = "branch"
    place = "hf://datasets/org/pets/sub/folder@feature%2Fx"
    with serving_hub(hub):
        enter(hub_environment(hub, tmp_path))
        assert send(tmp_path / "a", place, "pets@1.0.0")[0].is_new
        hub.tags["org/pets@v1"] = commit_name("branch", 1)
        assert send(tmp_path / "a", place, "pets@1.1.0")[0].is_new
        assert not send(tmp_path / "a", place, "pets@1.1.0")[0].is_new
        assert take(tmp_path / "b", place)[0].manifest == newer
        assert take(tmp_path / "b", "hf://datasets/org/pets/sub/folder@v1")[0].manifest == entry
        assert opened("hf://datasets/org/pets/sub/folder@feature%2Fx").list() == [entry, newer]
        for empty in ("hf://datasets/org/pets@feature%2Fx", "hf://datasets/org/pets/sub/folder"):
            assert opened(empty).list() == []
    assert hub.datasets["org/pets"] == [{"README.md": b"x"}]
    added = hub.datasets["branch"][-1].keys() - hub.datasets["branch"][0].keys()
    assert all(path.startswith("sub/folder/") for path in added)
    pulls = (tmp_path / "b" / "bundles" / "pulls.jsonl").read_text().splitlines()
    assert [json.loads(line)["from"] for line in pulls] == [
        f"hf://datasets/org/pets/sub/folder@{commit_name('branch', number)}" for number in (2, 1)
    ]


def test_a_repository_that_ignores_bundles_is_noticed(tmp_path: Path, enter: Callable[..., None]) -> None:
    add(tmp_path / "a")
    with serving_hub(Hub(datasets={"org/pets": [{}]}, ignored=".jsonl")) as hub:
        enter(hub_environment(hub, tmp_path))
        with pytest.raises(StorageError, match="lacks a part of what was pushed"):
            send(tmp_path / "a", "hf://datasets/org/pets")


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # of the hub's client about itself
@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_that_fails_in_passing_is_asked_again(
    status: int, tmp_path: Path, enter: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_errors, "_PAUSES", (0.01, 0.01, 0.01))
    add(tmp_path / "a")
    with serving_hub(Hub(datasets={"org/pets": [{}]})) as hub:
        enter(hub_environment(hub, tmp_path))
        hub.failing = [(status, {"Retry-After": "0"})] * 2
        send(tmp_path / "a", "hf://datasets/org/pets")
        assert hub.failing == []
        hub.failing = [(status, {"Retry-After": "0"})] * 2
        assert take(tmp_path / "b", "hf://datasets/org/pets")[0].is_new


@pytest.mark.parametrize(
    ("status", "headers", "problem", "remedy", "requests"),
    [
        (429, {}, r"it asks for fewer requests \(HTTP 429\)", "a token raises the limit", 4),
        (429, {"Retry-After": "300"}, r"it asks for fewer requests \(HTTP 429\)", "a token raises the limit", 1),
        (500, {}, r"it failed \(HTTP 500\)", "Try again later", 4),
        (401, {}, r"access was refused \(HTTP 401\)", "Check the credentials", 1),
    ],
)
def test_a_hub_that_keeps_failing_is_named(
    status: int,
    headers: dict[str, str],
    problem: str,
    remedy: str,
    requests: int,
    tmp_path: Path,
    enter: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service_errors, "_PAUSES", (0.01, 0.01, 0.01))
    with serving_hub(Hub(datasets={"org/pets": [{}]})) as hub:
        enter(hub_environment(hub, tmp_path))
        hub.failing = [(status, headers)] * 50
        with pytest.raises(StorageError, match=problem) as refused:
            take(tmp_path / "b", "hf://datasets/org/pets")
        assert len(hub.requests) == requests
    assert remedy in refused.value.remedy


def test_nothing_is_removed_after_a_commit_that_was_not_seen(tmp_path: Path, enter: Callable[..., None]) -> None:
    add(tmp_path / "a")
    hub = Hub(datasets={"org/pets": [{}]})
    with serving_hub(hub):
        enter(hub_environment(hub, tmp_path))
        place = opened("hf://datasets/org/pets")
        send(tmp_path / "a", place)
        listed = place.storage.files("objects")
        hub.datasets["org/pets"].append({**hub.datasets["org/pets"][-1], "notes.txt": b"x"})
        with pytest.raises(StorageError, match="was just changed; nothing was removed"):
            place.storage.delete(listed)
        assert len(hub.datasets["org/pets"]) == 3
        pinned = opened(f"hf://datasets/org/pets@{commit_name('org/pets', 1)}").storage
        listed = pinned.files("objects")
        with pytest.raises(UsageError, match="is a commit, which cannot change"):
            pinned.delete(listed)
