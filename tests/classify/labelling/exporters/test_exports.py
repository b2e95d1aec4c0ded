"""Exports as a whole: what is in them, and that they appear whole or not at all. The formats have their own tests."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exported_runs import HOSTILE_NAMES, decide, make_run, row, save_photos

from abs_classify.labelling.exporters import image_files
from abs_classify.labelling.exporters.exports import EXPORT_FORMATS, ExportOptions, export_labels
from abs_classify.labelling.label_folder import LabelFolder
from abs_core.errors import StorageError, UnknownNameError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> LabelFolder:
    """Six images: three with labels, one of which is doubtful; one rejected, one failed, one vanished."""
    photos = save_photos(tmp_path / "photos", [f"{number}.jpg" for number in range(6)])
    rows = [
        row(photos[0], 0),
        row(photos[1], 1),
        row(photos[2], 2, "doubtful", confidence=0.4),
        row(photos[3], 0, "rejected"),
        row(photos[4], None, "failed"),
        row(photos[5], 1, "vanished"),
    ]
    return make_run(tmp_path / "out", rows)


def left_over(folder: LabelFolder) -> list[str]:
    return [entry.name for entry in (folder.path / "exports").iterdir() if entry.name.startswith(".")]


@pytest.mark.parametrize("export_format", EXPORT_FORMATS)
def test_what_has_no_label_is_left_out_and_counted(folder: LabelFolder, export_format: str) -> None:
    summary = export_labels(folder, export_format)
    assert summary.folder == folder.path / "exports" / export_format
    left_out = {"rejected": 1, "failed": 1, "vanished": 1}
    if export_format == "imagefolder":
        left_out["doubtful"] = 1
    assert (summary.labels, summary.left_out) == (6 - sum(left_out.values()), left_out)
    description = json.loads((summary.folder / "export.json").read_bytes())
    assert (description["export_format"], description["labels"]) == (export_format, summary.labels)
    assert str(summary.folder) in summary.opening
    assert left_over(folder) == []


def test_decisions_come_before_the_labels_of_the_model(folder: LabelFolder) -> None:
    decide(folder, "ann", _1="owl", _2="", _4="dog", _6="cat")
    decide(folder, "bob", _3="cat")
    decide(folder, "ann", _3="dog")
    summary = export_labels(folder, "imagefolder", ExportOptions(statuses=("labelled", "doubtful", "reviewed")))
    # on the third they disagree, so what the model said stays
    assert sorted(str(path.relative_to(summary.folder)) for path in summary.folder.rglob("*.jpg")) == [
        "dog & _co_/3.jpg",
        "owl/0.jpg",
        "owl/2.jpg",
    ]
    assert (summary.labels, summary.reviewed, summary.by_class) == (3, 2, {2: 2, 1: 1})
    assert summary.left_out == {"rejected by a reviewer": 1, "failed": 1, "vanished": 1}


def test_a_decision_for_a_class_that_is_gone_is_counted(folder: LabelFolder) -> None:
    decide(folder, "ann", _1="fish")
    assert export_labels(folder, "coco").left_out["reviewed, with a class that is none of this run"] == 1


def test_only_labels_of_some_statuses(folder: LabelFolder) -> None:
    decide(folder, "ann", _1="owl")
    summary = export_labels(folder, "coco", ExportOptions(statuses=("reviewed",)))
    assert (summary.labels, summary.left_out["labelled"], summary.left_out["doubtful"]) == (1, 1, 1)


def test_no_label_at_all_is_an_error(folder: LabelFolder) -> None:
    with pytest.raises(UsageError, match=r"no label to export.*1 rejected"):
        export_labels(folder, "coco", ExportOptions(statuses=("reviewed",)))
    assert not (folder.path / "exports").exists()


@pytest.mark.parametrize(
    ("export_format", "options", "message"),
    [
        ("excel", ExportOptions(), "unknown export format 'excel'"),
        ("coco", ExportOptions(links="soft"), "unknown kind of link 'soft'"),  # type: ignore[arg-type]
        ("coco", ExportOptions(statuses=("failed",)), "unknown status with a label 'failed'"),
        ("cleanlab", ExportOptions(links="copy"), "contains no images"),
        ("datumaro", ExportOptions(root=Path("/")), "--root is for label-studio, cvat, coco, got 'datumaro'"),
        ("coco", ExportOptions(prefix="s3://b/"), "--prefix is for label-studio, got 'coco'"),
        ("coco", ExportOptions(root=Path("/nowhere")), "is not below the root '/nowhere'"),
    ],
)
def test_options_that_mean_nothing_are_refused(
    folder: LabelFolder, export_format: str, options: ExportOptions, message: str
) -> None:
    with pytest.raises((UsageError, UnknownNameError), match=message):
        export_labels(folder, export_format, options)
    assert not list((folder.path / "exports").glob("*"))


def test_what_is_there_is_never_overwritten_unasked(folder: LabelFolder, tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    export_labels(folder, "coco", ExportOptions(to=target))  # empty, so there is nothing to lose
    with pytest.raises(UsageError, match=r"exists.*--replace"):
        export_labels(folder, "cvat", ExportOptions(to=target))
    export_labels(folder, "cvat", ExportOptions(to=target, replace=True))
    assert {entry.name for entry in target.iterdir()} == {"annotations.xml", "labels.json", "export.json"}
    (target / "export.json").unlink()
    with pytest.raises(UsageError, match=r"is no export of `abs label`.*--to"):
        export_labels(folder, "cvat", ExportOptions(to=target, replace=True))
    with pytest.raises(UsageError, match="is no export"):
        export_labels(folder, "cvat", ExportOptions(to=folder.path, replace=True))
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is no export"):
        export_labels(folder, "cvat", ExportOptions(to=tmp_path / "file", replace=True))


@pytest.mark.parametrize("export_format", EXPORT_FORMATS)
def test_a_full_disk_leaves_nothing_and_keeps_the_old_export(
    folder: LabelFolder, export_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = export_labels(folder, export_format)
    files = sorted(str(path) for path in before.folder.rglob("*"))

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        export_labels(folder, export_format, ExportOptions(replace=True))
    assert sorted(str(path) for path in before.folder.rglob("*")) == files
    assert left_over(folder) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from abs_classify.labelling.exporters import exports
from abs_classify.labelling.label_folder import LabelFolder

def report(source, target):
    print(target, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

exports.export_labels(LabelFolder.open(Path(sys.argv[1])), "imagefolder", report=report)
"""


