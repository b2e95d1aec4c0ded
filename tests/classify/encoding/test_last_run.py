"""The record of the last run, and which part of a space differs from another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from abs_classify.encoding.last_run import SpaceUse, differences, nearest_space, read_last_run, write_last_run
from abs_classify.encoding.spaces import Space


def space(**inputs: object) -> Space:
    return Space("view-features", 1, inputs)


def test_a_run_is_remembered(tmp_path: Path) -> None:
    assert read_last_run(tmp_path) is None
    named = Space("text-features", 1, {}, "ViT-B-16/openai")
    uses = [SpaceUse(space(seed=1, view={"kind": "box"}), 41, 40, 287, 280), SpaceUse(named, 1, 0, 1, 0)]
    write_last_run(tmp_path, uses)
    assert read_last_run(tmp_path) == uses
    assert [use.space.about for use in read_last_run(tmp_path) or ()] == ["", "ViT-B-16/openai"]


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", '{"spaces": [{}]}', '{"spaces": [{"stage": 1, "version": "x"}]}', '{"spaces": 3}', "[" * 9999],
)
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "last-run.json").write_text(text)
    assert read_last_run(tmp_path) is None


def test_a_folder_that_cannot_be_written_has_no_record(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    write_last_run(tmp_path / "file", [])
    assert read_last_run(tmp_path / "file") is None


def test_the_nearest_space_differs_least() -> None:
    others = [
        space(seed=1, model={"digest": "aa", "dtype": "float32"}),
        space(seed=2, model={"digest": "bb", "dtype": "float32"}),
        Space("attention", 1, {"seed": 1, "model": {"digest": "bb", "dtype": "bfloat16"}}),
    ]
    wanted = space(seed=2, model={"digest": "bb", "dtype": "bfloat16"})
    nearest = nearest_space(wanted, [*others, wanted])
    assert nearest is not None
    assert nearest[0] == others[1]
    assert [(part.path, part.ours, part.theirs) for part in nearest[1]] == [("model.dtype", "bfloat16", "float32")]
    assert nearest_space(Space("other", 1, {}), others) is None
    newer = nearest_space(Space("view-features", 2, others[0].inputs), others)
    assert newer is not None
    assert [part.path for part in newer[1]] == ["version"]


def test_the_nearest_space_is_of_one_kind_of_views() -> None:
    others = [space(view={"kind": "window"}, seed=1), space(view={"kind": "box"}, seed=2)]
    nearest = nearest_space(space(view={"kind": "box"}, seed=1), others)
    assert nearest is not None
    assert [part.path for part in nearest[1]] == ["seed"]
    assert nearest_space(space(view={"kind": "box"}, seed=1), others[:1]) is None


def test_differences_go_into_lists_of_equal_length() -> None:
    assert [part.path for part in differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]})] == ["a[1].b"]
    assert [part.path for part in differences({"a": [1]}, {"a": [1, 2]})] == ["a"]
