"""Versions that are yanked: a bare name does not mean them, and their bytes stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundle_samples import filled

from abs_core.errors import BundleError, UsageError


def test_yanked_version_is_not_what_a_bare_name_means(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0", "2.0.0-rc.1")
    assert store.yank("pets@1.1.0", "the tails are wrong").reason == "the tails are wrong"
    assert store.resolve("pets").version == "1.0.0"
    entry = store.resolve("pets@1.1.0")
    assert store.resolve(str(entry)) == entry
    yank = store.yank_of(entry)
    assert yank is not None
    assert (yank.version, yank.digest, yank.reason) == ("1.1.0", entry.digest, "the tails are wrong")
    assert store.yank_of(store.resolve("pets@1.0.0")) is None
    assert len(store.list()) == 3
    assert store.next_version("pets") == "2.0.0"
    assert store.read("pets@1.1.0").digest == entry.digest
    store.yank("pets@1.0.0", "too")
    assert store.resolve("pets").version == "2.0.0-rc.1"
    store.yank("pets@2.0.0-rc.1", "three")
    with pytest.raises(BundleError, match=r"every version of 'pets' is yanked, pets@2.0.0-rc.1 because: three"):
        store.resolve("pets")
    store.undo_yank("pets@1.1.0")
    assert store.resolve("pets") == entry
    with pytest.raises(UsageError, match="is not yanked"):
        store.undo_yank("pets@1.1.0")


def test_yank_keeps_the_bytes_it_writes(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0")
    yank = store.yank("pets@1.0.0", 'a "reason" \x1b[2J')
    text = (store.root / "versions" / "pets" / "1.0.0.yank").read_text()
    assert text == (
        f'{{"digest":"{yank.digest}","format":"abs-bundle-yank","format_version":1,"name":"pets",'
        '"reason":"a \\"reason\\" \\u001b[2J","version":"1.0.0"}\n'
    )


def test_yank_of_a_version_called_yank(tmp_path: Path) -> None:
    store = filled(tmp_path, "1.0.0-rc", "1.0.0-rc.yank")
    store.yank("pets@1.0.0-rc", "x")
    assert [str(entry.version) for entry in store.list()] == ["1.0.0-rc", "1.0.0-rc.yank"]
    assert store.yank_of(store.resolve("pets@1.0.0-rc.yank")) is None


@pytest.mark.parametrize("reason", ["", " ", "two\nlines", "x" * 4001, "\ud800", "\0"])
def test_what_is_no_reason(tmp_path: Path, reason: str) -> None:
    store = filled(tmp_path, "1.0.0")
    with pytest.raises(UsageError, match="the reason"):
        store.yank("pets@1.0.0", reason)
    assert store.resolve("pets").version == "1.0.0"


@pytest.mark.parametrize("text", ["", "{}", '{"a":', "yes", '{"reason":"x"}'])
def test_broken_yank_is_named(tmp_path: Path, text: str) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    (store.root / "versions" / "pets" / "1.1.0.yank").write_text(text)
    with pytest.raises(BundleError, match=r"1\.1\.0\.yank, line 1: the yank is broken"):
        store.resolve("pets")


@pytest.mark.parametrize(("field", "value"), [("digest", "sha256:" + "0" * 64), ("version", "1.0.0"), ("name", "cats")])
def test_a_yank_of_other_bytes_is_not_believed(tmp_path: Path, field: str, value: str) -> None:
    store = filled(tmp_path, "1.0.0", "1.1.0")
    store.yank("pets@1.1.0", "the tails are wrong")
    path = tmp_path / "store" / "versions" / "pets" / "1.1.0.yank"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(BundleError, match=r"1\.1\.0\.yank, line 1: the yank is broken or of another bundle"):
        store.yank_of(store.resolve("pets@1.1.0"))
