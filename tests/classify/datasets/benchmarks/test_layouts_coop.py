"""The split files of the CoOp suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from miniatures import miniature, write_files

from abs_classify.datasets.benchmarks.diagnosis import open_benchmark
from abs_core.errors import DatasetError

COOP = {
    "caltech101": (
        "split_zhou_Caltech101.json", "101_ObjectCategories",
        [["Faces/image_0001.jpg", 1, "face"], ["airplanes/image_0002.jpg", 5, "airplane"]],
        ["Faces", "airplanes"],
    ),
    "pets": (
        "split_zhou_OxfordPets.json", "images",
        [["saint_bernard_1.jpg", 28, "saint_bernard"], ["Bengal_8.jpg", 5, "bengal"]],
        ["saint_bernard", "bengal"],
    ),
    "stanford-cars": (
        "split_zhou_StanfordCars.json", ".",
        [["cars_test/00001.jpg", 0, "2000 AM General Hummer SUV"], ["cars_test/00002.jpg", 1, "2012 Acura RL Sedan"]],
        ["am_general_hummer_suv_2000", "acura_rl_sedan_2012"],
    ),
    "flowers102": (
        "split_zhou_OxfordFlowers.json", "jpg",
        [["image_06734.jpg", 0, "pink primrose"], ["image_05000.jpg", 15, "globe-flower"]],
        ["pink_primrose", "globe_flower"],
    ),
    "food101": (
        "split_zhou_Food101.json", "images",
        [["apple_pie/1.jpg", 0, "apple_pie"], ["waffles/2.jpg", 100, "waffles"]],
        ["apple_pie", "waffles"],
    ),
    "sun397": (
        "split_zhou_SUN397.json", "SUN397",
        [["a/apse/indoor/sun_b.jpg", 10, "indoor apse"], ["a/abbey/sun_a.jpg", 0, "abbey"]],
        ["apse/indoor", "abbey"],
    ),
    "dtd": (
        "split_zhou_DescribableTextures.json", "images",
        [["zigzagged/zigzagged_0001.jpg", 46, "zigzagged"], ["banded/banded_0001.jpg", 0, "banded"]],
        ["zigzagged", "banded"],
    ),
    "eurosat": (
        "split_zhou_EuroSAT.json", "2750",
        # the suite's own order of classes, which is not the sorted one
        [["River/River_1.jpg", 0, "River"], ["AnnualCrop/AnnualCrop_1.jpg", 7, "Annual Crop Land"]],
        ["River", "AnnualCrop"],
    ),
    "ucf101": (
        "split_zhou_UCF101.json", "UCF-101-midframes",
        [["Handstand_Pushups/v_HandStandPushups_g01_c01.jpg", 36, "Handstand_Pushups"]],
        ["HandstandPushups"],
    ),
}  # fmt: skip


def coop(root: Path, name: str, entries: object = None) -> Path:
    file, images, rows, _ = COOP[name]
    write_files(root, *(f"{images}/{row[0]}" for row in rows))
    split = {"train": [], "val": [], "test": rows if entries is None else entries}
    (root / file).write_text(json.dumps(split), encoding="utf-8")
    return root


@pytest.mark.parametrize("name", list(COOP))
def test_a_split_file_of_the_coop_suite(tmp_path: Path, name: str) -> None:
    expected = COOP[name][3]
    data = open_benchmark(miniature(name, coop_test=len(expected)), f"{coop(tmp_path, name)}?split=coop-test")
    assert [sample.label for sample in data.samples] == expected
    assert all(sample.path.is_file() for sample in data.samples)


@pytest.mark.parametrize(
    ("name", "entries", "message"),
    [
        ("stanford-cars", [["cars_test/00001.jpg", 1, "2000 AM General Hummer SUV"]], "0 of 1 class names"),
        ("stanford-cars", [["cars_test/00001.jpg", 196, "2012 Acura RL Sedan"]], "must be one of the 196 classes"),
        (
            "eurosat",
            [["River/River_1.jpg", 0, "River"], ["AnnualCrop/AnnualCrop_1.jpg", 0, "River"]],
            "is that of 'River'",
        ),
        ("food101", [["apple_pie/1.jpg", 0, "a"], ["apple_pie/2.jpg", 1, "b"]], "one class several labels"),
        ("dtd", [["banded/../../x.jpg", 0, "banded"]], "must lie inside"),
        ("dtd", [["banded/banded_0001.jpg", "0", "banded"]], "no list 'test' of"),
        ("dtd", {"a": 1}, "no list 'test' of"),
    ],
)
def test_a_split_file_that_is_wrong_is_refused(tmp_path: Path, name: str, entries: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        open_benchmark(miniature(name, coop_test=1), f"{coop(tmp_path, name, entries)}?split=coop-test")


def test_a_web_page_in_place_of_a_split_file_is_refused(tmp_path: Path) -> None:
    root = coop(tmp_path, "dtd")
    (root / COOP["dtd"][0]).write_text("<html>Google Drive - Quota exceeded</html>")
    with pytest.raises(DatasetError, match="is not a JSON file"):
        open_benchmark(miniature("dtd", coop_test=2), f"{root}?split=coop-test")


def test_the_caltech_of_the_coop_suite_has_a_hundred_classes(tmp_path: Path) -> None:
    data = open_benchmark(miniature("caltech101", coop_test=2), str(coop(tmp_path, "caltech101")))
    assert len(data.classes) == 100
    assert "Faces_easy" not in data.names
