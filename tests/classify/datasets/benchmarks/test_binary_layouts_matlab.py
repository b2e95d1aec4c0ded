"""Layouts whose annotations are MATLAB files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from miniatures import cars, miniature, write_files, write_texts

from abs_classify.datasets.benchmarks.diagnosis import open_benchmark
from abs_core.errors import DatasetError
from abs_core.labels import shipped_label_set


def test_imagenet_with_the_devkit_whose_numbers_are_not_the_order_of_the_ids(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    write_files(tmp_path, *(f"val/ILSVRC2012_val_0000000{number}.JPEG" for number in (1, 2)))
    data = tmp_path / "ILSVRC2012_devkit_t12" / "data"
    data.mkdir(parents=True)
    synsets = np.zeros((2, 1), dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    synsets[0, 0], synsets[1, 0] = (1.0, "n02119789", "kit fox"), (490.0, "n01440764", "tench")
    savemat(data / "meta.mat", {"synsets": synsets})
    write_texts(data, {"ILSVRC2012_validation_ground_truth.txt": "490\n1\n"})
    dataset = open_benchmark(miniature("imagenet", val=2), str(tmp_path))
    assert [(sample.path.name[-6:-5], sample.label) for sample in dataset.samples] == [
        ("1", "n01440764"),
        ("2", "n02119789"),
    ]


def test_flowers_count_from_one_and_the_test_is_tstid(tmp_path: Path) -> None:
    savemat = pytest.importorskip("scipy.io").savemat
    write_files(tmp_path, *(f"jpg/image_0000{number}.jpg" for number in (1, 2, 3, 4)))
    savemat(tmp_path / "imagelabels.mat", {"labels": np.array([[77, 1, 102, 2]], dtype=np.uint8)})
    savemat(
        tmp_path / "setid.mat",
        {"trnid": np.array([[2]]), "valid": np.array([[4]]), "tstid": np.array([[3, 1]], dtype=np.uint16)},
    )
    data = open_benchmark(miniature("flowers102", test=2), str(tmp_path))
    assert [(sample.path.name, sample.label) for sample in data.samples] == [
        ("image_00003.jpg", "blackberry_lily"),
        ("image_00001.jpg", "passion_flower"),
    ]
    train = open_benchmark(miniature("flowers102", train=1), f"{tmp_path}?split=train")
    assert train.samples[0].label == "pink_primrose"


def test_cars(tmp_path: Path) -> None:
    cars(tmp_path, "cars_test_annos_withlabels.mat")
    data = open_benchmark(miniature("stanford-cars", test=2), str(tmp_path))
    assert [sample.label for sample in data.samples] == [
        shipped_label_set("stanford-cars").ids[180],
        "am_general_hummer_suv_2000",
    ]


def test_car_annotations_without_classes_are_told_from_those_with(tmp_path: Path) -> None:
    cars(tmp_path, "cars_test_annos_withlabels.mat", classes=False)
    with pytest.raises(DatasetError, match="have no classes") as caught:
        open_benchmark(miniature("stanford-cars", test=2), str(tmp_path))
    assert "_withlabels.mat" in caught.value.remedy


def test_a_mat_file_that_is_none_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("scipy.io")
    write_files(tmp_path, "cars_test/00001.jpg", "cars_test_annos_withlabels.mat")
    with pytest.raises(DatasetError, match="is not a MATLAB file"):
        open_benchmark(miniature("stanford-cars", test=1), str(tmp_path))
