"""Weights from a hub on loopback: resumed where a killed pull ended, and nothing of a killed one stays."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, Hub, serving_hub

from abs_classify.models import hub_downloads
from abs_classify.models.hub_downloads import LARGE, fetch_large_file, remove_dead_downloads
from abs_classify.models.weights import hub_file

pytest.importorskip("huggingface_hub")

from huggingface_hub import HfFileMetadata

DATA = bytes(range(256)) * (LARGE // 256) + b"the end"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    files = {"large.safetensors": DATA, "small.json": b"{}"}
    with serving_hub(Hub(files={"tiny/clip": files})) as state:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", _template(state.address))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", state.address)
        yield state


def _template(address: str) -> str:
    return address + "/{repo_id}/resolve/{revision}/{filename}"


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    return tmp_path / "hub" / "models--tiny--clip" / "blobs"


def test_what_was_downloaded_before_a_kill_is_not_downloaded_again(
    hub: Hub, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = len(DATA) // 2
    state = blobs / f".{DIGEST}.version.{_key(hub)}.part"
    state.parent.mkdir(parents=True)
    state.write_text(f'"{DIGEST}"')
    state.with_name(f".{DIGEST}.{_key(hub)}.part").write_bytes(DATA[:half])
    path = hub_file("tiny/clip", ["large.safetensors"], allow_download=True)
    assert path is not None
    assert path.read_bytes() == DATA
    assert hub.ranges == [f"bytes={half}-"]
    assert hub.sent == len(DATA) - half
    assert [entry.name for entry in blobs.iterdir()] == [DIGEST]
    assert hub_file("tiny/clip", ["large.safetensors"], allow_download=False) == path


def _key(hub: Hub) -> str:
    url = f"{hub.address}/tiny/clip/resolve/{COMMIT}/large.safetensors"
    return hashlib.sha256(url.encode()).hexdigest()[:32]


def test_bytes_that_are_not_those_of_their_digest_are_not_kept(hub: Hub, blobs: Path) -> None:
    state = blobs / f".{DIGEST}.version.{_key(hub)}.part"
    state.parent.mkdir(parents=True)
    state.write_text(f'"{DIGEST}"')
    state.with_name(f".{DIGEST}.{_key(hub)}.part").write_bytes(b"of another file" * 100)
    fetch_large_file("tiny/clip", "large.safetensors")
    assert list(blobs.iterdir()) == []
    path = hub_file("tiny/clip", ["large.safetensors"], allow_download=True)
    assert path is not None
    assert path.read_bytes() == DATA


def test_a_digest_that_is_a_path_names_no_file(
    hub: Hub, blobs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = HfFileMetadata(COMMIT, f"../../../{DIGEST}", "", len(DATA), None)
    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", lambda _url: metadata)
    fetch_large_file("tiny/clip", "large.safetensors")
    assert list(tmp_path.rglob(DIGEST)) == []


def test_what_is_small_or_there_is_left_to_the_client(hub: Hub, blobs: Path) -> None:
    fetch_large_file("tiny/clip", "small.json")
    fetch_large_file("tiny/clip", "nothing.safetensors")
    fetch_large_file("tiny/none", "large.safetensors")
    assert not blobs.exists()
    fetch_large_file("tiny/clip", "large.safetensors")
    asked = len(hub.requests)
    fetch_large_file("tiny/clip", "large.safetensors")
    assert hub.requests[asked:] == ["HEAD tiny/clip/resolve/main/large.safetensors"]


def test_downloads_of_dead_processes_go_and_those_of_living_ones_stay(hub: Hub, blobs: Path) -> None:
    from huggingface_hub.utils import WeakFileLock

    blobs.mkdir(parents=True)
    dead, living, fresh, resumable = (
        blobs / name
        for name in ("a.0a0b0c0d.incomplete", "b.0a0b0c0d.incomplete", "c.0a0b0c0d.incomplete", "d.incomplete")
    )
    for path in (dead, living, fresh, resumable):
        path.write_bytes(b"half")
        if path != fresh:
            os.utime(path, (time.time() - 2 * hub_downloads._WRITING,) * 2)
    locks = blobs.parents[1] / ".locks" / blobs.parent.name
    locks.mkdir(parents=True)
    with WeakFileLock(locks / "b.lock"):
        assert remove_dead_downloads("tiny/clip") == [dead]
    assert remove_dead_downloads("tiny/clip") == [living]
    assert remove_dead_downloads("tiny/none") == []
    assert sorted(blobs.iterdir()) == [fresh, resumable]
