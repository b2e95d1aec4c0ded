"""The images that ship with packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from abs_classify.datasets import open_dataset
from abs_classify.datasets.demo import DEMO_IMAGES
from abs_classify.images import load_image
from abs_core.errors import DatasetError, MissingExtraError
from abs_core.files import data_folder


def test_every_demo_picture_opens_and_has_a_label_of_the_shipped_set() -> None:
    dataset = open_dataset("demo")
    assert len(dataset.samples) == len(DEMO_IMAGES) == 20
    ids = [load_image(sample.path).id for sample in dataset.samples]
    assert len(set(ids)) == 20
    assert {sample.label for sample in dataset.samples} <= set(dataset.names)
    assert len(dataset.classes) == 48


def test_the_demo_labels_are_stable_snake_case_and_all_different() -> None:
    shipped = json.loads((data_folder() / "labels" / "demo.json").read_text(encoding="utf-8"))
    assert shipped["name"] == "demo"
    ids = [entry["id"] for entry in shipped["classes"]]
    assert ids == sorted(set(ids))
    assert all(entry["id"] == entry["name"].replace(" ", "_") for entry in shipped["classes"])
    assert all(entry["name"].replace(" ", "").isalpha() and entry["name"].islower() for entry in shipped["classes"])


def test_the_demo_takes_no_location() -> None:
    with pytest.raises(DatasetError, match="'demo' takes no location"):
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
