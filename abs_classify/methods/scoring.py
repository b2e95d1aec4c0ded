"""Scorers: frozen parameters that turn the features of views and texts into class scores, and say what carried a score.

A scorer sees views as a mapping from their kind ("whole", "random", "resized", "box", "window") to unit features, and
texts as ``ClassTextFeatures``. Its arithmetic is in ``similarity.py`` and ``soft_matching.py``. A stream scorer, which
learns from the images that it has seen, scores one image after the other instead.

A scorer imports torch when it first computes, so that the table of methods can be listed without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, runtime_checkable

from abs_classify.methods.parameters import MAX_EXPONENT, MIN_TEMPERATURE, check_range
from abs_core.errors import ModelError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from abs_classify.methods.soft_matching import SoftTexts

__all__ = [
    "AdditiveScorer",
    "ClassTextFeatures",
    "Contributions",
    "CosineToMean",
    "HardMatch",
    "MeanSimilarity",
    "PerViewScorer",
    "Scorer",
    "SoftMatch",
    "StreamScorer",
    "WeightedCosine",
    "all_views",
    "full_image",
    "without_full_image",
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
    _weighted: dict[float, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        import torch

        from abs_classify.methods.similarity import check_texts, class_counts

        check_texts(self.features, self.class_index)
        check_texts(self.labels, torch.arange(len(self.labels), device=self.labels.device))
        class_counts(self.class_index, len(self.labels))

    @property
    def classes(self) -> int:
        """C."""
        return len(self.labels)

    @cached_property
    def means(self) -> Tensor:
        """[C, d] unit: each class's normalised mean text, which for a single text is that text itself."""
        from abs_classify.methods.similarity import class_means

        if len(self.features) == self.classes:
            return self.features[self.class_index.argsort()]
        return class_means(self.features, self.class_index, self.classes)

    @cached_property
    def mean_texts(self) -> Tensor:
        """[C, d]: each class's mean text, not normalised."""
        from abs_classify.methods.similarity import text_means

        return text_means(self.features, self.class_index, self.classes)

    def weighted(self, text_scale: float) -> Tensor:
        """[C, d] unit: WCA's class vectors for an exponent of the text weights, see ``similarity.weighted_texts``."""
        from abs_classify.methods.similarity import weighted_texts

        if text_scale not in self._weighted:
            weighted = weighted_texts(self.features, self.class_index, self.labels, text_scale)
            self._weighted[text_scale] = weighted
        return self._weighted[text_scale]

    @cached_property
    def soft_texts(self) -> SoftTexts:
        """The texts, prepared for soft matching."""
        from abs_classify.methods.soft_matching import SoftTexts

        return SoftTexts.of(self.features, self.class_index, self.classes)


@dataclass(frozen=True, eq=False)
class Contributions:
    """The share of each view and text in the class scores of one image.

    Attributes:
        parts: [V, M] float64; the sum over views and over the texts of a class is that class's score.
        views: V pairs of kind and index within the kind, one for each row of ``parts``.
        class_index: int64 [M].
    """

    parts: Tensor
    views: tuple[tuple[str, int], ...]
    class_index: Tensor


class Scorer(Protocol):
    """Scores each image by itself."""

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
            UsageError: a kind of view that this scorer needs is missing.
        """


@runtime_checkable
class AdditiveScorer(Scorer, Protocol):
    """A scorer whose scores are sums over views and texts, so that each of them has a share of its own."""

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """What carried the scores of ONE image.

        Args:
            views: kind -> unit features [N, d].
            texts: of C classes.
        """


@runtime_checkable
class PerViewScorer(Scorer, Protocol):
    """A scorer whose scores are sums of what each view adds, so that some of the views foretell the sum of all."""

    def view_scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures, total: int) -> Tensor:
        """What each view adds to the class scores of B images.

        Args:
            views: kind -> unit features [B, N, d], as in ``scores``; V in all, which may be a part of an image's views.
            texts: of C classes.
            total: how many views there are in all; the sum of what they all add is the score within rounding.

        Returns:
            [B, V, C], kind after kind in the mapping's order; the dtype is that of ``scores``.

        Raises:
            As ``scores`` does.
        """

    def margin_bound(self, texts: ClassTextFeatures, total: int) -> float:
        """The most by which one view can part any two classes, whatever the view shows: max |s_vc - s_vd|."""


State = TypeVar("State")


@runtime_checkable
class StreamScorer(Protocol[State]):
    """Scores images one after the other; each score depends on the images before, so their order matters."""

    def key(self) -> dict[str, Any]:
        """As in ``Scorer``; a cache key must also have the order of the images."""

    def start(self, texts: ClassTextFeatures, total: int) -> State:
        """The state before the first of ``total`` images. Raises UsageError if ``total`` is below 1."""

    def step(self, state: State, views: Mapping[str, Tensor]) -> Tensor:
        """Scores [C] of the next image, from its unit features by kind [N, d]; updates ``state``."""


@dataclass(frozen=True)
class CosineToMean:
    """Cosine of the view with each class's normalised mean text; several views are averaged.

    The scorer of clip, clip-e and cupl, and of clip-d and waffle as WCA and ABS run them.
    """

    def key(self) -> dict[str, Any]:
        """See ``Scorer``."""
        return {"matcher": "cosine-to-mean"}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Scorer``."""
        from abs_classify.methods.similarity import cosine

        return cosine(all_views(views).mean(1), texts.means)

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """f . unit(sum of t_m) is the sum of f . t_m over the length of the sum, so it splits exactly by text."""
        from abs_classify.methods.similarity import class_sums, unit

        unit_texts = unit(texts.features.double())
        lengths = class_sums(unit_texts, texts.class_index, texts.classes).norm(dim=-1)
        return _linear(views, unit_texts / lengths[texts.class_index, None], texts.class_index)


