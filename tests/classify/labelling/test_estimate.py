"""What a run will take is said before it, from what its first images took."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from support import colour, save_small_clip

from abs_classify import label
from abs_classify.labelling import estimate
from abs_classify.models.registry import load_model


def test_a_long_run_says_what_it_takes_and_a_resumed_one_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(estimate, "_LONG", 0.0)  # every run that computes something counts as long
    caplog.set_level(logging.INFO, estimate.__name__)
    model = load_model(f"local-dir:{save_small_clip(tmp_path / 'model')}")
    (tmp_path / "in").mkdir()
    for run, first in enumerate((0, 3)):
        for number in range(first, first + 3):
            colour(number).save(tmp_path / "in" / f"{number}.png")
        for _ in label(tmp_path / "in", ["cat", "dog"], model=model, method="clip", out=tmp_path / "out"):
            pass
        assert len(caplog.messages) == run + 1
    new, resumed = caplog.messages
    assert new.startswith("about ")
    assert " for 3 images with clip" in new
    # of the six images only three are new, which is not known before they are met
    assert resumed.startswith("at most about ")
    caplog.clear()
    assert not list(label(tmp_path / "in", ["cat", "dog"], model=model, method="clip", out=tmp_path / "out"))
    assert not caplog.messages
