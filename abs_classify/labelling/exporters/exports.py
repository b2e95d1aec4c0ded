"""Labels of a run in the formats of other tools: ``export_labels``."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path, PurePosixPath
from typing import Any

from abs_classify.labelling.decisions import read_decisions
from abs_classify.labelling.exporters.base import ExportedImage, ExportFormat, ExportPlace, Probabilities
from abs_classify.labelling.exporters.cleanlab import CleanlabFormat
from abs_classify.labelling.exporters.coco import CocoFormat
from abs_classify.labelling.exporters.cvat import CvatFormat
from abs_classify.labelling.exporters.datumaro import DatumaroFormat
from abs_classify.labelling.exporters.export_folder import new_export_folder, validate_place
from abs_classify.labelling.exporters.fiftyone import FiftyOneFormat
from abs_classify.labelling.exporters.image_files import LINKS, ImagePlacer, Links, relative_name, upright_size
from abs_classify.labelling.exporters.imagefolder import ImageFolderFormat
from abs_classify.labelling.exporters.label_studio import LabelStudioFormat
from abs_classify.labelling.exporters.labels import (
    EXPORTED_STATUSES,
    ExportContents,
    ImageLabel,
    LabelSelection,
    has_plain_path,
)
from abs_classify.labelling.exporters.names import safe_folders
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.rows import Status
from abs_core.errors import ImageError, UnknownNameError, UsageError
from abs_core.labels import ClassLabel
from abs_core.progress import Advance, Progress, no_progress

__all__ = ["EXPORT_FORMATS", "ExportOptions", "ExportSummary", "export_labels"]

_FORMATS: dict[str, type[ExportFormat]] = {
    exporter.name: exporter
    for exporter in (
        *(LabelStudioFormat, CvatFormat, CocoFormat, DatumaroFormat, FiftyOneFormat, CleanlabFormat),
        ImageFolderFormat,
    )
}

#: what labels can be exported as
EXPORT_FORMATS: tuple[str, ...] = tuple(_FORMATS)


@dataclass(frozen=True)
class ExportOptions:
    """How labels are exported.

    Attributes:
        to: the folder of the export; None for ``exports/FORMAT`` in the folder of the run.
        links: how images come into the export; None where they stay where they are, and for ``imagefolder``, which
            copies them then.
        root: the folder that the names of images start from, for the formats that name them so; None for the one that
            contains them all.
        prefix: what stands before the names, for ``label-studio``; None for its local files.
        statuses: which labels, of ``EXPORTED_STATUSES``; empty for those that the format can tell from each other.
        replace: whether an export that is there is replaced.
        dry_run: whether to write nothing.
    """

    to: Path | None = None
    links: Links | None = None
    root: Path | None = None
    prefix: str | None = None
    statuses: tuple[Status, ...] = ()
    replace: bool = False
    dry_run: bool = False

    def validate(self, exporter: ExportFormat) -> None:
        """Refuse what means nothing for a format.

        Raises:
            UsageError: an option that would change nothing, or a value that is none.
        """
        if self.links is not None and self.links not in LINKS:
            raise UnknownNameError("kind of link", self.links, LINKS)
        for status in self.statuses:
            if status not in EXPORTED_STATUSES:
                raise UnknownNameError("status with a label", status, EXPORTED_STATUSES)
        if self.links is not None and isinstance(exporter, CleanlabFormat):
            raise UsageError("an export for cleanlab contains no images", remedy="Leave --links out")
        if self.root is not None and not exporter.has_root:
            formats = ", ".join(name for name, other in _FORMATS.items() if other.has_root)
            raise UsageError(f"--root is for {formats}, got {exporter.name!r}", remedy="Leave it out")
        if self.prefix is not None and not isinstance(exporter, LabelStudioFormat):
            raise UsageError(f"--prefix is for {LabelStudioFormat.name}, got {exporter.name!r}", remedy="Leave it out")


@dataclass(frozen=True)
class ExportSummary:
    """What an export contains.

    Attributes:
        folder: where it is, or would be.
        labels: how many labels.
        reviewed: how many of them a reviewer decided.
        by_class: how many labels there are of each class position.
        left_out: how many rows are left out, by reason.
        opening: how to open it.
    """

    folder: Path
    labels: int
    reviewed: int
    by_class: Mapping[int, int]
    left_out: Mapping[str, int]
    opening: str


def export_labels(
    folder: LabelFolder,
    export_format: str,
    options: ExportOptions | None = None,
    *,
    probabilities: Probabilities | None = None,
    report: Callable[[str, str], None] | None = None,
    progress: Progress = no_progress,
) -> ExportSummary:
    """Export the labels of a run: reviewers' decisions as ground truth, the model's labels as predictions.

    Rows that failed, are gone or show none of the classes are left out, and counted. The export appears whole or not at
    all. Memory does not grow with the number of rows.

    Args:
        folder: of the run.
        export_format: of ``EXPORT_FORMATS``.
        options: how.
        probabilities: gives what the model said of all classes, for ``cleanlab``.
        report: for ``imagefolder`` is called with each image and its place.
        progress: shows how far it is.

    Raises:
        UsageError: an option that does not fit; something is there already; there is no label to export.
        StorageError: the export cannot be written. Nothing is left of it.
    """
    if export_format not in _FORMATS:
        raise UnknownNameError("export format", export_format, EXPORT_FORMATS)
    exporter, options = _FORMATS[export_format](), options or ExportOptions()
    options.validate(exporter)
    target = (options.to or folder.path / "exports" / export_format).absolute()
    validate_place(target, replace=options.replace)
    selection = LabelSelection(folder, read_decisions(folder.path).current, options.statuses or exporter.statuses)
    contents = selection.contents()
    if not contents.labels:
        reasons = ", ".join(f"{count} {reason}" for reason, count in contents.left_out.items())
        raise UsageError(
            f"there is no label to export in {str(folder.path)!r}" + (f" ({reasons})" if reasons else ""),
            remedy="Label images, or choose other labels with --status",
        )
    images = _ImageStream(exporter, options, target, contents, folder.names)
    images.report = report
    with progress(f"export to {export_format}", contents.labels, "labels") as advance:
        stream = images.stream(selection.labels(contents), advance)
        if options.dry_run:
            if isinstance(exporter, ImageFolderFormat):
                for _ in stream:
                    pass
            return _summary(images)
        description: dict[str, Any] = {"export_format": export_format}
        with new_export_folder(target, description) as part:
            exporter.write(stream, images.place(part, folder.classes, options.prefix, probabilities))
            summary = _summary(images)
            description |= _description(summary, images.root)
    return summary


def _summary(images: _ImageStream) -> ExportSummary:
    contents = images.contents
    unreadable = images.unreadable.total()
    return ExportSummary(
        folder=images.target,
        labels=contents.labels - unreadable,
        reviewed=contents.reviewed - images.unreadable["reviewed"],
        by_class=contents.by_class - images.unreadable_by_class,
        left_out=dict(contents.left_out) | ({"whose image cannot be read": unreadable} if unreadable else {}),
        opening=images.exporter.opening.format(folder=images.target, root=images.root),
    )


def _description(summary: ExportSummary, root: Path) -> dict[str, Any]:
    return {
        "labels": summary.labels,
        "reviewed": summary.reviewed,
        "left_out": dict(summary.left_out),
        "root": str(root),
        "opening": summary.opening,
    }


class _ImageStream:
    """Puts images into an export where that is needed, finds their sizes, and counts what cannot be read.

    Args:
        exporter: the format.
        options: of the export.
        target: where it will be.
        contents: what it will contain.
        names: of the classes.
    """

    def __init__(
        self,
        exporter: ExportFormat,
        options: ExportOptions,
        target: Path,
        contents: ExportContents,
        names: tuple[str, ...],
    ) -> None:
        self.exporter, self.target, self.contents = exporter, target, contents
        self._links, self._names = options.links, names
        self._media = target / exporter.media
        self.class_folders = safe_folders(names) if isinstance(exporter, ImageFolderFormat) else []
        self.root = self._root(options.root)
        self.report: Callable[[str, str], None] | None = None
        self.unreadable: Counter[str] = Counter()
        self.unreadable_by_class: Counter[int] = Counter()
        self._placer = ImagePlacer(None, options.links or "copy", by_stem=exporter.by_stem)

    def _root(self, root: Path | None) -> Path:
        """The folder that names start from."""
        if root is not None:
            return root.absolute()
        if self._links is not None or self.contents.common is None:
            return self._media
        if self.contents.unnameable and self.exporter.media:
            return Path(os.path.commonpath([self.contents.common, self._media]))
        return self.contents.common

    def place(
        self,
        part: Path,
        classes: tuple[ClassLabel, ...],
        prefix: str | None,
        probabilities: Probabilities | None,
    ) -> ExportPlace:
        """Write files into this folder from now on; what else the format needs."""
        self._placer = ImagePlacer(part / self.exporter.media, self._links or "copy", by_stem=self.exporter.by_stem)
        return ExportPlace(
            part=part,
            final=self.target,
            classes=classes,
            names=self._names,
            contents=self.contents,
            root=self.root,
            class_folders=self.class_folders,
            prefix=prefix,
            probabilities=probabilities,
        )

    def stream(self, labels: Iterator[ImageLabel], advance: Advance) -> Iterator[ExportedImage]:
        """The images with their labels, one after another."""
        number = 0
        for _, group in groupby(labels, key=self._key):
            entries = tuple(group)
            try:
                image = self._image(entries, number + 1)
            except ImageError:
                self._count_unreadable(entries)
            else:
                number += 1
                yield image
            advance(len(entries))

    def _key(self, label: ImageLabel) -> Any:
        # folders by class have a file, and lists of rows a row, for each box
        if self.exporter.has_boxes:
            return label.location.file, label.location.member
        return label.row.number

    def _count_unreadable(self, labels: tuple[ImageLabel, ...]) -> None:
        for label in labels:
            self.unreadable["reviewed" if label.decision is not None else "predicted"] += 1
            self.unreadable_by_class[label.position] += 1

    def _image(self, labels: tuple[ImageLabel, ...], number: int) -> ExportedImage:
        location = labels[0].location
        if isinstance(self.exporter, ImageFolderFormat):
            file, name = self._place_by_class(labels[0], number)
        elif self.exporter.media and (self._links is not None or not has_plain_path(location)):
            name = self._placer.place(replace(location, box=None), self._natural_name(location), number)
            file = self._media / name
        else:
            file, name = location.file, str(self._natural_name(location))
        if self.exporter.has_root:
            name = relative_name(file, self.root)
        needs_size = self.exporter.sizes == "images" or (self.exporter.sizes == "boxes" and self.contents.has_boxes)
        return ExportedImage(number, file, name, labels, upright_size(location) if needs_size else None)

    def _place_by_class(self, label: ImageLabel, number: int) -> tuple[Path, str]:
        name = PurePosixPath(label.location.member or label.location.file.name).name
        wanted = PurePosixPath(self.class_folders[label.position], name)
        placed = self._placer.place(label.location, wanted, number)
        if self.report is not None:
            self.report(label.row.path, placed)
        return self.target / placed, placed

    def _natural_name(self, location: ImageLocation) -> PurePosixPath:
        """What to call an image: its path from the folder that contains all of them."""
        common, file = self.contents.common, location.file
        name = file.relative_to(common) if common is not None and common in file.parents else Path(file.name)
        return PurePosixPath(name.as_posix(), *PurePosixPath(location.member.lstrip("/")).parts)
