"""Published data sets, each built in miniature with its real annotation formats; every trap of theirs is closed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abs_classify.datasets import BENCHMARKS, Benchmark, Dataset, open_dataset
from abs_classify.datasets.benchmarks.opening import open_benchmark
from abs_classify.images import load_image
from abs_core.errors import DatasetError, MissingExtraError, UnknownNameError, UsageError
from abs_core.labels import shipped_label_set


def benchmark(name: str, **sizes: int) -> Benchmark:
    """A declaration with the sizes of a miniature; the names of splits have underscores for hyphens."""
    found = next(each for each in BENCHMARKS if each.name == name)
    return found.resized({split.name: sizes[key] for split in found.splits if (key := _key(split.name)) in sizes})


def _key(name: str) -> str:
    return name.replace("-", "_")


def files(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"not opened here")
    return root


def texts(root: Path, contents: Mapping[str, str]) -> Path:
    for name, content in contents.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content, encoding="utf-8")
    return root


def labels_of(data: Dataset, root: Path) -> dict[str, str]:
    return {item.path.relative_to(root).as_posix(): item.label for item in data.samples}


# declarations


def test_the_declared_sizes_are_the_published_ones() -> None:
    sizes = {each.name: each.splits[0].images for each in BENCHMARKS}
    assert sizes == {
        "imagenet": 50_000, "imagenet-v2": 10_000, "imagenet-r": 30_000, "imagenet-a": 7_500,
        "imagenet-sketch": 50_889, "cub": 5_794, "pets": 3_669, "flowers102": 6_149, "stanford-cars": 8_041,
        "fgvc-aircraft": 3_333, "food101": 25_250, "dtd": 1_880, "places365": 36_500, "sun397": 19_850,
        "eurosat": 8_100, "caltech101": 2_465, "ucf101": 3_783, "cifar10": 10_000, "cifar100": 10_000,
    }  # fmt: skip
    coop = {
        each.name: next(split.images for split in each.splits if split.name == "coop-test")
        for each in BENCHMARKS
        if any(split.name == "coop-test" for split in each.splits)
    }
    assert coop == {
        "pets": 3_669, "flowers102": 2_463, "stanford-cars": 8_041, "food101": 30_300, "dtd": 1_692,
        "sun397": 19_850, "eurosat": 8_100, "caltech101": 2_465, "ucf101": 3_783,
    }  # fmt: skip


@pytest.mark.parametrize("name", [each.name for each in BENCHMARKS])
def test_parts_have_names_of_their_own_and_label_sets_exist(name: str) -> None:
    found = benchmark(name)
    names = [split.name for split in found.splits]
    assert len(set(names)) == len(names)
    ids = shipped_label_set(found.labels).ids
    assert all(set(split.without) <= set(ids) for split in found.splits)


def test_an_unknown_split_or_option_lists_the_valid_ones(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown split of dtd 'val'; valid: val1, val2, .* and \d+ more"):
        open_dataset(f"dtd:{tmp_path}?split=val")
    with pytest.raises(UsageError, match=r"unknown option 'part' in .*; known: split, partial"):
        open_dataset(f"dtd:{tmp_path}?part=test1")
    with pytest.raises(UsageError, match="twice"):
        open_dataset(f"dtd:{tmp_path}?split=test1&split=test2")
    with pytest.raises(UsageError, match="takes no value, got 'half'"):
        open_dataset(f"dtd:{tmp_path}?partial=half")


def test_a_folder_whose_name_has_a_question_mark_is_a_folder(tmp_path: Path) -> None:
    root = files(tmp_path / "what?split=x", "labels/.keep", "images/banded/a.jpg")
    texts(root, {"labels/test1.txt": "banded/a.jpg\n"})
    assert len(open_benchmark(benchmark("dtd", test1=1), str(root)).samples) == 1


# completeness


def dtd(root: Path) -> Path:
    files(root, *(f"images/{one}/{one}_000{number}.jpg" for one in ("banded", "zigzagged") for number in range(1, 7)))
    for part, number in (("test", 1), ("val", 2), ("train", 3)):
        for partition in (1, 2):
            line = number + 3 * (partition - 1)
            text = f"banded/banded_000{line}.jpg\nzigzagged/zigzagged_000{line}.jpg\n"
            texts(root, {f"labels/{part}{partition}.txt": text})
    return root


def test_dtd_is_the_test_of_partition_1_unless_another_is_asked_for(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    small = benchmark("dtd", test1=2, test2=2)
    data = open_benchmark(small, str(root))
    assert labels_of(data, root) == {
        "images/banded/banded_0001.jpg": "banded",
        "images/zigzagged/zigzagged_0001.jpg": "zigzagged",
    }
    assert (data.benchmark, data.split, data.name) == ("dtd", "test1", f"dtd:{root}")
    assert len(data.classes) == 47
    other = open_benchmark(small, f"{root}?split=test2")
    assert [item.path.name for item in other.samples] == ["banded_0004.jpg", "zigzagged_0004.jpg"]


def test_a_size_that_is_not_the_published_one_is_refused_and_partial_goes_on(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    with pytest.raises(DatasetError, match=r"found 2 images of dtd \(test1\), expected 1880") as caught:
        open_dataset(f"dtd:{root}")
    assert "45 classes have none" in caught.value.message
    assert f"dtd:{root}?partial" in caught.value.remedy
    data = open_dataset(f"dtd:{root}?partial")
    assert len(data.samples) == 2
    assert data.notes == (
        "incomplete: found 2 images of dtd (test1), expected 1880; 45 classes have none, such as 'blotchy'",
    )


def test_an_image_that_a_list_names_and_that_is_not_there_is_named(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    (root / "images/banded/banded_0001.jpg").unlink()
    small = benchmark("dtd", test1=2)
    with pytest.raises(DatasetError, match=r"1 of 2 images of dtd \(test1\) are missing, the first is .*banded_0001"):
        open_benchmark(small, str(root))
    data = open_benchmark(small, f"{root}?split=test1&partial")
    assert [item.label for item in data.samples] == ["zigzagged"]


def test_partial_does_not_accept_nothing_at_all(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    for path in root.glob("images/*/*_0001.jpg"):
        path.unlink()
    with pytest.raises(DatasetError, match="2 of 2 images"):
        open_benchmark(benchmark("dtd", test1=2), f"{root}?partial")


def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    texts(root, {"labels/test1.txt": "banded/banded_0001.jpg\n" * 2})
    with pytest.raises(DatasetError, match="twice"):
        open_benchmark(benchmark("dtd", test1=2), str(root))


@pytest.mark.parametrize("line", ["../../etc/banded/x.jpg", "/etc/passwd", "banded/../../x.jpg", "banded/a\\b.jpg"])
def test_a_list_that_leads_outside_the_folder_is_refused(tmp_path: Path, line: str) -> None:
    root = dtd(tmp_path / "dtd")
    texts(root, {"labels/test1.txt": f"{line}\n"})
    with pytest.raises(DatasetError, match=r"must lie inside|must be one of the 47 classes"):
        open_benchmark(benchmark("dtd", test1=1), str(root))


def test_a_class_that_the_published_set_lacks_is_refused_by_line(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    texts(root, {"labels/test1.txt": "banded/banded_0001.jpg\nfluffy/fluffy_0001.jpg\n"})
    with pytest.raises(DatasetError, match=r"line 2 of .*test1.txt': the label must be one of the 47 .*, got 'fluffy'"):
        open_benchmark(benchmark("dtd", test1=2), str(root))


# ImageNet and its relatives


WNIDS = ("n01440764", "n01443537", "n01484850")


@pytest.mark.parametrize("below", ["val", "images/val", "ILSVRC/Data/CLS-LOC/val", "."])
def test_imagenet_in_class_folders(tmp_path: Path, below: str) -> None:
    # found in an order that is not that of the classes
    files(tmp_path, *(f"{below}/{wnid}/ILSVRC2012_val_0000000{at}.JPEG" for at, wnid in enumerate(reversed(WNIDS), 1)))
    data = open_benchmark(benchmark("imagenet", val=3), str(tmp_path))
    assert {item.path.parent.name: item.label for item in data.samples} == dict(zip(WNIDS, WNIDS, strict=True))
    assert len(data.classes) == 1000
    assert data.names["n01440764"] == "tench"


def test_imagenet_as_kaggle_has_it(tmp_path: Path) -> None:
    files(tmp_path, *(f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)))
    rows = (
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000002,n01443537 111 108 441 193 n01443537 1 2 3 4 \n"
        "ILSVRC2012_val_00000001,n03995372 85 1 499 272 \n"
    )
    texts(tmp_path, {"LOC_val_solution.csv": rows})
    data = open_benchmark(benchmark("imagenet", val=2), str(tmp_path))
    assert {item.path.name: item.label for item in data.samples} == {
        "ILSVRC2012_val_00000001.JPEG": "n03995372",
        "ILSVRC2012_val_00000002.JPEG": "n01443537",
    }


def test_imagenet_with_the_devkit_whose_numbers_are_not_the_order_of_the_ids(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    files(tmp_path, *(f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)))
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    synsets = np.zeros((2, 1), dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    synsets[0, 0], synsets[1, 0] = (1.0, "n02119789", "kit fox"), (490.0, "n01440764", "tench")
    savemat(data / "meta.mat", {"synsets": synsets})
    texts(data, {"ILSVRC2012_validation_ground_truth.txt": "490\n1\n"})
    found = open_benchmark(benchmark("imagenet", val=2), str(tmp_path))
    assert [(item.path.name[-6:-5], item.label) for item in found.samples] == [("1", "n01440764"), ("2", "n02119789")]


@pytest.mark.parametrize("below", ["imagenetv2-matched-frequency-format-val", "."])
def test_imagenet_v2_folders_are_numbers_and_not_places_in_a_sorted_list(tmp_path: Path, below: str) -> None:
    # sorted as texts these are 0, 1, 10, 2, 999: the third would get the label of class 2
    files(tmp_path, *(f"{below}/{number}/a.jpeg" for number in (0, 1, 2, 10, 999)))
    data = open_benchmark(benchmark("imagenet-v2", matched_frequency=5), str(tmp_path))
    ids = shipped_label_set("imagenet").ids
    assert {item.path.parent.name: item.label for item in data.samples} == {
        number: ids[int(number)] for number in ("0", "1", "2", "10", "999")
    }
    assert ids[10] == "n01530575"


def test_imagenet_v2_folders_with_wordnet_ids_are_read_too_and_foreign_numbers_refused(tmp_path: Path) -> None:
    small = benchmark("imagenet-v2", matched_frequency=1)
    files(tmp_path / "ids", "n01440764/a.jpeg")
    assert open_benchmark(small, str(tmp_path / "ids")).samples[0].label == "n01440764"
    files(tmp_path / "many", "0/a.jpeg", "1000/a.jpeg")
    with pytest.raises(DatasetError, match="must be one of the 1000 classes of 'imagenet', got '1000'"):
        open_benchmark(small, str(tmp_path / "many"))


def test_a_variant_of_imagenet_v2_is_not_taken_for_another(tmp_path: Path) -> None:
    root = files(tmp_path / "imagenetv2-top-images-format-val", "0/a.jpeg")
    with pytest.raises(DatasetError, match=r"lacks, for imagenet-v2 \(matched-frequency\)"):
        open_benchmark(benchmark("imagenet-v2", matched_frequency=1), str(root))
    assert open_benchmark(benchmark("imagenet-v2", top_images=1), f"{root}?split=top-images").split == "top-images"


@pytest.mark.parametrize(("name", "wnid"), [("imagenet-r", "n01443537"), ("imagenet-a", "n01498041")])
def test_the_subsets_of_imagenet_say_among_which_classes_the_best_is_chosen(
    tmp_path: Path, name: str, wnid: str
) -> None:
    files(tmp_path, f"{name}/{wnid}/art_0.jpg", f"{name}/README.txt")
    small = benchmark(name, test=1)
    subset = open_benchmark(small, str(tmp_path))
    assert len(subset.classes) == 200
    assert subset.selected == ()
    assert any("the 200 classes" in note for note in subset.notes)
    every = open_benchmark(small, f"{tmp_path}?classes=all")
    assert (len(every.classes), every.selected) == (1000, ())
    assert any("all 1000 classes of imagenet compete" in note for note in every.notes)
    select = open_benchmark(small, f"{tmp_path}?classes=select")
    assert len(select.classes) == 1000
    assert set(select.selected) == set(subset.names)
    assert any("as published" in note for note in select.notes)
    with pytest.raises(UnknownNameError, match="subset, all, select"):
        open_benchmark(small, f"{tmp_path}?classes=some")


def test_imagenet_r_is_not_taken_for_imagenet_a(tmp_path: Path) -> None:
    # both have goldfinch; only R has goldfish
    files(tmp_path, "imagenet-a/n01531178/x.jpg", "imagenet-a/n01443537/x.jpg")
    with pytest.raises(DatasetError, match="one of the 200 classes of 'imagenet-a', got 'n01443537'"):
        open_benchmark(benchmark("imagenet-a", test=2), str(tmp_path))


@pytest.mark.parametrize("below", ["sketch", "images", "."])
def test_imagenet_sketch(tmp_path: Path, below: str) -> None:
    files(tmp_path, f"{below}/n15075141/sketch_0.JPEG")
    assert open_benchmark(benchmark("imagenet-sketch", test=1), str(tmp_path)).samples[0].label == "n15075141"


# fine-grained sets


CUB = {
    "images.txt": (
        "1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg\n"
        "2 001.Black_footed_Albatross/Black_Footed_Albatross_0009_34.jpg\n"
        "10 200.Common_Yellowthroat/Common_Yellowthroat_0003_190521.jpg\n"
    ),
    # in an order of its own: the image number joins the files, not the line
    "image_class_labels.txt": "10 200\n2 1\n1 1\n",
    "train_test_split.txt": "1 0\n2 1\n10 0\n",
    "classes.txt": "1 001.Black_footed_Albatross\n200 200.Common_Yellowthroat\n",
}


def cub(root: Path, **changes: str) -> Path:
    files(root, *(f"images/{line.split()[1]}" for line in CUB["images.txt"].splitlines()))
    return texts(root, CUB | {f"{name}.txt": content for name, content in changes.items()})


def test_cub_joins_its_three_files_by_image_number(tmp_path: Path) -> None:
    data = open_benchmark(benchmark("cub", test=2), str(cub(tmp_path)))
    assert {item.path.name: item.label for item in data.samples} == {
        "Black_Footed_Albatross_0046_18.jpg": "001.Black_footed_Albatross",
        "Common_Yellowthroat_0003_190521.jpg": "200.Common_Yellowthroat",
    }
    train = open_benchmark(benchmark("cub", train=1), f"{tmp_path}?split=train")
    assert [item.path.name for item in train.samples] == ["Black_Footed_Albatross_0009_34.jpg"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image_class_labels": "1 2\n2 1\n10 200\n"}, r"must be one of .*, got '2 \(001.Black_footed_Albatross\)'"),
        ({"image_class_labels": "1 1\n2 1\n"}, "the image number 10 .* has no class or no split"),
        ({"train_test_split": "1 0\n2 1\n10 test\n"}, "the image number 10 .* has no class or no split"),
        ({"train_test_split": "1 0\n1 0\n"}, "line 2 of .*train_test_split.txt' must be a new image number"),
        ({"image_class_labels": "1 1\n2 1\n10 201\n"}, r"of the 200 classes .*, got '201 \(200.Common_Yellowthroat\)'"),
    ],
)
def test_cub_files_that_do_not_belong_together_are_refused(tmp_path: Path, changes: dict[str, str], said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        open_benchmark(benchmark("cub", test=2), str(cub(tmp_path, **changes)))


def test_pets_are_labelled_by_number_and_not_by_sorted_names(tmp_path: Path) -> None:
    # sorted, capitals first: Abyssinian, Bengal, american_bulldog; by number bengal is 6 and american_bulldog 2
    lines = "# image id species breed\nBengal_8 6 1 2\namerican_bulldog_203 2 2 1\nAbyssinian_201 1 1 1\n"
    files(tmp_path, *(f"images/{name}.jpg" for name in ("Bengal_8", "american_bulldog_203", "Abyssinian_201")))
    texts(tmp_path, {"annotations/test.txt": lines})
    data = open_benchmark(benchmark("pets", test=3), str(tmp_path))
    assert [(item.path.stem, item.label) for item in data.samples] == [
        ("Bengal_8", "bengal"),
        ("american_bulldog_203", "american_bulldog"),
        ("Abyssinian_201", "abyssinian"),
    ]
    texts(tmp_path, {"annotations/test.txt": lines.replace("Bengal_8 6", "Bengal_8 2")})
    with pytest.raises(DatasetError, match=r"line 2 of .*test.txt': the label must be one of .*, got '2 \(Bengal\)'"):
        open_benchmark(benchmark("pets", test=3), str(tmp_path))


def test_flowers_count_from_one_and_the_test_is_tstid(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    files(tmp_path, *(f"jpg/image_0000{number}.jpg" for number in (1, 2, 3, 4)))
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[77, 1, 102, 2]], dtype=np.uint8)})
    savemat(
        tmp_path / "setid.mat",
        {"trnid": np.array([[2]]), "valid": np.array([[4]]), "tstid": np.array([[3, 1]], dtype=np.uint16)},
    )
    data = open_benchmark(benchmark("flowers102", test=2), str(tmp_path))
    assert [(item.path.name, item.label) for item in data.samples] == [
        ("image_00003.jpg", "blackberry_lily"),
        ("image_00001.jpg", "passion_flower"),
    ]
    train = open_benchmark(benchmark("flowers102", train=1), f"{tmp_path}?split=train")
    assert train.samples[0].label == "pink_primrose"


def test_mat_files_without_scipy_say_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.io", None)
    files(tmp_path, "jpg/image_00001.jpg", "imagelabels.mat", "setid.mat")
    with pytest.raises(MissingExtraError, match=r"'scipy'.*abs-toolkit\[datasets\]"):
        open_benchmark(benchmark("flowers102", test=1), str(tmp_path))


def cars(root: Path, name: str, classes: bool = True) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    fields = ["bbox_x1", "fname"] + (["class"] if classes else [])
    rows = np.zeros((1, 2), dtype=[(field, "O") for field in fields])
    for at, (file, number) in enumerate((("00001.jpg", 181), ("00002.jpg", 1))):
        rows[0, at] = (30, file, number) if classes else (30, file)
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    savemat(root / name, {"annotations": rows})
    files(root, "cars_test/00001.jpg", "cars_test/00002.jpg")


def test_cars(tmp_path: Path) -> None:
    cars(tmp_path, "cars_test_annos_withlabels.mat")
    data = open_benchmark(benchmark("stanford-cars", test=2), str(tmp_path))
    assert [item.label for item in data.samples] == [
        shipped_label_set("stanford-cars").ids[180],
        "am_general_hummer_suv_2000",
    ]


def test_car_annotations_without_classes_are_told_from_those_with(tmp_path: Path) -> None:
    cars(tmp_path, "cars_test_annos_withlabels.mat", classes=False)
    with pytest.raises(DatasetError, match="have no classes") as caught:
        open_benchmark(benchmark("stanford-cars", test=2), str(tmp_path))
    assert "_withlabels.mat" in caught.value.remedy


def test_a_mat_file_that_is_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    files(tmp_path, "cars_test/00001.jpg", "cars_test_annos_withlabels.mat")
    with pytest.raises(DatasetError, match="is not a MATLAB file"):
        open_benchmark(benchmark("stanford-cars", test=1), str(tmp_path))


@pytest.mark.parametrize("base", ["data/", ""])
def test_aircraft_variants_may_hold_slashes_and_spaces(tmp_path: Path, base: str) -> None:
    files(tmp_path, f"{base}images/1514522.jpg", f"{base}images/0747566.jpg")
    texts(tmp_path, {f"{base}images_variant_test.txt": "1514522 F-16A/B\n0747566 Cessna 172\n"})
    data = open_benchmark(benchmark("fgvc-aircraft", test=2), str(tmp_path))
    assert [(item.path.name, item.label) for item in data.samples] == [
        ("1514522.jpg", "F-16A/B"),
        ("0747566.jpg", "Cessna 172"),
    ]


def test_food_lists_leave_out_the_ending(tmp_path: Path) -> None:
    files(tmp_path, "images/apple_pie/1011328.jpg", "images/waffles/971843.jpg", "images/waffles/1.jpg")
    texts(tmp_path, {"meta/test.txt": "waffles/971843\napple_pie/1011328\n"})
    data = open_benchmark(benchmark("food101", test=2), str(tmp_path))
    assert [(item.path.name, item.label) for item in data.samples] == [
        ("971843.jpg", "waffles"),
        ("1011328.jpg", "apple_pie"),
    ]


# scenes


@pytest.mark.parametrize("folder", ["val_large", "val_256"])
def test_places_counts_from_zero_and_keeps_indoor_and_outdoor_apart(tmp_path: Path, folder: str) -> None:
    files(tmp_path, *(f"{folder}/Places365_val_0000000{number}.jpg" for number in (1, 2, 3)))
    ids = shipped_label_set("places365").ids
    at = [ids.index("church/indoor"), ids.index("church/outdoor"), 0]
    lines = "".join(f"Places365_val_0000000{number}.jpg {label}\n" for number, label in enumerate(at, 1))
    texts(tmp_path, {"places365_val.txt": lines})
    data = open_benchmark(benchmark("places365", val=3), str(tmp_path))
    assert [item.label for item in data.samples] == ["church/indoor", "church/outdoor", "airfield"]
    assert len(data.classes) == len({each.name for each in data.classes}) == 365
    assert data.notes == (f"read from places365_val.txt and {folder}/",)


def test_places_in_class_folders(tmp_path: Path) -> None:
    files(tmp_path, "val/church-indoor/a.jpg", "val/church/outdoor/b.jpg", "val/airfield/c.jpg")
    data = open_benchmark(benchmark("places365", val=3), str(tmp_path))
    assert {item.path.name: item.label for item in data.samples} == {
        "a.jpg": "church/indoor",
        "b.jpg": "church/outdoor",
        "c.jpg": "airfield",
    }


def test_sun_by_partition_and_whole(tmp_path: Path) -> None:
    names = ("SUN397/a/abbey/sun_a.jpg", "SUN397/a/apse/indoor/sun_b.jpg", "SUN397/y/youth_hostel/sun_c.jpg")
    files(tmp_path, *names)
    texts(tmp_path, {"Partitions/Testing_01.txt": "/a/apse/indoor/sun_b.jpg\n/a/abbey/sun_a.jpg\n"})
    small = benchmark("sun397", test1=2, all=3)
    assert [item.label for item in open_benchmark(small, f"{tmp_path}?split=test1").samples] == ["apse/indoor", "abbey"]
    assert list(labels_of(open_benchmark(small, f"{tmp_path}?split=all"), tmp_path).values()) == [
        "abbey",
        "apse/indoor",
        "youth_hostel",
    ]


def test_the_sets_without_an_official_split_want_that_of_the_coop_suite(tmp_path: Path) -> None:
    files(tmp_path, "2750/River/River_1.jpg", "2750/SeaLake/SeaLake_1.jpg")
    with pytest.raises(
        DatasetError, match=r"lacks, for eurosat \(coop-test\), .* \(split_zhou_EuroSAT.json\)"
    ) as caught:
        open_dataset(f"eurosat:{tmp_path}")
    assert "DATASETS.md of the CoOp repository" in caught.value.remedy
    assert f"eurosat:{tmp_path}?split=all" in caught.value.remedy
    data = open_benchmark(benchmark("eurosat", all=2), f"{tmp_path}?split=all")
    assert [item.label for item in data.samples] == ["River", "SeaLake"]


def test_caltech_leaves_the_background_out(tmp_path: Path) -> None:
    base = "101_ObjectCategories"
    files(tmp_path, f"{base}/BACKGROUND_Google/image_0001.jpg", f"{base}/Faces/image_0001.jpg")
    data = open_benchmark(benchmark("caltech101", all=1), f"{tmp_path}?split=all")
    assert [item.label for item in data.samples] == ["Faces"]
    assert len(data.classes) == 101


def test_ucf_frames_are_found_by_the_names_of_their_videos(tmp_path: Path) -> None:
    names = ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01", "Handstand_Pushups/v_HandStandPushups_g01_c01")
    files(tmp_path, *(f"UCF-101-midframes/{name}.jpg" for name in names))
    videos = "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\nHandstandPushups/v_HandStandPushups_g01_c01.avi\n"
    texts(tmp_path, {"ucfTrainTestlist/testlist01.txt": videos})
    small = benchmark("ucf101", test1=2, all=2)
    expected = ["ApplyEyeMakeup", "HandstandPushups"]
    assert [item.label for item in open_benchmark(small, f"{tmp_path}?split=test1").samples] == expected
    assert [item.label for item in open_benchmark(small, f"{tmp_path}?split=all").samples] == expected


# the split files of the CoOp suite


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
    files(root, *(f"{images}/{row[0]}" for row in rows))
    split = {"train": [], "val": [], "test": rows if entries is None else entries}
    (root / file).write_text(json.dumps(split), encoding="utf-8")
    return root


@pytest.mark.parametrize("name", list(COOP))
def test_a_split_file_of_the_coop_suite(tmp_path: Path, name: str) -> None:
    expected = COOP[name][3]
    data = open_benchmark(benchmark(name, coop_test=len(expected)), f"{coop(tmp_path, name)}?split=coop-test")
    assert [item.label for item in data.samples] == expected
    assert all(item.path.is_file() for item in data.samples)


def test_the_caltech_of_the_coop_suite_has_a_hundred_classes(tmp_path: Path) -> None:
    data = open_benchmark(benchmark("caltech101", coop_test=2), str(coop(tmp_path, "caltech101")))
    assert len(data.classes) == 100
    assert "Faces_easy" not in data.names


@pytest.mark.parametrize(
    ("name", "entries", "said"),
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
def test_a_split_file_that_is_wrong_is_refused(tmp_path: Path, name: str, entries: object, said: str) -> None:
    with pytest.raises(DatasetError, match=said):
        open_benchmark(benchmark(name, coop_test=1), f"{coop(tmp_path, name, entries)}?split=coop-test")


def test_a_web_page_in_place_of_a_split_file_is_refused(tmp_path: Path) -> None:
    root = coop(tmp_path, "dtd")
    (root / COOP["dtd"][0]).write_text("<html>Google Drive - Quota exceeded</html>")
    with pytest.raises(DatasetError, match="is not a JSON file"):
        open_benchmark(benchmark("dtd", coop_test=2), f"{root}?split=coop-test")


# CIFAR


def cifar(path: Path, head: int, labels: list[int], rng: np.random.Generator) -> np.ndarray:
    """A binary file with random pictures; returns them as [n, 32, 32, 3]."""
    images = rng.integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    records = [bytes([19] * (head - 1) + [label]) + image.transpose(2, 0, 1).tobytes()
               for label, image in zip(labels, images, strict=True)]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records))
    return images


@pytest.mark.parametrize(
    ("name", "file", "head", "numbers", "ids"),
    [
        ("cifar10", "test_batch.bin", 1, [3, 0, 9], ["cat", "airplane", "truck"]),
        ("cifar100", "test.bin", 2, [99, 0, 1], ["worm", "apple", "aquarium_fish"]),
    ],
)
def test_cifar_pixels_and_fine_labels(
    tmp_path: Path, name: str, file: str, head: int, numbers: list[int], ids: list[str]
) -> None:
    images = cifar(tmp_path / file, head, numbers, np.random.default_rng(0))
    data = open_benchmark(benchmark(name, test=3), str(tmp_path))
    assert [item.label for item in data.samples] == ids
    for item, image in zip(data.samples, images, strict=True):
        np.testing.assert_array_equal(np.asarray(load_image(item.read(), item.name).pixels), image)
    assert [item.name for item in data.samples][1] == f"{tmp_path / file}::record 1"
    assert len({item.name for item in data.samples}) == 3


def test_cifar_training_has_five_files(tmp_path: Path) -> None:
    for number in range(1, 6):
        cifar(tmp_path / f"data_batch_{number}.bin", 1, [number], np.random.default_rng(number))
    data = open_benchmark(benchmark("cifar10", train=5), f"{tmp_path}?split=train")
    assert [item.path.name for item in data.samples] == [f"data_batch_{number}.bin" for number in range(1, 6)]


def test_the_pickles_of_cifar_are_never_opened(tmp_path: Path) -> None:
    root = tmp_path / "cifar-10-batches-py"
    files(root, "test_batch", "data_batch_1", "batches.meta")
    for place in (root, tmp_path):
        with pytest.raises(DatasetError) as caught:
            open_dataset(f"cifar10:{place}")
        assert "pickles are never opened" in caught.value.remedy
        assert "cifar-10-binary.tar.gz" in caught.value.remedy


def test_cifar_files_that_are_cut_off_or_of_another_set_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test_batch.bin"
    cifar(path, 1, [1, 2], np.random.default_rng(0))
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(DatasetError, match="must be a multiple of 3073 bytes, got 6141"):
        open_benchmark(benchmark("cifar10", test=2), str(tmp_path))
    cifar(path, 1, [10], np.random.default_rng(0))
    with pytest.raises(DatasetError, match=r"record 0 of .* must be one of the 10 classes .*, got 10"):
        open_benchmark(benchmark("cifar10", test=1), str(tmp_path))


def test_cifar_as_folders_of_images(tmp_path: Path) -> None:
    (tmp_path / "test" / "aquarium_fish").mkdir(parents=True)
    Image.new("RGB", (32, 32)).save(tmp_path / "test" / "aquarium_fish" / "0001.png")
    data = open_benchmark(benchmark("cifar100", test=1), str(tmp_path))
    assert [item.label for item in data.samples] == ["aquarium_fish"]
    assert load_image(data.samples[0].read()).pixels.size == (32, 32)


# torchvision's readers, where they know the same layout, say the same


def test_torchvision_reads_dtd_and_pets_as_we_do(tmp_path: Path) -> None:
    datasets, base = pytest.importorskip("torchvision.datasets"), tmp_path / "tv"
    root = dtd(base / "dtd" / "dtd")
    ours = open_benchmark(benchmark("dtd", test1=2), str(root))
    theirs = datasets.DTD(str(base), split="test", partition=1)
    assert [item.path for item in ours.samples] == [Path(path) for path in theirs._image_files]
    assert [item.label for item in ours.samples] == [theirs.classes[label] for label in theirs._labels]

    root = base / "oxford-iiit-pet"
    files(root, *(f"images/{name}.jpg" for name in ("Bengal_8", "american_bulldog_203", "Abyssinian_201")))
    texts(root, {"annotations/test.txt": "Bengal_8 6 1 2\namerican_bulldog_203 2 2 1\nAbyssinian_201 1 1 1\n"})
    ours = open_benchmark(benchmark("pets", test=3), str(root))
    theirs = datasets.OxfordIIITPet(str(base), split="test")
    ids = shipped_label_set("pets").ids
    assert [(item.path, item.label) for item in ours.samples] == [
        (path, ids[label]) for path, label in zip(theirs._images, theirs._labels, strict=True)
    ]


def test_torchvision_reads_food_and_aircraft_as_we_do(tmp_path: Path) -> None:
    datasets, base = pytest.importorskip("torchvision.datasets"), tmp_path / "tv"
    root = base / "food-101"
    files(root, "images/apple_pie/1011328.jpg", "images/waffles/971843.jpg")
    listed = {"apple_pie": ["apple_pie/1011328"], "waffles": ["waffles/971843"]}
    texts(root, {"meta/test.txt": "apple_pie/1011328\nwaffles/971843\n", "meta/test.json": json.dumps(listed)})
    ours = open_benchmark(benchmark("food101", test=2), str(root))
    theirs = datasets.Food101(str(base), split="test")
    assert [(item.path, item.label) for item in ours.samples] == [
        (path, theirs.classes[label]) for path, label in zip(theirs._image_files, theirs._labels, strict=True)
    ]

    root = base / "fgvc-aircraft-2013b"
    files(root, "data/images/1514522.jpg", "data/images/0747566.jpg")
    texts(root / "data", {"images_variant_test.txt": "1514522 F-16A/B\n0747566 Cessna 172\n"})
    texts(root / "data", {"variants.txt": "Cessna 172\nF-16A/B\n"})
    ours = open_benchmark(benchmark("fgvc-aircraft", test=2), str(root))
    theirs = datasets.FGVCAircraft(str(base), split="test")
    assert [(str(item.path), item.label) for item in ours.samples] == [
        (path, theirs.classes[label]) for path, label in zip(theirs._image_files, theirs._labels, strict=True)
    ]


def test_torchvision_reads_sun_caltech_and_cars_as_we_do(tmp_path: Path) -> None:
    datasets, base = pytest.importorskip("torchvision.datasets"), tmp_path / "tv"
    files(base, "SUN397/a/abbey/sun_a.jpg", "SUN397/a/apse/indoor/sun_b.jpg")
    texts(base, {"SUN397/ClassName.txt": "/a/abbey\n/a/apse/indoor\n"})
    ours = open_benchmark(benchmark("sun397", all=2), f"{base}?split=all")
    theirs = datasets.SUN397(str(base))
    assert {item.path: item.label for item in ours.samples} == {
        path: theirs.classes[label] for path, label in zip(theirs._image_files, theirs._labels, strict=True)
    }

    root = base / "caltech101"
    files(root, *(f"101_ObjectCategories/{name}/image_0001.jpg" for name in ("BACKGROUND_Google", "Faces", "ant")))
    ours = open_benchmark(benchmark("caltech101", all=2), f"{root}?split=all")
    theirs = datasets.Caltech101(str(base))
    assert [item.label for item in ours.samples] == [theirs.categories[label] for label in theirs.y]

    cars(base / "stanford_cars", "cars_test_annos_withlabels.mat")
    names = np.array([[each.name for each in shipped_label_set("stanford-cars").classes]], dtype=object)
    (base / "stanford_cars" / "devkit").mkdir()
    pytest.importorskip("scipy.io").savemat(base / "stanford_cars" / "devkit" / "cars_meta.mat", {"class_names": names})
    ours = open_benchmark(benchmark("stanford-cars", test=2), str(base / "stanford_cars"))
    theirs = datasets.StanfordCars(str(base), split="test")
    ids = shipped_label_set("stanford-cars").ids
    assert [(str(item.path), item.label) for item in ours.samples] == [(path, ids[at]) for path, at in theirs._samples]
