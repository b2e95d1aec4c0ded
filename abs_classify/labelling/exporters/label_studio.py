"""Label Studio: ``tasks.json`` with predictions and annotations, and ``config.xml``, the labelling interface."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from abs_classify.labelling.exporters.base import ExportedImage, ExportFormat, ExportPlace, JsonElements
from abs_classify.labelling.exporters.labels import ImageLabel
from abs_core.text import json_text, printable

__all__ = ["LabelStudioFormat"]

# where Label Studio serves files below LOCAL_FILES_DOCUMENT_ROOT
_LOCAL = "/data/local-files/?d="

_MODEL = "abs-toolkit"


class LabelStudioFormat(ExportFormat):
    """Tasks of Label Studio: the model's labels as predictions with their score, reviewers' decisions as annotations.

    Images are addressed by a prefix and their name from the root. With the default prefix Label Studio serves them from
    its own disk, when it was started with ``LOCAL_FILES_SERVING_ENABLED=true`` and the root as
    ``LOCAL_FILES_DOCUMENT_ROOT``, and the project has a local storage whose path is below it.
    """

    name = "label-studio"
    sizes = "boxes"
    has_root = True
    opening = (
        "a Label Studio project with the labelling interface {folder}/config.xml, then import {folder}/tasks.json; "
        "LOCAL_FILES_DOCUMENT_ROOT is {root}"
    )

    def write(self, images: Iterable[ExportedImage], place: ExportPlace) -> None:
        """See ``ExportFormat``."""
        names = [printable(name) for name in place.names]
        prefix = _LOCAL if place.prefix is None else place.prefix
        with place.create("config.xml") as stream:
            stream.write(_config(names, place).encode())
        with place.create("tasks.json") as stream, JsonElements(stream) as tasks:
            for image in images:
                tasks.add(json_text(_task(image, names, prefix)))


def _config(names: Iterable[str], place: ExportPlace) -> str:
    controls = ""
    if place.contents.has_whole_images:
        choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in names)
        controls += (
            '  <Filter name="filter" toName="label" minlength="0"/>\n'
            f'  <Choices name="label" toName="image" choice="single" showInline="true">\n{choices}  </Choices>\n'
        )
    if place.contents.has_boxes:
        labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in names)
        controls += f'  <RectangleLabels name="box" toName="image">\n{labels}  </RectangleLabels>\n'
    return f'<View>\n  <Image name="image" value="$image" zoom="true"/>\n{controls}</View>\n'


def _address(prefix: str, name: str) -> str:
    # addresses of the web are quoted, keys in a bucket (s3://...) are not
    return prefix + (quote(name) if re.match(r"/|https?://", prefix) else name)


def _task(image: ExportedImage, names: list[str], prefix: str) -> dict[str, Any]:
    reviewed = [label for label in image.labels if label.decision is not None]
    predicted = [label for label in image.labels if label.row.label is not None]
    task: dict[str, Any] = {
        "data": {
            "image": _address(prefix, image.name),
            "path": printable(image.labels[0].row.path),
            "image_id": image.labels[0].row.image_id,
            "status": image.labels[0].status,
        }
    }
    if predicted:
        scores = [label.row.confidence for label in predicted if label.row.confidence is not None]
        task["predictions"] = [
            {
                "model_version": _MODEL,
                # of several boxes the least certain one
                "score": min(scores),
                "result": [
                    _result(image, label, names[label.row.label], label.row.confidence)
                    for label in predicted
                    if label.row.label is not None
                ],
            }
        ]
    if reviewed:
        decisions = [label.decision for label in reviewed if label.decision is not None]
        task["data"]["reviewer"] = printable(", ".join(sorted({decision.reviewer for decision in decisions})))
        task["annotations"] = [
            {
                "ground_truth": True,
                "result": [_result(image, label, names[label.position]) for label in reviewed],
            }
        ]
    return task


def _result(image: ExportedImage, label: ImageLabel, name: str, score: float | None = None) -> dict[str, Any]:
    shared: dict[str, Any] = {"id": str(label.row.number), "to_name": "image"}
    if score is not None:
        shared["score"] = score
    if label.location.box is None:
        return {**shared, "from_name": "label", "type": "choices", "value": {"choices": [name]}}
    assert image.size is not None
    width, height = image.size
    x, y, box_width, box_height = image.box_of(label)
    return {
        **shared,
        "from_name": "box",
        "type": "rectanglelabels",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "x": 100 * x / width,
            "y": 100 * y / height,
            "width": 100 * box_width / width,
            "height": 100 * box_height / height,
            "rotation": 0,
            "rectanglelabels": [name],
        },
    }
