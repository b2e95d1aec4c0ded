"""--shard, `abs results merge` and `abs label merge --out`: messages, exit codes, the places that Slurm tells."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from support import Abs

PLAIN = ("--threads", "1", "--attention", "self")


@pytest.mark.slow
def test_the_results_of_a_job_array_are_merged(
    abs_command: Abs,
    folder: Callable[..., Path],
    small_clips: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = folder(ant=["a.png", "b.png"], bee=["a.png", "b.png"])
    base = ("eval", "--dataset", f"imagefolder:{data}", "--model", small_clips[0], "--methods", "clip", *PLAIN)
    for name, value in (("MIN", "0"), ("MAX", "1"), ("COUNT", "2"), ("STEP", "1")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    places = []
    for task in range(2):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", str(task))
        places.append(tmp_path / str(task))
        ran = abs_command(*base, "--shard", "slurm", "--results", places[-1])
        assert ran.code == 0, ran.err
        assert f"share {task + 1}/2 of 4 images: images {2 * task + 1} to {2 * task + 2} in their order" in ran.out
    incomplete = abs_command("results", "merge", places[0], "--out", tmp_path / "merged")
    assert (incomplete.code, incomplete.out) == (2, "")
    assert "1 share is missing of 2: 2. Run abs eval --shard 2/2, and name its result too" in incomplete.err
    merged = abs_command("results", "merge", *places, "--out", tmp_path / "merged")
    whole = abs_command(*base)
    assert (merged.code, merged.out) == (0, whole.out)
    assert f"results: 1 file in {tmp_path / 'merged'}" in merged.err
    assert abs_command("results", "show", tmp_path / "merged").out == whole.out
    (record,) = json.loads(abs_command("results", "merge", *places, "--json").out)["results"]
    assert record["details"]["data"]["images"] == 4


@pytest.mark.slow
def test_labelled_shares_are_merged(
    abs_command: Abs, folder: Callable[..., Path], small_clips: tuple[str, str], tmp_path: Path
) -> None:
    data = folder(ant=["a.png", "b.png"], bee=["a.png"])
    (data / "bee" / "broken.png").write_bytes(b"no image")
    base = ("label", data, "--labels", "ant,bee", "--model", small_clips[0], "--method", "clip", *PLAIN)
    shares = [tmp_path / "1", tmp_path / "2"]
    # as without shares: an image that cannot be read is a row and an exit code
    codes = [abs_command(*base, "--shard", f"{share.name}/2", "--out", share).code for share in shares]
    assert codes == [0, 3]
    incomplete = abs_command("label", "merge", shares[1], "--out", tmp_path / "merged")
    assert incomplete.code == 2
    assert "1 share is missing of 2: 1. Run abs label --shard 1/2" in incomplete.err
    assert abs_command("label", "merge", *shares).code == 2
    assert "Leave it out" in abs_command("label", "merge", shares[0], "--doubtful-first").err
    merged = abs_command("label", "merge", *shares, "--out", tmp_path / "merged")
    assert merged.code == 0
    assert "4 images: " in merged.out
    assert "1 failed; 0 now" in merged.out
    assert abs_command(*base, "--out", tmp_path / "whole").code == 3
    assert (tmp_path / "merged" / "labels.csv").read_text() == (tmp_path / "whole" / "labels.csv").read_text()


@pytest.mark.parametrize(
    "command",
    [
        ("eval", "--dataset", "demo"),
        ("label", "demo", "--labels", "a,b", "--out", "out"),
        ("features", "demo", "--out", "f.npz"),
    ],
)
def test_what_is_no_share_is_refused(abs_command: Abs, command: tuple[str, ...]) -> None:
    ran = abs_command(*command, "--shard", "0/4")
    assert (ran.code, ran.out) == (2, "")
    assert "--shard must be I/N with 1 <= I <= N, got '0/4'. Write --shard 1/8" in ran.err
