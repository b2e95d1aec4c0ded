"""CVAT: ``annotations.xml`` of the format "CVAT for images 1.1", and ``labels.json`` for the label constructor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from abs_classify.labelling.exporters.base import ExportedImage, ExportFormat, ExportPlace
from abs_classify.labelling.exporters.labels import ImageLabel
from abs_core.text import json_text, printable

__all__ = ["CvatFormat", "cvat_names"]

# characters of a label's name
_MAX_NAME = 64

_ATTRIBUTES = ("confidence", "status")


class CvatFormat(ExportFormat):
    """CVAT for images 1.1: a tag for a label of a whole image, a box for one of a box.

    ``source`` is ``manual`` where a reviewer decided, ``auto`` elsewhere. CVAT finds an image of its task by the name.
    """

    name = "cvat"
    sizes = "images"
    has_root = True
    opening = (
        "a CVAT task with the labels of {folder}/labels.json and the images below {root}, then "
        "Upload annotations, CVAT 1.1, {folder}/annotations.xml"
    )

    def write(self, images: Iterable[ExportedImage], place: ExportPlace) -> None:
        """See ``ExportFormat``."""
        names = cvat_names(place.names)
        kind = "any"
        if not place.contents.has_boxes:
            kind = "tag"
        elif not place.contents.has_whole_images:
            kind = "rectangle"
        with place.create("labels.json") as stream:
            stream.write(json_text([_label(name, kind) for name in names]).encode())
        with place.create("annotations.xml") as stream:
            stream.write(_head(names, kind, place.contents.labels).encode())
            for image in images:
                stream.write(_image(image, names).encode())
            stream.write(b"</annotations>\n")


def cvat_names(names: Iterable[str]) -> list[str]:
    """What CVAT calls the classes: up to 64 characters, without any that XML cannot hold, all different."""
    used: dict[str, None] = {}
    for name in names:
        shown = printable(name.strip(), _MAX_NAME) or "_"
        number = 1
        while shown in used:
            number += 1
            shown = f"{printable(name.strip(), _MAX_NAME - 8)} ({number})"
        used[shown] = None
    return list(used)


def _label(name: str, kind: str) -> dict[str, Any]:
    attributes = [
        {"name": attribute, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
        for attribute in _ATTRIBUTES
    ]
    return {"name": name, "type": kind, "attributes": attributes}


def _head(names: Iterable[str], kind: str, size: int) -> str:
    attributes = "".join(
        f"<attribute><name>{attribute}</name><mutable>False</mutable><input_type>text</input_type>"
        "<default_value></default_value><values></values></attribute>"
        for attribute in _ATTRIBUTES
    )
    labels = "".join(
        f"<label><name>{escape(name)}</name><type>{kind}</type><attributes>{attributes}</attributes></label>\n"
        for name in names
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
        f"<meta><task><name>abs label</name><size>{size}</size><mode>annotation</mode>\n"
        f"<labels>\n{labels}</labels></task></meta>\n"
    )


def _image(image: ExportedImage, names: list[str]) -> str:
    assert image.size is not None
    width, height = image.size
    labels = "".join(_annotation(image, label, names) for label in image.labels)
    return (
        f'<image id="{image.number - 1}" name={quoteattr(image.name)} width="{width}" height="{height}">\n'
        f"{labels}</image>\n"
    )


def _annotation(image: ExportedImage, label: ImageLabel, names: list[str]) -> str:
    source = "auto" if label.decision is None else "manual"
    shared = f'label={quoteattr(names[label.position])} source="{source}"'
    confidence = "" if label.confidence is None else f"{label.confidence:.6f}"
    attributes = "".join(
        f'<attribute name="{name}">{value}</attribute>'
        for name, value in zip(_ATTRIBUTES, (confidence, label.status), strict=True)
    )
    if label.location.box is None:
        return f"<tag {shared}>{attributes}</tag>\n"
    x, y, box_width, box_height = image.box_of(label)
    corners = f'xtl="{x:.2f}" ytl="{y:.2f}" xbr="{x + box_width:.2f}" ybr="{y + box_height:.2f}"'
    return f'<box {shared} occluded="0" {corners} z_order="0">{attributes}</box>\n'
