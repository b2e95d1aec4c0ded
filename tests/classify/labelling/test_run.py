"""Labelling runs: a row for each image, kept, resumed and never made twice."""

from __future__ import annotations

import csv
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import save_small_clip

from abs_classify import Classifier, label
from abs_classify.labelling import identity
from abs_classify.labelling.identity import read_label_space
from abs_classify.labelling.judge import Thresholds
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.locations import ImageLocation
from abs_classify.labelling.reopening import evidence_of_rows, reopen_labeller
from abs_classify.labelling.run import LabelRun
from abs_classify.methods.confidence import ConfidenceViews, class_probabilities
from abs_classify.methods.views import FullImage
from abs_classify.models.registry import load_model
from abs_core.errors import DatasetError, ImageError, ResultError, StorageError, UsageError

CLASSES = {"tabby": ("A tabby cat has stripes.", "A cat lies on a sofa."), "toaster": ("A toaster holds two slices.",),
           "shoe": ("A shoe has laces.",)}  # fmt: skip


@pytest.fixture(scope="module")
def name(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}"


@pytest.fixture(scope="module")
def model(name: str) -> Any:
    return load_model(name)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images, one of which is a copy, and junk."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "sub" / "COPY.PNG")
    (folder / "damaged.jpg").write_bytes(b"no image")
    (folder / "Thumbs.db").write_bytes(b"junk")
    (folder / "notes.txt").write_text("nothing")
    os.mkfifo(folder / "pipe.jpg")
    return folder


def run(photos: Path | str, out: Path | None, model: Any, **options: Any) -> LabelRun:
    options = {
        "method": "abs-pixels",
        "views": 4,
        "attention": "self",
        "cache": None if out is None else out.parent / "cache",
        **options,
    }
    return label(photos, options.pop("classes", CLASSES), model=model, out=out, **options)


def finish(started: LabelRun) -> LabelRun:
    for _ in started:
        pass
    return started


