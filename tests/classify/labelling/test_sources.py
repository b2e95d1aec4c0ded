"""What the user names, to images: files, folders and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest
from image_files import encode, picture

from abs_classify.labelling.sources import ImageSources
from abs_core.errors import UsageError

PHOTO = encode(picture(8, 6), "JPEG")


def test_a_folder_gives_its_images_in_the_order_of_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("b.JPG", "a/z.jpg", "a.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(PHOTO)
    monkeypatch.chdir(tmp_path)
    sources = ImageSources(["photos/"])
    images = list(sources)
    assert [image.path for image in images] == ["photos/a/z.jpg", "photos/a.png", "photos/b.JPG"]
    assert [image.location.sample().read() for image in images] == [PHOTO] * 3
    assert sources.count_estimate() == 3
    assert [image.key for image in ImageSources([tmp_path / "photos"])] == [image.key for image in images]


def test_a_source_that_does_not_exist_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"'.*nothing' does not exist"):
        ImageSources([tmp_path, tmp_path / "nothing"])
    with pytest.raises(UsageError, match="no source"):
        ImageSources([])
