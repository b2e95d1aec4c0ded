"""Published data sets as people have them: unpacked by hand, from Kaggle, for CoOp, for torchvision."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from miniatures import labels_of, miniature, write_files, write_texts

from abs_classify.datasets import BENCHMARKS, Dataset
from abs_classify.datasets.benchmarks.diagnosis import check_benchmark, open_benchmark
from abs_core.errors import DatasetError
from abs_core.labels import shipped_label_set

WNIDS = shipped_label_set("imagenet").ids


def opened(name: str, root: Path, size: int, options: str = "") -> Dataset:
    """The data set, after at most one correction of its root, which the check must print."""
    benchmark = next(benchmark for benchmark in BENCHMARKS if benchmark.name == name)
    small = benchmark.resized({part.name: size for part in benchmark.splits})
    report = check_benchmark(small, f"{root}{options}")
    if report.next_step.startswith("Write "):
        location = shlex.split(report.next_step)[1].partition(":")[2]
        report = check_benchmark(small, location)
    assert report.complete, report
    return open_benchmark(small, report.spec.partition(":")[2])


def devkit(root: Path, folder: str = "ILSVRC2012_devkit_t12/data") -> None:
    """Two images: the devkit's class 1 is tench, 2 is the goldfish."""
    savemat = pytest.importorskip("scipy.io").savemat
    rows = np.zeros((2, 1), dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O")])
    for position, wnid in enumerate(("n01440764", "n01443537")):
        rows[position, 0] = (position + 1, wnid)
    (root / folder).mkdir(parents=True)
    savemat(root / folder / "meta.mat", {"synsets": rows})
    write_texts(root / folder, {"ILSVRC2012_validation_ground_truth.txt": "2\n1\n"})


FLAT = {"ILSVRC2012_val_00000001.JPEG": "n01443537", "ILSVRC2012_val_00000002.JPEG": "n01440764"}


@pytest.mark.parametrize("images", ["val", ".", "images/val", "ILSVRC2012_img_val", "ILSVRC2012/validation", "a/b/val"])
@pytest.mark.parametrize("kit", ["ILSVRC2012_devkit_t12/data", "devkit/ILSVRC2012_devkit_t12/data"])
def test_flat_imagenet_with_the_devkit(tmp_path: Path, images: str, kit: str) -> None:
    devkit(tmp_path, kit)
    write_files(tmp_path / images, *FLAT)
    data = opened("imagenet", tmp_path, 2)
    assert {sample.path.name: sample.label for sample in data.samples} == FLAT


def test_flat_imagenet_without_its_first_image_is_incomplete_and_not_absent(tmp_path: Path) -> None:
    devkit(tmp_path)
    write_files(tmp_path / "val", list(FLAT)[1])
    small = miniature("imagenet", val=2)
    with pytest.raises(DatasetError, match=r"1 of 2 images of imagenet \(val\) are missing, the first is .*00000001"):
        open_benchmark(small, str(tmp_path))
    assert len(open_benchmark(small, f"{tmp_path}?partial").samples) == 1


def test_flat_imagenet_without_labels_is_not_told_to_download_the_images(tmp_path: Path) -> None:
    for folder in ("val", "ILSVRC2012_img_val", "."):
        write_files(tmp_path / "root" / folder, *FLAT)
        report = check_benchmark(miniature("imagenet", val=2), str(tmp_path / "root"))
        assert not report.complete
        assert "ILSVRC2012_devkit_t12.tar.gz" in report.next_step
        assert "ILSVRC2012_img_val.tar" not in report.next_step


def test_imagenet_with_wordnet_ids_in_the_names_or_a_list_or_kaggle_s_csv_beside_flat_images(tmp_path: Path) -> None:
    write_files(tmp_path / "a" / "val_images", *(f"{name[:-5]}_{wnid}.JPEG" for name, wnid in FLAT.items()))
    assert sorted(sample.label for sample in opened("imagenet", tmp_path / "a", 2).samples) == sorted(FLAT.values())
    write_files(tmp_path / "b" / "ILSVRC2012_img_val", *FLAT)
    write_texts(tmp_path / "b", {"val.txt": "".join(f"{name} {WNIDS.index(wnid)}\n" for name, wnid in FLAT.items())})
    assert [sample.label for sample in opened("imagenet", tmp_path / "b", 2).samples] == list(FLAT.values())
    write_files(tmp_path / "c" / "val", *FLAT)
    rows = "".join(f"{name[:-5]},{wnid} 1 2 3 4\n" for name, wnid in FLAT.items())
    write_texts(tmp_path / "c", {"LOC_val_solution.csv": f"ImageId,PredictionString\n{rows}"})
    assert [sample.label for sample in opened("imagenet", tmp_path / "c", 2).samples] == list(FLAT.values())


def test_numbered_folders_of_imagenet_are_positions_if_all_are_there(tmp_path: Path) -> None:
    write_files(tmp_path / "val", *(f"{number}/{number}.JPEG" for number in range(1000)))
    data = opened("imagenet", tmp_path, 1000)
    assert {sample.path.parent.name: sample.label for sample in data.samples} == {
        str(number): wnid for number, wnid in enumerate(WNIDS)
    }
    assert any("named by position in the order of the class ids" in note for note in data.notes)
    (tmp_path / "val" / "0" / "0.JPEG").rename(tmp_path / "val" / "0.JPEG")
    (tmp_path / "val" / "0").rename(tmp_path / "val" / "1000")
    with pytest.raises(DatasetError):  # from 1 to 1000 they may be the devkit's
        open_benchmark(miniature("imagenet", val=999), str(tmp_path))


PETS = {"Bengal_8.jpg": "bengal", "Abyssinian_2.jpg": "abyssinian"}


def test_pets_food_and_others_as_kaggle_packs_them(tmp_path: Path) -> None:
    write_files(tmp_path / "pets", *(f"images/images/{name}" for name in PETS))
    write_texts(tmp_path / "pets", {"annotations/annotations/test.txt": "Bengal_8 6 1 2\nAbyssinian_2 1 1 1\n"})
    data = opened("pets", tmp_path / "pets", 2)
    assert [sample.label for sample in data.samples] == list(PETS.values())
    assert "folder of images that lies elsewhere than the published one" in str(data.remarks[0])
    write_files(tmp_path / "food41", "images/waffles/1.jpg")
    write_texts(tmp_path / "food41", {"meta/meta/test.txt": "waffles/1\n", "meta/meta/train.txt": "waffles/1\n"})
    assert len(opened("food101", tmp_path / "food41", 1).samples) == 1
    write_files(tmp_path / "caltech", "accordion/image_0001.jpg")
    entries = {"test": [["accordion/image_0001.jpg", 0, "accordion"]]}
    write_texts(tmp_path / "caltech", {"split_zhou_Caltech101.json": json.dumps(entries)})
    assert len(opened("caltech101", tmp_path / "caltech", 1).samples) == 1


def test_names_in_another_case_or_with_another_extension_are_found_and_counted(tmp_path: Path) -> None:
    write_files(tmp_path, "images/Bengal_8.JPG", "images/Abyssinian_2.jpeg", "images/abyssinian_3.jpg")
    write_texts(tmp_path, {"annotations/test.txt": "Bengal_8 6 1 2\nAbyssinian_2 1 1 1\nAbyssinian_3 1 1 1\n"})
    data = opened("pets", tmp_path, 3)
    assert list(labels_of(data, tmp_path)) == [
        "images/Bengal_8.JPG",
        "images/Abyssinian_2.jpeg",
        "images/abyssinian_3.jpg",
    ]
    assert data.remarks[0].count == 3
    write_files(tmp_path, "images/Bengal_8.jpeg")  # two that may be meant are none
    with pytest.raises(DatasetError, match="1 of 3 images"):
        open_benchmark(miniature("pets", test=3), str(tmp_path))


def test_class_folders_some_levels_below(tmp_path: Path) -> None:
    classes = shipped_label_set("eurosat").ids
    write_files(tmp_path / "eurosat", *(f"archive/EuroSAT/{name}/{name}_1.jpg" for name in classes))
    assert len(opened("eurosat", tmp_path / "eurosat", 10, "?split=all").samples) == 10
    cars = [name.replace("/", "-") for name in shipped_label_set("stanford-cars").names.values()]
    write_files(
        tmp_path / "cars", *(f"car_data/car_data/{part}/{name}/1.jpg" for name in cars for part in ("train", "test"))
    )
    data = opened("stanford-cars", tmp_path / "cars", 196)
    assert {sample.path.parts[-3] for sample in data.samples} == {"test"}
    cifar = shipped_label_set("cifar10").ids
    write_files(
        tmp_path / "cifar", *(f"CIFAR-10-images/{part}/{name}/0.jpg" for name in cifar for part in ("TRAIN", "TEST"))
    )
    data = opened("cifar10", tmp_path / "cifar", 10)
    assert {sample.path.parts[-3] for sample in data.samples} == {"TEST"}


def test_the_images_of_another_split_are_never_taken(tmp_path: Path) -> None:
    names = shipped_label_set("cifar10").ids
    write_files(tmp_path / "cifar", *(f"CIFAR10/train/{name}/0.png" for name in names))
    with pytest.raises(DatasetError):
        open_benchmark(miniature("cifar10", test=10), str(tmp_path / "cifar"))
    savemat = pytest.importorskip("scipy.io").savemat
    rows = np.zeros((1, 1), dtype=[("fname", "O"), ("class", "O")])
    rows[0, 0] = ("00001.jpg", 1)
    (tmp_path / "cars").mkdir()
    savemat(tmp_path / "cars" / "cars_test_annos_withlabels.mat", {"annotations": rows})
    write_files(tmp_path / "cars", "cars_train/00001.jpg")  # the training images have the same names
    with pytest.raises(DatasetError, match="the folder of images"):
        open_benchmark(miniature("stanford-cars", test=1), str(tmp_path / "cars"))
    write_files(tmp_path / "cars", "cars_test/cars_test/00001.jpg")
    assert len(opened("stanford-cars", tmp_path / "cars", 1).samples) == 1


def test_a_root_with_nothing_but_the_training_images_is_not_corrected_to_them(tmp_path: Path) -> None:
    write_files(tmp_path / "imagenet", "train/n01440764/a.JPEG")
    report = check_benchmark(miniature("imagenet", val=1), str(tmp_path / "imagenet"))
    assert not report.complete
    assert report.next_step.startswith("Download ILSVRC2012_img_val.tar")


def test_flowers_of_torchvision_and_by_the_name_of_the_archive(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    savemat(tmp_path / "imagelabels.mat", {"labels": [[1, 2]]})
    savemat(tmp_path / "setid.mat", {"tstid": [[2]]})
    write_files(tmp_path, "102flowers/jpg/image_00001.jpg", "102flowers/jpg/image_00002.jpg")
    assert [sample.path.name for sample in opened("flowers102", tmp_path, 1).samples] == ["image_00002.jpg"]
