"""``abs label export``: options in, an export and a summary out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from exported_runs import decide, make_run, row, save_photos

from abs_classify.labelling.exporters.exports import EXPORT_FORMATS
from abs_cli.commands.label_export import command


@pytest.fixture
def out(tmp_path: Path) -> Path:
    photos = save_photos(tmp_path / "photos", ["1.jpg", "bell\x07.jpg", "3.jpg"])
    folder = make_run(tmp_path / "out", [row(photos[0]), row(photos[1], 1), row(photos[2], 2, "doubtful")])
    decide(folder, "ann", _1="owl")
    return folder.path


def test_an_export_is_named_with_how_to_open_it(out: Path) -> None:
    result = CliRunner().invoke(command, [str(out), "imagefolder", "--links", "hard"])
    assert result.exit_code == 0
    assert f"2 labels exported to {out / 'exports' / 'imagefolder'} (1 reviewed)\n" in result.stdout
    assert "torchvision.datasets.ImageFolder(" in result.stdout
    assert result.stderr == "note: 1 left out: doubtful\n"


def test_a_dry_run_lists_what_would_come_where(out: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(out), "imagefolder", "--dry-run", "--to", str(tmp_path / "x")])
    photos = tmp_path / "photos"
    assert result.stdout.splitlines() == [
        f"{photos}/1.jpg -> owl/1.jpg",
        f"{photos}/bell\\x07.jpg -> dog & _co_/bell_.jpg",
        f"2 labels would be exported to {tmp_path / 'x'} (1 reviewed)",
    ]
    assert not (tmp_path / "x").exists()


def test_the_summary_as_json(out: Path) -> None:
    result = CliRunner().invoke(command, [str(out), "coco", "--status", "reviewed", "--json"])
    value = json.loads(result.stdout)
    assert (value["labels"], value["by_class"], value["left_out"]) == (1, {"owl": 1}, {"labelled": 1, "doubtful": 1})


def test_all_formats_are_offered() -> None:
    (argument,) = (parameter for parameter in command.params if parameter.name == "export_format")
    assert tuple(argument.type.choices) == EXPORT_FORMATS  # type: ignore[attr-defined]
