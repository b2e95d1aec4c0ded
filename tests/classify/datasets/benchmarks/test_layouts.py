"""Layouts of published data sets in miniature, with their real annotation formats and the traps in them."""

from __future__ import annotations

from pathlib import Path

import pytest
from miniatures import dtd, labels_of, miniature, write_files, write_texts

from abs_classify.datasets.benchmarks.diagnosis import open_benchmark
from abs_core.errors import DatasetError
from abs_core.labels import shipped_label_set

WNIDS = ("n01440764", "n01443537", "n01484850")


@pytest.mark.parametrize("below", ["val", "images/val", "ILSVRC/Data/CLS-LOC/val", "."])
def test_imagenet_in_class_folders(tmp_path: Path, below: str) -> None:
    # in another order than the classes
    write_files(
        tmp_path,
        *(f"{below}/{wnid}/ILSVRC2012_val_0000000{number}.JPEG" for number, wnid in enumerate(reversed(WNIDS), 1)),
    )
    data = open_benchmark(miniature("imagenet", val=3), str(tmp_path))
    assert {sample.path.parent.name: sample.label for sample in data.samples} == dict(zip(WNIDS, WNIDS, strict=True))
    assert len(data.classes) == 1000
    assert data.names["n01440764"] == "tench"


def test_imagenet_as_kaggle_has_it(tmp_path: Path) -> None:
    write_files(tmp_path, *(f"ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)))
    rows = (
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000002,n01443537 111 108 441 193 n01443537 1 2 3 4 \n"
        "ILSVRC2012_val_00000001,n03995372 85 1 499 272 \n"
    )
    write_texts(tmp_path, {"LOC_val_solution.csv": rows})
    data = open_benchmark(miniature("imagenet", val=2), str(tmp_path))
    assert {sample.path.name: sample.label for sample in data.samples} == {
        "ILSVRC2012_val_00000001.JPEG": "n03995372",
        "ILSVRC2012_val_00000002.JPEG": "n01443537",
    }


@pytest.mark.parametrize("below", ["imagenetv2-matched-frequency-format-val", "."])
def test_imagenet_v2_folders_are_numbers_and_not_places_in_a_sorted_list(tmp_path: Path, below: str) -> None:
    # sorted as texts these are 0, 1, 10, 2, 999: the third would get the label of class 2
    write_files(tmp_path, *(f"{below}/{number}/a.jpeg" for number in (0, 1, 2, 10, 999)))
    data = open_benchmark(miniature("imagenet-v2", matched_frequency=5), str(tmp_path))
    ids = shipped_label_set("imagenet").ids
    assert {sample.path.parent.name: sample.label for sample in data.samples} == {
        number: ids[int(number)] for number in ("0", "1", "2", "10", "999")
    }
    assert ids[10] == "n01530575"


def test_imagenet_v2_folders_with_wordnet_ids_are_read_too_and_foreign_numbers_refused(tmp_path: Path) -> None:
    small = miniature("imagenet-v2", matched_frequency=1)
    write_files(tmp_path / "ids", "n01440764/a.jpeg")
    assert open_benchmark(small, str(tmp_path / "ids")).samples[0].label == "n01440764"
    write_files(tmp_path / "many", "0/a.jpeg", "1000/a.jpeg")
    with pytest.raises(DatasetError, match="must be one of the 1000 classes of 'imagenet', got '1000'"):
        open_benchmark(small, str(tmp_path / "many"))


def test_a_variant_of_imagenet_v2_is_not_taken_for_another(tmp_path: Path) -> None:
    root = write_files(tmp_path / "imagenetv2-top-images-format-val", "0/a.jpeg")
    with pytest.raises(DatasetError, match=r"lacks files of imagenet-v2 \(matched-frequency\)"):
        open_benchmark(miniature("imagenet-v2", matched_frequency=1), str(root))
    assert open_benchmark(miniature("imagenet-v2", top_images=1), f"{root}?split=top-images").split == "top-images"


def test_imagenet_r_is_not_taken_for_imagenet_a(tmp_path: Path) -> None:
    # both have goldfinch; only R has goldfish
    write_files(tmp_path, "imagenet-a/n01531178/x.jpg", "imagenet-a/n01443537/x.jpg")
    with pytest.raises(DatasetError, match="one of the 200 classes of 'imagenet-a', got 'n01443537'"):
        open_benchmark(miniature("imagenet-a", test=2), str(tmp_path))


@pytest.mark.parametrize("below", ["sketch", "images", "."])
def test_imagenet_sketch(tmp_path: Path, below: str) -> None:
    write_files(tmp_path, f"{below}/n15075141/sketch_0.JPEG")
    assert open_benchmark(miniature("imagenet-sketch", test=1), str(tmp_path)).samples[0].label == "n15075141"


def test_places_in_class_folders(tmp_path: Path) -> None:
    write_files(tmp_path, "val/church-indoor/a.jpg", "val/church/outdoor/b.jpg", "val/airfield/c.jpg")
    data = open_benchmark(miniature("places365", val=3), str(tmp_path))
    assert {sample.path.name: sample.label for sample in data.samples} == {
        "a.jpg": "church/indoor",
        "b.jpg": "church/outdoor",
        "c.jpg": "airfield",
    }


def test_caltech_leaves_the_background_out(tmp_path: Path) -> None:
    base = "101_ObjectCategories"
    write_files(tmp_path, f"{base}/BACKGROUND_Google/image_0001.jpg", f"{base}/Faces/image_0001.jpg")
    data = open_benchmark(miniature("caltech101", all=1), f"{tmp_path}?split=all")
    assert [sample.label for sample in data.samples] == ["Faces"]
    assert len(data.classes) == 101


@pytest.mark.parametrize("line", ["../../etc/banded/x.jpg", "/etc/passwd", "banded/../../x.jpg", "banded/a\\b.jpg"])
def test_a_list_that_leads_outside_the_folder_is_refused(tmp_path: Path, line: str) -> None:
    root = dtd(tmp_path / "dtd")
    write_texts(root, {"labels/test1.txt": f"{line}\n"})
    with pytest.raises(DatasetError, match=r"must lie inside|must be one of the 47 classes"):
        open_benchmark(miniature("dtd", test1=1), str(root))


def test_a_class_that_the_published_set_lacks_is_refused_by_line(tmp_path: Path) -> None:
    root = dtd(tmp_path / "dtd")
    write_texts(root, {"labels/test1.txt": "banded/banded_0001.jpg\nfluffy/fluffy_0001.jpg\n"})
    with pytest.raises(DatasetError, match=r"line 2 of .*test1.txt': the label must be one of the 47 .*, got 'fluffy'"):
        open_benchmark(miniature("dtd", test1=2), str(root))


def test_pets_are_labelled_by_number_and_not_by_sorted_names(tmp_path: Path) -> None:
    # sorted, capitals first: Abyssinian, Bengal, american_bulldog; by number bengal is 6 and american_bulldog 2
    lines = "# image id species breed\nBengal_8 6 1 2\namerican_bulldog_203 2 2 1\nAbyssinian_201 1 1 1\n"
    write_files(tmp_path, *(f"images/{name}.jpg" for name in ("Bengal_8", "american_bulldog_203", "Abyssinian_201")))
    write_texts(tmp_path, {"annotations/test.txt": lines})
    data = open_benchmark(miniature("pets", test=3), str(tmp_path))
    assert [(sample.path.stem, sample.label) for sample in data.samples] == [
        ("Bengal_8", "bengal"),
        ("american_bulldog_203", "american_bulldog"),
        ("Abyssinian_201", "abyssinian"),
    ]
    write_texts(tmp_path, {"annotations/test.txt": lines.replace("Bengal_8 6", "Bengal_8 2")})
    with pytest.raises(DatasetError, match=r"line 2 of .*test.txt': the label must be one of .*, got '2 \(Bengal\)'"):
        open_benchmark(miniature("pets", test=3), str(tmp_path))


@pytest.mark.parametrize("base", ["data/", ""])
def test_aircraft_variants_may_hold_slashes_and_spaces(tmp_path: Path, base: str) -> None:
    write_files(tmp_path, f"{base}images/1514522.jpg", f"{base}images/0747566.jpg")
    write_texts(tmp_path, {f"{base}images_variant_test.txt": "1514522 F-16A/B\n0747566 Cessna 172\n"})
    data = open_benchmark(miniature("fgvc-aircraft", test=2), str(tmp_path))
    assert [(sample.path.name, sample.label) for sample in data.samples] == [
        ("1514522.jpg", "F-16A/B"),
        ("0747566.jpg", "Cessna 172"),
    ]


def test_food_lists_leave_out_the_ending(tmp_path: Path) -> None:
    write_files(tmp_path, "images/apple_pie/1011328.jpg", "images/waffles/971843.jpg", "images/waffles/1.jpg")
    write_texts(tmp_path, {"meta/test.txt": "waffles/971843\napple_pie/1011328\n"})
    data = open_benchmark(miniature("food101", test=2), str(tmp_path))
    assert [(sample.path.name, sample.label) for sample in data.samples] == [
        ("971843.jpg", "waffles"),
        ("1011328.jpg", "apple_pie"),
    ]


@pytest.mark.parametrize("folder", ["val_large", "val_256"])
def test_places_counts_from_zero_and_keeps_indoor_and_outdoor_apart(tmp_path: Path, folder: str) -> None:
    write_files(tmp_path, *(f"{folder}/Places365_val_0000000{number}.jpg" for number in (1, 2, 3)))
    ids = shipped_label_set("places365").ids
    numbers = [ids.index("church/indoor"), ids.index("church/outdoor"), 0]
    lines = "".join(f"Places365_val_0000000{number}.jpg {label}\n" for number, label in enumerate(numbers, 1))
    write_texts(tmp_path, {"places365_val.txt": lines})
    data = open_benchmark(miniature("places365", val=3), str(tmp_path))
    assert [sample.label for sample in data.samples] == ["church/indoor", "church/outdoor", "airfield"]
    assert len(data.classes) == len({label.name for label in data.classes}) == 365
    assert data.notes == (f"read from places365_val.txt and {folder}/",)


def test_sun_by_partition_and_whole(tmp_path: Path) -> None:
    names = ("SUN397/a/abbey/sun_a.jpg", "SUN397/a/apse/indoor/sun_b.jpg", "SUN397/y/youth_hostel/sun_c.jpg")
    write_files(tmp_path, *names)
    write_texts(tmp_path, {"Partitions/Testing_01.txt": "/a/apse/indoor/sun_b.jpg\n/a/abbey/sun_a.jpg\n"})
    small = miniature("sun397", test1=2, all=3)
    assert [sample.label for sample in open_benchmark(small, f"{tmp_path}?split=test1").samples] == [
        "apse/indoor",
        "abbey",
    ]
    assert list(labels_of(open_benchmark(small, f"{tmp_path}?split=all"), tmp_path).values()) == [
        "abbey",
        "apse/indoor",
        "youth_hostel",
    ]


def test_ucf_frames_are_found_by_the_names_of_their_videos(tmp_path: Path) -> None:
    names = ("Apply_Eye_Makeup/v_ApplyEyeMakeup_g01_c01", "Handstand_Pushups/v_HandStandPushups_g01_c01")
    write_files(tmp_path, *(f"UCF-101-midframes/{name}.jpg" for name in names))
    videos = "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi\nHandstandPushups/v_HandStandPushups_g01_c01.avi\n"
    write_texts(tmp_path, {"ucfTrainTestlist/testlist01.txt": videos})
    small = miniature("ucf101", test1=2, all=2)
    expected = ["ApplyEyeMakeup", "HandstandPushups"]
    assert [sample.label for sample in open_benchmark(small, f"{tmp_path}?split=test1").samples] == expected
    assert [sample.label for sample in open_benchmark(small, f"{tmp_path}?split=all").samples] == expected


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
    write_files(root, *(f"images/{line.split()[1]}" for line in CUB["images.txt"].splitlines()))
    return write_texts(root, CUB | {f"{name}.txt": content for name, content in changes.items()})


def test_cub_joins_its_three_files_by_image_number(tmp_path: Path) -> None:
    data = open_benchmark(miniature("cub", test=2), str(cub(tmp_path)))
    assert {sample.path.name: sample.label for sample in data.samples} == {
        "Black_Footed_Albatross_0046_18.jpg": "001.Black_footed_Albatross",
        "Common_Yellowthroat_0003_190521.jpg": "200.Common_Yellowthroat",
    }
    train = open_benchmark(miniature("cub", train=1), f"{tmp_path}?split=train")
    assert [sample.path.name for sample in train.samples] == ["Black_Footed_Albatross_0009_34.jpg"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_class_labels": "1 2\n2 1\n10 200\n"}, r"must be one of .*, got '2 \(001.Black_footed_Albatross\)'"),
        ({"image_class_labels": "1 1\n2 1\n"}, "the image number 10 .* has no class or no split"),
        ({"train_test_split": "1 0\n2 1\n10 test\n"}, "the image number 10 .* has no class or no split"),
        ({"train_test_split": "1 0\n1 0\n"}, "line 2 of .*train_test_split.txt' must be a new image number"),
        ({"image_class_labels": "1 1\n2 1\n10 201\n"}, r"of the 200 classes .*, got '201 \(200.Common_Yellowthroat\)'"),
    ],
)
def test_cub_files_that_do_not_belong_together_are_refused(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(DatasetError, match=message):
        open_benchmark(miniature("cub", test=2), str(cub(tmp_path, **changes)))
