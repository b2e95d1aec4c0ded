"""Samples and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniatures import write_image

from abs_classify.datasets import Sample
from abs_classify.images import load_image
from abs_core.errors import ImageError


def test_an_item_reads_its_file_and_says_what_it_is_called(tmp_path: Path) -> None:
    sample = Sample(write_image(tmp_path / "a.png"), "cat")
    assert sample.name == str(tmp_path / "a.png")
    assert load_image(sample.read(), sample.name) == load_image(sample.path)
    sample.path.unlink()
    with pytest.raises(ImageError, match=r"cannot read the image .*a\.png': no such file"):
        sample.read()
