"""What `abs eval` refuses: one line that names the input and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs


def test_places_without_images(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "empty" / "cat").mkdir(parents=True)
    assert "empty" in abs_command.refuses("eval", "--dataset", f"imagefolder:{tmp_path / 'empty'}")
    assert "absent" in abs_command.refuses("eval", "--dataset", f"imagefolder:{tmp_path / 'absent'}")


def test_a_class_that_the_label_space_lacks(abs_command: Abs, folder: Callable[..., Path]) -> None:
    root = folder(cat=["a.png"], zebra=["b.png"])
    line = abs_command.refuses("eval", "--dataset", f"imagefolder:{root}", "--labels", "cat,dog", "--method", "clip")
    assert "'zebra'" in line


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--method", "magic"), r"unknown method 'magic'; valid: clip, .* and \d+ more. See `abs methods`"),
        (("--model", "magic"), r"magic.*valid: embedded, .* and \d+ more. See `abs models ls`"),
        (("--model", "ViT-B-99/openai"), r"valid: ViT-B-\d.* and \d+ more"),
        (("--model", "ViT-B-32/laion2b"), r"valid: laion2b_\w+, .* and \d+ more. See `abs models ls ViT-B-32`"),
        (("--bundle", "magic"), r"unknown bundle 'magic'; valid: .*pets"),
        (("--attention", "magic"), r"unknown attention backend 'magic'; valid: auto, dino"),
        (("--templates", "magic"), r"magic.*valid"),
        (
            ("--labels", "magic"),
            r"unknown label set 'magic'; valid: caltech101, .*and \d+ more. Give one of these, a file",
        ),
        (("--labels", "imagnet"), r"valid: imagenet, .*and \d+ more"),
        (("--control", "magic"), r"magic.*valid: .*shuffle"),
        (("--bundle", "pets", "--labels", "cat"), r"--bundle and --labels"),
        (("--device", "magic"), r"magic"),
        (("--method", "clip-d"), r"descriptions"),
    ],
)
def test_unknown_names_list_the_valid_ones(
    abs_command: Abs, folder: Callable[..., Path], arguments: tuple[str, ...], expected: str
) -> None:
    root = folder(cat=["a.png"], dog=["b.png"])
    options = ("--method", "clip") if "--method" not in arguments else ()
    line = abs_command.refuses("eval", "--dataset", f"imagefolder:{root}", *options, *arguments)
    assert re.search(expected, line), line


def test_an_unknown_data_set_lists_the_valid_ones(abs_command: Abs) -> None:
    assert re.search(r"unknown data set 'magic'; valid: demo, ", abs_command.refuses("eval", "--dataset", "magic"))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--budget-views", "8"), "--budget-views has no effect without --views adaptive"),
        (("--views", "10", "--budget-seconds", "8"), "--budget-seconds has no effect without --views adaptive"),
        (("--views", "adaptive", "--budget-views", "3"), "at least 4 views an image, got 3"),
        (
            ("--views", "adaptive", "--budget-views", "8", "--budget-seconds", "8"),
            "--budget-views and --budget-seconds exclude",
        ),
        (
            ("--views", "adaptive", "--budget-views", "8", "--agreement", "0.99"),
            "--agreement and --budget-views exclude",
        ),
        (
            ("--views", "adaptive", "--budget-seconds", "8", "--calibration", "absent.json"),
            "--calibration and --budget-seconds exclude",
        ),
    ],
)
def test_a_budget_stands_alone(
    abs_command: Abs, folder: Callable[..., Path], arguments: tuple[str, ...], expected: str
) -> None:
    root = folder(cat=["a.png"])
    assert expected in abs_command.refuses("eval", "--dataset", f"imagefolder:{root}", "--method", "abs", *arguments)
