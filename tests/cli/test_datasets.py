"""``abs datasets``: what people see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abs_cli.main import main


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["datasets", *args])
    output = capsys.readouterr()
    return int(ended.value.code or 0), output.out, output.err


def put(path: Path, content: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def test_ls_lists_every_kind_with_its_splits_and_sizes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "ls")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"demo", "wds:DIR", "hf:DIR", "dtd:DIR", "imagenet-v2:DIR"}
    rows = {row["usage"]: row for row in json.loads(run(capsys, "ls", "--json")[1])}
    assert rows["dtd:DIR"]["splits"]["test1"] == 1880
    assert rows["csv:FILE"]["splits"] == {}


def test_show_an_incomplete_benchmark(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    put(tmp_path / "images" / "banded" / "a.jpg")
    put(tmp_path / "labels" / "test1.txt", "banded/a.jpg\n")
    code, _, err = run(capsys, "show", f"dtd:{tmp_path}")
    assert code == 2
    assert "found 1 images of dtd (test1), expected 1880" in err
    code, out, _ = run(capsys, "show", f"dtd:{tmp_path}?partial")
    assert code == 0
    assert out.splitlines()[0].endswith(": 1 image, 47 classes, 46 without images")
    assert "note: incomplete" in out
    shown = json.loads(run(capsys, "show", f"dtd:{tmp_path}?partial", "--json")[1])
    assert (shown["benchmark"], shown["split"], shown["images"]) == ("dtd", "test1", 1)


def test_check_ends_in_1_and_says_what_to_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    put(tmp_path / "dtd" / "images" / "banded" / "a.jpg")
    put(tmp_path / "dtd" / "labels" / "test1.txt", "banded/a.jpg\n")
    code, out, err = run(capsys, "check", "dtd", "--root", str(tmp_path))
    assert code == 1
    assert err == ""
    assert "1 level too high for dtd" in out
    assert f"next     Write dtd:{tmp_path}/dtd" in out
    code, out, _ = run(capsys, "check", "dtd", "--root", str(tmp_path / "dtd"), "--split", "val1", "--json")
    report = json.loads(out)
    assert code == 1
    assert report["spec"] == f"dtd:{tmp_path}/dtd?split=val1"
    assert "labels/val1.txt" in report["missing"][0]


def test_check_of_a_complete_folder_ends_in_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    put(tmp_path / "cat" / "a.jpg")
    code, out, _ = run(capsys, "check", "imagefolder", "--root", str(tmp_path))
    assert code == 0
    assert "complete" in out
    assert f"Run: abs eval --dataset imagefolder:{tmp_path}" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["check", "dtd"], "--root DIR"),
        (["check", "nothing", "--root", "."], "unknown data set"),
        (["check", "dtd", "--root", ".", "--split", "none"], "valid: test1"),
    ],
)
def test_a_check_that_cannot_be_made_ends_in_2(
    capsys: pytest.CaptureFixture[str], args: list[str], message: str
) -> None:
    code, _, err = run(capsys, *args)
    assert code == 2
    assert message in err


def test_names_from_outside_do_not_reach_the_terminal_as_they_are(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    put(tmp_path / "\x1b[31mred" / "a.jpg")
    _, out, _ = run(capsys, "show", f"imagefolder:{tmp_path}")
    assert "\x1b" not in out
    _, out, _ = run(capsys, "check", "dtd", "--root", str(tmp_path / "\x1b[31mred"))
    assert "\x1b" not in out


def test_folder_names_that_are_no_unicode(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    root = tmp_path / "photos\udcff"
    put(root / "cat" / "a.jpg")
    put(root / "dtd" / "images" / "banded" / "a.jpg")
    for options in ((), ("--json",)):
        code, out, _ = run(capsys, "show", f"imagefolder:{root}", *options)
        assert code == 0
        assert "photos\\udcff" in out
        code, out, _ = run(capsys, "check", "dtd", "--root", str(root), *options)
        assert code == 1
        assert "photos\\udcff" in out
