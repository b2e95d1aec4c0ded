"""The files of a split: numbered by their names, counted by the card, copied from the hub in full or not at all."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from abs_classify.datasets import open_dataset
from abs_classify.datasets.parquet import download_split, find_parquet_files, stated_rows
from abs_core.errors import DatasetError, UsageError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def folder_of(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * 10)
    return root


def names(root: Path, split: str = "test") -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_parquet_files(root, split)]


def test_files_lie_in_the_folder_in_data_or_in_a_folder_of_the_split(tmp_path: Path) -> None:
    folder_of(tmp_path / "a", "test-00001-of-00002-ab.parquet", "test-00000-of-00002-cd.parquet", "train.parquet")
    assert names(tmp_path / "a") == ["test-00000-of-00002-cd.parquet", "test-00001-of-00002-ab.parquet"]
    assert names(folder_of(tmp_path / "b", "data/test.parquet")) == ["data/test.parquet"]
    # as the hub converts data sets on refs/convert/parquet
    assert names(folder_of(tmp_path / "c", "test/0000.parquet", "test/0001.parquet", "train/0000.parquet")) == [
        "test/0000.parquet",
        "test/0001.parquet",
    ]


def test_the_folder_of_the_only_configuration_is_found(tmp_path: Path) -> None:
    assert names(folder_of(tmp_path / "a", "plain_text/test-00000-of-00001.parquet", "other/x.txt")) == [
        "plain_text/test-00000-of-00001.parquet"
    ]
    assert names(folder_of(tmp_path / "b", "default/test/0000.parquet", "default/train/0000.parquet")) == [
        "default/test/0000.parquet"
    ]
    folder_of(tmp_path / "a", "more/test-00000-of-00001.parquet")
    with pytest.raises(DatasetError, match="several configurations with a split 'test': more, plain_text"):
        names(tmp_path / "a")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["test-00000-of-00003.parquet", "test-00002-of-00003.parquet"], r"1 of 3 files are missing .* number 1 \("),
        (["test-00000-of-00010.parquet"], r"9 of 10 files are missing .*test-00001-of-00010"),
        (["test-00000-of-00001-a.parquet", "test-00000-of-00001-b.parquet"], "several versions of one split"),
        (["test-00000-of-00001.parquet", "test-00000-of-00002.parquet"], "several versions of one split"),
        (["test-00000-of-00001.parquet", "test.parquet"], "several versions of one split"),
        (["test/0000.parquet", "test/0002.parquet"], r"has no file 1, but a file 0002"),
        (["train-00000-of-00001.parquet"], "no parquet file of the split 'test'; its splits: train"),
    ],
)
def test_files_that_are_missing_or_too_many_are_an_error(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        find_parquet_files(folder_of(tmp_path, *files), "test")


@pytest.mark.parametrize(
    ("card", "rows"),
    [
        ("---\ndataset_info:\n  splits:\n  - name: test\n    num_examples: 7\n---\n# Text\n", 7),
        ("---\ndataset_info:\n- config_name: default\n  splits:\n  - name: test\n    num_examples: 7\n---\n", 7),
        ("---\ndataset_info:\n- splits:\n  - name: test\n    num_examples: 7\n- splits: []\n---\n", None),
        ("---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: 7\n---\n", None),
        ("---\nlicense: mit\n---\n", None),
        ("# no card", None),
        ("---\ndataset_info:\n" + "[" * 500_000 + "\n---\n", None),
        ("---\ndataset_info:\n" + " - name: test\n" * 50_000 + "\n---\n", None),
        ("---\ndataset_info:\n  splits:\n  - name: 'test'\n    num_examples: 7\ntags:\n- x: 1\n- y: 2\n---\n", 7),
        ("---\n!!bool foo\n---\n", None),
    ],
)
def test_the_card_of_a_data_set_counts_its_rows(tmp_path: Path, card: str, rows: int | None) -> None:
    (tmp_path / "README.md").write_text(card)
    assert stated_rows(tmp_path, "test") == rows


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_fewer_rows_than_the_card_counts_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": [b"x"], "label": ["cat"]}), tmp_path / "test.parquet")
    (tmp_path / "README.md").write_text("---\ndataset_info:\n  splits:\n  - name: test\n    num_examples: 200\n---\n")
    with pytest.raises(DatasetError, match="have 1 rows, but the card of the data set says 200"):
        open_dataset(f"hf:{tmp_path}")


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """A client of the hub whose connection breaks: it takes what there is for all of it, as the real one does."""

    def install(listed: dict[str, int], sent: list[str]) -> list[str]:
        calls: list[str] = []

        def tree(*_: Any, **__: Any) -> list[SimpleNamespace]:
            calls.append("tree")
            return [
                SimpleNamespace(path="data"),
                *(SimpleNamespace(path=path, size=size) for path, size in listed.items()),
            ]

        def snapshot(local_dir: Path, allow_patterns: list[str], **_: Any) -> None:
            calls.append("snapshot")
            assert set(sent) <= set(allow_patterns)
            folder_of(local_dir, *sent)

        module = ModuleType("huggingface_hub")
        module.HfApi = lambda: SimpleNamespace(list_repo_tree=tree)  # type: ignore[attr-defined]
        module.snapshot_download = snapshot  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)
        return calls

    return install


def test_a_copy_that_broke_off_is_never_complete(client: Callable[..., list[str]], tmp_path: Path) -> None:
    files = {f"data/test-0000{number}-of-00003.parquet": 10 for number in range(3)}
    client({**files, "data/train-00000-of-00001.parquet": 10}, list(files)[:1])
    for _ in range(2):
        with pytest.raises(
            DatasetError, match=r"2 of 3 files of owner/name .* are not copied in full, the first is"
        ) as at:
            download_split("owner/name", COMMIT, str(tmp_path / "copy"), "test")
        assert "resumes" in at.value.remedy
    client({**files, list(files)[2]: 11}, list(files))
    with pytest.raises(DatasetError, match="1 of 3 files"):  # a file that is shorter than the hub says
        download_split("owner/name", COMMIT, str(tmp_path / "copy"), "test")
    client(files, list(files))
    assert download_split("owner/name", COMMIT, str(tmp_path / "copy"), "test") == tmp_path / "copy"
    calls = client(files, [])
    download_split("owner/name", COMMIT, str(tmp_path / "copy"), "test")
    assert calls == []
    (tmp_path / "copy" / "data/test-00000-of-00003.parquet").unlink()
    with pytest.raises(DatasetError, match="1 of 3 files"):
        download_split("owner/name", COMMIT, str(tmp_path / "copy"), "test")


def test_a_mark_of_an_older_version_that_counts_nothing_is_checked_again(
    client: Callable[..., list[str]], tmp_path: Path
) -> None:
    files = {"data/test-00000-of-00001.parquet": 10}
    folder_of(tmp_path, *files)
    (tmp_path / ".fetched-from").write_text(f"owner/name@{COMMIT}")
    (tmp_path / ".test-complete").write_text("")
    calls = client(files, [])
    download_split("owner/name", COMMIT, str(tmp_path), "test")
    assert calls == ["tree", "snapshot"]
    assert json.loads((tmp_path / ".test-complete").read_text()) == files


def test_configurations_on_the_hub(client: Callable[..., list[str]], tmp_path: Path) -> None:
    files = {"plain_text/test-00000-of-00001.parquet": 10}
    client(files, list(files))
    assert find_parquet_files(download_split("owner/name", COMMIT, str(tmp_path / "a"), "test"), "test")
    client({**files, "more/test-00000-of-00001.parquet": 10}, [])
    with pytest.raises(UsageError, match="several configurations with a split 'test': plain_text, more"):
        download_split("owner/name", COMMIT, str(tmp_path / "b"), "test")


def test_a_split_that_the_hub_does_not_have(client: Callable[..., list[str]], tmp_path: Path) -> None:
    client({"data/train-00000-of-00001.parquet": 10, "test.csv": 5}, [])
    with pytest.raises(DatasetError, match="owner/name has no parquet files of the split 'test'"):
        download_split("owner/name", COMMIT, str(tmp_path / "copy"), "test")
    with pytest.raises(UsageError, match="must be a full commit hash"):
        download_split("owner/name", "main", str(tmp_path / "copy"), "test")
