"""Datumaro: ``annotations/default.json``, its own format."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any

from abs_classify.labelling.exporters.base import ExportedImage, ExportFormat, ExportPlace, JsonElements
from abs_classify.labelling.exporters.labels import ImageLabel
from abs_classify.labelling.exporters.names import UniqueNames
from abs_core.text import json_text

__all__ = ["DatumaroFormat"]

# of Datumaro's MediaType
_IMAGE = 2


class DatumaroFormat(ExportFormat):
    """Datumaro's format: a label, or a box with a label, with where it comes from among its attributes.

    Images that stay where they are have absolute paths, which Datumaro reads with ``allow_external_media=True``.
    """

    name = "datumaro"
    sizes = "boxes"
    media = "images/default"
    opening = "Dataset.import_from('{folder}', 'datumaro', allow_external_media=True) of Datumaro"

    def write(self, images: Iterable[ExportedImage], place: ExportPlace) -> None:
        """See ``ExportFormat``."""
        labels = [{"name": name, "parent": "", "attributes": []} for name in place.names]
        head = json_text(
            {
                "dm_format_version": "1.0",
                "media_type": _IMAGE,
                "infos": {"classes": [label.id for label in place.classes]},
                "categories": {"label": {"labels": labels, "label_groups": [], "attributes": []}},
            }
        )
        opening = f'{head[:-1]},\n"items": ['
        media = place.final / self.media
        ids = UniqueNames()
        with place.create("annotations/default.json") as stream, JsonElements(stream, opening, "]}") as items:
            for image in images:
                is_inside = media in image.file.parents
                path = image.file.relative_to(media).as_posix() if is_inside else str(image.file)
                # Datumaro calls an image by its name without the ending; two with the same name would be one
                item_id = ids.claim(str(PurePosixPath(image.name).with_suffix("")), image.number)
                items.add(json_text(_item(image, item_id, path)))


def _item(image: ExportedImage, item_id: str, path: str) -> dict[str, Any]:
    described: dict[str, Any] = {"path": path}
    if image.size is not None:
        described["size"] = [image.size[1], image.size[0]]
    return {
        "id": item_id,
        "annotations": [_annotation(image, label, number) for number, label in enumerate(image.labels)],
        "attr": {"image_id": image.labels[0].row.image_id},
        "image": described,
    }


def _annotation(image: ExportedImage, label: ImageLabel, number: int) -> dict[str, Any]:
    annotation: dict[str, Any] = {
        "id": number,
        "type": "label",
        "attributes": {
            "source": "model" if label.decision is None else "reviewer",
            "status": label.status,
            **({} if label.confidence is None else {"score": label.confidence}),
        },
        "group": 0,
        "label_id": label.position,
    }
    if label.location.box is not None:
        annotation |= {"type": "bbox", "bbox": list(image.box_of(label)), "z_order": 0}
    return annotation
