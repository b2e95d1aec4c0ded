"""Matchers: frozen values that turn the features of views and texts into class scores, and say what carried a score.

A matcher sees views as a mapping from their kind ("whole", "random", "box", "window") to unit features, and texts as
``TextFeatures``. Its arithmetic is in ``matching.py`` and ``soft_matching.py``. A stream matcher, which learns from the
images that it has seen, scores one image after the other instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from abs_classify.methods import similarity as matching
from abs_classify.methods.soft_matching import SoftTexts, soft_parts, soft_prepared
from abs_core.errors import ModelError, UsageError

__all__ = [
    "ClassTextFeatures",
    "Contributions",
    "CosineToMean",
    "HardMatch",
    "Matcher",
    "MaxSimilarity",
    "MeanSimilarity",
    "SoftMatch",
    "StreamMatcher",
    "WeightedCosine",
    "all_views",
    "full_image",
    "run_stream",
    "view_labels",
]


@dataclass(frozen=True, eq=False)
class ClassTextFeatures:
    """The encoded texts of all classes.

    Attributes:
        features: [M, d] unit.
        class_index: int64 [M], the class of each text; every class has at least one.
        labels: [C, d] unit, the encoded "a photo of a {class}." of each class.

    Raises:
        ModelError: a text or label with zero or non-finite features; the message names text and class by position.
        UsageError: shapes that do not fit, or a class without a text.
    """

    features: Tensor
    class_index: Tensor
    labels: Tensor

    def __post_init__(self) -> None:
        matching.check_texts(self.features, self.class_index)
        matching.check_texts(self.labels, torch.arange(len(self.labels), device=self.labels.device))
        matching.class_counts(self.class_index, len(self.labels))

    @classmethod
    def from_raw(
        cls, features: Tensor, class_index: Tensor, labels: Tensor, class_ids: Sequence[str] | None = None
    ) -> ClassTextFeatures:
        """Normalise what a text encoder gives; ``class_ids`` lets errors name the class. Shapes and errors as above."""
        matching.check_texts(features, class_index, class_ids)
        matching.class_counts(class_index, len(labels), class_ids)
        return cls(matching.unit(features), class_index, matching.unit(labels))

    @property
    def classes(self) -> int:
        """C."""
        return len(self.labels)

    @cached_property
    def means(self) -> Tensor:
        """[C, d] unit: each class's normalised mean text, which for a single text is that text untouched."""
        if len(self.features) == self.classes:
            return self.features[torch.argsort(self.class_index)]
        return matching.class_means(self.features, self.class_index, self.classes)

    @cached_property
    def soft_texts(self) -> SoftTexts:
        """The texts as soft matching wants them."""
        return SoftTexts.of(self.features, self.class_index, self.classes)

    def to(self, device: torch.device | str) -> ClassTextFeatures:
        """The same on a device."""
        return ClassTextFeatures(self.features.to(device), self.class_index.to(device), self.labels.to(device))


@dataclass(frozen=True, eq=False)
class Contributions:
    """What each view and text adds to the class scores of one image.

    Attributes:
        parts: [V, M] float64; the sum over views and over the texts of a class is that class's score.
        views: V pairs of kind and index within the kind, one a row of ``parts``.
        class_index: int64 [M].
    """

    parts: Tensor
    views: tuple[tuple[str, int], ...]
    class_index: Tensor

    def scores(self, classes: int) -> Tensor:
        """The class scores [C] that the parts add up to, float64."""
        return matching.class_sums(self.parts.sum(0), self.class_index, classes)

    def by_view(self, classes: int) -> Tensor:
        """What each view adds to each class: [V, C] float64."""
        return matching.class_sums(self.parts.T, self.class_index, classes).T


class Matcher(Protocol):
    """Scores every image by itself."""

    def key(self) -> dict[str, Any]:
        """JSON values that fix the scores, given views and texts; they enter cache keys."""

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """Class scores of B images.

        Args:
            views: kind -> unit features [B, N, d].
            texts: of C classes.

        Returns:
            [B, C], float32 (float64 for float64 inputs); higher is better, comparable within one image only.

        Raises:
            ModelError: features that are not finite; the message names image and view.
            UsageError: a kind of view that this matcher needs is missing.
        """

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions | None:
        """What carried the scores of ONE image, or None if its scores are no sum over views and texts.

        Args:
            views: kind -> unit features [N, d].
            texts: of C classes.
        """


State = TypeVar("State")


