"""Evaluations with adaptive views: what the records say, what is computed, and what cannot be asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import Bench

from abs_classify import AdaptiveViews
from abs_classify.methods.calibration import read_calibration
from abs_classify.report.contents import EvaluationFiles
from abs_core.errors import UnknownNameError, UsageError


def test_an_adaptive_run_and_then_all_views(bench: Bench, image_folder: Callable[..., Path]) -> None:
    folder = image_folder("adaptive", cat=2, dog=2)
    adaptive = bench.run(folder, "clip,abs-features,abs", views=AdaptiveViews(0.9))
    clip, features, record = adaptive
    facts = record.details.method.adaptive
    assert facts is not None
    assert (facts.rule, facts.agreement, facts.kinds, facts.views) == ("normal", 0.9, ["box"], 50)
    assert 4 <= facts.mean_views < 50
    assert 0 < facts.settled_early <= 1
    assert record.details.method.views == f"{facts.mean_views:.1f} of 50 crops + 50 windows"
    assert clip.details.method.adaptive is None
    assert features.details.method.adaptive is None
    assert "abs-features: looked at all views, as the score is no sum over crops" in record.details.notes
    settled = f"abs: {100 * facts.settled_early:.1f} % of the images settled before the last view"
    assert f"{settled} (normal rule, agreement 0.9)" in str(adaptive)
    again = bench.run(folder, "abs", views=AdaptiveViews(0.9))
    assert again.work.nothing
    assert again[0].details.method.adaptive == facts
    full = bench.run(folder, "abs", views=None)
    assert full.work.views_computed == 4 * 50 - round(4 * facts.mean_views)
    assert full[0].details.method.adaptive is None


def test_an_agreement_that_needs_all_views_gives_the_full_run(bench: Bench, image_folder: Callable[..., Path]) -> None:
    folder = image_folder("adaptive", cat=2, dog=2)
    few = bench.run(folder, "abs", views=AdaptiveViews(1 - 1e-15, "guaranteed"))
    full = bench.run(folder, "abs", views=None)
    facts = few[0].details.method.adaptive
    assert facts is not None
    assert few[0].details.right == full[0].details.right


@pytest.mark.parametrize(
    ("methods", "views", "message"),
    [
        ("clip", AdaptiveViews(), "views has no effect on methods that use only the full image: clip"),
        ("wca,clip", AdaptiveViews(), "the scores of wca, clip are no sums over views"),
        ("abs", "adaptiv", "views must be a number or 'adaptive', got 'adaptiv'"),
    ],
)
def test_methods_without_adaptive_views_are_refused(
    bench: Bench, image_folder: Callable[..., Path], methods: str, views: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        bench.run(image_folder("adaptive", cat=1), methods, views=views)


def test_a_stopping_rule_must_exist() -> None:
    with pytest.raises(UnknownNameError, match="normal"):
        AdaptiveViews(stopping="norml")
    with pytest.raises(UsageError, match="between 0 and 1"):
        AdaptiveViews(1.0)


def test_a_run_with_all_views_makes_a_calibration(
    bench: Bench, image_folder: Callable[..., Path], tmp_path: Path
) -> None:
    folder, path = image_folder("adaptive", cat=2, dog=2), tmp_path / "made" / "abs.json"
    with EvaluationFiles(calibration=path) as files:
        bench.run(folder, "clip,abs", views=None, observer=files)
    (entry,) = read_calibration(path).entries
    assert (entry.name, entry.images) == ("abs", 4)
    views = AdaptiveViews(0.9, "calibrated", read_calibration(path))
    with pytest.raises(UsageError, match="at least 100 images, and this one has 4"):
        bench.run(folder, "abs", views=views)
    with pytest.raises(UsageError, match="these are adaptive"), EvaluationFiles(calibration=path) as files:
        bench.run(folder, "abs", views="adaptive", observer=files)
    with pytest.raises(UsageError, match="nothing to calibrate"), EvaluationFiles(calibration=path) as files:
        bench.run(folder, "clip", observer=files)
