"""Which rows a run marks as vanished, and what is left of rows when it is interrupted while it stores them."""

from __future__ import annotations

import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
from image_files import encode
from PIL import Image

from abs_classify.labelling.judge import Thresholds
from abs_classify.labelling.label_folder import LabelFolder, RowQuery
from abs_classify.labelling.locations import ListedImage
from abs_classify.labelling.row_writer import THRESHOLD, RowWriter
from abs_classify.labelling.rows import ClassConfidence, LabelRow
from abs_classify.labelling.sources import ImageSources
from abs_classify.labelling.tables import TableWriter
from abs_core.labels import ClassLabel
from abs_core.text import json_text

CLASSES = [ClassLabel("cat", "cat"), ClassLabel("dog", "dog")]
PNG = encode(Image.new("RGB", (9, 9), "red"), "PNG")


@pytest.fixture
def folder(tmp_path: Path) -> LabelFolder:
    return LabelFolder.create(tmp_path / "out", CLASSES, {})


def row_of(image: ListedImage) -> LabelRow:
    if image.problem:
        return LabelRow(image.path, "failed", reason=image.problem, location=image.location)
    ranking = (ClassConfidence(0, 0.75), ClassConfidence(1, 0.25))
    return LabelRow(image.path, "labelled", ranking, image_id="sha256:" + "0" * 64, location=image.location)


def run(folder: LabelFolder, *places: Path, boxes: Path | None = None) -> dict[str, str]:
    """Label all images of sources that lack a row; the status of each row by the end of its path."""
    writer = RowWriter(folder, ["csv"], Thresholds(0.5))
    with writer.opened():
        for image in writer.lacking(list(ImageSources(places, boxes=boxes))):
            writer.add(image, row_of(image))
        writer.mark_vanished()
    return {Path(row.path).name: row.status for row in folder.rows()}


def pack(archive: Path, *names: str) -> Path:
    with zipfile.ZipFile(archive, "w") as packed:
        for name in names:
            packed.writestr(name, PNG)
    return archive


def test_an_image_that_an_archive_no_longer_contains_is_gone(folder: LabelFolder, tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", "1.png", "2.png")
    assert run(folder, archive) == {"a.zip::1.png": "labelled", "a.zip::2.png": "labelled"}
    pack(archive, "2.png")
    assert run(folder, archive) == {"a.zip::1.png": "vanished", "a.zip::2.png": "labelled"}


def test_images_behind_the_damage_of_an_archive_are_not_gone(
    folder: LabelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack(tmp_path / "a.zip", "1.png", "2.png")
    whole = list(ImageSources([archive]))
    run(folder, archive)
    with monkeypatch.context() as patched:
        damaged = ListedImage(str(archive), bytes(archive), "another", "is damaged")
        patched.setattr(ImageSources, "__iter__", lambda _: iter([whole[0], damaged]))
        assert run(folder, archive) == {"a.zip::1.png": "labelled", "a.zip::2.png": "labelled", "a.zip": "failed"}
    # or every later run would say that an image failed
    assert run(folder, archive)["a.zip"] == "vanished"


def test_boxes_and_whole_images_of_an_archive_leave_each_other_alone(folder: LabelFolder, tmp_path: Path) -> None:
    archive = pack(tmp_path / "a.zip", "1.png")
    boxes = tmp_path / "boxes.json"
    image = {"id": 1, "file_name": "1.png", "width": 9, "height": 9}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4]}
    boxes.write_text(json_text({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "x"}]}))
    run(folder, archive)
    assert set(run(folder, archive, boxes=boxes).values()) == {"labelled"}
    both = run(folder, archive)
    assert len(both) == 2
    assert set(both.values()) == {"labelled"}


def test_a_line_without_a_path_that_is_gone(folder: LabelFolder, tmp_path: Path) -> None:
    (tmp_path / "1.png").write_bytes(PNG)
    listed = tmp_path / "list.csv"
    listed.write_text("path,note\n1.png,a\n,b\n")
    assert sorted(run(folder, listed).values()) == ["failed", "labelled"]
    listed.write_text("path,note\n1.png,a\n")
    assert sorted(run(folder, listed).values()) == ["labelled", "vanished"]


def test_an_interruption_between_database_and_table_doubles_no_line(
    folder: LabelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = TableWriter.append

    def interrupted(self: TableWriter, *arguments: Any) -> None:
        append(self, *arguments)
        self._count -= 1  # as if it came before the line was counted
        raise KeyboardInterrupt

    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(PNG)
    with monkeypatch.context() as patched:
        patched.setattr(TableWriter, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(folder, *sorted(tmp_path.glob("*.png")))
    assert len((folder.path / "labels.csv").read_text().splitlines()) == 4
    run(folder, *sorted(tmp_path.glob("*.png")))
    assert len((folder.path / "labels.csv").read_text().splitlines()) == 4


def test_two_threads_mark_rows_of_one_byte(folder: LabelFolder) -> None:
    writer = RowWriter(folder, ["csv"], Thresholds(0.5))
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [
            threading.Thread(target=lambda start=start: [writer._see(number) for number in range(start, 20000, 2)])
            for start in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert all(map(writer._was_seen, range(20000)))


def test_rows_without_a_label_are_the_last_of_the_doubtful_ones(folder: LabelFolder) -> None:
    folder.prepare()
    failed = LabelRow("a.png", "failed", reason="damaged", location=ListedImage("a.png", b"/a.png", "").location)
    labelled = row_of(ListedImage("b.png", b"/b.png", ""))
    folder.store([(b"/a.png", "", failed), (b"/b.png", "", labelled)])
    for order in ("doubtful", "confident"):
        assert [row.path for row in folder.rows(RowQuery(order))] == ["b.png", "a.png"]


def test_what_a_user_set_as_threshold_is_kept_for_learning(folder: LabelFolder) -> None:
    for threshold in (0.8, None):
        with RowWriter(folder, ["csv"], Thresholds(0.5), threshold=threshold).opened():
            pass
        assert folder.fact(THRESHOLD) == threshold
