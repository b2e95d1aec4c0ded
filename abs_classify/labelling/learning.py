"""Learning from corrections: what reviewers decided says how sure labels are, and how to label the rest better.

    learned, report = learn(images)

Two things are learned, from different images. The temperature, the conformal sets and whether a head is used at all
need to know how right labels are, which only images drawn at random say: those that a reviewer was shown because they
seemed doubtful are more often wrong, and a head gains more on them than on the rest. The head itself learns what the
classes look like, from all decided images.

A head is chosen by nested cross-validation. The inner one chooses among heads and strengths by the likelihood of what
was decided, which is less a matter of luck than the number of right labels. The outer one says what that choice, made
anew without the images that it is judged by, gains on images drawn at random. Images of which almost all of similar
confidence are decided already count little in both, since the rest has few of them: each counts with the share of the
images of about its confidence that nobody has decided (post-stratification). Unless the likelihood is higher beyond
chance and more labels are right, labels stay as they are.

Features are what ``Labeller`` gives: the mean of the views that enter the class probabilities, which are crops where
the method looks at crops. Pure functions on arrays; imports no torch.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from abs_classify.evaluation.significance import newcombe_paired, wilson
from abs_classify.labelling.fitting import choose_conformal_sets, choose_threshold, fit_temperature
from abs_classify.labelling.heads import FloatArray, HeadSpec, fit_head
from abs_classify.labelling.learned import Learned, LearnedHead, combine, starting_scores
from abs_core.errors import UsageError

__all__ = ["MIN_IMAGES", "CorrectedImages", "LearningReport", "learn", "rest_weights"]

IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

#: decided images drawn at random from which on anything is fitted
MIN_IMAGES = 20

# below this confidence, once it is a probability, a label is more likely wrong than right
_EVEN_CHANCE = 0.5

_SPECS = (
    *(HeadSpec("priors", smoothing=images) for images in (1.0, 3.0, 10.0)),
    *(HeadSpec("cache", sharpness=beta) for beta in (5.0, 10.0, 20.0)),
    *(HeadSpec("gda", images, share) for images in (1.0, 3.0) for share in (0.1, 0.3, 0.9)),
    *(HeadSpec("alignment", smoothing=ridge) for ridge in (3e-4, 3e-3, 3e-2)),
)

# of the logits of a head, in units of the spread of the logarithms of class probabilities
_STRENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)

# inverse temperatures at which a choice is judged by its likelihood; the best counts
_SHARPNESS = np.exp(np.linspace(-0.5, 2.5, 5))

_OUTER, _INNER = 10, 5

# groups of images of about the same confidence
_STRATA = 10

# standard errors that a likelihood must be higher by: 5 % of heads that gain nothing would be used
_SIGNIFICANT = NormalDist().inv_cdf(0.95)


@dataclass(frozen=True, eq=False)
class CorrectedImages:
    """Images whose class a reviewer decided; each image once.

    Attributes:
        image_ids: n content ids, whose hashes decide the folds, so that the order of the images decides nothing.
        probabilities: [n, C], P of each image, as ``Labeller`` gives it.
        features: [n, d], unit, likewise.
        chosen: int64 [n], the class that the method chose.
        decided: int64 [n], the class that the image shows.
        at_random: bool [n], whether the image was drawn at random.
        class_vectors: [C, d], the mean of each class's texts, for the head that needs it; None leaves that out.
        weights: [n], how much each image says of those that nobody has decided, see ``rest_weights``; None for alike.

    Raises:
        UsageError: arrays that do not fit each other, an image that is there twice, or an unknown class.
    """

    image_ids: Sequence[str]
    probabilities: FloatArray
    features: FloatArray
    chosen: IntArray
    decided: IntArray
    at_random: BoolArray
    class_vectors: FloatArray | None = None
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        count = len(self.image_ids)
        lengths = [len(values) for values in (self.probabilities, self.features, self.chosen, self.decided)]
        if {*lengths, len(self.at_random)} != {count} or len(set(self.image_ids)) != count:
            raise UsageError(
                f"{count} image ids do not fit {lengths} probabilities, features, labels and decisions, "
                "or one appears twice",
                remedy="Give every image once",
            )
        for name, values in (("label", self.chosen), ("decision", self.decided)):
            if count and not 0 <= values.min() <= values.max() < self.classes:
                raise UsageError(
                    f"a {name} must be a class from 0 to {self.classes - 1}, got {values.min()} to {values.max()}"
                )

    @property
    def classes(self) -> int:
        """C, the number of classes."""
        return int(self.probabilities.shape[1])

    def subset(self, members: BoolArray | IntArray) -> CorrectedImages:
        """Some of the images."""
        positions = np.arange(len(self.image_ids))[members]
        return CorrectedImages(
            [self.image_ids[position] for position in positions],
            self.probabilities[positions],
            self.features[positions],
            self.chosen[positions],
            self.decided[positions],
            self.at_random[positions],
            self.class_vectors,
            None if self.weights is None else self.weights[positions],
        )

    @property
    def shares(self) -> FloatArray:
        """The weights, or 1 for each image."""
        return np.ones(len(self.image_ids)) if self.weights is None else self.weights


def rest_weights(decided: FloatArray, rest: FloatArray) -> FloatArray:
    """How much decided images say of the rest: the share of the images of about the same confidence that is in it.

    Args:
        decided: [n], the confidences of the labels of decided images.
        rest: [m], of all others.

    Returns:
        [n], from 0, where all images of about that confidence are decided, to 1.
    """
    edges = np.quantile(np.concatenate([decided, rest]), np.arange(1, _STRATA) / _STRATA)
    stratum = np.searchsorted(edges, decided, side="right")
    counted = np.bincount(stratum, minlength=_STRATA)
    left = np.bincount(np.searchsorted(edges, rest, side="right"), minlength=_STRATA)
    shares: FloatArray = (left / np.maximum(left + counted, 1))[stratum]
    return shares


@dataclass(frozen=True)
class LearningReport:
    """What was learned, and what it is expected to be worth for the images that nobody has decided.

    Attributes:
        images: decided images.
        at_random: of these, how many were drawn at random.
        accuracy: of the labels as they were, with the ends of its 95 % interval, from the images drawn at random; None
            if there is none.
        head: the head that was best, in words; empty if none was better than nothing.
        used: whether it is used.
        gain: how many more labels per label the head is expected to make right on the rest, with the ends of its
            95 % interval (Newcombe); None where nothing could be estimated.
        reason: why no head is used; empty if one is.
    """

    images: int
    at_random: int
    accuracy: tuple[float, float, float] | None
    head: str
    used: bool
    gain: tuple[float, float, float] | None
    reason: str

    def lines(self) -> list[str]:
        """What it says, for people."""
        lines = [f"{self.images} images were decided, {self.at_random} of them drawn at random"]
        if self.accuracy is not None:
            share, low, high = (100 * value for value in self.accuracy)
            lines.append(f"of labels as they were, {share:.1f} % were right [{low:.1f}, {high:.1f}]")
        gain = ""
        if self.gain is not None:
            points, low, high = (100 * value for value in self.gain)
            gain = f"expected for the rest: {points:+.1f} points [{low:+.1f}, {high:+.1f}]"
        if self.used:
            lines.append(f"labels are chosen with {self.head}; {gain}")
        else:
            lines.append(f"labels stay as they are: {self.reason}{f' ({self.head}; {gain})' if self.head else ''}")
        return lines


@dataclass(frozen=True)
class _Choice:
    """A head with its strength; without a head the probabilities decide.

    Attributes:
        spec: of the head.
        strength: in units of the spread of the scores.
        keeps_label: whether the label of the method starts as the best.
    """

    spec: HeadSpec | None = None
    strength: float = 0.0
    keeps_label: bool = True

    @property
    def words(self) -> str:
        """What it is, for people."""
        if self.spec is None:
            return "" if self.keeps_label else "class probabilities in place of the scores of the method"
        names = {
            "priors": "class priors",
            "cache": "a cache of the decided images (Tip-Adapter)",
            "gda": "Gaussian discriminant analysis",
            "alignment": "a linear map from images to class texts",
        }
        return f"{names[self.spec.kind]}, strength {self.strength:g}"


def learn(images: CorrectedImages, *, accuracy: float | None = None) -> tuple[Learned, LearningReport]:
    """Fit what the decided images can carry.

    With fewer than ``MIN_IMAGES`` drawn at random nothing is, and labels and confidences stay as they are.

    Args:
        images: see ``CorrectedImages``.
        accuracy: of the labels that are not doubtful; the threshold is chosen so that it is reached but for one case in
            ten (``choose_threshold``). None for a threshold of one half.

    Returns:
        What was learned, and what it is worth. The same images in another order give the same.

    Raises:
        UsageError: an accuracy that is not between 0 and 1.
    """
    images = images.subset(np.argsort([_hash(image) for image in images.image_ids], kind="stable"))
    drawn = images.at_random
    right = images.chosen == images.decided
    now = None
    if drawn.any():
        now = (float(right[drawn].mean()), *wilson(int(right[drawn].sum()), int(drawn.sum())))
    report = LearningReport(len(images.image_ids), int(drawn.sum()), now, "", False, None, "")
    if drawn.sum() < MIN_IMAGES:
        reason = (
            f"{drawn.sum()} of the decided images were drawn at random; nothing is fitted to fewer than {MIN_IMAGES}. "
            "Decide more of the queue of `abs label review`, where --random-share 1 shows no others"
        )
        return Learned(), replace(report, reason=reason)
    choice = _choose(images)
    scores = _held_out_scores(images)
    gain, better = _expected_gain(images, scores)
    used = better and choice != _Choice()
    head = _fit(choice, images) if used else None
    reason = (
        "" if used else "nothing makes the rest better beyond chance" if choice != _Choice() else "nothing is better"
    )
    report = replace(report, head=choice.words, used=used, gain=gain, reason=reason)
    return _calibrate(images, scores if used else None, head, accuracy), report


def _calibrate(
    images: CorrectedImages, scores: FloatArray | None, head: LearnedHead | None, accuracy: float | None
) -> Learned:
    """Temperature, sets and threshold from the images drawn at random, by what a head says of images it did not see."""
    drawn = images.at_random
    decided = images.decided[drawn]
    if scores is None:
        probabilities, labels = images.probabilities[drawn], images.chosen[drawn]
    else:
        probabilities, labels = combine(scores[drawn]), scores[drawn].argmax(1)
    fitted = Learned(inverse_temperature=fit_temperature(probabilities, decided), images=int(drawn.sum()), head=head)
    confidences = fitted.confidences(probabilities)
    threshold = _EVEN_CHANCE
    if accuracy is not None:
        of_labels = confidences[np.arange(len(labels)), labels]
        threshold = choose_threshold(of_labels, labels == decided, accuracy).threshold
    return Learned(
        inverse_temperature=fitted.inverse_temperature,
        images=fitted.images,
        head=head,
        threshold=min(threshold, 1.0) if math.isfinite(threshold) else math.nextafter(1.0, 2.0),
        sets=choose_conformal_sets(confidences, decided),
    )


def _fit(choice: _Choice, images: CorrectedImages) -> LearnedHead:
    """A choice, fitted to all of some images."""
    if choice.spec is None:
        return LearnedHead(None, 0.0, choice.keeps_label)
    features = images.features.astype(np.float64)
    vectors = None if images.class_vectors is None else images.class_vectors.astype(np.float64)
    head = fit_head(
        choice.spec, features, images.decided, images.classes, at_random=images.at_random, class_vectors=vectors
    )
    return LearnedHead(head, choice.strength * _unit(choice.spec, images, head.logits(features)), choice.keeps_label)


def _unit(spec: HeadSpec, images: CorrectedImages, logits: FloatArray) -> float:
    """The factor that gives logits the spread of the logarithms of probabilities; priors are on their scale already."""
    if spec.kind == "priors":
        return 1.0
    scores = starting_scores(images.probabilities, images.chosen, keeps_label=False)
    return float(scores.std(1).mean() / max(logits.std(1).mean(), 1e-9))


def _folds(images: CorrectedImages, count: int) -> Iterator[BoolArray]:
    """Which images are held out in each fold: as many of those drawn at random in each, and of the others.

    Images are in the order of the hashes of their ids, which is as good as chance.
    """
    fold = np.empty(len(images.image_ids), np.int64)
    for members in (images.at_random, ~images.at_random):
        fold[members] = np.arange(members.sum()) % count
    for number in range(count):
        if (held_out := fold == number).any() and not held_out.all():
            yield held_out


def _held_out_scores(images: CorrectedImages) -> FloatArray:
    """[n, C], of each image the scores of what is chosen and fitted without it: the outer cross-validation."""
    scores = np.empty(images.probabilities.shape, np.float64)
    for held_out in _folds(images, _OUTER):
        others, judged = images.subset(~held_out), images.subset(held_out)
        learned = _fit(_choose(others), others)
        scores[held_out] = learned.scores(judged.probabilities, judged.features, judged.chosen)
    return scores


def _choose(images: CorrectedImages) -> _Choice:
    """The choice under which what was decided is most likely, fitted without it: the inner cross-validation.

    Of equals the first, and before all of them the labels as they are.
    """
    kept, plain = (starting_scores(images.probabilities, images.chosen, keeps_label=keeps) for keeps in (True, False))
    weights = images.shares
    if not weights.any() or images.classes < 2:
        return _Choice()
    counted = weights > 0
    kept, plain = kept[counted], plain[counted]
    judge = _LikelihoodJudge(images.decided[counted], weights[counted])
    best, most = _Choice(), judge.loss(kept)
    if (loss := judge.loss(plain)) < most:
        best, most = _Choice(keeps_label=False), loss
    for spec in _SPECS:
        if spec.kind == "alignment" and images.class_vectors is None:
            continue
        logits = _held_out_logits(spec, images)[counted]
        for strength in _STRENGTHS:
            for keeps, start in ((True, kept), (False, plain)):
                if (loss := judge.loss(start + strength * logits)) < most - 1e-12:
                    best, most = _Choice(spec, strength, keeps), loss
    return best


def _held_out_logits(spec: HeadSpec, images: CorrectedImages) -> FloatArray:
    logits = np.zeros(images.probabilities.shape, np.float64)
    for held_out in _folds(images, _INNER):
        learned = _fit(_Choice(spec, 1.0), images.subset(~held_out))
        assert learned.head is not None  # there is a spec
        logits[held_out] = learned.strength * learned.head.logits(images.features[held_out].astype(np.float64))
    return logits


class _LikelihoodJudge:
    """The mean negative log-likelihood of decisions, at the best of a few temperatures."""

    def __init__(self, decided: IntArray, weights: FloatArray) -> None:
        self._decided, self._weights = decided, weights / weights.sum()

    def losses(self, scores: FloatArray) -> FloatArray:
        """[n], of each image."""
        return min((self._at(scores, sharpness) for sharpness in _SHARPNESS), key=lambda row: row @ self._weights)

    def loss(self, scores: FloatArray) -> float:
        """The weighted mean."""
        return float(self.losses(scores) @ self._weights)

    def _at(self, scores: FloatArray, sharpness: float) -> FloatArray:
        logits = sharpness * (scores - scores.max(1, keepdims=True))
        losses: FloatArray = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(scores)), self._decided]
        return losses


def _expected_gain(images: CorrectedImages, scores: FloatArray) -> tuple[tuple[float, float, float] | None, bool]:
    """The gain in accuracy with its interval, and whether it is to be had: by images drawn at random alone."""
    drawn = images.at_random
    weights = images.shares[drawn]
    if not weights.any():
        return None, False
    # as many images as would say as much if they all counted alike
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    shares = weights / weights.sum()
    before = (images.chosen == images.decided)[drawn]
    after = (scores.argmax(1) == images.decided)[drawn]
    both, after_only, before_only = (
        float(effective * shares[cell].sum()) for cell in (after & before, after & ~before, ~after & before)
    )
    low, high = newcombe_paired(both, after_only, before_only, max(0.0, effective - both - after_only - before_only))
    gain = float(shares @ (after.astype(float) - before))
    judge = _LikelihoodJudge(images.decided[drawn], weights)
    kept = starting_scores(images.probabilities, images.chosen, keeps_label=True)
    less = judge.losses(kept[drawn]) - judge.losses(scores[drawn])
    mean = float(shares @ less)
    error = float(np.sqrt((shares**2) @ (less - mean) ** 2))
    # of Python, since the report is written as JSON
    better = bool(effective >= MIN_IMAGES and gain > 0 and mean > _SIGNIFICANT * error)
    return (gain, float(low), float(high)), better


def _hash(image_id: str) -> str:
    return hashlib.sha256(image_id.encode()).hexdigest()
