"""Stores that are kept in Git: line endings that it changed, and pointers of Git LFS in place of files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from bundle_samples import REJECTED, write_sample
from sharing import add, send, store_of, take

from abs_core.errors import BundleError
from abs_descriptions.bundles import iter_rejected, read_bundle, rejected_path
from abs_descriptions.bundles.manifest import manifest_path

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1244\n"


def to_crlf(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def to_pointer(path: Path) -> None:
    path.chmod(0o644)
    path.write_bytes(POINTER)


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "CRLF": (to_crlf, "line 1: the lines end in CR LF"),
    "LFS": (to_pointer, "line 1: this is a Git LFS pointer"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_git_changed_is_called_so_with_the_line_that_helps(tmp_path: Path, change: str) -> None:
    alter, words = CHANGES[change]
    bundle = write_sample(tmp_path / "pets.jsonl", rejected=REJECTED)
    alter(rejected_path(bundle.path))
    with pytest.raises(BundleError) as caught:
        list(iter_rejected(bundle.path, bundle.header))
    assert change in caught.value.message or "CR LF" in caught.value.message
    alter(bundle.path)
    with pytest.raises(BundleError, match=words) as caught:
        read_bundle(bundle.path)
    assert "`*.jsonl -text`" in str(caught.value.remedy)


def test_one_line_with_another_end_is_named(tmp_path: Path) -> None:
    bundle = write_sample(tmp_path / "pets.jsonl")
    lines = bundle.path.read_bytes().split(b"\n")
    bundle.path.write_bytes(b"\n".join([*lines[:2], lines[2] + b"\r", *lines[3:]]))
    with pytest.raises(BundleError, match="line 3: the lines end in CR LF"):
        read_bundle(bundle.path)


@pytest.mark.parametrize("change", CHANGES)
def test_a_place_whose_files_git_changed_is_called_so(tmp_path: Path, change: str) -> None:
    alter, words = CHANGES[change]
    home, shared = tmp_path / "a", tmp_path / "shared"
    manifest = add(home)
    send(home, shared)
    alter(shared / manifest.object_path)
    with pytest.raises(BundleError, match=words.partition(": ")[2].split(" ", 2)[2]) as caught:
        take(tmp_path / "b", shared)
    assert caught.value.remedy.startswith("Tell whoever maintains this place")
    shutil.copy(store_of(home).path(manifest), shared / manifest.object_path)
    alter(shared / manifest_path("pets", "1.0.0"))
    if change == "CRLF":  # a manifest is read by its values
        take(tmp_path / "b", shared)
    else:
        with pytest.raises(BundleError, match="this is a Git LFS pointer"):
            take(tmp_path / "b", shared)
