"""Evaluations with a budget of views: measured from seconds if need be, and spent in waves over the images.

A wave encodes the further views of the images that it chose and keeps them, so the run that follows, like any later
one, finds all views of the budget in the store.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from abs_classify.encoding.memory_store import MemoryStore
from abs_classify.encoding.ranking import ShardScorer
from abs_classify.encoding.samples import IdentifiedSample, batched
from abs_classify.encoding.stages import SHARD
from abs_classify.encoding.work import WorkCounts
from abs_classify.methods.adaptive import LOOK, AdaptiveViews
from abs_classify.methods.view_budget import AllottedRule, AllottedViews, ViewBudget, next_wave, views_in_all
from abs_core.errors import UsageError
from abs_core.text import counted

if TYPE_CHECKING:
    from abs_classify.methods.table import Method
    from abs_core.progress import Advance

__all__ = ["find_budget", "spend_budget"]

# images and seconds of a measurement: the first of its rounds, and when no further one follows
_FIRST_ROUND = 8
_MEASURED_SECONDS = 2.0


def find_budget(
    adaptive: AdaptiveViews, scorer: ShardScorer, images: Sequence[IdentifiedSample], passes: int, started: float
) -> ViewBudget:
    """The budget of an evaluation in views; where it is given in seconds, the rate is measured first.

    Args:
        adaptive: with a budget.
        scorer: the methods of the first pass.
        images: all of them.
        passes: how often the seconds are to suffice for the images.
        started: when the evaluation began, on the clock of ``time.perf_counter``.

    Raises:
        UsageError: no method takes its views in rounds, or the seconds do not suffice for the first look.
        ImageError: an image cannot be read and the scorer stops at it.
    """
    totals = _totals(scorer)
    if not totals:
        names = ", ".join(method.name for method in scorer.methods)
        raise UsageError(
            f"a budget of views has no effect on {names}: none of them takes its views in rounds",
            remedy="Leave out the budget, or add a method such as abs",
        )
    if adaptive.budget_seconds is None:
        assert adaptive.budget_views is not None  # the caller asked has_budget
        return ViewBudget(adaptive.budget_views)
    for class_texts in scorer.methods.values():
        scorer.stages.text_features(class_texts)
    distinct = len({image.id for image in images})
    image_seconds, view_seconds = _measured_seconds(scorer, images)
    elapsed = time.perf_counter() - started
    fixed = elapsed + passes * distinct * image_seconds
    if fixed > adaptive.budget_seconds:
        raise UsageError(
            f"{adaptive.budget_seconds:g} seconds do not suffice for {LOOK} views of each of {distinct} images: these "
            f"need {fixed:.1f}, of which {elapsed:.1f} have passed",
            remedy=f"Give at least {math.ceil(1.1 * fixed)} seconds, or fewer images",
        )
    views = LOOK + (adaptive.budget_seconds - fixed) / max(passes * distinct * view_seconds, 1e-9)
    # rounded, so that the number that is recorded is exactly the one that was used
    views = min(math.floor(100 * views) / 100, float(max(totals.values())))
    return ViewBudget(views, adaptive.budget_seconds, round(image_seconds, 6), round(view_seconds, 6))


def spend_budget(
    scorer: ShardScorer, images: Sequence[IdentifiedSample], budget: ViewBudget, advance: Advance
) -> AllottedViews:
    """Encode the views of a budget, where they are needed most, and say how many each image got.

    Every adaptive method has the whole budget. Copies of an image count once, images that cannot be read not at all.

    Args:
        scorer: all methods.
        images: all of them.
        budget: of each adaptive method.
        advance: is called for each shard of the first look.

    Raises:
        ImageError: an image cannot be read and the scorer stops at it.
    """
    stages, asked = scorer.stages, scorer.stages.work
    for class_texts in scorer.methods.values():
        stages.text_features(class_texts)
    stages.work = WorkCounts(counted=set())
    totals = _totals(scorer)
    try:
        rules = {name: AllottedRule() for name in totals}
        _look(scorer, scorer.methods, rules, images, advance)
        distinct = {image.id: image for image in images}
        views = {name: dict.fromkeys(sorted(rule.confidences), LOOK) for name, rule in rules.items()}
        left = {name: views_in_all(budget.views - LOOK, len(views[name])) for name in totals}
        adaptive = [method for method in scorer.methods if method.name in totals]
        while waves := {
            name: wave
            for name, total in totals.items()
            if (wave := next_wave(views[name], rules[name].confidences, total, left[name]))
        }:
            for name, wave in waves.items():
                left[name] -= sum(stop - views[name][image_id] for image_id, stop in wave.items())
                views[name] |= wave
            rules = {name: AllottedRule(views[name], rules[name].confidences) for name in totals}
            chosen = {image_id for wave in waves.values() for image_id in wave}
            looked = [image for image_id, image in distinct.items() if image_id in chosen]
            advance(0, f"further views of {counted(len(looked), 'image', 'images')}")
            methods = [method for method in adaptive if method.name in waves]
            _look(scorer, methods, rules, looked)
    finally:
        asked.add_computed(stages.work)
        stages.work = asked
    return AllottedViews({name: AllottedRule(views[name]) for name in totals})


def _totals(scorer: ShardScorer) -> dict[str, int]:
    """Of each method that takes views in rounds, by its name, how many of a source there are."""
    cheap_windows = scorer.stages.models.facts.cheap_windows
    sources = {method.name: method.adaptive_views(cheap_windows=cheap_windows) for method in scorer.methods}
    return {name: views[0].count for name, views in sources.items() if views}


def _look(
    scorer: ShardScorer,
    methods: Iterable[Method],
    rules: Mapping[str, AllottedRule],
    images: Sequence[IdentifiedSample],
    advance: Advance | None = None,
) -> int:
    """Encode what rules want of images; how many of these could be read."""
    chosen = {method: scorer.methods[method] for method in methods}
    readable = 0
    for scored in dataclasses.replace(scorer, methods=chosen, adaptive=AllottedViews(rules)).score(
        batched(images, SHARD)
    ):
        readable += len(scored.images)
        if advance is not None:
            advance(scored.size)
    return readable


def _measured_seconds(scorer: ShardScorer, images: Sequence[IdentifiedSample]) -> tuple[float, float]:
    """Seconds of this model on this machine: for the first look at an image, and for each further view.

    After one image that warms up the model, rounds of 8, 16, 32, ... images, until one takes two seconds or there are
    no more; the last one counts. Nothing comes from the store or is kept.
    """
    order = sorted({image.id: image for image in images}.values(), key=lambda image: image.id)
    _measured_round(scorer, order[:1])
    start, size = 0, _FIRST_ROUND
    while True:
        image_seconds, view_seconds, took = _measured_round(scorer, order[start : start + size])
        start, size = start + size, 2 * size
        if took >= _MEASURED_SECONDS or start + size > len(order):
            return image_seconds, view_seconds


def _measured_round(scorer: ShardScorer, images: Sequence[IdentifiedSample]) -> tuple[float, float, float]:
    """Seconds for the first look at an image and the last match, for each view of the next look, and in all."""
    measured = dataclasses.replace(scorer, stages=scorer.stages.for_run(MemoryStore(None)))
    totals = _totals(scorer)
    adaptive = [method for method in scorer.methods if method.name in totals]
    ids = [image.id for image in images]
    rules = {name: AllottedRule(dict.fromkeys(ids, min(2 * LOOK, total))) for name, total in totals.items()}
    times = [time.perf_counter()]
    readable = _look(measured, scorer.methods, {name: AllottedRule() for name in totals}, images)
    times.append(time.perf_counter())
    _look(measured, adaptive, rules, images)
    times.append(time.perf_counter())
    _look(measured, scorer.methods, rules, images)
    times.append(time.perf_counter())
    first, further, last = (stop - start for start, stop in pairwise(times))
    views = min(LOOK, max(totals.values()) - LOOK)
    return (first + last) / max(1, readable), further / max(1, readable * views), times[-1] - times[0]
