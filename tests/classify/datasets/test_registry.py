"""The registry of data sets: specs, kinds, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from miniatures import write_image

from abs_classify.datasets import BENCHMARKS, available_datasets, check_dataset, open_dataset
from abs_core.errors import UnknownNameError, UsageError
from abs_core.labels import compact


@pytest.mark.parametrize("spec", ["imagenette", "", "folder:x", "Demo"])
def test_an_unknown_kind_lists_the_valid_ones(spec: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_dataset(spec)
    shown = caught.value.message.partition("valid: ")[2].partition(" and ")[0].split(", ")
    assert len(shown) == 8
    assert set(shown) <= set(available_datasets())
    assert f"and {len(available_datasets()) - 8} more" in caught.value.message
    assert caught.value.remedy == (
        "See `abs datasets ls`; read a published set that is not there as imagefolder:, wds: or hf:"
    )


def test_a_bare_path_gets_told_how_to_write_it(tmp_path: Path) -> None:
    (tmp_path / "list.csv").touch()
    for place, kind in ((tmp_path, "imagefolder"), (tmp_path / "list.csv", "csv")):
        with pytest.raises(UnknownNameError, match=f"write {kind}:{place}"):
            open_dataset(str(place))


@pytest.mark.parametrize("spec", ["imagefolder", "imagefolder:", "csv:"])
def test_a_kind_without_its_place_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="has no location"):
        open_dataset(spec)


def test_data_sets_import_neither_torch_nor_pillow() -> None:
    heavy = ["torch", "PIL", "numpy", "skimage"]
    code = f"import sys, abs_classify.datasets; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_class_names_that_are_no_words_are_translated_or_remarked_on_in_every_kind_of_data_set(tmp_path: Path) -> None:
    for name in ("n02123045", "0", "Cat", "cat"):
        write_image(tmp_path / "photos" / name / "a.png")
    (tmp_path / "photos.csv").write_text("path,label\nphotos/0/a.png,n02123045\nphotos/Cat/a.png,nan\n")
    folder = open_dataset(f"imagefolder:{tmp_path / 'photos'}")
    assert folder.names == {"0": "0", "Cat": "Cat", "cat": "cat", "n02123045": "tabby cat"}
    assert [str(remark) for remark in folder.remarks] == [
        "1 WordNet id is read as a name (n02123045: tabby cat)",
        "1 class name is a number; a model knows words only (0)",
        "1 pair of classes has nearly the same name ('Cat' and 'cat')",
    ]
    table = open_dataset(f"csv:{tmp_path / 'photos.csv'}")
    assert table.names == {"n02123045": "tabby cat", "nan": "nan"}
    assert [remark.count for remark in table.remarks] == [1, 1]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cub-200-2011", "cub"),
        ("CUB_200_2011", "cub"),
        ("oxford_pets", "pets"),
        ("Oxford-IIIT-Pet", "pets"),
        ("Food-101", "food101"),
        ("cifar-10", "cifar10"),
        ("stanford_cars", "stanford-cars"),
        ("fgvc_aircraft", "fgvc-aircraft"),
        ("oxford_flowers", "flowers102"),
        ("imagenet_v2", "imagenet-v2"),
        ("wds/vtab/pets", "pets"),
    ],
)
def test_a_published_set_has_its_usual_names(tmp_path: Path, name: str, kind: str) -> None:
    assert check_dataset(f"{name}:{tmp_path}").spec == f"{kind}:{tmp_path}"


def test_no_two_published_sets_share_a_name() -> None:
    names = [{compact(name) for name in (benchmark.name, *benchmark.aliases)} for benchmark in BENCHMARKS]
    assert len(set().union(*names)) == sum(map(len, names))
