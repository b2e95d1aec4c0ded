"""Long lists: memory, sequences of samples that are created on access, missing files, paths."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from miniatures import write_image

from abs_classify.datasets import Dataset, Sample, open_dataset
from abs_core.errors import DatasetError


def list_file(folder: Path, kind: str, rows: Sequence[tuple[str, str]]) -> str:
    path = folder / f"long.{kind}"
    if kind == "csv":
        path.write_text("path,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    else:
        path.write_text("".join(json.dumps({"path": name, "label": label}) + "\n" for name, label in rows))
    return f"{kind}:{path}"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_long_list_takes_little_memory(tmp_path: Path, kind: str) -> None:
    # 100,000 paths on a thousand files: each of a hundred links leads to the same folder
    (tmp_path / "real").mkdir()
    for number in range(1000):
        (tmp_path / "real" / f"{number}.png").touch()
    for number in range(100):
        (tmp_path / f"link{number}").symlink_to(tmp_path / "real")
    spec = list_file(
        tmp_path,
        kind,
        [(f"link{number // 1000}/{number % 1000}.png", f"class_{number % 1000}") for number in range(100_000)],
    )
    tracemalloc.start()
    data = open_dataset(spec)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(data.samples) == 100_000
    assert len(set(map(id, data.labels))) == 1000
    # so a million images take less than 100 MB, and 200 MB while they are read
    assert kept < 10e6
    assert peak < 20e6


def test_the_items_of_a_list_are_a_sequence_like_any_other(tmp_path: Path) -> None:
    paths = [write_image(tmp_path / f"{number}.png") for number in range(5)]
    samples = open_dataset(
        list_file(tmp_path, "csv", [(path.name, f"c{number % 2}") for number, path in enumerate(paths)])
    ).samples
    plain = tuple(Sample(path, f"c{number % 2}") for number, path in enumerate(paths))
    assert samples == plain
    assert samples[1:3] == plain[1:3]
    assert samples[-1] == plain[-1]
    assert samples != plain[:4]
    assert samples != (*plain[:4], plain[0])
    assert list(reversed(samples)) == list(reversed(plain))
    assert plain[2] in samples
    assert (
        list(Dataset("x", (), samples[::2]).labels) == list(Dataset("x", (), plain[::2]).labels) == ["c0", "c0", "c0"]
    )
    with pytest.raises(IndexError):
        samples[5]
    assert pickle.loads(pickle.dumps(samples)) == plain


def test_files_of_a_large_folder_are_all_looked_for(tmp_path: Path) -> None:
    for number in range(100):
        write_image(tmp_path / "many" / f"{number}.png")
    for number in range(2000):
        (tmp_path / "many" / f"not_listed_{number}").touch()
    rows = [(f"many/{number}.png", "cat") for number in range(100)]
    assert len(open_dataset(list_file(tmp_path, "csv", rows)).samples) == 100
    (tmp_path / "many" / "50.png").unlink()
    (tmp_path / "many" / "70.png").unlink()
    (tmp_path / "many" / "70.png").mkdir()
    with pytest.raises(DatasetError, match=r"2 of 100 files .* the first is the file 'many/50.png' on line 52"):
        open_dataset(list_file(tmp_path, "csv", rows))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_list_may_lead_out_of_its_folder_and_one_file_has_one_spelling(tmp_path: Path, kind: str) -> None:
    out = write_image(tmp_path / "photos" / "a.png")
    inner = write_image(tmp_path / "lists" / "b.png")
    (tmp_path / "lists").mkdir(exist_ok=True)
    rows = [
        ("../photos/a.png", "cat"),
        (str(out), "cat"),
        ("b.png", "dog"),
        (str(inner), "dog"),
        ("./x/..//b.png", "dog"),
    ]
    assert open_dataset(list_file(tmp_path / "lists", kind, rows)).samples == (Sample(out, "cat"), Sample(inner, "dog"))
    rows[4] = ("./b.png", "cat")
    with pytest.raises(DatasetError, match=r"gives './b.png' two labels: 'dog' on line"):
        open_dataset(list_file(tmp_path / "lists", kind, rows))


def test_a_list_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "here" / "a.png")
    write_image(tmp_path / "b.png")
    list_file(tmp_path / "here", "csv", [("a.png", "cat"), ("./a.png", "cat"), ("../b.png", "dog")])
    monkeypatch.chdir(tmp_path / "here")
    samples = open_dataset("csv:long.csv").samples
    assert [sample.label for sample in samples] == ["cat", "dog"]
    assert all(sample.path.is_file() for sample in samples)
