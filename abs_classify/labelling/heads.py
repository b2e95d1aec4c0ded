"""Closed-form heads: what labelled images say of the others, added to the class probabilities of a method.

Each head gives logits [B, C] from features [B, d]; nothing is trained by steps. Means and precisions are those of the
labelled images, so a class without any gets a logit that says nothing: 0 in a cache, the mean of all in the others.

Sources, formulas only:
    Zhang et al. (2022), Tip-Adapter, ECCV: the cache, exp(-beta (1 - f F')) times one-hot labels, without training.
    Wang et al. (2024), A hard-to-beat baseline for training-free CLIP-based adaptation, ICLR: Gaussian discriminant
        analysis, W = Sigma^-1 mu with one shrunk covariance for all classes.
    Ouali et al. (2023), Black box few-shot adaptation for vision-language models, ICCV: a linear map from images to
        class vectors by least squares; here with a ridge.
    Saerens, Latinne and Decaestecker (2002), Neural computation 14, 21-41: probabilities under other class priors.

Pure functions on arrays; imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["CacheHead", "Head", "HeadKind", "HeadSpec", "LinearHead", "fit_head"]

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = "NDArray[np.integer]"

#: class priors alone; Tip-Adapter's cache; Gaussian discriminant analysis; least squares onto the class vectors
HeadKind: TypeAlias = Literal["priors", "cache", "gda", "alignment"]


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """Which head, before it is fitted.

    Attributes:
        kind: see ``HeadKind``.
        smoothing: above 0. For ``priors`` and ``gda`` the images that each class is given before any is counted: they
            have the mean of all classes. For ``alignment`` the ridge, per labelled image; no meaning for ``cache``.
        sharpness: of ``cache`` the beta of its exponential; of ``gda`` the share, above 0 and at most 1, of its
            covariance that is the same in all directions; without a meaning for the others.
    """

    kind: HeadKind
    smoothing: float = 0.0
    sharpness: float = 0.0


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Logits f W' + b.

    Attributes:
        weights: float64 [C, d].
        bias: float64 [C].
    """

    weights: FloatArray
    bias: FloatArray

    def logits(self, features: FloatArray) -> FloatArray:
        """[B, C] of features [B, d]."""
        logits: FloatArray = features @ self.weights.T + self.bias
        return logits


@dataclass(frozen=True, eq=False)
class CacheHead:
    """The labelled images themselves: each speaks for its class, the more the nearer it is.

    Attributes:
        keys: float64 [n, d], their features.
        labels: int64 [n], their classes.
        classes: C.
        sharpness: beta.
    """

    keys: FloatArray
    labels: NDArray[np.int64]
    classes: int
    sharpness: float

    def logits(self, features: FloatArray) -> FloatArray:
        """[B, C] of features [B, d]."""
        logits: FloatArray = np.exp(-self.sharpness * (1 - features @ self.keys.T)) @ _one_hot(
            self.labels, self.classes
        )
        return logits


Head: TypeAlias = LinearHead | CacheHead


def fit_head(
    spec: HeadSpec,
    features: FloatArray,
    labels: IntArray,
    classes: int,
    *,
    at_random: NDArray[np.bool_],
    class_vectors: FloatArray | None = None,
) -> Head:
    """The head of some labelled images.

    Args:
        spec: which head.
        features: [n, d], of unit length, n at least 1.
        labels: [n], positions of classes.
        classes: C.
        at_random: [n], which of the images were drawn at random; only they say how often a class is.
        class_vectors: [C, d], for ``alignment``.
    """
    if spec.kind == "cache":
        return CacheHead(features, labels.astype(np.int64), classes, spec.sharpness)
    if spec.kind == "gda":
        return _gaussian(features, labels, classes, spec.smoothing, spec.sharpness)
    if spec.kind == "alignment":
        if class_vectors is None:
            raise ValueError("alignment needs class vectors")
        return _alignment(features, labels, class_vectors, spec.smoothing)
    counts = np.bincount(labels[at_random], minlength=classes) + spec.smoothing
    return LinearHead(np.zeros((classes, features.shape[1])), np.log(counts / counts.mean()))


def _gaussian(features: FloatArray, labels: IntArray, classes: int, smoothing: float, share: float) -> LinearHead:
    """Log-likelihood ratios of classes with Gaussian features and one covariance, less that of the mean of all.

    A class has the mean of its images and of ``smoothing`` images at the mean of all; the covariance is of the rest.
    """
    centre = features.mean(0)
    centred = features - centre
    members = _one_hot(labels, classes)
    means = (members.T @ centred) / (members.sum(0) + smoothing)[:, None]
    rest = centred - means[labels]
    # the variance is never 0: a single image without smoothing would leave nothing
    variance = max(float((rest**2).sum()) / rest.size, np.finfo(np.float64).eps)
    weights = _solve_ridge(rest * np.sqrt((1 - share) / len(rest)), share * variance, means.T).T
    return LinearHead(weights, -(weights * means).sum(1) / 2 - weights @ centre)


def _alignment(features: FloatArray, labels: IntArray, class_vectors: FloatArray, ridge: float) -> LinearHead:
    """Similarities of classes to the images, mapped to the class vectors by ridge regression."""
    centre = features.mean(0)
    centred = features - centre
    targets = class_vectors - class_vectors.mean(0)
    count, width = features.shape
    if count >= width:
        weights = targets @ _solve_ridge(centred, ridge * count, centred.T @ targets[labels]).T
    else:  # the same by (R'R + cI)^-1 R' = R' (RR' + cI)^-1, without a matrix of the width squared
        inner = np.linalg.solve(centred @ centred.T + ridge * count * np.eye(count), targets[labels])
        weights = (targets @ inner.T) @ centred
    return LinearHead(weights, -weights @ centre)


def _solve_ridge(rows: FloatArray, ridge: float, targets: FloatArray) -> FloatArray:
    """(rows' rows + ridge I)^-1 targets, [d, k], by the smaller of the two systems (Woodbury)."""
    count, width = rows.shape
    if count >= width:
        solved = np.linalg.solve(rows.T @ rows + ridge * np.eye(width), targets)
    else:
        inner = np.linalg.solve(rows @ rows.T + ridge * np.eye(count), rows @ targets)
        solved = (targets - rows.T @ inner) / ridge
    return solved.astype(np.float64, copy=False)


def _one_hot(labels: IntArray, classes: int) -> FloatArray:
    members = np.zeros((len(labels), classes))
    members[np.arange(len(labels)), labels] = 1
    return members
