"""Publishing files: flushed before they have their name, by a rename, and where there are no hard links."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from abs_core.errors import StorageError
from abs_core.files import atomic_write, publish


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that files had when the disk was waited for."""
    sizes: list[int] = []
    flush = os.fsync

    def note(handle: int) -> None:
        sizes.append(os.fstat(handle).st_size)
        flush(handle)

    monkeypatch.setattr(os, "fsync", note)
    return sizes


@pytest.mark.parametrize("durable", [True, False])
def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path: Path, flushed: list[int], durable: bool) -> None:
    with atomic_write(tmp_path / "file", durable=durable) as stream:
        stream.write(b"whole")
        assert flushed == []
    assert flushed == ([5] if durable else [])


def test_who_reads_the_old_file_goes_on_reading_it(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"the old bytes")
    with target.open("rb", buffering=0) as reader:
        assert reader.read(4) == b"the "
        with atomic_write(target) as stream:
            stream.write(b"THE NEW BYTES")
        assert reader.read() == b"old bytes"
    assert target.read_bytes() == b"THE NEW BYTES"


def test_what_is_published_is_on_the_disk_and_stays(tmp_path: Path, flushed: list[int]) -> None:
    target = tmp_path / "deep" / "manifest.json"
    assert publish(target, b"first")
    assert flushed == [5]
    assert not publish(target, b"second")
    assert target.read_bytes() == b"first"
    assert [path.name for path in target.parent.iterdir()] == ["manifest.json"]


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK])
def test_without_hard_links_the_first_one_stays_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(source: object, target: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", refuse)
    target = tmp_path / "manifest.json"
    assert publish(target, b"first")
    assert not publish(target, b"second")
    assert target.read_bytes() == b"first"
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_a_failure_that_is_not_about_links_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(source: object, target: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(StorageError, match=r"cannot write .*manifest\.json"):
        publish(tmp_path / "manifest.json", b"first")
    assert list(tmp_path.iterdir()) == []
