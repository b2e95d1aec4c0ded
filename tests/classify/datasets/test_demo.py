"""The images that ship with packages."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support import ROOT

from abs_classify.datasets import open_dataset
from abs_classify.datasets.demo import DEMO_PHOTOS, SmallPhoto
from abs_classify.images import load_image
from abs_core.errors import DatasetError, MissingExtraError, UsageError
from abs_core.files import data_folder, sha256_file
from abs_core.labels import shipped_label_set


def test_every_demo_photo_opens_and_has_a_label_of_the_shipped_set() -> None:
    dataset = open_dataset("demo")
    assert len(dataset.samples) == len(DEMO_PHOTOS) == 8
    ids = [load_image(sample.path).id for sample in dataset.samples]
    assert len(set(ids)) == 8
    assert {sample.label for sample in dataset.samples} <= set(dataset.names)
    assert len(dataset.classes) == 17
    assert set(shipped_label_set("cifar10").names.values()) - {"automobile"} <= set(dataset.names.values())
    # the license of some photos asks for their author's name wherever they are shown
    assert all(photo.credit in dataset.notes[0] for photo in DEMO_PHOTOS)


def test_small_photos_are_whole_inside_what_every_model_sees() -> None:
    dataset = open_dataset("demo:small")
    assert len({sample.name for sample in dataset.samples}) == len(dataset.samples) == 24
    assert Counter(sample.label for sample in dataset.samples) == {photo.label: 3 for photo in DEMO_PHOTOS}
    corners = set()
    for sample in dataset.samples[:4]:
        assert isinstance(sample.source, SmallPhoto)
        corners.add(sample.source.corner)
        image = load_image(sample.read(), sample.name).pixels
        assert image.size == (448, 448)
        photo = load_image(sample.path).pixels
        small = photo.resize((round(134 * photo.width / photo.height), 134), Image.Resampling.LANCZOS)
        # one sixteenth is left free on each side; models see seven eighths of the side or more
        left = 448 - 28 - small.width if sample.source.corner % 2 else 28
        upper = 448 - 28 - small.height if sample.source.corner > 1 else 28
        assert image.crop((left, upper, left + small.width, upper + small.height)).tobytes() == small.tobytes()
    assert corners == {0, 1, 2, 3}
    assert dataset.samples[0].read() == dataset.samples[0].read()


def test_another_background_is_another_image() -> None:
    source = open_dataset("demo:small").samples[0].source
    assert isinstance(source, SmallPhoto)
    assert source.name == f"at 30 % on coffee.png ({sha256_file(source.background).removeprefix('sha256:')[:8]})"
    assert replace(source, digest="0" * 8).name != source.name


def test_the_demo_labels_are_stable_snake_case_and_all_different() -> None:
    shipped = json.loads((data_folder() / "labels" / "demo.json").read_text(encoding="utf-8"))
    assert shipped["name"] == "demo"
    ids = [entry["id"] for entry in shipped["classes"]]
    assert ids == sorted(set(ids))
    assert all(entry["id"] == entry["name"].replace(" ", "_") for entry in shipped["classes"])
    assert all(entry["name"].replace(" ", "").isalpha() and entry["name"].islower() for entry in shipped["classes"])


def test_photos_can_be_smaller() -> None:
    usual, small = open_dataset("demo:small"), open_dataset("demo:small?height=20")
    assert small.name == "demo:small?height=20"
    assert small.samples[0].name == usual.samples[0].name.replace("at 30 %", "at 20 %")
    assert small.samples[0].read() != usual.samples[0].read()
    assert open_dataset("demo:small?height=30").samples == usual.samples


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("demo:small?height=9", "height must be a whole number from 10 to 50, got '9'"),
        ("demo:small?height=half", "height must be a whole number from 10 to 50, got 'half'"),
        ("demo:small?height=" + "9" * 5000, "height must be a whole number from 10 to 50"),
        ("demo:small?size=20", "unknown option 'size'"),
        ("demo:?height=20", "unknown option 'height'"),
    ],
)
def test_other_heights_are_refused(spec: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_dataset(spec)


def test_the_demo_has_two_parts() -> None:
    with pytest.raises(DatasetError, match="unknown part of the demo: 'somewhere'"):
        open_dataset("demo:somewhere")


def test_the_demo_says_which_package_is_missing(tmp_path: Path) -> None:
    # -S: no site-packages; the data sets need none
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from abs_classify.datasets import open_dataset\n"
        "from abs_core.errors import MissingExtraError\n"
        "try: open_dataset('demo')\n"
        "except MissingExtraError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code, str(ROOT)], capture_output=True, text=True, check=True)
    assert "'scikit-image'" in done.stdout
    assert "abs-toolkit[demo]" in done.stdout
    assert MissingExtraError.__name__ not in done.stderr