def table(out: Path) -> list[dict[str, str]]:
    with (out / "labels.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def statuses(out: Path) -> dict[str, str]:
    return {Path(row["path"]).name: row["status"] for row in table(out)}


def test_a_row_for_each_image_and_nothing_else(photos: Path, tmp_path: Path, model: Any) -> None:
    labelled = finish(run(photos, tmp_path / "out", model))
    rows = {Path(row["path"]).name: row for row in table(tmp_path / "out")}
    assert sorted(rows) == ["0.png", "1.png", "2.png", "3.png", "COPY.PNG", "damaged.jpg"]
    assert list(rows["0.png"]) == ["path", "label", "confidence", "second_label", "margin", "status", "reason"]
    assert rows["damaged.jpg"]["status"] == "failed"
    assert "not an image" in rows["damaged.jpg"]["reason"]
    copy, original = dict(rows["COPY.PNG"]), dict(rows["0.png"])
    assert copy.pop("path") != original.pop("path")
    assert copy == original
    left_out = {remark.kind for remark in labelled.remarks}
    assert {"left out: a named pipe", "left out: not an image"} <= left_out
    assert labelled.work.images_computed == 4


def test_label_and_confidence_are_those_of_the_method(photos: Path, tmp_path: Path, model: Any) -> None:
    rows = list(run(photos, tmp_path / "out", model))
    classifier = Classifier(model, CLASSES, method="abs-pixels", views=4, attention="self")
    for row in rows:
        if row.status == "failed":
            continue
        assert row.location is not None
        (prediction,) = classifier.classify([row.location.file])
        assert row.label == list(CLASSES).index(prediction.class_id)
        stages = classifier.stages
        (group,) = classifier.identified([row.location.file])
        wanted = (*classifier.method.views, FullImage())
        views = stages.views([image for image in group if hasattr(image, "id")], wanted)
        seen = ConfidenceViews.of({view.kind: rows[0] for view, rows in views.items()})
        expected = class_probabilities([seen], classifier.text_features, 1 / model.logit_scale)[0].numpy()
        assert row.confidence == pytest.approx(float(expected[row.label]), abs=2e-6)
        assert {entry.position for entry in row.ranking} == {0, 1, 2}


def test_the_second_run_does_nothing(photos: Path, tmp_path: Path, model: Any, name: str) -> None:
    finish(run(photos, tmp_path / "out", model))
    before = (tmp_path / "out" / "labels.csv").read_bytes()
    again = finish(run(photos, tmp_path / "out", name))  # by name: it is not loaded
    assert not list(again)
    assert again.work.images == 0
    assert again.summary().labelled_now == 0
    assert again.summary().images == 6
    assert (tmp_path / "out" / "labels.csv").read_bytes() == before


def test_an_image_of_a_format_that_is_not_read_is_not_read_again(photos: Path, tmp_path: Path, model: Any) -> None:
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    finish(run(photos, tmp_path / "out", model))
    assert statuses(tmp_path / "out")["phone.heic"] == "failed"
    assert finish(run(photos, tmp_path / "out", model)).summary().labelled_now == 0


def test_another_way_to_name_the_folder_is_the_same_folder(
    photos: Path, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(run(photos, tmp_path / "out", model))
    monkeypatch.chdir(tmp_path)
    assert finish(run("./photos", tmp_path / "out", model)).summary().labelled_now == 0


def test_new_changed_and_vanished_images(photos: Path, tmp_path: Path, model: Any) -> None:
    out = tmp_path / "out"
    finish(run(photos, out, model))
    Image.new("RGB", (40, 40), "red").save(photos / "new.png")
    shutil.copy(photos / "2.png", photos / "1.png")
    (photos / "3.png").unlink()
    (photos / "damaged.jpg").write_bytes((photos / "2.png").read_bytes())
    summary = finish(run(photos, out, model)).summary()
    assert summary.labelled_now == 3
    assert statuses(out) == {
        "0.png": "labelled", "1.png": "labelled", "2.png": "labelled", "3.png": "vanished", "COPY.PNG": "labelled",
        "damaged.jpg": "labelled", "new.png": "labelled",
    } | {name: status for name, status in statuses(out).items() if status == "doubtful"}  # fmt: skip
    rows = {Path(row["path"]).name: row for row in table(out)}
    assert rows["1.png"]["confidence"] == rows["2.png"]["confidence"] == rows["damaged.jpg"]["confidence"]
    assert rows["3.png"]["reason"] == "the file is no longer there"
    assert rows["3.png"]["label"], "what it was labelled as stays"
    shutil.copy(photos / "2.png", photos / "3.png")
    finish(run(photos, out, model))
    assert statuses(out)["3.png"] != "vanished"


def test_images_of_another_source_are_not_vanished(photos: Path, tmp_path: Path, model: Any) -> None:
    finish(run(photos, tmp_path / "out", model))
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(photos / "0.png", other)
    finish(run(other, tmp_path / "out", model))
    assert "vanished" not in statuses(tmp_path / "out").values()
    assert len(table(tmp_path / "out")) == 7


def test_a_run_that_is_ended_resumes(tmp_path: Path, model: Any) -> None:
    photos, out = tmp_path / "many", tmp_path / "out"
    photos.mkdir()
    for number in range(70):
        Image.new("RGB", (16, 16), (number, 9, 200 - number)).save(photos / f"{number:03}.png")
    whole = tmp_path / "whole"
    finish(run(photos, whole, model, views=1, cache=None))
    started = run(photos, out, model, views=1, cache=None)
    for _ in range(40):
        next(started)
    started.close()
    done = len(table(out))
    assert 40 <= done < 70
    resumed = finish(run(photos, out, model, views=1, cache=None))
    assert resumed.work.images == 70 - done
    assert (out / "labels.csv").read_bytes() == (whole / "labels.csv").read_bytes()


def test_a_folder_of_another_run_is_refused_with_the_difference(photos: Path, tmp_path: Path, model: Any) -> None:
    out = tmp_path / "out"
    finish(run(photos, out, model))
    cases: list[tuple[dict[str, Any], str]] = [
        ({"classes": {**CLASSES, "dog": ("A dog barks.",)}}, "it lacks the class 'dog'"),
        ({"classes": {key: CLASSES[key] for key in ("tabby", "toaster")}}, "it also has the class 'shoe'"),
        ({"classes": {**CLASSES, "shoe": ("A shoe is worn.",)}}, "class texts differ"),
        ({"method": "cupl", "views": None}, "its method is 'abs-pixels', not 'cupl'"),
        ({"seed": 1}, "its seed is 0, not 1"),
        ({"none": True}, "none of the classes"),
        ({"views": 5}, r"views or scorer of the method \(--views\) differ"),
    ]
    before = (out / "labels.csv").read_bytes()
    for options, message in cases:
        with pytest.raises(UsageError, match=message):
            run(photos, out, model, **options)
    assert (out / "labels.csv").read_bytes() == before


def test_what_was_damaged_in_a_folder_is_made_anew_or_said(photos: Path, tmp_path: Path, model: Any) -> None:
    out = tmp_path / "out"
    finish(run(photos, out, model))
    classes = (out / "classes.json").read_bytes()
    for damage in (b"{}", None):
        (out / "classes.json").unlink()
        if damage is not None:
            (out / "classes.json").write_bytes(damage)
        with pytest.raises(ResultError, match=r"classes\.json"):
            read_label_space(LabelFolder.open(out))
        finish(run(photos, out, model))
        assert (out / "classes.json").read_bytes() == classes
    (out / "rows.sqlite").unlink()
    with pytest.raises(StorageError, match=r"there is no .*rows\.sqlite"):
        LabelFolder.open(out).count()
    described = json.loads((out / "run.json").read_text())
    for name, value in (("classes", []), ("identity", 3), ("settings", None)):
        (out / "run.json").write_text(json.dumps({**described, name: value}))
        with pytest.raises(ResultError, match="damaged"):
            run(photos, out, model)


def test_a_folder_with_other_files_is_refused(photos: Path, tmp_path: Path, model: Any) -> None:
    with pytest.raises(UsageError, match="holds other files"):
        run(photos, photos, model)
    assert not (photos / "run.json").exists()


def test_the_folder_of_the_labels_may_lie_in_the_source(photos: Path, model: Any, tmp_path: Path) -> None:
    out = photos / "labels"
    finish(run(photos, out, model, cache=tmp_path / "cache"))
    Image.new("RGB", (9, 9)).save(out / "chart.png")
    assert finish(run(photos, out, model, cache=tmp_path / "cache")).summary().images == 6


def test_two_runs_into_one_folder_are_refused(photos: Path, tmp_path: Path, model: Any) -> None:
    first = run(photos, tmp_path / "out", model)
    next(first)
    with pytest.raises(UsageError, match="another process is labelling"):
        next(run(photos, tmp_path / "out", model))
    first.close()
    assert finish(run(photos, tmp_path / "out", model)).summary().images == 6


def test_a_folder_that_another_run_makes_meanwhile_is_not_taken_over(
    photos: Path, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    exists = LabelFolder.exists
    answers = [False]
    run(photos, tmp_path / "out", model)
    monkeypatch.setattr(LabelFolder, "exists", lambda path: answers.pop() if answers else exists(path))
    monkeypatch.setattr(identity, "_refuse_other_files", lambda _: None)
    with pytest.raises(UsageError, match="its seed is 0, not 1"):
        run(photos, tmp_path / "out", model, seed=1)


def test_an_image_whose_container_is_gone_is_a_row(
    photos: Path, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(_: ImageLocation) -> None:
        raise ImageError("the image is not found any more", remedy="List the source again")

    finish(run(photos, tmp_path / "out", model))
    before = [row for row in LabelFolder.open(tmp_path / "out").rows() if row.ranking]
    monkeypatch.setattr(ImageLocation, "sample", gone)
    finish(run(photos, tmp_path / "other", model))
    failed = [row["reason"] for row in table(tmp_path / "other") if "damaged" not in row["path"]]
    assert failed == ["the image is not found any more"] * 5
    folder = LabelFolder.open(tmp_path / "out")  # whose features are in the cache
    labeller = reopen_labeller(folder, model, attention="self", cache=tmp_path / "cache")
    assert sum(len(rows) for rows, _ in evidence_of_rows(folder, labeller, before)) == 5


def test_no_images(tmp_path: Path, model: Any) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text("x")
    with pytest.raises(DatasetError, match=r"no images in '.*empty' .*not an image"):
        finish(run(tmp_path / "empty", tmp_path / "out", model))
    with pytest.raises(UsageError, match="does not exist"):
        run(tmp_path / "nowhere", tmp_path / "out", model)


def test_thresholds_judge_the_rows_that_are_there(photos: Path, tmp_path: Path, model: Any) -> None:
    out = tmp_path / "out"
    finish(run(photos, out, model, threshold=0.0))
    sure = statuses(out)
    again = finish(run(photos, out, model, threshold=1.0))
    assert again.summary().labelled_now == 0
    readable = [status for name, status in statuses(out).items() if name != "damaged.jpg"]
    assert set(readable) == {"doubtful"}
    assert {row["reason"] for row in table(out) if row["status"] == "doubtful"} == {"low confidence"}
    finish(run(photos, out, model, threshold=0.0))
    assert statuses(out) == sure


def test_the_database_judges_as_a_run_does(photos: Path, tmp_path: Path, model: Any) -> None:
    out = tmp_path / "out"
    finish(run(photos, out, model, none=True, negatives=["a dog", "a lamp"]))
    folder = LabelFolder.open(out)
    values = [row for row in folder.rows() if row.ranking]
    assert all(row.known is not None for row in values)
    for confidence in (0.0, values[0].confidence or 0.0, 1.0):
        for known in (None, 0.0, values[0].known, 1.0):
            thresholds = Thresholds(confidence, known)
            folder.judge(thresholds.confidence, thresholds.known, thresholds.reasons)
            for row in folder.rows():
                if row.ranking:
                    assert row.confidence is not None
                    assert row.margin is not None
                    assert row.status == thresholds.status(row.confidence, row.margin, row.known)
                    assert row.reason == thresholds.reasons.get(row.status, "")


def test_rows_without_a_folder(photos: Path, model: Any) -> None:
    labelled = run(photos, None, model)
    rows = list(labelled)
    assert len(rows) == 6
    assert labelled.summary().images == 6
    assert labelled.folder is None
    cells = run(photos, None, model).table()
    assert [row["path"] for row in (cells if isinstance(cells, list) else cells.to_dict("records"))] == [
        row.path for row in rows
    ]


def test_a_reopened_folder_sees_what_the_run_saw(photos: Path, tmp_path: Path, model: Any, name: str) -> None:
    out = tmp_path / "out"
    finish(run(photos, out, model, views="adaptive", negatives=["a lamp"], none=True))
    folder = LabelFolder.open(out)
    labeller = reopen_labeller(folder, name, attention="self", cache=tmp_path / "cache")
    for path in photos.glob("?.png"):
        path.unlink()  # everything is in the cache
    seen_rows = 0
    for rows, seen in evidence_of_rows(folder, labeller, folder.rows()):
        assert [row.label for row in rows] == seen.chosen.tolist()
        assert seen.probabilities.shape == (len(rows), 3)
        assert seen.known is not None
        assert [row.known for row in rows] == pytest.approx(seen.known.tolist(), abs=2e-6)
        assert np.allclose(seen.probabilities.sum(1), 1, atol=1e-5)
        assert np.allclose(np.linalg.norm(seen.features, axis=1), 1, atol=1e-5)
        seen_rows += len(rows)
    assert seen_rows == 5
    assert labeller.work.nothing
    with pytest.raises(UsageError, match="weights or number type"):
        reopen_labeller(folder, load_model(f"local-dir:{save_small_clip(tmp_path / 'other', 1)}"), attention="self")


def test_stream_methods_are_refused(photos: Path, model: Any) -> None:
    with pytest.raises(UsageError, match="depend on the images before"):
        run(photos, None, model, method="tda", views=None)


def test_adaptive_views_are_the_default_where_a_method_can(photos: Path, model: Any) -> None:
    rows = list(label(photos, CLASSES, model=model, method="abs-pixels", attention="self"))
    assert {row.views for row in rows if row.ranking} <= set(range(3, 51))
    assert all(row.views is None for row in label(photos, CLASSES, model=model, method="cupl"))


def test_a_disk_that_fails_loses_nothing(
    photos: Path, tmp_path: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> list[int]:
        raise StorageError("cannot write 'rows.sqlite': no space left on device", remedy="Free some space")

    with monkeypatch.context() as patched:
        patched.setattr(LabelFolder, "store", fail)
        with pytest.raises(StorageError, match="no space left"):
            finish(run(photos, tmp_path / "out", model))
    resumed = finish(run(photos, tmp_path / "out", model))
    assert resumed.work.images_computed == 0
    assert len(table(tmp_path / "out")) == 6


def test_the_thread_ends_with_the_run(photos: Path, tmp_path: Path, model: Any) -> None:
    started = run(photos, tmp_path / "out", model)
    next(started)
    started.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "abs-prefetch"]


def test_two_classes_of_one_name_are_told_apart(photos: Path, tmp_path: Path, model: Any) -> None:
    finish(run(photos, tmp_path / "out", model, names={"tabby": "cat", "shoe": "cat"}))
    names = {row["label"] for row in table(tmp_path / "out")} | {row["second_label"] for row in table(tmp_path / "out")}
    assert names <= {"cat (tabby)", "cat (shoe)", "toaster", ""}
