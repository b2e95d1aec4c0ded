"""Calibration of adaptive views: the threshold from which on each image keeps the label of all its views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from abs_classify.methods.adaptive import NormalRule, critical_values
from abs_classify.methods.calibration import CalibrationEntry, subject_of

if TYPE_CHECKING:
    from abs_classify.evaluation.job import Evaluation

__all__ = ["calibrate"]


def calibrate(evaluation: Evaluation) -> list[CalibrationEntry]:
    """An entry for each method of an evaluation that can look at fewer views; none where there is no such method.

    Args:
        evaluation: with all views of its first seed in the store. Of equal images one counts.
    """
    from abs_classify.encoding.adaptive_views import AdaptiveMethod, ImageViews

    stages = evaluation.stages
    facts = stages.models.facts
    entries = []
    for method, class_texts in evaluation.plan.methods.items():
        sources = method.adaptive_views(cheap_windows=facts.cheap_windows)
        if not sources:
            continue
        encoded = {view: view for view in method.views}
        # the rule plays no part: what is wanted is what every threshold would do
        adaptive = AdaptiveMethod(method, stages.text_features(class_texts), NormalRule(0.5), sources, encoded)
        seen: set[str] = set()
        critical: list[float] = []
        for shard in evaluation.scored.shards:
            images = list({image.id: image for image in shard if image.id not in seen}.values())
            seen.update(image.id for image in images)
            if not images:
                continue
            features = stages.views(images, method.views)
            views = [
                ImageViews({view: rows[position] for view, rows in features.items()}) for position in range(len(images))
            ]
            spans = [(0, adaptive.total)] * len(images)
            full = adaptive.partial(views, adaptive.known_scores(views), np.stack(adaptive.round_scores(views, spans)))
            critical += critical_values(full).tolist()
        subject = subject_of(method.key(), facts.model, facts.attention, class_texts.digest)
        kept = tuple(value for value in critical if value > 0)
        entries.append(CalibrationEntry(name=method.name, images=len(critical), critical=kept, **subject))
    return entries
