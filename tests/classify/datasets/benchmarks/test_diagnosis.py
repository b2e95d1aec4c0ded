"""What a data set has, what it lacks, and the exact next step."""

from __future__ import annotations

import shlex
import tarfile
from pathlib import Path

import pytest
from miniatures import write_text

from abs_classify.datasets import BENCHMARKS, DatasetReport, check_dataset, open_dataset
from abs_classify.datasets.benchmarks.diagnosis import check_benchmark
from abs_core.errors import DatasetError, UnknownNameError, UsageError


def check(name: str, root: Path, size: int, options: str = "") -> DatasetReport:
    """Check with the size of a miniature."""
    benchmark = next(benchmark for benchmark in BENCHMARKS if benchmark.name == name)
    return check_benchmark(benchmark.resized({split.name: size for split in benchmark.splits}), f"{root}{options}")


@pytest.fixture
def dtd(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "dtd"
    write_text(root / "images" / "banded" / "banded_0001.jpg")
    write_text(root / "images" / "dotted" / "dotted_0001.jpg")
    write_text(root / "labels" / "test1.txt", "banded/banded_0001.jpg\ndotted/dotted_0001.jpg\n")
    write_text(root / "labels" / "val1.txt", "banded/banded_0001.jpg\ndotted/dotted_0001.jpg\n")
    return root


def test_a_complete_set_says_so_and_how_to_use_it(dtd: Path) -> None:
    report = check("dtd", dtd, 2)
    assert report.complete
    assert report.missing == ()
    assert report.there == (
        "test1: labels/test1.txt and images/",
        "2 images of 2 classes",
        "other splits that can be read: val1",
    )
    assert report.next_step == f"Run: abs eval --dataset dtd:{dtd}"


@pytest.mark.parametrize(("place", "levels"), [("..", "1 level too high"), ("../..", "2 levels too high")])
def test_a_folder_that_is_too_high_names_the_right_one(dtd: Path, place: str, levels: str) -> None:
    above = (dtd / place).resolve()
    report = check("dtd", above, 2, "?split=test1")
    assert not report.complete
    assert f"is {levels} for dtd, which lies in '{dtd}'" in report.missing[0]
    assert report.next_step == f"Write 'dtd:{dtd}?split=test1'"  # a shell would expand it


@pytest.mark.parametrize(
    ("place", "levels"), [("images", "1 level too deep"), ("labels", "1 level"), ("images/banded", "2 levels too deep")]
)
def test_a_folder_that_is_too_deep_names_the_right_one(dtd: Path, place: str, levels: str) -> None:
    report = check("dtd", dtd / place, 2)
    assert levels in report.missing[0]
    assert report.next_step == f"Write dtd:{dtd}"
    with pytest.raises(DatasetError, match=levels):
        open_dataset(f"dtd:{dtd / place}")


def test_a_missing_annotation_file_is_named_with_where_it_comes_from(dtd: Path) -> None:
    (dtd / "labels" / "test1.txt").unlink()
    report = check("dtd", dtd, 2)
    assert "the list of the images (labels/test1.txt)" in report.missing[0]
    assert report.next_step == (
        "Download dtd-r1.0.1.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/dtd/ and extract it in "
        f"'{dtd.parent}', or use another split: 'dtd:{dtd}?split=val1'"
    )


def test_too_high_and_an_annotation_file_is_missing(dtd: Path) -> None:
    (dtd / "labels" / "test1.txt").unlink()
    report = check("dtd", dtd.parent, 2)
    assert "1 level too high" in report.missing[0]
    assert "labels/test1.txt" in report.missing[0]


def test_an_archive_that_was_not_extracted_is_extracted_by_the_command_that_is_shown(tmp_path: Path) -> None:
    source = tmp_path / "source dtd"
    write_text(source / "dtd" / "images" / "banded" / "a.jpg")
    write_text(source / "dtd" / "labels" / "test1.txt", "banded/a.jpg\n")
    root = tmp_path / "my data" / "dtd"
    root.mkdir(parents=True)
    with tarfile.open(root.parent / "dtd-r1.0.1.tar.gz", "w:gz") as archive:
        archive.add(source / "dtd", "dtd")
    report = check("dtd", root, 1)
    assert not report.complete
    step = report.next_step
    assert step.startswith("Extract the archive that is there: tar -xf ")
    command = shlex.split(step.partition(": ")[2])
    assert command[:2] == ["tar", "-xf"]
    with tarfile.open(command[2]) as archive:
        archive.extractall(command[4], filter="data")
    assert check("dtd", root, 1).complete


def test_the_archive_itself_is_not_the_folder(tmp_path: Path) -> None:
    path = write_text(tmp_path / "dtd-r1.0.1.tar.gz")
    report = check("dtd", path, 1)
    assert "is the archive of dtd, not its folder" in report.missing[0]
    assert f"tar -xf {path} -C {tmp_path}" in report.next_step


def test_a_half_extracted_archive_is_counted_and_extracted_again(dtd: Path) -> None:
    (dtd / "images" / "dotted" / "dotted_0001.jpg").unlink()
    write_text(dtd.parent / "dtd-r1.0.1.tar.gz")
    report = check("dtd", dtd, 2)
    assert not report.complete
    assert "1 images of 1 classes" in report.there
    assert "1 of 2 images of dtd (test1) are missing" in report.missing[0]
    assert report.next_step == (
        f"Extract it again: tar -xf {dtd.parent}/dtd-r1.0.1.tar.gz -C {dtd.parent}, "
        f"or continue with the images that are there: 'dtd:{dtd}?partial'"
    )


def test_a_file_that_was_cut_off_is_found(dtd: Path) -> None:
    write_text(dtd / "images" / "dotted" / "dotted_0001.jpg", "")
    report = check("dtd", dtd, 2)
    assert not report.complete
    assert "1 images are empty files (0 bytes)" in report.missing[0]


def test_class_folders_that_are_not_all_there(tmp_path: Path) -> None:
    write_text(tmp_path / "val" / "n01440764" / "a.JPEG")
    report = check("imagenet", tmp_path, 3)
    assert "found 1 images of imagenet (val), expected 3; 999 classes have none" in report.missing[0]
    assert "ILSVRC2012_img_val.tar" in report.next_step
    assert f"imagenet:{tmp_path}?partial" in report.next_step


def test_loose_imagenet_images_want_the_devkit(tmp_path: Path) -> None:
    write_text(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG")
    report = check("imagenet", tmp_path, 1)
    assert "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt" in report.missing[0]
    assert "Download ILSVRC2012_devkit_t12.tar.gz" in report.next_step


def test_the_training_images_in_place_of_the_validation(tmp_path: Path) -> None:
    for number in range(5):
        write_text(tmp_path / "train" / "n01440764" / f"{number}.JPEG")
    report = check("imagenet", tmp_path / "train", 2)
    assert "found 5 images of imagenet (val), expected 2" in report.missing[0]


def test_places_images_without_their_list_and_the_list_without_images(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "val_256" / "Places365_val_00000001.jpg")
    report = check("places365", tmp_path / "a", 1)
    assert "the list of the images (places365_val.txt)" in report.missing[0]
    assert "filelist_places365-standard.tar" in report.next_step
    write_text(tmp_path / "b" / "places365_val.txt", "Places365_val_00000001.jpg 3\n")
    report = check("places365", tmp_path / "b", 1)
    assert "the folder of images (val_large)" in report.missing[0]
    assert "val_large.tar" in report.next_step


def test_an_empty_folder_and_none(tmp_path: Path) -> None:
    report = check("cub", tmp_path, 1)
    assert "the paths of the images (images.txt)" in report.missing[0]
    assert "Download CUB_200_2011.tgz" in report.next_step
    report = check("cub", tmp_path / "none", 1)
    assert report.missing == (f"the root '{tmp_path / 'none'}' of cub does not exist",)


@pytest.mark.parametrize("name", [benchmark.name for benchmark in BENCHMARKS])
def test_every_benchmark_has_a_next_step_for_an_empty_folder(tmp_path: Path, name: str) -> None:
    root = tmp_path / "empty"
    root.mkdir()
    for split in next(benchmark for benchmark in BENCHMARKS if benchmark.name == name).splits:
        report = check_dataset(f"{name}:{root}?split={split.name}")
        assert not report.complete
        assert report.next_step.startswith(("Download ", "Put "))
        assert not report.next_step.endswith(".")


def test_the_user_s_own_kinds_are_checked_by_opening(tmp_path: Path) -> None:
    write_text(tmp_path / "cat" / "a.png")
    write_text(tmp_path / "dog" / "a.png")
    write_text(tmp_path / "0" / "a.png")
    assert check_dataset(f"imagefolder:{tmp_path}").there == (
        "3 images of 3 classes",
        "1 class name is a number; a model knows words only (0)",
    )
    assert check_dataset(f"imagefolder:{tmp_path}").complete
    report = check_dataset(f"csv:{tmp_path / 'none.csv'}")
    assert not report.complete
    assert "cannot read the table" in report.missing[0]
    write_text(tmp_path / "cat" / "b.png", "")
    assert "1 images are empty files" in check_dataset(f"imagefolder:{tmp_path}").missing[0]
    write_text(tmp_path / "dog" / "a.png", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    report = check_dataset(f"imagefolder:{tmp_path}")
    assert "1 images are Git LFS pointers, the first is" in report.missing[1]
    assert report.next_step == "Run in their folder: git lfs pull"


def test_what_cannot_be_checked_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the data set 'dtd' has no location"):
        check_dataset("dtd")
    with pytest.raises(UnknownNameError):
        check_dataset(f"dtdd:{tmp_path}")
    with pytest.raises(UnknownNameError):
        check_dataset(f"dtd:{tmp_path}?split=none")


# one layout of each data set: the folder's usual name, an image of it, and what its lists say of that image
LAYOUTS: dict[str, tuple[str, str, dict[str, str]]] = {
    "imagenet": ("imagenet", "val/n01440764/a.JPEG", {}),
    "imagenet-v2": ("v2", "imagenetv2-matched-frequency-format-val/0/a.jpeg", {}),
    "imagenet-r": ("r", "imagenet-r/n01443537/art_0.jpg", {}),
    "imagenet-a": ("a", "imagenet-a/n01498041/0.jpg", {}),
    "imagenet-sketch": ("sets", "sketch/n01440764/sketch_0.JPEG", {}),
    "cub": (
        "CUB_200_2011",
        "images/001.Black_footed_Albatross/a.jpg",
        {
            "images.txt": "1 001.Black_footed_Albatross/a.jpg\n",
            "image_class_labels.txt": "1 1\n",
            "train_test_split.txt": "1 0\n",
        },
    ),
    "pets": ("pets", "images/Bengal_8.jpg", {"annotations/test.txt": "Bengal_8 6 1 2\n"}),
    "fgvc-aircraft": ("aircraft", "data/images/1.jpg", {"data/images_variant_test.txt": "1 F-16A/B\n"}),
    "food101": ("food-101", "images/waffles/1.jpg", {"meta/test.txt": "waffles/1\n"}),
    "dtd": ("dtd", "images/banded/a.jpg", {"labels/test1.txt": "banded/a.jpg\n"}),
    "places365": (
        "places",
        "val_256/Places365_val_00000001.jpg",
        {"places365_val.txt": "Places365_val_00000001.jpg 0\n"},
    ),
    "sun397": (
        "sun397",
        "SUN397/a/abbey/sun_a.jpg",
        {"split_zhou_SUN397.json": '{"test": [["a/abbey/sun_a.jpg", 0, "abbey"]]}'},
    ),
    "eurosat": (
        "eurosat",
        "2750/River/River_1.jpg",
        {"split_zhou_EuroSAT.json": '{"test": [["River/River_1.jpg", 0, "River"]]}'},
    ),
    "caltech101": (
        "caltech-101",
        "101_ObjectCategories/ant/image_0001.jpg",
        {"split_zhou_Caltech101.json": '{"test": [["ant/image_0001.jpg", 0, "ant"]]}'},
    ),
    "ucf101": (
        "ucf101",
        "UCF-101-midframes/Archery/v_Archery_g01_c01.jpg",
        {"split_zhou_UCF101.json": '{"test": [["Archery/v_Archery_g01_c01.jpg", 0, "Archery"]]}'},
    ),
    "cifar10": ("cifar-10-batches-bin", "test_batch.bin", {"test_batch.bin": "\0" * 3073}),
    "cifar100": ("cifar-100-binary", "test.bin", {"test.bin": "\0" * 3074}),
}


def test_every_data_set_whose_annotations_are_texts_has_a_layout_here() -> None:
    # those of the other two are MATLAB files
    assert {benchmark.name for benchmark in BENCHMARKS} - set(LAYOUTS) == {"flowers102", "stanford-cars"}


@pytest.mark.parametrize("name", list(LAYOUTS))
def test_each_data_set_is_found_from_too_high_and_from_too_deep(tmp_path: Path, name: str) -> None:
    folder, image, lists = LAYOUTS[name]
    root = tmp_path / "data" / folder
    write_text(root / image)
    for file, content in lists.items():
        write_text(root / file, content)
    assert check(name, root, 1).complete
    above = check(name, root.parent, 1)
    assert not above.complete
    assert "1 level too high" in above.missing[0]
    where = shlex.split(above.next_step.replace("Write ", ""))[0].removeprefix(f"{name}:")
    assert check(name, Path(where), 1).complete
    if inner := Path(image).parts[1:-1]:
        below = check(name, root / Path(image).parts[0] / "/".join(inner), 1)
        assert not below.complete
        assert "too deep" in below.missing[0]
        assert below.next_step.startswith(f"Write {name}:")


@pytest.mark.parametrize("name", [name for name, (_, _, lists) in LAYOUTS.items() if lists and "cifar" not in name])
def test_each_annotation_file_is_named_when_it_is_missing(tmp_path: Path, name: str) -> None:
    folder, image, lists = LAYOUTS[name]
    write_text(tmp_path / folder / image)
    for file in lists:
        for other, content in lists.items():
            write_text(tmp_path / folder / other, content)
        (tmp_path / folder / file).unlink()
        report = check(name, tmp_path / folder, 1)
        assert not report.complete
        assert f"({file})" in report.missing[0]
        assert report.next_step.startswith(("Download ", "Put "))
