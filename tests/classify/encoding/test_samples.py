"""Content ids of images, wherever they lie."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from abs_classify.datasets.base import Sample
from abs_classify.datasets.tar_files import tar_members
from abs_classify.encoding.digest_cache import DigestCache
from abs_classify.encoding.samples import IdentifiedSample, UnreadableSample, identify, identify_readable
from abs_core.canonical import sha256_bytes
from abs_core.errors import ImageError


def shard(path: Path, count: int) -> list[Sample]:
    with tarfile.open(path, "w") as archive:
        for number in range(count):
            info = tarfile.TarInfo(f"{number}.png")
            info.size = 4
            archive.addfile(info, io.BytesIO(b"%04d" % number))
    return [Sample(path, "cat", member) for member in tar_members(path)]


def test_images_of_a_shard_are_identified_in_steps_with_progress(tmp_path: Path) -> None:
    samples = shard(tmp_path / "0.tar", 1100)
    told: list[int] = []
    digests = DigestCache(tmp_path / "cache")
    identified = identify(samples, digests, told.append)
    assert told == [500, 1000, 1100]
    assert [entry.id for entry in identified if isinstance(entry, IdentifiedSample)] == [
        sha256_bytes(b"%04d" % number) for number in range(1100)
    ]
    assert identify(samples, digests) == identified == identify(samples, DigestCache(None))


def test_an_image_that_cannot_be_read_is_named_among_those_that_can(tmp_path: Path) -> None:
    samples = shard(tmp_path / "0.tar", 3)
    (tmp_path / "a.png").write_bytes(b"a")
    mixed = [Sample(tmp_path / "a.png", "cat"), *samples, Sample(tmp_path / "none.png", "cat")]
    (tmp_path / "0.tar").write_bytes((tmp_path / "0.tar").read_bytes()[: 2 * 1024 + 514])
    entries = identify(mixed, DigestCache(tmp_path / "cache"))
    assert [isinstance(entry, UnreadableSample) for entry in entries] == [False, False, False, True, True]
    readable, skipped = identify_readable(mixed, DigestCache(None), "skip")
    assert (len(readable), [image.name for image in skipped]) == (3, [mixed[3].name, mixed[4].name])
    with pytest.raises(ImageError, match="or use --on-error skip"):
        identify_readable(mixed, DigestCache(None), "stop")
