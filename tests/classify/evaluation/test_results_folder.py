"""Result files in their folders: nothing overwrites them, and damaged ones and those of other versions are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from evaluations import Bench

from abs_classify.evaluation.records import FORMAT_VERSION, Run
from abs_classify.evaluation.results_folder import ResultsFolder, read_result
from abs_core.errors import ResultError, StorageError, UnknownNameError


@pytest.mark.slow
def test_runs_never_overwrite_one_another(bench: Bench, seven: Path) -> None:
    first, second = bench.files(seven), bench.files(seven)
    assert not set(first) & set(second)
    assert all(path.exists() for path in [*first, *second])
    content = first[0].read_bytes()
    with pytest.raises(StorageError, match="exists"):
        ResultsFolder(bench.results).write(read_result(first[0]))
    assert first[0].read_bytes() == content
    assert sorted(first[0].parent.glob("*.json")) == first


def test_runs_of_one_second_are_listed_in_the_order_in_which_they_began(tmp_path: Path) -> None:
    names = [Run.now().id for _ in range(200)]
    for name in names:
        (tmp_path / name).mkdir()
    assert [path.name for path in ResultsFolder(tmp_path).runs()] == names


@pytest.mark.slow
def test_a_run_is_found_by_its_name_by_a_beginning_and_as_the_last(bench: Bench, seven: Path) -> None:
    first, second = bench.files(seven, "clip"), bench.files(seven, "clip")
    folder = ResultsFolder(bench.results)
    for name in (first[0].parent.name, first[0].parent.name[:-3], str(first[0]), str(first[0].parent)):
        assert folder.find(name) == first
    assert folder.find("last") == second
    with pytest.raises(ResultError, match="2 runs"):
        folder.find("20")
    with pytest.raises(UnknownNameError, match=f"valid: last, {second[0].parent.name}"):
        folder.find("19")
    assert [summary.run for summary in folder.summaries()] == [first[0].parent.name, second[0].parent.name]
    assert folder.find(str(bench.results)) == [*first, *second]


@pytest.fixture
def changed(bench: Bench, seven: Path, tmp_path: Path) -> Any:
    """Writes a result file with changed keys: those at the top, or those of a part of the details."""

    def change(part: str, keys: dict[str, Any]) -> Path:
        value = json.loads(bench.files(seven, "clip")[0].read_text(encoding="utf-8"))
        (value["details"][part] if part else value).update(keys)
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(value), encoding="utf-8")
        return path

    return change


@pytest.mark.parametrize(
    ("part", "keys", "message"),
    [
        ("", {"format_version": FORMAT_VERSION + 1}, r"version 2.*this is version 1.*Update abs-toolkit.*results\.md"),
        ("", {"format_version": 0}, r"version 0.*Run the evaluation again.*docs/results\.md"),
        ("", {"format_version": "x"}, r"version 'x'"),
        ("", {"format": "other"}, r"is not a result file"),
        ("", {"metrics": {"acc1": 2.0, "acc5": None, "mean_per_class_recall": 0.0}}, r"damaged at metrics\.acc1"),
        ("", {"surplus": 1}, r"damaged at surplus"),
        ("seeds", {"seeds": []}, r"damaged at details\.seeds\.seeds"),
        ("seeds", {"acc1": []}, r"damaged at details\.seeds\.acc1"),
        ("top1", {"successes": 99}, r"damaged at details\.top1: .*got 99 of 7"),
        ("top5", {"successes": -1}, r"damaged at details\.top5\.successes"),
        ("top1", {"trials": 0, "successes": 0}, r"damaged at details\.top1\.trials"),
        ("data", {"skipped": [{"name": "a.png"}]}, r"damaged at details\.data\.skipped\.0\.reason"),
        ("data", {"skipped": [{"name": "a", "reason": "b", "c": ""}]}, r"damaged at details\.data\.skipped\.0\.c"),
    ],
)
@pytest.mark.slow
def test_files_of_other_versions_and_damaged_ones_are_refused_by_name(
    changed: Any, part: str, keys: dict[str, Any], message: str
) -> None:
    with pytest.raises(ResultError, match=r"changed\.json") as refused:
        read_result(changed(part, keys))
    assert refused.match(f"(?s){message}")


@pytest.mark.slow
def test_a_file_of_another_release_is_not_called_damaged(changed: Any) -> None:
    path = changed("versions", {"abs-toolkit": "99.1.0", "python": 3})
    with pytest.raises(
        ResultError, match=r"was written by abs-toolkit 99\.1\.0, and this is \S+; at details\.versions\.py"
    ):
        read_result(path)
    with pytest.raises(ResultError, match=r"is damaged at details\.versions\.python"):
        read_result(changed("versions", {"abs-toolkit": [], "python": 3}))


@pytest.mark.parametrize("content", ["", "[1]", "{", "[" * 100_000, '{"dataset": "x", "metrics": {"acc1": 1}}'])
def test_what_is_no_result_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ResultError, match=r"x\.json"):
        read_result(tmp_path / "x.json")


@pytest.mark.slow
def test_a_damaged_file_does_not_hide_a_run(bench: Bench, seven: Path) -> None:
    files = bench.files(seven)
    files[0].write_text("{}")
    (summary,) = ResultsFolder(bench.results).summaries()
    assert (summary.results, summary.unreadable) == (1, 1)


def test_a_pipe_is_no_result_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    with pytest.raises(StorageError, match=r"cannot read .*x\.json': not a regular file"):
        read_result(tmp_path / "x.json")
