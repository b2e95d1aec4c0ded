"""Folders by class: the images themselves, copied or linked, as torchvision, timm and most training code read them."""

from __future__ import annotations

from collections.abc import Iterable

from abs_classify.labelling.exporters.base import ExportedImage, ExportFormat, ExportPlace
from abs_core.text import json_text

__all__ = ["ImageFolderFormat"]


class ImageFolderFormat(ExportFormat):
    """A folder for each class, with the images of its label in effect.

    A folder says nothing of doubt, so without a choice of the user's doubtful images are left out. Names that some
    system cannot hold are changed; ``classes.json`` says which folder is which class.
    """

    name = "imagefolder"
    sizes = "nothing"
    media = ""
    has_boxes = False
    statuses = ("labelled", "reviewed")
    opening = "torchvision.datasets.ImageFolder('{folder}')"

    def write(self, images: Iterable[ExportedImage], place: ExportPlace) -> None:
        """See ``ExportFormat``; the images are placed when they come."""
        for _ in images:
            pass
        classes = [
            {"id": label.id, "name": name, "folder": folder}
            for label, name, folder in zip(place.classes, place.names, place.class_folders, strict=True)
        ]
        with place.create("classes.json") as stream:
            stream.write(json_text(classes).encode())
