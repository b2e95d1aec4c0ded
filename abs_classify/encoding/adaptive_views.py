"""How many views of each image adaptive methods look at, and the scores that they end with.

A method whose score is a sum over views looks at crops in rounds, until its stopping rule is settled. Its result
follows from the first views of an image and the rule alone: it is replayed from the features that are there, by the
encoder to find out whether more are wanted, and once more to get the scores. So it depends neither on how images are
encoded together nor on what was stored before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from abs_classify.methods.adaptive import PartialScores, RuleSource, StoppingRule, looks
from abs_classify.methods.calibration import subject_of
from abs_classify.methods.scorer_output import checked_scores
from abs_classify.methods.scoring import ClassTextFeatures, PerViewScorer
from abs_classify.methods.views import ViewSource

if TYPE_CHECKING:
    from abs_classify.methods.class_texts import ClassTexts
    from abs_classify.methods.table import Method
    from abs_classify.models.deferred import ModelFacts

__all__ = ["AdaptiveMethod", "AdaptiveResult", "ImageViews", "ViewDecisions", "adaptive_rules"]


def adaptive_rules(
    adaptive: RuleSource, methods: Mapping[Method, ClassTexts], facts: ModelFacts
) -> dict[Method, tuple[StoppingRule, tuple[ViewSource, ...]]]:
    """The rule of each adaptive method, and the view sources that it takes in rounds.

    Raises:
        UsageError: a calibration is of something else, or on too few images.
    """
    rules = {}
    for method, class_texts in methods.items():
        if sources := method.adaptive_views(cheap_windows=facts.cheap_windows):
            subject = subject_of(method.key(), facts.model, facts.attention, class_texts.digest)
            rules[method] = adaptive.rule(method.name, subject), sources
    return rules


@dataclass(frozen=True, eq=False)
class AdaptiveMethod:
    """A method with all that its decisions depend on.

    Attributes:
        method: its scorer is a ``PerViewScorer``.
        texts: the encoded class texts.
        rule: says when to stop.
        sources: the view sources that are taken in rounds, see ``Method.adaptive_views``; at least one.
        encoded: for each view source of the method the one that is encoded: the same, or with a larger number of views.
    """

    method: Method
    texts: ClassTextFeatures
    rule: StoppingRule
    sources: tuple[ViewSource, ...]
    encoded: Mapping[ViewSource, ViewSource]

    @property
    def total(self) -> int:
        """How many views of each source the full run looks at."""
        return self.sources[0].count

    @property
    def known(self) -> tuple[ViewSource, ...]:
        """The view sources that are there from the start."""
        return tuple(view for view in self.method.views if view not in self.sources)

    @property
    def scorer(self) -> PerViewScorer:
        """The scorer, as what it is."""
        assert isinstance(self.method.scorer, PerViewScorer)  # or it had no sources
        return self.method.scorer

    def known_scores(self, images: Sequence[ImageViews]) -> np.ndarray:
        """What the views add that are there from the start, float64 [B, C]."""
        if not self.known:
            return np.zeros((len(images), self.texts.classes))
        parts = self.scorer.view_scores(self._stack(images, self.known), self.texts, self._all_views)
        known: np.ndarray = parts.sum(1, dtype=torch.float64).numpy()
        return known

    def round_scores(self, images: Sequence[ImageViews], spans: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """What views first..stop of each image add, [stop - first, C] each; one view of each source counts as one."""
        parts: np.ndarray | None = None
        for view in self.sources:
            rows = torch.cat(
                [self._rows(image, view)[first:stop] for image, (first, stop) in zip(images, spans, strict=True)]
            )
            added = self.scorer.view_scores({view.kind: rows[None]}, self.texts, self._all_views)[0].numpy()
            parts = added if parts is None else parts + added
        assert parts is not None  # there is a source
        return np.split(parts, np.cumsum([stop - first for first, stop in spans])[:-1])

    def full_scores(self, images: Sequence[ImageViews]) -> np.ndarray:
        """The scores of all views, as the full run computes them: [B, C]."""
        scores: np.ndarray = checked_scores(self.method, self._stack(images, self.method.views), self.texts)
        return scores

    def partial(self, images: Sequence[ImageViews], known: np.ndarray, views: np.ndarray) -> PartialScores:
        """The partial scores of images from those parts."""
        return PartialScores(known, views, self.total, self._margin_bound, [image.image_id for image in images])

    def has_known(self, image: ImageViews) -> bool:
        """Whether the views are there that are there from the start."""
        return all(image.count(self.encoded[view]) >= view.count for view in self.known)

    def count(self, image: ImageViews) -> int:
        """How many views of each adaptive source there are."""
        return min(image.count(self.encoded[view]) for view in self.sources)

    def _stack(self, images: Sequence[ImageViews], views: Sequence[ViewSource]) -> dict[str, Tensor]:
        return {view.kind: torch.stack([self._rows(image, view) for image in images]) for view in views}

    def _rows(self, image: ImageViews, view: ViewSource) -> Tensor:
        return image.rows[self.encoded[view]][: view.count]

    @cached_property
    def _margin_bound(self) -> float:
        return len(self.sources) * self.scorer.margin_bound(self.texts, self._all_views)

    @property
    def _all_views(self) -> int:
        return sum(view.count for view in self.method.views)


@dataclass(frozen=True, eq=False)
class AdaptiveResult:
    """What an adaptive method ends with for one image.

    Attributes:
        scores: float32 [C], the predicted sums over all views; after all views, the scores of the full run.
        views: how many views of each adaptive source it looked at.
    """

    scores: np.ndarray
    views: int


@dataclass(eq=False)
class _Progress:
    """What an adaptive method has seen of an image: the scores of its first views, and the next look's position."""

    known: np.ndarray | None = None
    parts: list[np.ndarray] = field(default_factory=list)
    look: int = 0


