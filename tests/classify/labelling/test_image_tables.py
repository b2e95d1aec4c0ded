"""Tables as sources: paths in CSV, JSON Lines and parquet, and images in parquet; labels in them are not looked at."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from image_files import encode, picture

from abs_classify.labelling.locations import ImageLocation, ListedImage
from abs_classify.labelling.sources import ImageSources
from abs_core.errors import DatasetError, ImageError

PHOTO = encode(picture(8, 6), "JPEG")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("t/a.jpg", "t/in/b.jpg", "t/c.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(PHOTO)
    return tmp_path


def listed(*places: str) -> tuple[list[ListedImage], dict[str, int]]:
    sources = ImageSources(places)
    images = list(sources)
    return images, dict(sources.remarks.counts)


def paths(images: list[ListedImage]) -> list[str]:
    return [image.path for image in images]


ROWS = ["a.jpg", "in/b.jpg", "missing.jpg", "c", "in"]
EXPECTED = ["t/a.jpg", "t/in/b.jpg", "t/missing.jpg", "t/c.png", "t/in"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("list.csv", "path,label\n" + "\n".join(f"{row},x" for row in ROWS)),
        ("list.csv", "image_path\n" + "\n".join(ROWS)),
        ("list.CSV", "split;file_name\r\n" + "\r\n".join(f"train;{row}" for row in ROWS)),
        ("list.tsv", "\n".join(ROWS)),
        ("list.jsonl", "\n".join(json.dumps({"image": row, "caption": 1}) for row in ROWS)),
        ("list.jsonl", "\n".join(json.dumps({"path": row, "label": None}) for row in ROWS)),
    ],
)
def test_a_column_of_paths_is_found_and_a_missing_file_is_a_row(here: Path, name: str, text: str) -> None:
    (here / "t" / name).write_text(text)
    images, counts = listed(f"t/{name}")
    assert paths(images) == EXPECTED
    assert [image.problem for image in images] == [
        "",
        "",
        "cannot be read: no such file or directory",
        "",
        "is a folder",
    ]
    assert counts["path completed by the extension of its file"] == 1
    assert images[0].key == os.fsencode(here / "t" / "a.jpg")
    assert images[0].location.sample().read() == PHOTO
    assert ImageSources([f"t/{name}"]).count_estimate() in (4, 5)


def test_a_row_without_a_usable_path_is_a_row_that_says_so(here: Path) -> None:
    rows = ["a.jpg", "", "https://example.org/a.jpg", "x\0y", "\ud800", "/dev/null", "in\\b.jpg"]
    (here / "t/list.jsonl").write_text("\n".join(json.dumps({"path": row}) for row in rows))
    images, _ = listed("t/list.jsonl")
    problems = ["", "has no path", "is an address|has the address", "null", "has no valid path", "is a device", ""]
    assert len(images) == len(rows)
    assert len({image.key for image in images}) == len(rows)
    for image, problem in zip(images, problems, strict=True):
        image.path.encode()
        assert any(part in image.problem for part in problem.split("|"))
        assert bool(image.problem) == bool(problem)
    assert images[6].path == "t/in/b.jpg"


def test_columns_are_named_with_the_spec(here: Path) -> None:
    (here / "t/list.csv").write_text("photo1,photo2\na.jpg,in/b.jpg\n")
    with pytest.raises(DatasetError, match="has no column 'path'") as caught:
        listed("t/list.csv")
    assert caught.value.remedy == "Name the column of paths: abs label 'csv:t/list.csv?path=photo1'"
    assert paths(listed("csv:t/list.csv?path=photo2")[0]) == ["t/in/b.jpg"]
    assert paths(listed("csv:t/list.csv?header=none&path=2")[0]) == ["t/photo2", "t/in/b.jpg"]
    with pytest.raises(DatasetError, match="must be a number from 1 to 2"):
        listed("csv:t/list.csv?header=none&path=3")


def test_a_table_that_is_damaged_gives_what_is_before_the_damage_and_a_row(here: Path) -> None:
    (here / "t/list.jsonl").write_text('{"path": "a.jpg"}\n{"path": \n')
    images, _ = listed("t/list.jsonl")
    assert paths(images) == ["t/a.jpg", "t/list.jsonl"]
    assert images[1].problem.startswith("line 2 of 't/list.jsonl' is not valid JSON")
    (here / "t/list.csv").write_bytes(b"path\n" + b"a.jpg\n" * 30_000 + b'"\xff')
    images, _ = listed("t/list.csv")
    assert "not valid UTF-8" in images[-1].problem
    assert len(images) > 1


def test_parquet_has_images_or_paths(here: Path) -> None:
    images = [{"bytes": PHOTO + bytes([number]), "path": f"{number}.jpg"} for number in range(5)]
    pq.write_table(pa.table({"image": [*images, None], "label": range(6)}), here / "t/images.parquet", row_group_size=2)
    found, _ = listed("t/images.parquet")
    assert paths(found) == [f"t/images.parquet::row {number}, image" for number in range(6)]
    assert ImageSources(["t/images.parquet"]).count_estimate() == 6
    samples = [ImageLocation.from_json(image.location.as_json()).sample() for image in found]
    assert [sample.read() for sample in reversed(samples[:5])] == [image["bytes"] for image in reversed(images)]
    with pytest.raises(ImageError, match="has no bytes"):
        samples[5].read()
    pq.write_table(pa.table({"file_name": ROWS, "image": [b""] * 5}), here / "t/paths.parquet")
    assert paths(listed("t/paths.parquet")[0]) == EXPECTED
    assert len(paths(listed("hf:t/paths.parquet?image=image")[0])) == 5
    assert paths(listed("hf:t/paths.parquet?path=file_name")[0]) == EXPECTED
    with pytest.raises(DatasetError, match="has no column 'x'"):
        listed("hf:t/paths.parquet?path=x")
    pq.write_table(pa.table({"x": [1]}), here / "t/none.parquet")
    with pytest.raises(DatasetError, match="does not say which column is the image"):
        listed("t/none.parquet")
    (here / "t/broken.parquet").write_bytes(b"PAR1" * 9)
    with pytest.raises(DatasetError, match="is not a parquet file"):
        listed("t/broken.parquet")


def test_a_folder_of_parquet_files_and_one_of_shards_are_read_by_their_specs(here: Path) -> None:
    for split in ("test", "train"):
        table = pa.table({"image": [{"bytes": PHOTO}]})
        pq.write_table(table, here / f"t/{split}-00000-of-00001.parquet")
    assert paths(listed("hf:t")[0]) == ["t/test-00000-of-00001.parquet::row 0, image"]
    assert paths(listed("hf:t?split=train")[0]) == ["t/train-00000-of-00001.parquet::row 0, image"]
    import tarfile

    for number in (0, 1, 3):
        with tarfile.open(here / f"t/s-{number}.tar", "w") as shard:
            shard.add("t/a.jpg", f"{number}.jpg")  # no label
    images, counts = listed("wds:t")
    assert paths(images) == [f"t/s-{number}.tar::{number}.jpg" for number in (0, 1, 3)]
    assert counts == {"numbers that no shard has, while higher ones exist": 1}
    assert paths(listed("t/s-{0..1}.tar")[0]) == paths(images)[:2]
    assert ImageSources(["wds:t/s-{0..1}.tar"]).count_estimate() == 2
    with pytest.raises(DatasetError, match="does not exist"):
        listed("t/s-{0..2}.tar")
