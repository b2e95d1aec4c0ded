"""Places that lie: nothing false enters the store."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sharing import (
    add,
    send,
    store_of,
    take,
)

from abs_core.canonical import canonical_json
from abs_core.errors import AbsError, BundleError, StorageError
from abs_descriptions.bundles.manifest import manifest_path, yank_path
from abs_descriptions.bundles.repository import MAX_BYTES

pytestmark = pytest.mark.faults


def test_an_error_of_a_parent_names_what_travelled(tmp_path: Path) -> None:
    ours, theirs, shared = tmp_path / "a", tmp_path / "b", tmp_path / "shared"
    child = add(ours, "New.", "1.1.0", parents=[str(add(ours, "Old."))])
    add(theirs, "Another.")
    send(theirs, shared)
    with pytest.raises(BundleError, match=f"; copied before that: {child}"):
        send(ours, shared, with_parents=True)
    (tmp_path / "c").mkdir()
    send(ours, tmp_path / "c", with_parents=True)
    with pytest.raises(BundleError, match=f"; copied before that: {child}"):
        take(theirs, tmp_path / "c", with_parents=True)


def test_a_pull_gives_the_reason_of_a_yank_that_only_the_store_has(tmp_path: Path) -> None:
    home, shared = tmp_path / "a", tmp_path / "shared"
    entry = add(home)
    send(home, shared)
    store_of(home).yank(str(entry), "no cats")
    [again] = take(home, shared, str(entry))
    assert (again.is_new, again.yanked) == (False, "no cats")
    other = add(tmp_path / "b")
    store_of(tmp_path / "b").yank(str(other), "wrong cats")
    send(tmp_path / "b", shared, str(other))
    [both] = take(home, shared, str(entry))
    assert both.yanked == "wrong cats; no cats"


# --- places that lie ---


def rewrite(shared: Path, **changes: Any) -> None:
    path = shared / manifest_path("pets", "1.0.0")
    path.write_text(canonical_json(json.loads(path.read_text()) | changes) + "\n")


def deliver(shared: Path, data: bytes) -> None:
    """Announce other bytes as pets@1.0.0, with their own digest."""
    hexadecimal = hashlib.sha256(data).hexdigest()
    path = shared / "objects" / "sha256" / hexadecimal[:2] / f"{hexadecimal}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    rewrite(shared, digest=f"sha256:{hexadecimal}", size=len(data))


def bundle_bytes(shared: Path) -> bytes:
    return next(path for path in shared.rglob("*.jsonl") if ".rejected" not in path.name).read_bytes()


def write_manifest(shared: Path, data: bytes) -> None:
    (shared / manifest_path("pets", "1.0.0")).write_bytes(data)


def replace_object(shared: Path, change: Callable[[Path], object]) -> None:
    path = next(path for path in shared.rglob("*.jsonl") if ".rejected" not in path.name)
    path.unlink()
    change(path)


LIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no JSON": (lambda s: write_manifest(s, b"cat"), "the manifest is broken"),
    "not UTF-8": (lambda s: write_manifest(s, b'{"name": "\xff"}'), "the manifest is broken"),
    "deep JSON": (lambda s: write_manifest(s, b"[" * 60_000), "the manifest is broken"),
    "a huge manifest": (lambda s: write_manifest(s, b" " * 100_000), "more than the 65536 bytes"),
    "a climbing name": (lambda s: rewrite(s, name="../../x"), "the manifest is broken"),
    "another version": (lambda s: rewrite(s, version="9.0.0"), "the manifest is broken"),
    "an unknown key": (lambda s: rewrite(s, path="/etc/passwd"), "the manifest is broken"),
    "a climbing digest": (lambda s: rewrite(s, digest="sha256:../../x"), "the manifest is broken"),
    "a size of text": (lambda s: rewrite(s, size="1"), "the manifest is broken"),
    "a negative size": (lambda s: rewrite(s, size=-1), "the manifest is broken"),
    "an absurd size": (lambda s: rewrite(s, size=MAX_BYTES + 1), f"more than {MAX_BYTES}"),
    "a size too small": (lambda s: rewrite(s, size=10), "more than the 10 bytes"),
    "another digest": (lambda s: rewrite(s, digest="sha256:" + "0" * 64), "lacks its bytes"),
    "false counts": (lambda s: rewrite(s, counts={"classes": 9, "records": 9, "rejected": 1}), "misreports them"),
    "false date": (lambda s: rewrite(s, created="now"), "misreports them"),
    "bytes that changed": (
        lambda s: replace_object(s, lambda p: p.write_bytes(b'{"text":"A dog."}')),
        "has the digest",
    ),
    "a folder": (lambda s: replace_object(s, lambda p: p.mkdir()), "not a regular file"),
    "a pipe": (lambda s: replace_object(s, os.mkfifo), "not a regular file"),
    "a device": (lambda s: replace_object(s, lambda p: p.symlink_to("/dev/zero")), "not a regular file"),
    "no bundle": (lambda s: deliver(s, b"hello\n"), "line 1"),
    "deep records": (lambda s: deliver(s, bundle_bytes(s) + b"[" * 100_000 + b"\n"), "line 3"),
    "a torn bundle": (lambda s: deliver(s, bundle_bytes(s)[:-9]), "line 2"),
    "another bundle": (lambda s: deliver(s, bundle_bytes(s).replace(b'"pets"', b'"bets"')), "names the bytes of bets@"),
    "a long line": (lambda s: deliver(s, bundle_bytes(s) + b'"' + b"x" * 2_000_000), "line 3"),
    "other rejections": (lambda s: next(s.rglob("*.rejected.jsonl")).write_bytes(b"{}\n"), "has the digest"),
    "a broken yank": (lambda s: (s / yank_path("pets", "1.0.0")).write_bytes(b"{}"), "the yank is broken"),
}


@pytest.mark.parametrize("lie", LIES)
def test_nothing_enters_from_a_place_that_lies(lie: str, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    add(tmp_path / "a")
    send(tmp_path / "a", shared)
    store_of(tmp_path / "b").root.mkdir(parents=True)
    change, problem = LIES[lie]
    change(shared)
    began = time.process_time()
    with pytest.raises(AbsError, match=problem) as refused:
        take(tmp_path / "b", shared, "pets@1.0.0")
    assert time.process_time() - began < 5
    assert len(str(refused.value)) < 1000
    assert list(store_of(tmp_path / "b").root.rglob("*")) == []


def test_a_bundle_larger_than_the_disk_is_not_begun(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abs_descriptions.bundles.repository.MAX_BYTES", 10**18)
    rewrite(published, size=10**17)
    with pytest.raises(StorageError, match="more than are free"):
        take(tmp_path / "b", published, "pets@1.0.0")
    assert list(store_of(tmp_path / "b").root.iterdir()) == []
