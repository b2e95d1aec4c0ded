"""The registry of data sets: specs, kinds, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from abs_classify.datasets import available_datasets, open_dataset
from abs_core.errors import UnknownNameError, UsageError


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