@dataclass(frozen=True)
class MeanSimilarity:
    """Mean of the cosines with a class's texts and over views: clip-d and waffle as in their own papers, abs-mean."""

    def key(self) -> dict[str, Any]:
        """See ``Scorer``."""
        return {"matcher": "mean-similarity"}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Scorer``."""
        from abs_classify.methods.similarity import cosine

        return cosine(all_views(views).mean(1), texts.mean_texts)

    def view_scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures, total: int) -> Tensor:
        """See ``PerViewScorer``: the view's mean cosine with the texts of each class, over the number of views."""
        return all_views(views) @ texts.mean_texts.T / total

    def margin_bound(self, texts: ClassTextFeatures, total: int) -> float:
        """See ``PerViewScorer``: at most a unit vector's product with the difference of two mean texts."""
        means = texts.mean_texts
        return 2 * float((means - means.mean(0)).norm(dim=-1).max()) / total

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """Every cosine over the number of texts and views."""
        from abs_classify.methods.similarity import class_counts

        counts = class_counts(texts.class_index, texts.classes)[texts.class_index, None]
        return _linear(views, texts.features.double() / counts, texts.class_index)


@dataclass(frozen=True)
class HardMatch:
    """Each view gives its largest cosine to that text's class, and nothing to others: the limit of soft matching."""

    votes: ClassVar[bool] = True

    def key(self) -> dict[str, Any]:
        """See ``Scorer``."""
        return {"matcher": "hard"}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Scorer``."""
        from abs_classify.methods.similarity import hard

        return hard(all_views(views), texts.features, texts.class_index, texts.classes)

    def view_scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures, total: int) -> Tensor:  # noqa: ARG002
        """See ``PerViewScorer``; ``total`` plays no part in a sum."""
        from abs_classify.methods.similarity import hard

        features = all_views(views)
        scores = hard(features.reshape(-1, 1, features.shape[-1]), texts.features, texts.class_index, texts.classes)
        return scores.view(*features.shape[:2], -1)

    def margin_bound(self, texts: ClassTextFeatures, total: int) -> float:  # noqa: ARG002
        """See ``PerViewScorer``: a view gives one class its cosine, and nothing to others."""
        return float(texts.features.norm(dim=-1).max())

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """One cosine a view."""
        cosines = all_views(views).double() @ texts.features.double().T
        value, index = cosines.max(1, keepdim=True)
        parts = cosines.new_zeros(cosines.shape).scatter_(1, index, value)
        return Contributions(parts, _view_labels(views), texts.class_index)


@dataclass(frozen=True)
class SoftMatch:
    """Soft matching of ABS, over all views together (Cai et al. 2025); see ``soft_matching.soft``.

    Attributes:
        temperature: of the softmax over all texts; 0.03 as published, at least ``MIN_TEMPERATURE``.
    """

    temperature: float = 0.03

    def __post_init__(self) -> None:
        check_range("soft matching", {"temperature": self.temperature}, MIN_TEMPERATURE)

    def key(self) -> dict[str, Any]:
        """See ``Scorer``."""
        return {"matcher": "soft", "temperature": self.temperature}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Scorer``."""
        from abs_classify.methods.soft_matching import soft_prepared

        return soft_prepared(all_views(views), texts.soft_texts, self.temperature)

    def view_scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures, total: int) -> Tensor:  # noqa: ARG002
        """See ``PerViewScorer``; ``total`` plays no part in a sum."""
        from abs_classify.methods.soft_matching import soft_views

        return soft_views(all_views(views), texts.soft_texts, self.temperature)

    def margin_bound(self, texts: ClassTextFeatures, total: int) -> float:  # noqa: ARG002
        """See ``PerViewScorer``: the weights q of a view sum to 1, so |s_c - s_d| <= sum q |z| <= max |z|."""
        return float(texts.features.norm(dim=-1).max()) / self.temperature

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """q_vm z_vm, the summands of the score."""
        from abs_classify.methods.soft_matching import soft_parts

        parts = soft_parts(all_views(views), texts.features, texts.class_index, texts.classes, self.temperature)
        return Contributions(parts, _view_labels(views), texts.class_index)


