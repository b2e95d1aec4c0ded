"""Which views of which images are to be encoded, what is stored of them, and the scores that follow."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from abs_classify.methods.adaptive import LOOK

if TYPE_CHECKING:
    import numpy as np

    from abs_classify.encoding.adaptive_views import AdaptiveResult, ImageViews, ViewDecisions
    from abs_classify.encoding.encoder import EncodingRequest
    from abs_classify.encoding.samples import IdentifiedSample
    from abs_classify.encoding.stage_spaces import StageSpaces
    from abs_classify.images import LoadedImage
    from abs_classify.methods.adaptive import StoppingRule
    from abs_classify.methods.scoring import ClassTextFeatures
    from abs_classify.methods.table import Method
    from abs_classify.methods.views import ViewSource

__all__ = ["MethodScores", "PendingImage", "StoredViews", "ViewPlan"]


@dataclass(frozen=True)
class PendingImage:
    """An image of which views are to be encoded.

    Args:
        image: where it is.
        known: of each view source of the plan, how many of its first views the store has.
        attention: its map [g, g], if the store has it.
        wanted: how many views of each source it is to have at least, where decisions say so.
        features: the known views of each source, for decisions.
    """

    image: IdentifiedSample
    known: tuple[int, ...]
    attention: np.ndarray | None = field(default=None, compare=False)
    wanted: Mapping[ViewSource, int] = field(default_factory=dict, compare=False)
    features: Mapping[ViewSource, np.ndarray] = field(default_factory=dict, compare=False)

    def load(self) -> tuple[PendingImage, LoadedImage]:
        """This and the image, read.

        Raises:
            UnreadableImage: it cannot be read.
        """
        return self, self.image.load_unchanged()

    def request(self, views: Sequence[ViewSource], image: LoadedImage) -> EncodingRequest:
        """What the encoder is asked for, once the image is read."""
        import torch

        from abs_classify.encoding.encoder import EncodingRequest

        return EncodingRequest(
            image,
            dict(zip(views, self.known, strict=True)),
            None if self.attention is None else torch.from_numpy(self.attention),
            {view: torch.from_numpy(rows) for view, rows in self.features.items()},
            self.wanted,
        )


@dataclass(frozen=True, eq=False)
class ViewPlan:
    """The views of a run.

    Args:
        encoded: for each view source the one that is encoded for it: of those that differ by their number of views
            alone, the one with the most.
        decisions: how many views adaptive methods want; None without such methods.
        adaptive: the adaptive methods.
    """

    encoded: Mapping[ViewSource, ViewSource]
    decisions: ViewDecisions | None = None
    adaptive: frozenset[Method] = frozenset()

    @classmethod
    def of(cls, views: Iterable[ViewSource], spaces: StageSpaces) -> ViewPlan:
        """The plan that encodes all views of all sources."""
        named = list(dict.fromkeys(views))
        largest = spaces.largest(named)
        return cls({view: largest[spaces.view(view).digest] for view in named})

    def with_decisions(
        self,
        rules: Mapping[Method, tuple[StoppingRule, tuple[ViewSource, ...]]],
        texts: Mapping[Method, ClassTextFeatures],
        others: Iterable[ViewSource],
    ) -> ViewPlan:
        """The same with adaptive methods.

        Args:
            rules: of each adaptive method the rule, and the view sources that it takes in rounds; none for no change.
            texts: of each adaptive method.
            others: the view sources of all other methods.
        """
        from abs_classify.encoding.adaptive_views import AdaptiveMethod, ViewDecisions

        if not rules:
            return self
        least: dict[ViewSource, int] = {}
        for view in others:
            least[self.encoded[view]] = max(least.get(self.encoded[view], 0), view.count)
        methods = [
            AdaptiveMethod(method, texts[method], rule, sources, self.encoded)
            for method, (rule, sources) in rules.items()
        ]
        return replace(self, decisions=ViewDecisions(methods, least), adaptive=frozenset(rules))

    def adaptive_sources(self, method: Method) -> frozenset[ViewSource]:
        """The view sources that a method takes in rounds; none of a method that looks at all of its views."""
        methods = self.decisions.methods if self.decisions is not None else ()
        return frozenset(view for adaptive in methods if adaptive.method == method for view in adaptive.sources)

    @property
    def sources(self) -> tuple[ViewSource, ...]:
        """The view sources that are encoded, each in a space of its own."""
        return tuple(dict.fromkeys(self.encoded.values()))

    def first_wanted(self, view: ViewSource) -> int:
        """How many views of a source every image must have."""
        return LOOK if self.decisions is not None and view in self.decisions.sources else view.count


@dataclass(eq=False)
class StoredViews:
    """The views of some images, as far as they are there.

    Args:
        plan: of the run.
        rows: for each source that is encoded, and each image id, the first views [n, d]; None for none.
    """

    plan: ViewPlan
    rows: dict[ViewSource, dict[str, np.ndarray | None]]
    _decided: dict[str, ImageViews] = field(default_factory=dict, init=False)

    def decide(self, image_ids: Sequence[str]) -> None:
        """Make the decisions on images from the views that are there."""
        import torch

        from abs_classify.encoding.adaptive_views import ImageViews

        decisions = self.plan.decisions
        if decisions is None:
            return
        for image_id in image_ids:
            rows = {view: torch.from_numpy(known) for view, known in self.features(image_id).items()}
            self._decided[image_id] = ImageViews(rows, image_id=image_id)
        decisions.advance(list(self._decided.values()))

    def features(self, image_id: str) -> dict[ViewSource, np.ndarray]:
        """What is there of an image, for decisions; nothing where there are none to make."""
        if self.plan.decisions is None:
            return {}
        known = {view: rows.get(image_id) for view, rows in self.rows.items()}
        return {view: rows for view, rows in known.items() if rows is not None}

    def wanted(self, image_id: str) -> dict[ViewSource, int]:
        """How many views of each source the plan wants of an image, after ``decide``."""
        wanted = {view: view.count for view in self.plan.sources}
        if self.plan.decisions is not None:
            wanted |= self.plan.decisions.wanted(self._decided[image_id])
        return wanted

    def counts(self, image_id: str) -> tuple[int, ...]:
        """How many views of each source are there."""
        known = (rows.get(image_id) for rows in self.rows.values())
        return tuple(0 if rows is None else len(rows) for rows in known)

    def lacks(self, image_id: str) -> bool:
        """Whether the plan wants views that are not there, after ``decide``."""
        return any(
            count < wanted for count, wanted in zip(self.counts(image_id), self.wanted(image_id).values(), strict=True)
        )

    def results(self, method: Method, image_ids: Sequence[str]) -> list[AdaptiveResult]:
        """What an adaptive method ends with for each image, after ``decide`` with all views that it wants."""
        return [self._decided[image_id].results[method.name] for image_id in image_ids]

    def looked_at(
        self, method: Method, image_ids: Sequence[str], also: Sequence[ViewSource] = ()
    ) -> list[dict[str, np.ndarray]]:
        """Of each image the features [n, d] by kind of view that a method looked at, as its result has it.

        The views ``also`` are there as well, where the method has none of their kind.
        """
        in_rounds = self.plan.adaptive_sources(method)
        images: list[dict[str, np.ndarray]] = []
        for image_id in image_ids:
            features: dict[str, np.ndarray] = {}
            kinds = {view.kind: view for view in (*also, *method.views)}
            for view in kinds.values():
                rows = self.rows[self.plan.encoded[view]][image_id]
                assert rows is not None  # the method has its scores
                stop = self._decided[image_id].results[method.name].views if view in in_rounds else view.count
                features[view.kind] = rows[:stop]
            images.append(features)
        return images


@dataclass(frozen=True)
class MethodScores:
    """The scores of some images.

    Args:
        by_method: float32 [B, C] by the name of each method.
        looked: int64 [B], how many views of each kind an adaptive method looked at, by its name.
        views: of each image the unit features [n, d] by kind of view that a method looked at, by its name; empty where
            they were not asked for.
    """

    by_method: dict[str, np.ndarray]
    looked: dict[str, np.ndarray]
    views: dict[str, list[dict[str, np.ndarray]]] = field(default_factory=dict)

    def add(self, name: str, results: Sequence[AdaptiveResult]) -> None:
        """Add the results of an adaptive method for all images."""
        import numpy as np

        self.by_method[name] = np.stack([result.scores for result in results])
        self.looked[name] = np.array([result.views for result in results], dtype=np.int64)
