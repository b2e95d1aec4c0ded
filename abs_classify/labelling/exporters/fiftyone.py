"""FiftyOne: ``labels.json``, with ``predictions.json`` and ``ground_truth.json`` beside it for fields of their own."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import PurePosixPath
from typing import Any

from abs_classify.labelling.exporters.base import ExportedImage, ExportFormat, ExportPlace, JsonElements
from abs_classify.labelling.exporters.labels import ImageLabel
from abs_core.files import storage_errors
from abs_core.text import json_text

__all__ = ["FiftyOneFormat"]


class FiftyOneFormat(ExportFormat):
    """FiftyOneImageClassificationDataset, or FiftyOneImageDetectionDataset if there are boxes.

    ``labels.json`` has the label in effect, ``predictions.json`` what the model said with its confidence, and
    ``ground_truth.json`` what reviewers decided: each of them can be read into a field. Images that stay where they are
    are called by their absolute paths.
    """

    name = "fiftyone"
    sizes = "boxes"
    media = "data"
    by_stem = True
    opening = (
        "fiftyone.Dataset.from_dir(dataset_dir='{folder}', dataset_type=fiftyone.types.FiftyOneImageClassification"
        "Dataset), FiftyOneImageDetectionDataset if there are boxes"
    )

    def write(self, images: Iterable[ExportedImage], place: ExportPlace) -> None:
        """See ``ExportFormat``."""
        opening = f'{{"classes": {json_text(list(place.names))},\n"labels": {{'
        media = place.final / self.media
        with storage_errors(place.part, "write"):
            # the importer of detections looks for it, also when it is empty
            (place.part / self.media).mkdir(exist_ok=True)
        with ExitStack() as stack:
            effective, predictions, truth = (
                stack.enter_context(JsonElements(stack.enter_context(place.create(name)), opening, "}}"))
                for name in ("labels.json", "predictions.json", "ground_truth.json")
            )
            for image in images:
                if media in image.file.parents:
                    # called by its name without the ending
                    key = str(PurePosixPath(image.file.relative_to(media).as_posix()).with_suffix(""))
                else:
                    key = str(image.file)
                has_boxes = place.contents.has_boxes
                effective.add(_entry(key, [_value(image, label, place, has_boxes) for label in image.labels]))
                predicted = [label for label in image.labels if label.row.label is not None]
                if predicted:
                    predictions.add(_entry(key, [_predicted(image, label, place, has_boxes) for label in predicted]))
                reviewed = [label for label in image.labels if label.decision is not None]
                if reviewed:
                    truth.add(_entry(key, [_value(image, label, place, has_boxes) for label in reviewed]))


def _entry(key: str, values: list[dict[str, Any]]) -> str:
    # a detection is one of a list, a class of a whole image is not
    return f"{json_text(key)}: {json_text(values if 'bounding_box' in values[0] else values[0])}"


def _value(image: ExportedImage, label: ImageLabel, place: ExportPlace, has_boxes: bool) -> dict[str, Any]:
    value: dict[str, Any] = {"label": place.names[label.position]}
    if label.decision is None:
        value["confidence"] = label.confidence
    value["attributes"] = {"status": label.status}
    return value | (_bounding_box(image, label) if has_boxes else {})


def _predicted(image: ExportedImage, label: ImageLabel, place: ExportPlace, has_boxes: bool) -> dict[str, Any]:
    assert label.row.label is not None
    value: dict[str, Any] = {
        "label": place.names[label.row.label],
        "confidence": label.row.confidence,
        "attributes": {"status": label.row.status},
    }
    return value | (_bounding_box(image, label) if has_boxes else {})


def _bounding_box(image: ExportedImage, label: ImageLabel) -> dict[str, Any]:
    """Of the whole image where the label is of it; in shares of width and height."""
    assert image.size is not None
    (x, y, box_width, box_height), (width, height) = image.box_of(label), image.size
    return {"bounding_box": [x / width, y / height, box_width / width, box_height / height]}
