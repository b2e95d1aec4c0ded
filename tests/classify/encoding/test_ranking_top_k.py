"""A ``top_k`` above the patches of the attention map is refused before any image is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from abs_classify import Classifier, encode, label
from abs_core.errors import UsageError


@pytest.mark.parametrize("name", ["abs-pixels(top_k=5000)", "abs-features(top_k=5000)"])
def test_a_top_k_above_the_attention_map_names_the_parameter_before_any_image(
    name: str, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    message = r"the parameter 'top_k' of .* must be from 1 to \d+, the patches of the attention maps of .* got 5000"
    classifier = Classifier(small_clips[0], ["cat", "dog"], method=name, attention="norm")
    with pytest.raises(UsageError, match=message):
        next(classifier.classify([b"no image"]))
    with pytest.raises(UsageError, match=message):
        encode([b"no image"], model=small_clips[0], of="mean", method=name, attention="norm")
    (tmp_path / "no-image.png").write_bytes(b"")
    run = label(tmp_path, ["cat", "dog"], model=small_clips[0], method=name, views=3, attention="norm")
    with pytest.raises(UsageError, match=message):
        next(run)


def test_a_top_k_of_views_that_are_not_guided_needs_no_attention_map(small_clips: tuple[str, str]) -> None:
    from support import colour

    free = Classifier(small_clips[0], ["cat", "dog"], method="abs-random", attention="norm", views=2)
    assert next(free.classify([colour(0)])).name in ("cat", "dog")
    exact = Classifier(small_clips[0], ["cat", "dog"], method="abs-pixels(top_k=1)", attention="norm", views=2)
    assert next(exact.classify([colour(0)])).name in ("cat", "dog")
