"""COCO: instances with a box for each label, and the model's labels as results."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from typing import Any

from abs_classify.labelling.exporters.base import ExportedImage, ExportFormat, ExportPlace, JsonElements
from abs_classify.labelling.exporters.labels import ImageLabel
from abs_core.text import json_text

__all__ = ["CocoFormat"]


class CocoFormat(ExportFormat):
    """COCO's format of instances, of which pycocotools is the reader.

    Its tasks have no labels of whole images, so such a label is a box around all of the image.
    ``annotations/instances_default.json`` has the label in effect: the reviewer's where one decided
    (``"source": "reviewer"``), the model's elsewhere (``"model"``). ``predictions.json`` has what the model said with
    its confidence, in the format of results.
    """

    name = "coco"
    sizes = "images"
    has_root = True
    opening = "COCO('{folder}/annotations/instances_default.json') of pycocotools; the images are named from {root}"

    def write(self, images: Iterable[ExportedImage], place: ExportPlace) -> None:
        """See ``ExportFormat``."""
        categories = [
            {"id": number, "name": name, "supercategory": "", "class_id": label.id}
            for number, (name, label) in enumerate(zip(place.names, place.classes, strict=True), 1)
        ]
        opening = f'{{"info": {json_text({"description": "abs label", "root": str(place.root)})}, "licenses": [],\n'
        opening += f'"categories": {json_text(categories)},\n"images": ['
        with (
            place.create("annotations/instances_default.json") as stream,
            place.create("predictions.json") as results,
            tempfile.TemporaryFile(dir=place.part) as spool,
        ):
            # the annotations come behind the images, so they wait in a file
            with (
                JsonElements(stream, opening) as described,
                JsonElements(spool, '"annotations": [', "]}") as annotations,
                JsonElements(results) as predictions,
            ):
                number = 0
                for image in images:
                    described.add(json_text(_described(image)))
                    for label in image.labels:
                        number += 1
                        annotations.add(json_text(_annotation(image, label, number)))
                        if label.row.label is not None:
                            predictions.add(json_text(_prediction(image, label)))
            stream.write(b",\n")
            spool.seek(0)
            shutil.copyfileobj(spool, stream)


def _described(image: ExportedImage) -> dict[str, Any]:
    assert image.size is not None
    width, height = image.size
    return {
        "id": image.number,
        "width": width,
        "height": height,
        "file_name": image.name,
        "sha256": image.labels[0].row.image_id,
    }


def _annotation(image: ExportedImage, label: ImageLabel, number: int) -> dict[str, Any]:
    x, y, width, height = image.box_of(label)
    return {
        "id": number,
        "image_id": image.number,
        "category_id": label.position + 1,
        "bbox": [x, y, width, height],
        "area": width * height,
        # a box and no outline, or tools show a polygon
        "segmentation": [],
        "iscrowd": 0,
        "source": "model" if label.decision is None else "reviewer",
        "status": label.status,
        **({} if label.confidence is None else {"score": label.confidence}),
    }


def _prediction(image: ExportedImage, label: ImageLabel) -> dict[str, Any]:
    assert label.row.label is not None
    return {
        "image_id": image.number,
        "category_id": label.row.label + 1,
        "bbox": list(image.box_of(label)),
        "score": label.row.confidence,
    }
