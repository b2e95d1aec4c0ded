"""Evaluations with a budget of views: its mean, what it does not depend on, its records, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from evaluations import Bench

from abs_classify import AdaptiveViews, Classifier
from abs_classify.encoding.feature_store import DiskStore
from abs_classify.evaluation import budgets
from abs_classify.evaluation.evaluation_results import EvaluationResults
from abs_classify.evaluation.job import RankedPass
from abs_core.errors import UsageError

MEAN = 9.5


class Looked(Bench):
    """Notes of each image how many views each method looked at, and its best class."""

    def ranked(self, ranked: RankedPass) -> None:
        ids = [image.id for image in ranked.scored.images]
        self.looks = {
            name: dict(zip(ids, zip(method.looked.tolist(), method.top[:, 0].tolist(), strict=True), strict=True))
            for name, method in ranked.scored.methods.items()
            if method.looked.size
        }


@pytest.fixture
def looked(bench: Bench, tmp_path: Path) -> Looked:
    return Looked(tmp_path / "looked", bench.model)


def note(results: EvaluationResults) -> str:
    return next(text for text in results[-1].details.notes if "depend on the other images" in text)


def test_a_budget_is_the_mean_and_the_record_says_what_labels_depend_on(
    looked: Looked, image_folder: Callable[..., Path]
) -> None:
    folder = image_folder("budget", cat=5, dog=5)
    results = looked.run(folder, "clip,abs", views=AdaptiveViews(budget_views=MEAN))
    facts = results[1].details.method.adaptive
    assert facts is not None
    assert (facts.rule, facts.agreement, facts.views) == ("budget", None, 50)
    assert facts.budget is not None
    assert (facts.budget.views, facts.budget.seconds) == (MEAN, None)
    assert 0 <= MEAN * 10 - facts.mean_views * 10 < 4
    assert len({seen for seen, _ in looked.looks["abs"].values()}) > 1
    assert results[1].details.method.views == f"{facts.mean_views:.1f} of 50 crops (budget) + 50 windows"
    assert results[0].details.method.adaptive is None
    assert note(results) == "abs: labels depend on the other images, which share a budget of 9.5 views an image"
    assert note(results) in str(results)
    assert note(results) in results.to_dict()["results"][1]["details"]["notes"]
    work = results.work
    assert (work.images, work.images_computed) == (10, 10)
    assert work.views == work.views_computed == 10 * (1 + 50) + round(10 * facts.mean_views)


def test_views_depend_neither_on_the_order_nor_on_batches_nor_on_what_is_stored(
    looked: Looked, image_folder: Callable[..., Path]
) -> None:
    folder = image_folder("budget", cat=4, dog=4)
    views = AdaptiveViews(budget_views=MEAN)
    first = looked.run(folder, "abs", views=views)
    expected = looked.looks
    assert looked.run(folder, "abs", views=views).work.nothing
    assert looked.looks == expected
    looked.store = DiskStore(looked.folder / "full")
    assert looked.run(folder, "abs", views=None)[0].details.method.adaptive is None
    warm = looked.run(folder, "abs", views=views)
    assert warm.work.nothing
    assert (looked.looks, warm[0].details.method.adaptive) == (expected, first[0].details.method.adaptive)
    for number, path in enumerate(sorted(folder.rglob("*.png"), key=lambda path: path.read_bytes())):
        path.rename(path.with_name(f"{9 - number}.png"))
    looked.store = DiskStore(looked.folder / "shuffled")
    looked.run(folder, "clip,abs,abs-pixels", views=views, batch_size=1)
    assert looked.looks["abs"] == expected["abs"]


def test_each_method_and_seed_has_the_whole_budget(looked: Looked, image_folder: Callable[..., Path]) -> None:
    folder = image_folder("budget", cat=2, dog=2)
    both = looked.run(folder, "abs,abs-pixels", views=AdaptiveViews(budget_views=6), seeds=2)
    for record in both:
        facts = record.details.method.adaptive
        assert facts is not None
        assert 5 < facts.mean_views <= 6
    assert "abs, abs-pixels: labels depend" in note(both)


def test_a_budget_beyond_all_views_gives_the_full_run(looked: Looked, image_folder: Callable[..., Path]) -> None:
    folder = image_folder("budget", cat=1, dog=1)
    everything = looked.run(folder, "abs", views=AdaptiveViews(budget_views=1000))
    facts = everything[0].details.method.adaptive
    assert facts is not None
    assert facts.mean_views == 50
    assert everything[0].metrics == looked.run(folder, "abs", views=None)[0].metrics


def test_an_unreadable_image_has_no_part_of_the_budget(looked: Looked, image_folder: Callable[..., Path]) -> None:
    folder = image_folder("budget", cat=3, dog=3)
    (folder / "cat" / "00.png").write_bytes(b"no image")
    results = looked.run(folder, "abs", views=AdaptiveViews(budget_views=8), on_error="skip")
    assert len(results[0].details.data.skipped) == 1
    assert sum(seen for seen, _ in looked.looks["abs"].values()) == 5 * 8


def test_seconds_become_views_before_the_start(
    looked: Looked, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder("budget", cat=4, dog=4)
    monkeypatch.setattr(budgets, "_measured_seconds", lambda *_: (0.5, 0.25))
    with pytest.raises(UsageError, match="1 seconds do not suffice for 4 views of each of 8 images"):
        looked.run(folder, "abs", views=AdaptiveViews(budget_seconds=1))
    monkeypatch.undo()
    results = looked.run(folder, "abs", views=AdaptiveViews(budget_seconds=10_000))
    facts = results[0].details.method.adaptive
    assert facts is not None
    assert facts.budget is not None
    assert (facts.budget.views, facts.budget.seconds) == (50, 10_000)
    assert 0 < (facts.budget.view_seconds or 0) < (facts.budget.image_seconds or 0)
    assert "50 views an image, what fits 10000 s as measured" in note(results)


def test_a_run_of_so_many_seconds_is_that_of_the_views_it_records(
    looked: Looked, image_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = image_folder("budget", cat=4, dog=4)
    monkeypatch.setattr(budgets, "_measured_seconds", lambda *_: (50.0, 10.0))
    by_seconds = looked.run(folder, "abs", views=AdaptiveViews(budget_seconds=900))
    facts, looks = by_seconds[0].details.method.adaptive, looked.looks
    assert facts is not None
    assert facts.budget is not None
    assert 10 < facts.budget.views < 10.25
    looked.run(folder, "abs", views=AdaptiveViews(budget_views=facts.budget.views))
    assert looked.looks == looks


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"budget_views": 3.9}, "at least 4 views an image, got 3.9"),
        ({"budget_views": float("nan")}, "at least 4 views an image, got nan"),
        ({"budget_views": float("inf")}, "at least 4 views an image, got inf"),
        ({"budget_seconds": 0}, "a positive number of seconds, got 0"),
        ({"budget_seconds": float("nan")}, "a positive number of seconds, got nan"),
        ({"budget_views": 8, "budget_seconds": 8}, "in views and in seconds"),
        ({"budget_views": 8, "agreement": 0.9}, "no image stops by an agreement"),
        ({"budget_seconds": 8, "stopping": "guaranteed"}, "no image stops by an agreement"),
    ],
)
def test_a_budget_that_is_none(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AdaptiveViews(**settings)


def test_a_classifier_has_no_budget(bench: Bench) -> None:
    with pytest.raises(UsageError, match="shared by all images of an evaluation"):
        Classifier(bench.model, ["cat", "dog"], views=AdaptiveViews(budget_views=8))
