"""ShardSpec cuts a source into shares, and finds its own in a Slurm job."""

from __future__ import annotations

import pytest

from abs_classify.sharding import ShardSpec, SourceShare, require_complete
from abs_core.errors import ResultError, UsageError


@pytest.mark.parametrize("images", [1, 2, 7, 64, 1000])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shares_are_the_whole_in_order_and_of_nearly_one_size(images: int, count: int) -> None:
    if images < count:
        with pytest.raises(UsageError, match=f"needs an image for each of the {count} shares"):
            ShardSpec(1, count).positions(images)
        return
    shares = [ShardSpec(index, count).positions(images) for index in range(1, count + 1)]
    assert [position for share in shares for position in share] == list(range(images))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "-1/4", "1", "a/b", "1/4/2", "", "1.0/4", "\u0661/\u0664"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--shard must be I/N with 1 <= I <= N, got '.*'\. Write --shard 1/8"):
        ShardSpec.parse(text)


def array(task: int, first: int, last: int, count: int, step: int = 1) -> dict[str, str]:
    values = {"ID": task, "MIN": first, "MAX": last, "COUNT": count, "STEP": step}
    return {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in values.items()}


@pytest.mark.parametrize(
    ("environment", "share"),
    [
        (array(1, 1, 8, 8), "1/8"),
        (array(7, 0, 7, 8), "8/8"),
        (array(5, 1, 7, 4, step=2), "3/4"),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4", "SLURM_NTASKS": "4"}, "3/4"),
        # an array of jobs with two tasks each
        ({**array(2, 1, 4, 4), "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2"}, "4/8"),
        ({**array(2, 1, 4, 4), "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, "2/4"),
    ],
)
def test_slurm_tells_the_share(environment: dict[str, str], share: str) -> None:
    assert str(ShardSpec.parse("slurm", environment)) == share


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "needs a job array or several tasks of srun, and the environment has neither"),
        ({"SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, "needs a job array"),
        # one share would be made and all others left undone
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, "the job has 4 tasks, and this process was not started by srun"),
        # parts of an array that are submitted again
        (array(3, 3, 7, 2), r"without gaps that begins at 0 or 1, got 2 of 3 to 7\. .*\$SLURM_ARRAY_TASK_ID/8"),
        (array(1, 1, 7, 3), "without gaps"),
        (array(1, 1, 1, 1), "without gaps"),
        ({"SLURM_ARRAY_TASK_ID": "3"}, "_COUNT is missing"),
    ],
)
def test_a_slurm_job_that_does_not_tell_the_share_is_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ShardSpec.parse("slurm", environment)


def test_shares_must_be_complete() -> None:
    shares = [(f"s{index}", SourceShare(index, 3, 10, "sha256:a")) for index in (3, 1, 2)]
    assert require_complete(shares, "abs eval") == ["s1", "s2", "s3"]
    assert [share.size for _, share in shares] == [4, 3, 3]
    assert shares[0][1].note == "share 3/3 of 10 images: images 7 to 10 in their order"
    with pytest.raises(ResultError, match="or is another or called differently"):
        require_complete([*shares[:2], ("s4", SourceShare(2, 3, 10, "sha256:b"))], "abs eval")
    for value in ({}, {**shares[0][1].as_json(), "index": 4}):
        with pytest.raises((KeyError, ValueError)):
            SourceShare.from_json(value)
