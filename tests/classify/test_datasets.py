"""Data sets: the demo's pictures, a user's folder, a user's table, and what is wrong with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from abs_classify.datasets import Sample, available_datasets, open_dataset
from abs_classify.datasets.demo import DEMO_IMAGES
from abs_classify.images import load_image
from abs_core.errors import DatasetError, MissingExtraError, UnknownNameError, UsageError
from abs_core.files import data_folder


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "teal").save(path)
    return path


def table(folder: Path, text: str | bytes, name: str = "photos.csv") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return f"csv:{path}"


# registry


@pytest.mark.parametrize("spec", ["imagenette", "", "folder:x", "Demo"])
def test_an_unknown_kind_lists_the_valid_ones(spec: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_dataset(spec)
    shown = caught.value.message.partition("valid: ")[2].partition(" and ")[0].split(", ")
    assert len(shown) == 8
    assert set(shown) <= set(available_datasets())
    assert f"and {len(available_datasets()) - 8} more" in caught.value.message
    assert caught.value.remedy == "See `abs datasets ls`"


def test_a_bare_folder_gets_told_how_to_write_it(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=f"imagefolder:{tmp_path}"):
        open_dataset(str(tmp_path))


@pytest.mark.parametrize("spec", ["imagefolder", "imagefolder:", "csv:"])
def test_a_kind_without_its_place_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="has no location"):
        open_dataset(spec)


def test_data_sets_import_neither_torch_nor_pillow() -> None:
    heavy = ["torch", "PIL", "numpy", "skimage"]
    code = f"import sys, abs_classify.datasets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# demo


def test_every_demo_picture_opens_and_has_a_label_of_the_shipped_set() -> None:
    dataset = open_dataset("demo")
    assert len(dataset.samples) == len(DEMO_IMAGES) == 20
    ids = [load_image(item.path).id for item in dataset.samples]
    assert len(set(ids)) == 20
    assert {item.label for item in dataset.samples} <= set(dataset.names)
    assert len(dataset.classes) == 48


def test_the_demo_labels_are_stable_snake_case_and_all_different() -> None:
    shipped = json.loads((data_folder() / "labels" / "demo.json").read_text(encoding="utf-8"))
    assert shipped["name"] == "demo"
    ids = [each["id"] for each in shipped["classes"]]
    assert ids == sorted(set(ids))
    assert all(each["id"] == each["name"].replace(" ", "_") for each in shipped["classes"])
    assert all(each["name"].replace(" ", "").isalpha() and each["name"].islower() for each in shipped["classes"])


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
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, "-S", "-c", code, root], capture_output=True, text=True, check=True)
    assert "'scikit-image'" in done.stdout
    assert "abs-toolkit[demo]" in done.stdout
    assert MissingExtraError.__name__ not in done.stderr


# imagefolder


def test_an_image_folder_is_read_in_a_fixed_order(tmp_path: Path) -> None:
    paths = [
        photo(tmp_path / "cat" / "b.png"),
        photo(tmp_path / "cat" / "deep" / "er" / "c.JPG"),
        photo(tmp_path / "golden_retriever" / 'it\'s a\n"dog" 😀.png'),
    ]
    photo(tmp_path / "dog" / ".hidden.png")
    photo(tmp_path / ".git" / "x.png")
    photo(tmp_path / "loose.png")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    dataset = open_dataset(f"imagefolder:{tmp_path}")
    assert dataset.samples == tuple(
        Sample(path, label) for path, label in zip(paths, ["cat", "cat", "golden_retriever"], strict=True)
    )
    assert dataset.names == {"cat": "cat", "golden_retriever": "golden retriever"}
    assert dataset.name == f"imagefolder:{tmp_path}"


def test_a_broken_image_is_found_when_it_is_opened_and_not_before(tmp_path: Path) -> None:
    photo(tmp_path / "cat" / "a.png").write_bytes(b"broken")
    assert len(open_dataset(f"imagefolder:{tmp_path}").samples) == 1


def test_links_are_followed_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    real = photo(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "data"
    (root / "cat").mkdir(parents=True)
    (root / "cat" / "link.png").symlink_to(real)
    (root / "cat" / "again").symlink_to(root / "cat")
    (root / "dog").symlink_to(real.parent)
    items = open_dataset(f"imagefolder:{root}").samples
    assert [(item.path.name, item.label) for item in items] == [("link.png", "cat"), ("a.png", "dog")]


def test_a_folder_name_in_decomposed_unicode_gives_the_composed_label(tmp_path: Path) -> None:
    photo(tmp_path / "cafe\u0301" / "a.png")
    assert open_dataset(f"imagefolder:{tmp_path}").samples[0].label == "caf\u00e9"


def test_folders_without_images_are_refused(tmp_path: Path) -> None:
    spec = f"imagefolder:{tmp_path}"
    with pytest.raises(DatasetError, match="no images in its sub-folders") as caught:
        open_dataset(spec)
    assert str(tmp_path) in caught.value.message
    photo(tmp_path / "a.png")
    with pytest.raises(DatasetError, match="has images, but none in a class sub-folder"):
        open_dataset(spec)
    with pytest.raises(DatasetError, match="does not exist"):
        open_dataset(f"imagefolder:{tmp_path / 'none'}")
    with pytest.raises(DatasetError, match="is not a folder"):
        open_dataset(f"imagefolder:{tmp_path / 'a.png'}")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems want UTF-8 names")
def test_a_class_folder_whose_name_is_no_unicode_is_refused_on_one_printable_line(tmp_path: Path) -> None:
    photo(Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9/a.png")))
    with pytest.raises(DatasetError, match="not valid UTF-8") as caught:
        open_dataset(f"imagefolder:{tmp_path}")
    str(caught.value).encode("utf-8")


# csv


def test_a_table_is_read_in_its_order_with_paths_from_its_folder(tmp_path: Path) -> None:
    near, far = photo(tmp_path / "sub" / 'a, "b"\nc.png'), photo(tmp_path / "other" / "ü.png")
    text = (
        "\ufeffnote, label ,path\r\n"
        'first,red_fox,"sub/a, ""b""\nc.png"\r\n'
        "\r\n"
        f"second, cat ,{far}\r\n"
        "again,cat,sub/../other/ü.png\r\n"
    )
    dataset = open_dataset(table(tmp_path, text))
    assert dataset.samples == (Sample(near, "red_fox"), Sample(far, "cat"))
    assert dataset.names == {"cat": "cat", "red_fox": "red fox"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", r"has no column 'path'; its columns: none"),
        ("file,label\na.png,cat\n", r"has no column 'path'; its columns: 'file', 'label'"),
        ("path;label\na.png;cat\n", r"no column 'path'; its columns: 'path;label'"),
        ("path,class\na.png,cat\n", "has no column 'label'"),
        ("path,label,path\na.png,cat,b.png\n", "more than one column 'path'"),
        ("path,label\n", "lists no images"),
        ("path,label\na.png,cat\na.png,\n", "line 3 of .*photos.csv' has an empty label"),
        ("path,label\na.png,   \n", "line 2 of .* has an empty label"),
        ("path,label\na.png\n", "line 2 of .* has an empty label"),
        ("path,label\n,cat\n", "line 2 of .* has no path"),
        ("path,label\na.png,cat\nb.png,cat\n", r"the file 'b.png' on line 3 of .*photos.csv' is missing"),
        (
            "path,label\nb.png,cat\nc.png,cat\n",
            r"2 of 2 files of .* are missing, the first is the file 'b.png' on line 2",
        ),
        ("path,label\na.png,cat\n./a.png,dog\n", "two labels: 'cat' on line 2 and 'dog' on line 3"),
        ('path,label\na.png,"cat', "not valid CSV after line"),
        ('path,label\n"a.png"x,cat\n', "not valid CSV after line 1"),
        (b"path,label\na.png,caf\xe9\n", "is not valid UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_by_name_and_line(tmp_path: Path, text: str | bytes, said: str) -> None:
    photo(tmp_path / "a.png")
    spec = table(tmp_path, text)
    with pytest.raises(DatasetError, match=said) as caught:
        open_dataset(spec)
    assert "photos.csv" in caught.value.message
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read the table '.*none\.csv': no such file"):
        open_dataset(f"csv:{tmp_path / 'none.csv'}")
    with pytest.raises(DatasetError, match="is a directory"):
        open_dataset(f"csv:{tmp_path}")


def test_the_digits_of_scikit_learn_become_a_table_that_opens(tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "real_sets.py"
    run = [sys.executable, str(script), "digits", str(tmp_path)]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    spec = f"csv:{tmp_path / 'digits' / 'images.csv'}"
    assert done.stdout == f"200 images of 10 classes: {spec}\n"
    data = open_dataset(spec)
    assert Counter(data.labels) == dict.fromkeys(data.names, 20)
    assert data.names["digit_seven"] == "digit seven"
    pixels = load_image(data.samples[0].path).pixels
    assert pixels.size == (224, 224)
    # ink on paper: most of it is white
    assert sum(pixels.convert("L").histogram()[:128]) < 224 * 224 / 2
