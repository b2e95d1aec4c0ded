"""`abs attribute`: what it prints and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs

from abs_core.labels import from_names
from abs_descriptions.bundles import Description, Generator, Provenance, write_bundle

Folder = Callable[..., Path]
HAND = Generator(id="hand", backend="hand", model="not stated", parameters={})


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    path = tmp_path / "things.jsonl"
    records = [
        Description(f"A {name} is {text}.", class_id=name, provenance=Provenance("hand", number))
        for name in ("cat", "car")
        for number, text in enumerate(("red", "green"))
    ]
    fields = {"name": "things", "version": "1.0.0", "label_set": from_names(["cat", "car"]), "generators": [HAND]}
    write_bundle(path, records=records, created="2025-01-31T12:00:00Z", license="CC0-1.0", **fields)
    return path


@pytest.mark.slow
def test_tables_and_json(
    abs_command: Abs, image_folder: Folder, bundle: Path, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    options = ["--model", small_clips[0], "--attention", "self", "--device", "cpu", "--views", "2", "--threads", "1"]
    data = f"imagefolder:{image_folder('data', cat=3, car=3)}"
    run = ["attribute", "--dataset", data, "--bundle", bundle, *options]
    printed = abs_command(*run, cache=tmp_path / "cache")
    assert printed.code == 0
    assert "where the total gain comes from:" in printed.out
    assert "hold for many images, and these are 6" in printed.out
    assert "computed: 6 of 6 images" in printed.err
    assert abs_command(*run, "--format", "markdown").out.startswith("## Where the gain comes from\n")
    value = json.loads(abs_command(*run, "--seeds", "2", "--json").out)
    assert (len(value["cells"]), value["seeds"], len(value["results"])) == (8, [0, 1], 11)
    assert sum(entry["value"] for entry in value["contributions"]) == pytest.approx(value["total"]["value"])


def test_wrong_input_has_exit_code_2(abs_command: Abs, image_folder: Folder, bundle: Path) -> None:
    data = f"imagefolder:{image_folder('data', cat=1, car=1)}"
    assert "--bundle" in abs_command.refuses("attribute", "--dataset", data)
    assert "must be a whole number from 1 on, got 'adaptive'" in abs_command.refuses(
        "attribute", "--dataset", data, "--bundle", bundle, "--views", "adaptive"
    )
    assert "'clip' does not join" in abs_command.refuses(
        "attribute", "--dataset", data, "--bundle", bundle, "--method", "clip"
    )