@runtime_checkable
class StreamMatcher(Protocol[State]):
    """Scores images one after the other; what it has seen changes what it says, so the order of images matters."""

    def key(self) -> dict[str, Any]:
        """As in ``Matcher``; whoever caches scores must add the order of the images."""

    def start(self, texts: ClassTextFeatures, total: int) -> State:
        """The state before the first of ``total`` images. Raises UsageError if ``total`` is below 1."""

    def step(self, state: State, views: Mapping[str, Tensor]) -> Tensor:
        """Scores [C] of the next image, from its unit features by kind [N, d]; updates ``state``."""

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions | None:
        """Always None: a score depends on the images before."""


def run_stream(matcher: StreamMatcher[Any], views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
    """Scores [B, C] of B images in their order, from a fresh state; views as for ``Matcher.scores``."""
    images = len(next(iter(views.values())))
    state = matcher.start(texts, images)
    rows = ({kind: features[i] for kind, features in views.items()} for i in range(images))
    return torch.stack([matcher.step(state, row) for row in rows])


@dataclass(frozen=True)
class CosineToMean:
    """Cosine of the view with each class's normalised mean text; several views are averaged.

    The matcher of clip, clip-e and cupl, and of clip-d and waffle as WCA and ABS run them.
    """

    def key(self) -> dict[str, Any]:
        """See ``Matcher``."""
        return {"matcher": "cosine-to-mean"}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Matcher``."""
        return matching.cosine(all_views(views).mean(1), texts.means)

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """f . unit(sum of t_m) is the sum of f . t_m over the length of the sum, so it splits exactly by text."""
        unit_texts = matching.unit(texts.features.double())
        lengths = matching.class_sums(unit_texts, texts.class_index, texts.classes).norm(dim=-1)
        return _linear(views, unit_texts / lengths[texts.class_index, None], texts.class_index)


@dataclass(frozen=True)
class MeanSimilarity:
    """Mean of the cosines with a class's texts and over views: clip-d and waffle as in their own papers, abs-mean."""

    def key(self) -> dict[str, Any]:
        """See ``Matcher``."""
        return {"matcher": "mean-similarity"}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Matcher``."""
        return matching.mean_similarity(all_views(views), texts.features, texts.class_index, texts.classes)

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """Every cosine over the number of texts and views."""
        counts = matching.class_counts(texts.class_index, texts.classes)[texts.class_index, None]
        return _linear(views, texts.features.double() / counts, texts.class_index)


@dataclass(frozen=True)
class MaxSimilarity:
    """The largest cosine with a text of the class, averaged over views (the ``max`` option of CLIP-D, WaffleCLIP)."""

    def key(self) -> dict[str, Any]:
        """See ``Matcher``."""
        return {"matcher": "max-similarity"}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Matcher``."""
        return matching.max_similarity(all_views(views), texts.features, texts.class_index, texts.classes)

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """The best text of each class carries it alone; of equal ones the first."""
        parts = _linear(views, texts.features.double(), texts.class_index)
        best = torch.zeros_like(parts.parts)
        for position in range(texts.classes):
            own = (texts.class_index == position).nonzero().squeeze(1)
            value, index = parts.parts[:, own].max(1)
            best[torch.arange(len(best)), own[index]] = value
        return Contributions(best, parts.views, parts.class_index)


@dataclass(frozen=True)
class HardMatch:
    """Each view gives its largest cosine to that text's class, and nothing to others: soft matching's sharp limit."""

    def key(self) -> dict[str, Any]:
        """See ``Matcher``."""
        return {"matcher": "hard"}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Matcher``."""
        return matching.hard(all_views(views), texts.features, texts.class_index, texts.classes)

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """One cosine a view."""
        cosines = all_views(views).double() @ texts.features.double().T
        value, index = cosines.max(1, keepdim=True)
        return Contributions(torch.zeros_like(cosines).scatter_(1, index, value), view_labels(views), texts.class_index)


@dataclass(frozen=True)
class SoftMatch:
    """Soft matching of ABS, over all views together (Cai et al. 2025); see ``soft_matching.soft``.

    Attributes:
        temperature: 0.03 as published; above 0.
    """

    temperature: float = 0.03

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(
                f"the temperature is {self.temperature}", remedy="Use a positive number, 0.03 as published"
            )

    def key(self) -> dict[str, Any]:
        """See ``Matcher``."""
        return {"matcher": "soft", "temperature": self.temperature}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Matcher``."""
        return soft_prepared(all_views(views), texts.soft_texts, self.temperature)

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """q_vm z_vm, the summands of the score."""
        parts = soft_parts(all_views(views), texts.features, texts.class_index, texts.classes, self.temperature)
        return Contributions(parts, view_labels(views), texts.class_index)


@dataclass(frozen=True)
class WeightedCosine:
    """WCA (Li et al., ICML 2024): cosine of a weighted sum of crops with a weighted sum of each class's texts.

    Needs the whole image, which weighs the crops and is not one of them. Every crop is used once; the authors draw 60
    of their crops with replacement and repeat (``matching.weighted_views`` takes such a draw).

    Attributes:
        image_scale: the exponent of crop weights, e^image_scale; 4.0 as published.
        text_scale: the exponent of text weights; 2.0 as published.
    """

    image_scale: float = 4.0
    text_scale: float = 2.0

    def key(self) -> dict[str, Any]:
        """See ``Matcher``."""
        return {"matcher": "wca", "image_scale": self.image_scale, "text_scale": self.text_scale}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Matcher``."""
        whole, crops = full_image(views), all_views(_without_full_image(views))
        image = matching.weighted_views(whole, crops, self.image_scale)
        classes = matching.weighted_texts(texts.features, texts.class_index, texts.labels, self.text_scale)
        return matching.cosine(image, classes)

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """Both sides are weighted sums over their length, so every pair of crop and text has its exact share.

        The row of the whole image is zero.
        """
        whole, crops = full_image(views).double(), all_views(_without_full_image(views)).double()
        weights = matching.view_weights(whole[None], crops[None], self.image_scale)[0]
        terms = weights[:, None] * matching.unit(crops)
        terms = terms / terms.sum(0).norm()
        features = matching.unit(texts.features.double())
        shares = matching.text_weights(features, texts.class_index, texts.labels.double(), self.text_scale)
        sides = shares[:, None] * features
        lengths = matching.class_sums(sides, texts.class_index, texts.classes).norm(dim=-1)
        part = terms @ (sides / lengths[texts.class_index, None]).T
        rows = [part.new_zeros(len(v), part.shape[1]) if k == "whole" else None for k, v in views.items()]
        pieces = iter(part.split([len(v) for k, v in views.items() if k != "whole"]))
        parts = torch.cat([next(pieces) if row is None else row for row in rows])
        return Contributions(parts, view_labels(views), texts.class_index)


def all_views(views: Mapping[str, Tensor]) -> Tensor:
    """All views, kind after kind in the mapping's order: [B, V, d], or [V, d] of one image.

    Raises:
        ModelError: a feature that is not finite; the message names image and view.
        UsageError: there is no view.
    """
    if not views:
        raise UsageError("there are no views to match", remedy="Give the method at least one view source")
    for kind, features in views.items():
        _check_finite(kind, features)
    parts = list(views.values())
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


def full_image(views: Mapping[str, Tensor]) -> Tensor:
    """The features of the whole image: [B, d], or [d] of one image.

    Raises:
        ModelError: a feature that is not finite.
        UsageError: the whole image is not among the views.
    """
    if "whole" not in views:
        raise UsageError(
            f"this matcher needs the whole image, and the views are: {', '.join(views) or 'none'}",
            remedy="Add WholeImage() to the views of the method",
        )
    _check_finite("whole", views["whole"])
    return views["whole"][..., 0, :]


def view_labels(views: Mapping[str, Tensor]) -> tuple[tuple[str, int], ...]:
    """Kind and index within the kind of each view, in the order of ``all_views``."""
    return tuple((kind, index) for kind, features in views.items() for index in range(features.shape[-2]))


def _check_finite(kind: str, features: Tensor) -> None:
    bad = ~features.isfinite().all(-1)
    if bool(bad.any()):
        *image, view = bad.nonzero()[0].tolist()
        of = f" of image {image[0]}" if image else ""
        raise ModelError(
            f"view {view} of kind {kind!r}{of} has features that are not finite",
            remedy="Check the model's weights and, in half precision, try float32",
        )


def _without_full_image(views: Mapping[str, Tensor]) -> dict[str, Tensor]:
    crops = {kind: features for kind, features in views.items() if kind != "whole"}
    if not crops:
        raise UsageError("this matcher needs crops beside the whole image", remedy="Add RandomCrops() to the views")
    return crops


def _linear(views: Mapping[str, Tensor], texts: Tensor, class_index: Tensor) -> Contributions:
    """Parts of a score that is the mean over views of f . t summed over ``texts`` [M, d]."""
    features = all_views(views).double()
    return Contributions(features @ texts.T / len(features), view_labels(views), class_index)