@dataclass(frozen=True)
class WeightedCosine:
    """WCA (Li et al., ICML 2024): cosine of a weighted sum of crops with a weighted sum of each class's texts.

    Needs the full image, which weighs the crops and is not one of them. Every crop is used once; the authors sample 60
    of their crops with replacement and repeat (``similarity.weighted_views`` takes such a sample).

    Attributes:
        image_scale: the exponent of crop weights, e^image_scale; 4.0 as published.
        text_scale: the exponent of text weights; 2.0 as published.

    Raises:
        UsageError: an exponent out of its range.
    """

    image_scale: float = 4.0
    text_scale: float = 2.0

    def __post_init__(self) -> None:
        check_range("WCA", asdict(self), -MAX_EXPONENT, MAX_EXPONENT)

    def key(self) -> dict[str, Any]:
        """See ``Scorer``."""
        return {"matcher": "wca", "image_scale": self.image_scale, "text_scale": self.text_scale}

    def scores(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Tensor:
        """See ``Scorer``."""
        from abs_classify.methods.similarity import cosine, weighted_views

        image = weighted_views(full_image(views), all_views(without_full_image(views)), self.image_scale)
        return cosine(image, texts.weighted(self.text_scale))

    def contributions(self, views: Mapping[str, Tensor], texts: ClassTextFeatures) -> Contributions:
        """Both sides are weighted sums divided by their norm, so every pair of crop and text has its exact share.

        The row of the full image is zero.
        """
        import torch

        from abs_classify.methods.similarity import class_sums, text_weights, unit, view_weights

        image, crops = full_image(views).double(), all_views(without_full_image(views)).double()
        weights = view_weights(image[None], crops[None], self.image_scale)[0]
        view_terms = weights[:, None] * unit(crops)
        view_terms = view_terms / view_terms.sum(0).norm()
        features = unit(texts.features.double())
        weights = text_weights(features, texts.class_index, texts.labels.double(), self.text_scale)
        text_terms = weights[:, None] * features
        lengths = class_sums(text_terms, texts.class_index, texts.classes).norm(dim=-1)
        crop_parts = view_terms @ (text_terms / lengths[texts.class_index, None]).T
        per_kind = iter(crop_parts.split([len(rows) for kind, rows in views.items() if kind != "whole"]))
        parts = [
            crop_parts.new_zeros(len(rows), crop_parts.shape[1]) if kind == "whole" else next(per_kind)
            for kind, rows in views.items()
        ]
        return Contributions(torch.cat(parts), _view_labels(views), texts.class_index)


def all_views(views: Mapping[str, Tensor]) -> Tensor:
    """All views, kind after kind in the mapping's order: [B, V, d], or [V, d] of one image.

    Raises:
        ModelError: a feature that is not finite; the message names image and view.
        UsageError: there is no view.
    """
    if not views:
        raise UsageError("there are no views to score", remedy="Give the method at least one view source")
    for kind, features in views.items():
        _check_finite(kind, features)
    import torch

    parts = list(views.values())
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


def full_image(views: Mapping[str, Tensor]) -> Tensor:
    """The features of the full image: [B, d], or [d] of one image.

    Raises:
        ModelError: a feature that is not finite.
        UsageError: the full image is not among the views.
    """
    if "whole" not in views:
        raise UsageError(
            f"this method needs the full image, and the views are: {', '.join(views) or 'none'}",
            remedy="Add FullImage() to the views of the method",
        )
    _check_finite("whole", views["whole"])
    return views["whole"][..., 0, :]


def _view_labels(views: Mapping[str, Tensor]) -> tuple[tuple[str, int], ...]:
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


def without_full_image(views: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The crops beside the full image. Raises UsageError if there are none."""
    crops = {kind: features for kind, features in views.items() if kind != "whole"}
    if not crops:
        raise UsageError("this method needs crops beside the full image", remedy="Add RandomCrops() to the views")
    return crops


def _linear(views: Mapping[str, Tensor], texts: Tensor, class_index: Tensor) -> Contributions:
    """Contributions to a score that is the mean over views of f . t, summed over ``texts`` [M, d]."""
    features = all_views(views).double()
    return Contributions(features @ texts.T / len(features), _view_labels(views), class_index)