class ImageViews:
    """The unit features of one image so far, and what adaptive methods made of them.

    Attributes:
        rows: the first views of each source, [n, d].
        least: how many views of a source it must have whatever the decisions are.
        image_id: its id; decisions on one image alone need none.
        results: of the methods that are done, by name.
    """

    def __init__(
        self, rows: Mapping[ViewSource, Tensor], least: Mapping[ViewSource, int] | None = None, image_id: str = ""
    ) -> None:
        self.rows = dict(rows)
        self.least = least or {}
        self.image_id = image_id
        self.results: dict[str, AdaptiveResult] = {}
        self.progress: dict[str, _Progress] = {}

    def add(self, view: ViewSource, rows: Tensor) -> None:
        """Append the next views of a source."""
        self.rows[view] = torch.cat([self.rows[view], rows]) if self.count(view) else rows

    def count(self, view: ViewSource) -> int:
        """How many views of a source there are."""
        return len(self.rows[view]) if view in self.rows else 0


class ViewDecisions:
    """The decisions of all adaptive methods of a run.

    Args:
        methods: at least one.
        least: how many views of an encoded source other methods of the run need in any case.
    """

    def __init__(self, methods: Sequence[AdaptiveMethod], least: Mapping[ViewSource, int]) -> None:
        self.methods = methods
        self._least = least
        #: the encoded sources of which the decisions say how many views are wanted
        self.sources = frozenset(adaptive.encoded[view] for adaptive in methods for view in adaptive.sources)

    def advance(self, images: Sequence[ImageViews]) -> None:
        """Make the decisions for which there are views enough."""
        for adaptive in self.methods:
            while ready := [image for image in images if self._is_ready(adaptive, image)]:
                self._look(adaptive, ready)

    def wanted(self, image: ImageViews) -> dict[ViewSource, int]:
        """How many views of each of ``sources`` the image must have for the next decisions, or in the end."""
        wanted = {view: max(self._least.get(view, 0), image.least.get(view, 0)) for view in self.sources}
        for adaptive in self.methods:
            name = adaptive.method.name
            result = image.results.get(name)
            views = looks(adaptive.total)[self._progress(adaptive, image).look] if result is None else result.views
            for view in adaptive.sources:
                encoded = adaptive.encoded[view]
                wanted[encoded] = max(wanted[encoded], views)
        return wanted

    @staticmethod
    def _progress(adaptive: AdaptiveMethod, image: ImageViews) -> _Progress:
        return image.progress.setdefault(adaptive.method.name, _Progress())

    def _is_ready(self, adaptive: AdaptiveMethod, image: ImageViews) -> bool:
        if adaptive.method.name in image.results or not adaptive.has_known(image):
            return False
        return adaptive.count(image) >= looks(adaptive.total)[self._progress(adaptive, image).look]

    def _look(self, adaptive: AdaptiveMethod, images: Sequence[ImageViews]) -> None:
        """One more look of a method at images that have the views for it."""
        progress = [self._progress(adaptive, image) for image in images]
        fresh = [position for position, entry in enumerate(progress) if entry.known is None]
        if fresh:
            known = adaptive.known_scores([images[position] for position in fresh])
            for position, row in zip(fresh, known, strict=True):
                progress[position].known = row
        schedule = (0, *looks(adaptive.total))
        spans = [(schedule[entry.look], schedule[entry.look + 1]) for entry in progress]
        for entry, part in zip(progress, adaptive.round_scores(images, spans), strict=True):
            entry.parts.append(part)
            entry.look += 1
        by_look: dict[int, list[ImageViews]] = {}
        for image, entry in zip(images, progress, strict=True):
            by_look.setdefault(entry.look, []).append(image)
        for look, members in by_look.items():
            self._settle(adaptive, members, schedule[look])

    def _settle(self, adaptive: AdaptiveMethod, images: Sequence[ImageViews], views: int) -> None:
        """Give those images their result that have seen enough after ``views`` views."""
        name = adaptive.method.name
        if views == adaptive.total:
            for image, scores in zip(images, adaptive.full_scores(images), strict=True):
                image.results[name] = AdaptiveResult(scores, views)
                del image.progress[name]
            return
        progress = [self._progress(adaptive, image) for image in images]
        known = np.stack([entry.known for entry in progress if entry.known is not None])
        partial = adaptive.partial(images, known, np.stack([np.concatenate(entry.parts) for entry in progress]))
        for image, settled, scores in zip(images, adaptive.rule.settled(partial), partial.predicted, strict=True):
            if settled:
                image.results[name] = AdaptiveResult(scores.astype(np.float32), views)
                del image.progress[name]
