"""Features of class texts in memory and in a file."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from abs_classify.encoding import text_rows
from abs_classify.encoding.text_rows import fill_rows, take_rows
from abs_classify.methods.soft_matching import SoftTexts, soft_prepared, soft_reference
from abs_core.errors import CacheError

_TEXTS = [f"text {number}" for number in range(20_000)]


def _rows(texts: Sequence[str]) -> np.ndarray:
    numbers = np.array([int(text.split()[1]) for text in texts], dtype=np.float32)
    features = np.stack([np.cos(numbers * (place + 1)) for place in range(16)], axis=1)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files from 100 kB on."""
    monkeypatch.setattr(text_rows, "LARGE_MATRIX", 100_000)


@pytest.mark.usefixtures("small_files")
def test_a_large_matrix_is_a_file_that_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    matrix = fill_rows(_TEXTS, _rows, folder)
    assert isinstance(matrix, np.memmap)
    np.testing.assert_array_equal(matrix, fill_rows(_TEXTS, _rows, None))
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("small_files")
def test_a_small_matrix_and_one_without_a_folder_are_in_memory(tmp_path: Path) -> None:
    for matrix in (fill_rows(_TEXTS[:1000], _rows, tmp_path), fill_rows(_TEXTS, _rows, None)):
        assert not isinstance(matrix, np.memmap)


@pytest.mark.usefixtures("small_files")
def test_texts_are_asked_for_in_blocks_and_once(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def rows_of(texts: Sequence[str]) -> np.ndarray:
        asked.append(texts)
        return _rows(texts)

    fill_rows(_TEXTS, rows_of, tmp_path)
    assert [text for block in asked for text in block] == _TEXTS
    assert max(map(len, asked)) < len(_TEXTS) / 2


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("scratch", [True, False])
def test_rows_in_another_order_are_a_matrix_of_their_own(tmp_path: Path, scratch: bool) -> None:
    matrix = fill_rows(_TEXTS, _rows, tmp_path if scratch else None)
    assert np.shares_memory(take_rows(matrix, range(500), None), matrix)
    positions = np.random.default_rng(0).permutation(len(_TEXTS)).tolist() * 4
    taken = take_rows(matrix, positions, tmp_path if scratch else None)
    np.testing.assert_array_equal(taken, np.asarray(matrix)[positions])
    assert isinstance(taken, np.memmap) == scratch


@pytest.mark.usefixtures("small_files")
def test_soft_matching_reads_a_file_as_it_reads_memory(tmp_path: Path) -> None:
    class_index = torch.arange(len(_TEXTS)) % 7
    views = torch.from_numpy(_rows(["text 3", "text 9", "text 11"]))[None]
    in_file, in_memory = (
        soft_prepared(views, SoftTexts.of(torch.from_numpy(fill_rows(_TEXTS, _rows, place)), class_index, 7))
        for place in (tmp_path, None)
    )
    assert torch.equal(in_file, in_memory)
    reference = soft_reference(views, torch.from_numpy(_rows(_TEXTS)), class_index, 7)
    assert torch.allclose(in_file.double(), reference, rtol=1e-5)


@pytest.mark.usefixtures("small_files")
def test_a_folder_that_cannot_hold_the_file_is_named_with_the_remedy(tmp_path: Path) -> None:
    place = tmp_path / "a file"
    place.touch()
    with pytest.raises(CacheError, match=rf"20,000 class texts need 0\.0 GB in {re.escape(str(place))}.*") as caught:
        fill_rows(_TEXTS, _rows, place)
    assert "--cache DIR" in (caught.value.remedy or "")
