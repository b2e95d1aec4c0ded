"""Lists of a user's own images: ``jsonl:``, long lists, and items as such."""

from __future__ import annotations

import json
import pickle
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from abs_classify.datasets import Dataset, Sample, open_dataset
from abs_classify.images import load_image
from abs_core.errors import DatasetError, ImageError


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), "teal").save(path)
    return path


def lines(folder: Path, *rows: object) -> str:
    path = folder / "photos.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return f"jsonl:{path}"


def test_lines_are_read_in_their_order_with_paths_from_their_folder(tmp_path: Path) -> None:
    near, far = photo(tmp_path / "sub" / "a\nb.png"), photo(tmp_path / "other" / "ü.png")
    spec = lines(
        tmp_path,
        "\ufeff" + json.dumps({"path": "sub/a\nb.png", "label": "red_fox", "note": 1}),
        "",
        {"path": str(far), "label": "cat", "id": "1"},
        {"path": "sub/../other/ü.png", "label": "cat", "id": "2"},
    )
    data = open_dataset(spec)
    assert data.samples == (Sample(near, "red_fox"), Sample(far, "cat"))
    assert data.names == {"cat": "cat", "red_fox": "red fox"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["{"], "line 1 of .*photos.jsonl' is not valid JSON"),
        (["[" * 100_000], "line 1 of .* is not valid JSON"),
        (["[]"], "line 1 of .* must be an object with"),
        ([{"path": "a.png"}], "must be an object with the strings 'path' and 'label'"),
        ([{"path": "a.png", "label": 3}], "must be an object with"),
        ([{"path": "a.png", "label": " "}], "line 1 of .* has an empty label"),
        ([{"path": " ", "label": "cat"}], "line 1 of .* has no path"),
        ([{"path": "a\0.png", "label": "cat"}], "line 1 of .* has no path"),
        ([{"path": "b.png", "label": "cat"}], "the file 'b.png' on line 1 of .* is missing"),
        (["", {"path": "a.png", "label": "cat"}, {"path": "./a.png", "label": "dog"}], "on line 2 and 'dog' on line 3"),
        (
            [{"path": "a.png", "label": "cat", "id": "x"}, {"path": "c.png", "label": "cat", "id": "x"}],
            "line 2 of .*: the id 'x' appears twice, first on line 1",
        ),
        ([{"path": "a.png", "label": "c" * (1 << 20)}], "line 1 of .* is longer than 1 MB"),
        ([""], "lists no images"),
    ],
)
def test_a_line_that_cannot_be_used_is_refused_by_number(tmp_path: Path, rows: list[object], said: str) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "c.png")
    with pytest.raises(DatasetError, match=said) as caught:
        open_dataset(lines(tmp_path, *rows))
    assert "photos.jsonl" in caught.value.message


def test_a_list_that_is_not_there_or_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read the list .*none\.jsonl': no such file"):
        open_dataset(f"jsonl:{tmp_path / 'none.jsonl'}")
    (tmp_path / "latin.jsonl").write_bytes(b'{"path": "caf\xe9.png", "label": "a"}')
    with pytest.raises(DatasetError, match="is not valid UTF-8"):
        open_dataset(f"jsonl:{tmp_path / 'latin.jsonl'}")


