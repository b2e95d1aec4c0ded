"""Lists of a user's own images: ``csv:`` and ``jsonl:``."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from miniatures import write_image
from support import ROOT

from abs_classify.datasets import Sample, open_dataset
from abs_classify.images import load_image
from abs_core.errors import DatasetError


def csv_file(folder: Path, text: str | bytes, name: str = "photos.csv") -> str:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return f"csv:{path}"


def test_a_table_is_read_in_its_order_with_paths_from_its_folder(tmp_path: Path) -> None:
    near, far = write_image(tmp_path / "sub" / 'a, "b"\nc.png'), write_image(tmp_path / "other" / "ü.png")
    text = (
        "\ufeffnote, label ,path\r\n"
        'first,red_fox,"sub/a, ""b""\nc.png"\r\n'
        "\r\n"
        f"second, cat ,{far}\r\n"
        "again,cat,sub/../other/ü.png\r\n"
    )
    dataset = open_dataset(csv_file(tmp_path, text))
    assert dataset.samples == (Sample(near, "red_fox"), Sample(far, "cat"))
    assert dataset.names == {"cat": "cat", "red_fox": "red fox"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"has no column 'path'; its columns: none"),
        ("bild,label\na.png,cat\n", r"has no column 'path'; its columns: 'bild', 'label'"),
        ("path,sort\na.png,cat\n", "has no column 'label'"),
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
def test_a_table_that_cannot_be_used_is_refused_by_name_and_line(
    tmp_path: Path, text: str | bytes, message: str
) -> None:
    write_image(tmp_path / "a.png")
    spec = csv_file(tmp_path, text)
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(spec)
    assert "photos.csv" in caught.value.message
    assert caught.value.remedy
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read the table '.*none\.csv': no such file"):
        open_dataset(f"csv:{tmp_path / 'none.csv'}")
    with pytest.raises(DatasetError, match="is a directory"):
        open_dataset(f"csv:{tmp_path}")


@pytest.mark.slow
def test_the_digits_of_scikit_learn_become_a_table_that_opens(tmp_path: Path) -> None:
    script = ROOT / "benchmarks" / "real_sets.py"
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


def test_two_rows_of_a_table_with_one_id_are_refused_by_line(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "b.png")
    path = tmp_path / "photos.csv"
    path.write_text("id,path,label\nx,a.png,cat\n,b.png,cat\nx,b.png,cat\n")
    with pytest.raises(DatasetError, match=r"line 4 of .*photos.csv': the id 'x' appears twice, first on line 2"):
        open_dataset(f"csv:{path}")


def jsonl_file(folder: Path, *rows: object) -> str:
    path = folder / "photos.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return f"jsonl:{path}"


def test_lines_are_read_in_their_order_with_paths_from_their_folder(tmp_path: Path) -> None:
    near, far = write_image(tmp_path / "sub" / "a\nb.png"), write_image(tmp_path / "other" / "ü.png")
    spec = jsonl_file(
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
    ("rows", "message"),
    [
        (["{"], "line 1 of .*photos.jsonl' is not valid JSON"),
        (["[" * 100_000], "line 1 of .* is not valid JSON"),
        (["[]"], "line 1 of .* must be an object with"),
        ([{"path": "a.png"}], "must be an object with the strings 'path' and 'label'"),
        ([{"path": "a.png", "label": True}], "must be an object with .*, got true for 'label'"),
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
def test_a_line_that_cannot_be_used_is_refused_by_number(tmp_path: Path, rows: list[object], message: str) -> None:
    write_image(tmp_path / "a.png")
    write_image(tmp_path / "c.png")
    with pytest.raises(DatasetError, match=message) as caught:
        open_dataset(jsonl_file(tmp_path, *rows))
    assert "photos.jsonl" in caught.value.message


def test_a_list_that_is_not_there_or_not_utf_8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"cannot read the list .*none\.jsonl': no such file"):
        open_dataset(f"jsonl:{tmp_path / 'none.jsonl'}")
    (tmp_path / "latin.jsonl").write_bytes(b'{"path": "caf\xe9.png", "label": "a"}')
    with pytest.raises(DatasetError, match="is not valid UTF-8"):
        open_dataset(f"jsonl:{tmp_path / 'latin.jsonl'}")
