"""The page, and the pictures, of images that were classified without labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from abs_classify.encoding.ranking import MethodRanking, ScoredImages
from abs_classify.encoding.samples import SkippedImage
from abs_classify.report.contents import classification_page, report_images
from abs_classify.report.page import write_report
from abs_classify.report.png import explanation_png
from abs_core.errors import UsageError

if TYPE_CHECKING:
    from abs_classify.classifier import Classifier, PredictedShard, Prediction

__all__ = ["write_classification_report", "write_explanation_pictures"]


def write_classification_report(
    classifier: Classifier,
    predictions: Sequence[Prediction],
    path: Path,
    *,
    skipped: Sequence[SkippedImage] = (),
    command: Sequence[str] = (),
) -> Path:
    """Write a page of images with their rankings, attention, views and reasons.

    Without a cache the images are encoded once more.

    Args:
        classifier: that made the predictions.
        predictions: in the order in which they are shown.
        path: an HTML file, or a folder for ``index.html``.
        skipped: images that could not be read, to be named on the page.
        command: what the user ran, to be shown on the page.

    Returns:
        The page.

    Raises:
        UsageError: the images came from an iterator.
        StorageError: the page cannot be written.
    """
    target = path if path.suffix.lower() in (".html", ".htm") else path / "index.html"
    scored = _scored_images(classifier, predictions, skipped)
    methods = {classifier.method: classifier.class_texts}
    stages = classifier.stages_of_run()
    write_report(
        classification_page(stages, methods, classifier.label_space, scored, classifier.notes, command), target
    )
    return target


def write_explanation_pictures(classifier: Classifier, predictions: Sequence[Prediction], folder: Path) -> int:
    """Write one picture for each image, named by number and image, that explains its prediction.

    Returns:
        How many.

    Raises:
        UsageError: the images came from an iterator.
        StorageError: a picture cannot be written.
    """
    scored = _scored_images(classifier, predictions, ())
    methods = {classifier.method: classifier.class_texts}
    shown = report_images(classifier.stages_of_run(), methods, classifier.label_space, scored, len(predictions))
    count = 0
    for count, image in enumerate(shown, start=1):
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in Path(image.name).stem)[:60]
        explanation_png(image, folder / f"{count:04d}-{stem}.png")
    return count


def _scored_images(
    classifier: Classifier, predictions: Sequence[Prediction], skipped: Sequence[SkippedImage]
) -> ScoredImages:
    """The predictions, with the images that were encoded together side by side."""
    placed = [(_shard_of(prediction), prediction.position) for prediction in predictions]
    shards = [
        [shard.images[position] for shard, position in group] for _, group in groupby(placed, key=lambda at: id(at[0]))
    ]
    top = [shard.ranking.top[position] for shard, position in placed]
    scores = [shard.ranking.scores[position] for shard, position in placed]
    ranking = MethodRanking(np.stack(top), np.stack(scores), np.empty(0, dtype=np.int64))
    return ScoredImages(shards, [], {classifier.method.name: ranking}, list(skipped))


def _shard_of(prediction: Prediction) -> PredictedShard:
    if prediction.shard is None:
        raise UsageError(
            f"the image of the prediction for {prediction.image_name!r} is not at hand, since it came from an iterator",
            remedy="Classify a list of images",
        )
    return prediction.shard
