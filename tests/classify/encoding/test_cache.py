"""What lies in the cache folder beside features."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from abs_classify.encoding.cache import derived_files, former_cache, remove_path, require_writable_cache
from abs_core.errors import CacheError


def test_what_was_derived_from_weights(tmp_path: Path) -> None:
    assert list(derived_files(tmp_path)) == []
    unpacked = tmp_path / "derived" / "model"
    unpacked.mkdir(parents=True)
    (unpacked / "model.safetensors").write_bytes(bytes(1000))
    os.utime(unpacked / "model.safetensors", (1_000, 1_000))
    (tmp_path / "derived" / "anchors.safetensors").write_bytes(bytes(10))
    (tmp_path / "derived" / ".half-written").touch()
    anchors, model = derived_files(tmp_path)
    assert (anchors.path.name, anchors.size) == ("anchors.safetensors", 10)
    assert (model.path.name, model.size, model.used) == ("model", 1000, 1_000)


def test_a_former_cache(tmp_path: Path) -> None:
    assert former_cache(tmp_path) is None
    (tmp_path / "v1" / "scores").mkdir(parents=True)
    (tmp_path / "v1" / "scores" / "a").write_bytes(bytes(10))
    (tmp_path / "v1" / "loop").symlink_to("loop")
    former = former_cache(tmp_path)
    assert former is not None
    assert former.path == tmp_path / "v1"
    assert former.size >= 10
    assert remove_path(former.path)
    assert former_cache(tmp_path) is None
    (tmp_path / "v1").symlink_to("elsewhere")
    assert former_cache(tmp_path) is None


def test_a_cache_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CacheError, match=r"file.*--cache"):
        require_writable_cache(tmp_path / "file")