@pytest.mark.faults
def test_what_a_killed_export_left_is_removed_by_the_next(folder: LabelFolder) -> None:
    subprocess.run([sys.executable, "-c", _KILLED, str(folder.path)], check=False, capture_output=True)
    assert len(left_over(folder)) == 1
    assert not (folder.path / "exports" / "imagefolder").exists()
    export_labels(folder, "imagefolder")
    assert left_over(folder) == []


def test_an_image_that_is_gone_is_left_out_and_counted(folder: LabelFolder, tmp_path: Path) -> None:
    decide(folder, "ann", _1="dog")
    (tmp_path / "photos" / "0.jpg").unlink()
    summary = export_labels(folder, "coco")
    assert (summary.labels, summary.reviewed, summary.by_class) == (2, 0, {1: 1, 2: 1})
    assert summary.left_out["whose image cannot be read"] == 1


def test_images_come_into_an_export_by_links(folder: LabelFolder, tmp_path: Path) -> None:
    source = tmp_path / "photos" / "0.jpg"
    for links, inside in (("copy", "images/0.jpg"), ("hard", "images/0.jpg"), ("symbolic", "images/0.jpg")):
        summary = export_labels(folder, "coco", ExportOptions(links=links, replace=True))  # type: ignore[arg-type]
        file = summary.folder / inside
        assert file.read_bytes() == source.read_bytes()
        assert (links, file.is_symlink(), file.stat().st_ino == source.stat().st_ino) in (
            ("copy", False, False),
            ("hard", False, True),
            ("symbolic", True, True),
        )
    assert (
        json.loads((summary.folder / "annotations" / "instances_default.json").read_bytes())["images"][0]["file_name"]
        == "0.jpg"
    )


def test_links_that_are_not_possible_are_an_error_with_a_remedy(
    folder: LabelFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(source: Any, target: Any) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(image_files.os, "link", other_disk)
    with pytest.raises(StorageError, match=r"hard links.*--links copy"):
        export_labels(folder, "imagefolder", ExportOptions(links="hard"))


@pytest.mark.parametrize("export_format", ["label-studio", "cvat", "coco", "datumaro", "fiftyone"])
def test_images_whose_names_no_tool_can_hold_come_into_the_export(tmp_path: Path, export_format: str) -> None:
    photos = save_photos(tmp_path / "photos", HOSTILE_NAMES)
    folder = make_run(tmp_path / "out", [row(photo, number % 3) for number, photo in enumerate(photos)])
    summary = export_labels(folder, export_format)
    assert summary.labels == len(HOSTILE_NAMES)
    inside = {path.name for path in summary.folder.rglob("*") if path.is_file() and path.suffix == ".jpg"}
    assert inside == {"line_feed.jpg", "rtl_gpj.jpg", "bytes_.jpg", "bell_.jpg"}
    for path in summary.folder.rglob("*.json"):
        # fails for what is no valid Unicode
        json.dumps(json.loads(path.read_bytes()), ensure_ascii=False).encode()


def test_a_dry_run_writes_nothing(folder: LabelFolder) -> None:
    lines: list[tuple[str, str]] = []
    options = ExportOptions(dry_run=True)
    summary = export_labels(folder, "imagefolder", options, report=lambda *pair: lines.append(pair))
    assert [Path(source).name for source, _ in lines] == ["0.jpg", "1.jpg"]
    assert [target for _, target in lines] == ["Katze/0.jpg", "dog & _co_/1.jpg"]
    assert (summary.labels, export_labels(folder, "coco", options).labels) == (2, 3)
    assert not (folder.path / "exports").exists()


def test_progress_counts_the_labels(folder: LabelFolder) -> None:
    from contextlib import contextmanager

    steps = []

    @contextmanager
    def progress(title: str, total: int, unit: str) -> Any:
        steps.append((title, total, unit))
        yield lambda step=1, remark="": steps.append(step)

    export_labels(folder, "coco", progress=progress)
    assert steps == [("export to coco", 3, "labels"), 1, 1, 1]
