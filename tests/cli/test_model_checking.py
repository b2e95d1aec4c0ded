"""`abs models check`: what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs


@pytest.mark.slow
def test_the_embedded_model_has_no_published_numbers(abs_command: Abs) -> None:
    ran = abs_command("models", "check", "embedded", "--dataset", "demo", "--device", "cpu", "--threads", "1")
    assert ran.code == 0, ran.err
    assert ran.out.count("no published number") == 2
    assert "the nearest is 62.05 (Li et al. 2024 (WCA)) of clip with ViT-B-32-quickgelu/openai on imagenet" in ran.out
    assert ran.out.endswith("0 agree, 0 differ, 2 not published\n")


def test_a_number_that_differs_is_exit_code_1(
    abs_command: Abs, image_folder: Callable[..., Path], small_clips: tuple[str, str]
) -> None:
    root = image_folder("test", airplane=2, cat=2).parent
    run = ("models", "check", small_clips[0], "--dataset", f"cifar10:{root}?partial", "--device", "cpu")
    alone = abs_command(*run)
    assert (alone.code, alone.out.count("no published number")) == (0, 2), alone.err
    ran = abs_command(*run, "--published-as", "ViT-B-32/openai", "--json")
    assert ran.code == 1, ran.err
    value = json.loads(ran.out)
    assert value["published_as"] == "ViT-B-32-quickgelu/openai"
    clip, ensemble = value["numbers"]
    assert clip["verdict"] == "no published number"
    assert clip["nearest"].startswith("89.83 (open_clip, results table) of clip-e")
    assert (ensemble["verdict"], ensemble["published"]) == ("differs", 0.8983)
    assert ensemble["causes"][-1].startswith("split: a part of the split, not drawn at random")
    assert "computed: nothing" in ran.err


def test_a_first_part_of_the_images_is_refused(abs_command: Abs) -> None:
    said = abs_command.refuses("models", "check", "embedded", "--dataset", "demo", "--limit", "3")
    assert "Add --stratified" in said
