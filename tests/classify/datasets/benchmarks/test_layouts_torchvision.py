"""Where torchvision reads the same layout, its readers and ours agree."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from miniatures import cars, dtd, miniature, write_files, write_texts

from abs_classify.datasets.benchmarks.diagnosis import open_benchmark
from abs_core.labels import shipped_label_set


def test_torchvision_reads_dtd_and_pets_as_we_do(tmp_path: Path) -> None:
    datasets, base = pytest.importorskip("torchvision.datasets"), tmp_path / "tv"
    root = dtd(base / "dtd" / "dtd")
    ours = open_benchmark(miniature("dtd", test1=2), str(root))
    theirs = datasets.DTD(str(base), split="test", partition=1)
    assert [sample.path for sample in ours.samples] == [Path(path) for path in theirs._image_files]
    assert [sample.label for sample in ours.samples] == [theirs.classes[label] for label in theirs._labels]

    root = base / "oxford-iiit-pet"
    write_files(root, *(f"images/{name}.jpg" for name in ("Bengal_8", "american_bulldog_203", "Abyssinian_201")))
    write_texts(root, {"annotations/test.txt": "Bengal_8 6 1 2\namerican_bulldog_203 2 2 1\nAbyssinian_201 1 1 1\n"})
    ours = open_benchmark(miniature("pets", test=3), str(root))
    theirs = datasets.OxfordIIITPet(str(base), split="test")
    ids = shipped_label_set("pets").ids
    assert [(sample.path, sample.label) for sample in ours.samples] == [
        (path, ids[label]) for path, label in zip(theirs._images, theirs._labels, strict=True)
    ]


def test_torchvision_reads_food_and_aircraft_as_we_do(tmp_path: Path) -> None:
    datasets, base = pytest.importorskip("torchvision.datasets"), tmp_path / "tv"
    root = base / "food-101"
    write_files(root, "images/apple_pie/1011328.jpg", "images/waffles/971843.jpg")
    listed = {"apple_pie": ["apple_pie/1011328"], "waffles": ["waffles/971843"]}
    write_texts(root, {"meta/test.txt": "apple_pie/1011328\nwaffles/971843\n", "meta/test.json": json.dumps(listed)})
    ours = open_benchmark(miniature("food101", test=2), str(root))
    theirs = datasets.Food101(str(base), split="test")
    assert [(sample.path, sample.label) for sample in ours.samples] == [
        (path, theirs.classes[label]) for path, label in zip(theirs._image_files, theirs._labels, strict=True)
    ]

    root = base / "fgvc-aircraft-2013b"
    write_files(root, "data/images/1514522.jpg", "data/images/0747566.jpg")
    write_texts(root / "data", {"images_variant_test.txt": "1514522 F-16A/B\n0747566 Cessna 172\n"})
    write_texts(root / "data", {"variants.txt": "Cessna 172\nF-16A/B\n"})
    ours = open_benchmark(miniature("fgvc-aircraft", test=2), str(root))
    theirs = datasets.FGVCAircraft(str(base), split="test")
    assert [(str(sample.path), sample.label) for sample in ours.samples] == [
        (path, theirs.classes[label]) for path, label in zip(theirs._image_files, theirs._labels, strict=True)
    ]


def test_torchvision_reads_sun_caltech_and_cars_as_we_do(tmp_path: Path) -> None:
    datasets, base = pytest.importorskip("torchvision.datasets"), tmp_path / "tv"
    write_files(base, "SUN397/a/abbey/sun_a.jpg", "SUN397/a/apse/indoor/sun_b.jpg")
    write_texts(base, {"SUN397/ClassName.txt": "/a/abbey\n/a/apse/indoor\n"})
    ours = open_benchmark(miniature("sun397", all=2), f"{base}?split=all")
    theirs = datasets.SUN397(str(base))
    assert {sample.path: sample.label for sample in ours.samples} == {
        path: theirs.classes[label] for path, label in zip(theirs._image_files, theirs._labels, strict=True)
    }

    root = base / "caltech101"
    write_files(
        root, *(f"101_ObjectCategories/{name}/image_0001.jpg" for name in ("BACKGROUND_Google", "Faces", "ant"))
    )
    ours = open_benchmark(miniature("caltech101", all=2), f"{root}?split=all")
    theirs = datasets.Caltech101(str(base))
    assert [sample.label for sample in ours.samples] == [theirs.categories[label] for label in theirs.y]

    cars(base / "stanford_cars", "cars_test_annos_withlabels.mat")
    names = np.array([[label.name for label in shipped_label_set("stanford-cars").classes]], dtype=object)
    (base / "stanford_cars" / "devkit").mkdir()
    pytest.importorskip("scipy.io").savemat(base / "stanford_cars" / "devkit" / "cars_meta.mat", {"class_names": names})
    ours = open_benchmark(miniature("stanford-cars", test=2), str(base / "stanford_cars"))
    theirs = datasets.StanfordCars(str(base), split="test")
    ids = shipped_label_set("stanford-cars").ids
    assert [(str(sample.path), sample.label) for sample in ours.samples] == [
        (path, ids[number]) for path, number in theirs._samples
    ]
