"""Lists of a user's own images: ``jsonl:``, long lists, and items as such."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest
from PIL import Image

from abs_classify.datasets import Item, open_dataset
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
    assert data.items == (Item(near, "red_fox"), Item(far, "cat"))
    assert data.names == {"cat": "cat", "red_fox": "red fox"}


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["{"], "line 1 of .*photos.jsonl' is no JSON"),
        (["[" * 100_000], "line 1 of .* is no JSON"),
        (["[]"], "line 1 of .* is no object with"),
        ([{"path": "a.png"}], "is no object with the texts 'path' and 'label'"),
        ([{"path": "a.png", "label": 3}], "is no object with"),
        ([{"path": "a.png", "label": " "}], "line 1 of .* has an empty label"),
        ([{"path": " ", "label": "cat"}], "line 1 of .* has no path"),
        ([{"path": "a\0.png", "label": "cat"}], "line 1 of .* has no path"),
        ([{"path": "b.png", "label": "cat"}], "the file 'b.png' on line 1 of .* is missing"),
        (["", {"path": "a.png", "label": "cat"}, {"path": "./a.png", "label": "dog"}], "on line 2 and 'dog' on line 3"),
        (
            [{"path": "a.png", "label": "cat", "id": "x"}, {"path": "c.png", "label": "cat", "id": "x"}],
            "line 2 of .* has the id 'x' of line 1",
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
    with pytest.raises(DatasetError, match="is not UTF-8"):
        open_dataset(f"jsonl:{tmp_path / 'latin.jsonl'}")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_long_list_takes_little_memory(tmp_path: Path, kind: str) -> None:
    # 100,000 paths on a thousand files: each of a hundred links leads to the same folder
    for number in range(1000):
        (tmp_path / "real").mkdir(exist_ok=True)
        (tmp_path / "real" / f"{number}.png").touch()
    for number in range(100):
        (tmp_path / f"link{number}").symlink_to(tmp_path / "real")
    rows = [(f"link{at // 1000}/{at % 1000}.png", f"class_{at % 1000}") for at in range(100_000)]
    path = tmp_path / f"long.{kind}"
    if kind == "csv":
        path.write_text("path,label\n" + "".join(f"{name},{label}\n" for name, label in rows))
    else:
        path.write_text("".join(json.dumps({"path": name, "label": label}) + "\n" for name, label in rows))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    data = open_dataset(f"{kind}:{path}")
    assert len(data.items) == 100_000
    assert len({id(item.label) for item in data.items}) == 1000
    # kilobytes; a million images then take less than 1.5 GB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def test_an_item_reads_its_file_and_says_what_it_is_called(tmp_path: Path) -> None:
    item = Item(photo(tmp_path / "a.png"), "cat")
    assert item.name == str(tmp_path / "a.png")
    assert load_image(item.read(), item.name) == load_image(item.path)
    item.path.unlink()
    with pytest.raises(ImageError, match=r"cannot read the image .*a\.png': no such file"):
        item.read()
