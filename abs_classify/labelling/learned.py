"""What was learned from corrections: a temperature, conformal sets, a threshold and a head; applied, saved, loaded.

learned/
  learned.json               what it was learned of, the numbers, and the digest of the file with the arrays
  head-DIGEST.safetensors    the arrays of the head, if there is one
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from abs_classify.labelling.confidence import ConfidenceModel
from abs_classify.labelling.fitting import ConformalSets
from abs_classify.labelling.heads import CacheHead, FloatArray, Head, LinearHead
from abs_core.errors import ResultError
from abs_core.files import atomic_write, storage_errors
from abs_core.text import json_text

if TYPE_CHECKING:
    from abs_classify.labelling.label_folder import LabelFolder

__all__ = ["Learned", "LearnedHead", "combine", "learned_folder", "learned_of", "starting_scores", "subject_of_folder"]

_FORMAT, _VERSION, _FILE = "abs-learned", 1, "learned.json"
_REMEDY = "Learn again: `abs label learn DIR`"


def starting_scores(probabilities: FloatArray, chosen: NDArray[np.integer], *, keeps_label: bool) -> FloatArray:
    """The logarithms [B, C] of class probabilities, to which a head adds its logits.

    Args:
        probabilities: [B, C].
        chosen: [B], the labels of the method.
        keeps_label: whether the label's probability is raised a hair above the largest one.
    """
    values = probabilities.astype(np.float64)
    if keeps_label:
        values[np.arange(len(chosen)), chosen] = values.max(1) * (1 + 1e-9)
    scores: FloatArray = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return scores


def combine(scores: FloatArray) -> FloatArray:
    """Class probabilities of scores, [B, C] each."""
    powers = np.exp(scores - scores.max(1, keepdims=True))
    shares: FloatArray = powers / powers.sum(1, keepdims=True)
    return shares


@dataclass(frozen=True, eq=False)
class LearnedHead:
    """A head and how it is used.

    Attributes:
        head: gives logits; None for none, so that the class probabilities choose the label.
        strength: the factor of the logits.
        keeps_label: see ``starting_scores``.
    """

    head: Head | None
    strength: float
    keeps_label: bool

    def scores(self, probabilities: FloatArray, features: FloatArray, chosen: NDArray[np.integer]) -> FloatArray:
        """Class scores [B, C], the largest of the label."""
        scores = starting_scores(probabilities, chosen, keeps_label=self.keeps_label)
        if self.head is None:
            return scores
        return scores + self.strength * self.head.logits(features.astype(np.float64))


@dataclass(frozen=True)
class Learned:
    """What was learned; as made by default, nothing.

    Attributes:
        inverse_temperature: see ``ConfidenceModel``.
        images: how many images drawn at random it was fitted to; with 0, confidences are no probabilities.
        head: chooses labels; None leaves them as they are.
        threshold: of the confidence, below which a label is doubtful; None where nothing was fitted. Above 1 if no
            label is sure enough.
        sets: conformal sets; None where nothing was fitted.
        known: below it an image is like none of the classes; None where that was not learned.
        subject: what it was learned of, JSON values by name.
    """

    inverse_temperature: float = 1.0
    images: int = 0
    head: LearnedHead | None = None
    threshold: float | None = None
    sets: ConformalSets | None = None
    known: float | None = None
    subject: Mapping[str, Any] = field(default_factory=dict)

    @property
    def generation(self) -> int:
        """A number of the labels that it gives: 0 where nothing was learned, and then one for each content."""
        if not self.images and self.known is None:
            return 0
        record, _ = self._record()
        return int(_digest(record)[:12], 16) + 1

    def lines(self) -> list[str]:
        """What confidences mean with it, for people."""
        if not self.images:
            return ["confidences are not fitted: they rank images, and are no probabilities"]
        lines = [f"confidences are probabilities for images of this kind, fitted to {self.images} images"]
        if self.threshold is not None:
            sure = f"below {self.threshold:.3f}" if self.threshold <= 1 else "all: no confidence is accurate enough"
            lines.append(f"doubtful labels: {sure}")
        if self.sets is not None and math.isfinite(self.sets.threshold):
            lines.append(
                f"sets of classes with the right one in {100 * self.sets.coverage:.0f} % of cases have "
                f"{self.sets.mean_size:.1f} classes on average"
            )
        if self.known is not None:
            lines.append(f"images like none of the classes: known below {self.known:.3f}")
        return lines

    def confidences(self, probabilities: FloatArray) -> FloatArray:
        """q [B, C] of class probabilities to which the head has been added."""
        return ConfidenceModel(self.inverse_temperature).confidences(probabilities)

    def apply(
        self, probabilities: FloatArray, features: FloatArray, chosen: NDArray[np.integer]
    ) -> tuple[NDArray[np.int64], FloatArray]:
        """Labels, and the confidences of all classes.

        Args:
            probabilities: P [B, C].
            features: [B, d], unit, as those it was learned from.
            chosen: [B], the labels of the method.

        Returns:
            Positions, int64 [B], and q, float64 [B, C].

        Raises:
            ResultError: the head is of other classes or features.
        """
        if self.head is None:
            return chosen.astype(np.int64), self.confidences(probabilities)
        self._check_shapes(probabilities, features)
        scores = self.head.scores(probabilities, features, chosen)
        return scores.argmax(1).astype(np.int64), self.confidences(combine(scores))

    def _check_shapes(self, probabilities: FloatArray, features: FloatArray) -> None:
        head = self.head.head if self.head is not None else None
        if head is None:
            return
        expected = head.weights.shape if isinstance(head, LinearHead) else (head.classes, head.keys.shape[1])
        if (probabilities.shape[1], features.shape[1]) != expected:
            raise ResultError(
                f"what was learned is of {expected[0]} classes and features of {expected[1]} dimensions, the images "
                f"have {probabilities.shape[1]} and {features.shape[1]}",
                remedy=_REMEDY,
            )

    # --- files -------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> str:
        """Write it into a folder, in place of what was learned before.

        Returns:
            The digest, which changes with anything learned.

        Raises:
            StorageError: it cannot be written.
        """
        record, data = self._record()
        name = ""
        if data:
            name = f"head-{record['arrays'][:16]}.safetensors"
            with atomic_write(folder / name) as stream:
                stream.write(data)
        digest = _digest(record)
        with atomic_write(folder / _FILE) as stream:
            stream.write((json_text({**record, "digest": digest}) + "\n").encode())
        with storage_errors(folder, "write in"):
            for path in folder.glob("head-*.safetensors"):
                if path.name != name:
                    path.unlink(missing_ok=True)
        return digest

    def _record(self) -> tuple[dict[str, Any], bytes]:
        """What ``learned.json`` holds, and the content of the file with the arrays; empty if there are none."""
        from safetensors.numpy import save

        head, sets = self.head, self.sets
        data = b"" if head is None or head.head is None else save(_arrays(head.head))
        record = {
            "format": _FORMAT,
            "format_version": _VERSION,
            "subject": dict(self.subject),
            "inverse_temperature": self.inverse_temperature,
            "images": self.images,
            "threshold": self.threshold,
            "known": self.known,
            "sets": None
            if sets is None
            else {
                "score": sets.score,
                "coverage": sets.coverage,
                "threshold": sets.threshold if math.isfinite(sets.threshold) else None,
                "images": sets.images,
                "mean_size": sets.mean_size,
            },
            "head": None if head is None else {
                "strength": head.strength,
                "keeps_label": head.keeps_label,
                **_head_record(head.head),
            },
            "arrays": hashlib.sha256(data).hexdigest() if data else None,
        }  # fmt: skip
        return record, data

    @classmethod
    def load(cls, folder: Path, subject: Mapping[str, Any] | None = None) -> Learned:
        """What was learned before.

        Args:
            folder: where it was saved; where nothing was, nothing is learned.
            subject: what it must have been learned of; None for anything.

        Raises:
            ResultError: it is damaged, of a newer version, or of another subject; the message names the difference.
            StorageError: it cannot be read.
        """
        path = folder / _FILE
        with storage_errors(path, "read"):
            if not path.exists():
                return cls()
            data = path.read_bytes()
        try:
            record = json.loads(data)
            if (record["format"], record["format_version"]) != (_FORMAT, _VERSION):
                raise ResultError(
                    f"{path} has the format {record['format']!r} version {record['format_version']!r}",
                    remedy="Upgrade the toolkit, or learn again",
                )
            digest = record.pop("digest")
            if digest != _digest(record):
                raise ValueError("the digest does not fit")
            if subject is not None:
                _refuse_other_subject(path, record["subject"], subject)
            return cls._of_record(folder, record)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ResultError(f"{path} is damaged ({error})", remedy=_REMEDY) from error

    @classmethod
    def _of_record(cls, folder: Path, record: Mapping[str, Any]) -> Learned:
        sets, head = record["sets"], record["head"]
        if sets is not None:
            sets = ConformalSets(**{**sets, "threshold": math.inf if sets["threshold"] is None else sets["threshold"]})
        return cls(
            inverse_temperature=record["inverse_temperature"],
            images=record["images"],
            head=None
            if head is None
            else LearnedHead(_read_head(folder, record, head), head["strength"], head["keeps_label"]),
            threshold=record["threshold"],
            sets=sets,
            known=record["known"],
            subject=record["subject"],
        )


def learned_folder(folder: LabelFolder) -> Path:
    """Where a labelled folder keeps what was learned."""
    return folder.path / "learned"


def subject_of_folder(folder: LabelFolder) -> dict[str, Any]:
    """What anything learned from a folder depends on: classes, model and method, as JSON values."""
    return {**folder.run["identity"], "classes": [label.id for label in folder.classes]}


def learned_of(folder: LabelFolder) -> Learned:
    """What was learned from a folder before; nothing, if nothing was.

    Raises:
        ResultError: it is damaged, or was learned with other classes, another model or method.
    """
    return Learned.load(learned_folder(folder), subject_of_folder(folder))


def _digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json_text(dict(record)).encode()).hexdigest()


def _arrays(head: Head) -> dict[str, NDArray[Any]]:
    if isinstance(head, LinearHead):
        return {"weights": np.ascontiguousarray(head.weights), "bias": np.ascontiguousarray(head.bias)}
    return {"keys": np.ascontiguousarray(head.keys), "labels": np.ascontiguousarray(head.labels)}


def _head_record(head: Head | None) -> dict[str, Any]:
    if isinstance(head, CacheHead):
        return {"kind": "cache", "classes": head.classes, "sharpness": head.sharpness}
    return {"kind": None if head is None else "linear"}


def _read_head(folder: Path, record: Mapping[str, Any], entry: Mapping[str, Any]) -> Head | None:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    if entry["kind"] is None:
        return None
    path = folder / f"head-{record['arrays'][:16]}.safetensors"
    with storage_errors(path, "read"):
        data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != record["arrays"]:
        raise ValueError(f"{path.name} is not the file that was written with it")
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise ValueError(f"{path.name}: {error}") from error
    if entry["kind"] == "cache":
        return CacheHead(arrays["keys"], arrays["labels"], entry["classes"], entry["sharpness"])
    return LinearHead(arrays["weights"], arrays["bias"])


def _refuse_other_subject(path: Path, learned: Mapping[str, Any], subject: Mapping[str, Any]) -> None:
    different = sorted(name for name in {*learned, *subject} if learned.get(name) != subject.get(name))
    if different:
        raise ResultError(
            f"what {path} holds was learned with another {', '.join(name.replace('_', ' ') for name in different)}",
            remedy=_REMEDY,
        )