def table(folder: Path, kind: str, rows: Sequence[tuple[str, str]]) -> str:
    path = folder / f"long.{kind}"
    if kind == "csv":
        path.write_text("path,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    else:
        path.write_text("".join(json.dumps({"path": name, "label": label}) + "\n" for name, label in rows))
    return f"{kind}:{path}"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_long_list_takes_little_memory(tmp_path: Path, kind: str) -> None:
    # 100,000 paths on a thousand files: each of a hundred links leads to the same folder
    (tmp_path / "real").mkdir()
    for number in range(1000):
        (tmp_path / "real" / f"{number}.png").touch()
    for number in range(100):
        (tmp_path / f"link{number}").symlink_to(tmp_path / "real")
    spec = table(tmp_path, kind, [(f"link{at // 1000}/{at % 1000}.png", f"class_{at % 1000}") for at in range(100_000)])
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
    paths = [photo(tmp_path / f"{number}.png") for number in range(5)]
    items = open_dataset(table(tmp_path, "csv", [(path.name, f"c{at % 2}") for at, path in enumerate(paths)])).samples
    plain = tuple(Sample(path, f"c{at % 2}") for at, path in enumerate(paths))
    assert items == plain
    assert items[1:3] == plain[1:3]
    assert items[-1] == plain[-1]
    assert items != plain[:4]
    assert items != (*plain[:4], plain[0])
    assert list(reversed(items)) == list(reversed(plain))
    assert plain[2] in items
    assert list(Dataset("x", (), items[::2]).labels) == list(Dataset("x", (), plain[::2]).labels) == ["c0", "c0", "c0"]
    with pytest.raises(IndexError):
        items[5]
    assert pickle.loads(pickle.dumps(items)) == plain


def test_files_of_a_large_folder_are_all_looked_for(tmp_path: Path) -> None:
    for number in range(100):
        photo(tmp_path / "many" / f"{number}.png")
    for number in range(2000):
        (tmp_path / "many" / f"not_listed_{number}").touch()
    rows = [(f"many/{number}.png", "cat") for number in range(100)]
    assert len(open_dataset(table(tmp_path, "csv", rows)).samples) == 100
    (tmp_path / "many" / "50.png").unlink()
    (tmp_path / "many" / "70.png").unlink()
    (tmp_path / "many" / "70.png").mkdir()
    with pytest.raises(DatasetError, match=r"2 of 100 files .* the first is the file 'many/50.png' on line 52"):
        open_dataset(table(tmp_path, "csv", rows))


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_list_may_lead_out_of_its_folder_and_one_file_has_one_spelling(tmp_path: Path, kind: str) -> None:
    out = photo(tmp_path / "photos" / "a.png")
    inner = photo(tmp_path / "lists" / "b.png")
    (tmp_path / "lists").mkdir(exist_ok=True)
    rows = [
        ("../photos/a.png", "cat"),
        (str(out), "cat"),
        ("b.png", "dog"),
        (str(inner), "dog"),
        ("./x/..//b.png", "dog"),
    ]
    assert open_dataset(table(tmp_path / "lists", kind, rows)).samples == (Sample(out, "cat"), Sample(inner, "dog"))
    rows[4] = ("./b.png", "cat")
    with pytest.raises(DatasetError, match=r"gives './b.png' two labels: 'dog' on line"):
        open_dataset(table(tmp_path / "lists", kind, rows))


def test_a_list_in_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "here" / "a.png")
    photo(tmp_path / "b.png")
    table(tmp_path / "here", "csv", [("a.png", "cat"), ("./a.png", "cat"), ("../b.png", "dog")])
    monkeypatch.chdir(tmp_path / "here")
    items = open_dataset("csv:long.csv").samples
    assert [item.label for item in items] == ["cat", "dog"]
    assert all(item.path.is_file() for item in items)


def test_two_rows_of_a_table_with_one_id_are_refused_by_line(tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    photo(tmp_path / "b.png")
    path = tmp_path / "photos.csv"
    path.write_text("id,path,label\nx,a.png,cat\n,b.png,cat\nx,b.png,cat\n")
    with pytest.raises(DatasetError, match=r"line 4 of .*photos.csv': the id 'x' appears twice, first on line 2"):
        open_dataset(f"csv:{path}")


def test_semicolons_are_named_as_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "photos.csv"
    path.write_text("path;label\na.png;cat\n")
    with pytest.raises(DatasetError, match=r"line 1 of .*photos.csv' has no column 'path'") as caught:
        open_dataset(f"csv:{path}")
    assert caught.value.remedy == "Separate the columns by commas, not semicolons"


def test_an_item_reads_its_file_and_says_what_it_is_called(tmp_path: Path) -> None:
    item = Sample(photo(tmp_path / "a.png"), "cat")
    assert item.name == str(tmp_path / "a.png")
    assert load_image(item.read(), item.name) == load_image(item.path)
    item.path.unlink()
    with pytest.raises(ImageError, match=r"cannot read the image .*a\.png': no such file"):
        item.read()
