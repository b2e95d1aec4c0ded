"""Shares of a labelling run: each labels its images only, and merged they are the folder of one run."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import save_small_clip

from abs_classify import label, merge_labels
from abs_classify.labelling.decisions import DecisionLog, ReviewDecision, read_decisions
from abs_classify.labelling.label_folder import LabelFolder
from abs_classify.labelling.merging import take_in_decisions
from abs_classify.labelling.sources import ImageSources
from abs_classify.models.registry import load_model
from abs_classify.sharding import ShardSpec
from abs_core.errors import DatasetError, ResultError, UsageError

CLASSES = ("tabby", "toaster", "shoe")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_model(f"local-dir:{save_small_clip(tmp_path_factory.mktemp('clip') / 'small', 0)}")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Seven images, of which the last is a copy of the first, a file that is none, and junk."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    shutil.copy(folder / "0.png", folder / "sub" / "copy.png")
    (folder / "3a.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("nothing")
    return folder


def run(model: Any, source: Any, out: Path, **options: Any) -> Path:
    list(label(source, CLASSES, model=model, method="clip", out=out, **options))
    return out


def run_shares(model: Any, source: Any, place: Path, count: int = 3, **options: Any) -> list[Path]:
    return [
        run(model, source, place / str(index), shard=f"{index}/{count}", **options) for index in range(1, count + 1)
    ]


def test_the_merged_folder_is_that_of_one_run(model: Any, photos: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"formats": ("csv", "jsonl"), "threshold": 0.4, "none": True}
    whole = LabelFolder.open(run(model, photos, tmp_path / "whole", **options))
    shares = run_shares(model, photos, tmp_path / "shares", **options)
    assert [LabelFolder.open(share).count() for share in shares] == [2, 3, 3]
    merged = merge_labels(shares[::-1], tmp_path / "merged").folder
    for name in ("labels.csv", "labels.jsonl", "run.json", "classes.json"):
        assert (merged.path / name).read_bytes() == (whole.path / name).read_bytes(), name
    assert list(merged.rows()) == list(whole.rows())
    # it is a folder as any other: a run over all images has nothing to do
    again = label(photos, CLASSES, model=model, method="clip", out=merged.path, **options)
    assert list(again) == []
    assert again.work.nothing


def test_what_reviewers_decided_comes_along(model: Any, photos: Path, tmp_path: Path) -> None:
    shares = run_shares(model, photos, tmp_path / "shares", 2)
    row = next(LabelFolder.open(shares[1]).rows())
    with DecisionLog(shares[1], "ann", read_decisions(shares[1])) as log:
        log.append([ReviewDecision(row.image_id, "label", "shoe", path=row.path, model_label="tabby")])
    merged, review = merge_labels(shares, tmp_path / "merged", doubtful_first=True)
    assert (review.corrected, review.conflict_count) == (1, 0)
    assert f"{row.path},shoe," in (merged.path / "labels.csv").read_text()
    # decisions that are made later are taken in; of another share the folders themselves are meant
    assert take_in_decisions(merged, shares) == (0, [])
    with pytest.raises(UsageError, match=r"are shares of one source. Give --out"):
        take_in_decisions(LabelFolder.open(shares[0]), [shares[1]])


def test_what_does_not_belong_together_is_refused(
    model: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares = run_shares(model, photos, tmp_path / "shares")
    options = {"shard": "2/3"}
    seeded = run(model, photos, tmp_path / "seeded", seed=1, **options)
    doubting = run(model, photos, tmp_path / "doubting", threshold=0.9, **options)
    half = run(model, photos, tmp_path / "half", shard="2/2")
    stopped = tmp_path / "stopped"
    with closing(label(photos, CLASSES, model=model, method="clip", out=stopped, **options)) as rows:
        next(rows)
    for places, words in (
        (shares[::2], r"1 share is missing of 3: 2. Run abs label --shard 2/3"),
        ([*shares, shares[2]], r"share 3/3 appears twice"),
        ([shares[0], seeded, shares[2]], r"is of another run than '.*1': its seed is 1, not 0"),
        ([shares[0], doubting, shares[2]], r"its threshold is 0.9, not None"),
        ([shares[0], half], r"is share 2/2, and '.*' is share 1/3"),
        ([shares[0], stopped, shares[2]], r"share 2/3 in '.*stopped' is not finished. Run its command again"),
        ([run(model, photos, tmp_path / "whole")], r"is no share of a run"),
    ):
        with pytest.raises(ResultError, match=words):
            merge_labels(places, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
    assert not list(tmp_path.glob(".*.part"))
    monkeypatch.setattr("abs_classify.labelling.share_merging.learned_of", lambda _: SimpleNamespace(generation=1))
    with pytest.raises(ResultError, match=r"were learned from the corrections of one share. Run .*into a new folder"):
        merge_labels(shares, tmp_path / "merged")


def test_a_share_is_of_the_list_that_it_was_begun_with(model: Any, photos: Path, tmp_path: Path) -> None:
    shares = run_shares(model, photos, tmp_path / "shares", 2)
    assert list(label(photos, CLASSES, model=model, method="clip", out=shares[0], shard="1/2")) == []
    with pytest.raises(UsageError, match=r"its share of the images \(--shard\) is '1/2', not '2/2'"):
        run(model, photos, shares[0], shard="2/2")
    shutil.copy(photos / "0.png", photos / "new.png")
    with pytest.raises(UsageError, match="is of share 1/2 of 8 images, and now there are 9, or others"):
        run(model, photos, shares[0], shard="1/2")
    longer = run(model, photos, tmp_path / "longer", shard="1/2")
    with pytest.raises(ResultError, match=r"is a share of another list of images than .*\(8 images, not 9\)"):
        merge_labels([longer, shares[1]], tmp_path / "merged")


def places_of(photos: Path, kind: str) -> list[str]:
    names = sorted(photos.glob("*.png"))
    place = photos.parent / "place"
    place.mkdir()
    if kind == "list":
        (place / "names.txt").write_text("".join(f"{name}\n" for name in names))
        return [f"@{place / 'names.txt'}", str(photos)]
    if kind == "table":
        (place / "t.csv").write_text("path\n" + "".join(f"{name}\n" for name in names))
        return [str(place / "t.csv")]
    if kind == "zip":
        with zipfile.ZipFile(place / "a.zip", "w") as archive:
            for name in names:
                archive.write(name, name.name)
        return [str(place / "a.zip")]
    if kind == "shards":
        for number in range(3):
            with tarfile.open(place / f"{number}.tar", "w") as tar:
                for name in names[number::3]:
                    tar.add(name, name.name)
        return [f"{place}/{{0..2}}.tar"]
    if kind == "parquet":
        parquet, arrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
        cells = [{"bytes": name.read_bytes(), "path": name.name} for name in names]
        parquet.write_table(arrow.table({"image": cells}), place / "p.parquet", row_group_size=2)
        return [str(place / "p.parquet")]
    return [str(photos)]


@pytest.mark.parametrize("kind", ["folder", "list", "table", "zip", "shards", "parquet", "boxes", "-"])
def test_the_union_of_the_shares_is_the_source(photos: Path, kind: str) -> None:
    names = "".join(f"{name}\n" for name in sorted(photos.glob("*.png"))).encode()
    places = ["-"] if kind == "-" else places_of(photos, kind)
    options: dict[str, Any] = {"boxes": boxes_of(photos)} if kind == "boxes" else {}

    def listed(shard: ShardSpec | None) -> list[str]:
        stdin = io.BytesIO(names) if kind == "-" else None
        sources = ImageSources(places, stdin=stdin, shard=shard, **options)
        images = [image.path for image in sources]
        assert shard is None or sources.count_estimate() == len(images)
        return images

    whole = listed(None)
    assert len(whole) >= 6
    for count in (1, 2, 5):
        shares = [listed(ShardSpec(index, count)) for index in range(1, count + 1)]
        assert [path for share in shares for path in share] == whole
    with pytest.raises(UsageError, match=r"needs an image for each of the 99 shares, and the source has"):
        listed(ShardSpec(99, 99))


def boxes_of(photos: Path) -> Path:
    images = [{"id": number, "file_name": f"{number}.png", "width": 50, "height": 40} for number in range(4)]
    boxes = [
        {"id": 10 * number + place, "image_id": number, "category_id": 1, "bbox": [place, 1, 20, 20]}
        for number in range(4)
        for place in range(2)
    ]
    file = photos.parent / "boxes.json"
    file.write_text(json.dumps({"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "x"}]}))
    return file


def test_a_source_that_changes_while_it_is_listed_is_no_share(photos: Path) -> None:
    images = iter(ImageSources([photos], shard=ShardSpec(1, 2)))
    next(images)
    shutil.copy(photos / "0.png", photos / "sub" / "new.png")
    with pytest.raises(DatasetError, match="changed while they were listed: 8 before, 9 now"):
        list(images)
