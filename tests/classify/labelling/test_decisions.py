"""Decisions: what many files of many reviewers say together."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abs_classify.labelling.decisions import (
    DecisionLog,
    ReviewDecision,
    decision_line,
    parse_decision,
    read_decisions,
    reviewer_name,
)
from abs_core.errors import StorageError, UsageError

CAT, DOG, OWL = ("sha256:" + hashlib.sha256(name).hexdigest() for name in (b"cat", b"dog", b"owl"))


def decided(folder: Path, reviewer: str, *decisions: ReviewDecision) -> list[ReviewDecision]:
    with DecisionLog(folder, reviewer) as log:
        return log.append(decisions)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    files = sorted((folder / "decisions").glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]


def test_a_decision_is_a_line_with_its_reviewer_and_time(tmp_path: Path) -> None:
    (written,) = decided(
        tmp_path, "alice", ReviewDecision(CAT, "label", "cat", "random", path="a.jpg", model_label="dog", resolves=True)
    )
    (line,) = lines_of(tmp_path)
    assert line == {
        "action": "label", "image": CAT, "label": "cat", "model_label": "dog", "path": "a.jpg", "resolves": True,
        "reviewer": "alice", "shown_by": "random", "time": written.time, "version": 1,
    }  # fmt: skip
    current = read_decisions(tmp_path).current[CAT]
    assert (current.action, current.label, current.reviewer, current.time) == ("label", "cat", "alice", written.time)
    assert (current.shown_by, current.conflict, current.others) == ("random", False, ())
    assert (current.model_label, current.path) == ("dog", "a.jpg")


def test_undo_takes_back_one_decision_of_the_same_reviewer_each(tmp_path: Path) -> None:
    first, second, undo = (
        ReviewDecision(CAT, "accept", "cat"),
        ReviewDecision(CAT, "reject"),
        ReviewDecision(CAT, "undo"),
    )
    decisions = read_decisions(tmp_path)
    with DecisionLog(tmp_path, "alice", decisions) as alice, DecisionLog(tmp_path, "bob", decisions) as bob:
        alice.append([first, second])
        assert decisions.current[CAT].action == "reject"
        bob.append([undo])
        assert decisions.current[CAT].action == "reject"
        alice.append([undo])
        assert decisions.current[CAT].action == "accept"
        alice.append([undo, undo, undo])
        assert CAT not in decisions.current
        alice.append([second])
        assert decisions.current[CAT].action == "reject"
    assert len(decisions.of_image(CAT)) == 8


def test_reviewers_who_agree_decide_and_those_who_do_not_are_in_conflict(tmp_path: Path) -> None:
    decided(tmp_path, "alice", ReviewDecision(CAT, "accept", "cat", "random"), ReviewDecision(DOG, "accept", "dog"))
    decided(tmp_path, "bob", ReviewDecision(CAT, "label", "cat"), ReviewDecision(DOG, "reject"))
    decisions = read_decisions(tmp_path)
    agreed, disputed = decisions.current[CAT], decisions.current[DOG]
    assert (agreed.reviewers, agreed.label, agreed.conflict, agreed.shown_by) == (
        ("alice", "bob"),
        "cat",
        False,
        "random",
    )
    assert disputed.conflict
    assert [(decision.reviewer, decision.action) for decision in disputed.others] == [("alice", "accept")]
    assert set(decisions.settled) == {CAT}
    # one who saw what others say settles it, until somebody who did not says something else
    decided(tmp_path, "carol", ReviewDecision(DOG, "label", "dog", resolves=True))
    assert decisions.refresh() == {DOG}
    settled = decisions.settled[DOG]
    assert (settled.label, settled.reviewers, settled.conflict) == ("dog", ("alice", "carol"), False)
    assert [decision.reviewer for decision in settled.others] == ["bob"]
    decided(tmp_path, "dave", ReviewDecision(DOG, "label", "cat"))
    assert decisions.refresh() == {DOG}
    assert decisions.current[DOG].conflict


def test_an_image_that_was_drawn_stays_drawn_when_it_is_corrected_but_not_when_it_is_undone(tmp_path: Path) -> None:
    decisions = read_decisions(tmp_path)
    with DecisionLog(tmp_path, "alice", decisions) as log:
        log.append([ReviewDecision(CAT, "accept", "dog", "random"), ReviewDecision(CAT, "label", "cat", "chosen")])
        assert decisions.current[CAT].shown_by == "random"
        log.append(
            [ReviewDecision(CAT, "undo"), ReviewDecision(CAT, "undo"), ReviewDecision(CAT, "label", "cat", "chosen")]
        )
        assert decisions.current[CAT].shown_by == "chosen"


def test_a_decision_comes_after_all_that_its_process_knew_whatever_other_clocks_said(tmp_path: Path) -> None:
    early = ReviewDecision(CAT, "accept", "cat", reviewer="bob", time="2099-01-01T00:00:00.000Z")
    (tmp_path / "decisions").mkdir()
    (tmp_path / "decisions" / "bob@ahead.jsonl").write_bytes(decision_line(early))
    (written,) = decided(tmp_path, "alice", ReviewDecision(CAT, "reject", resolves=True))
    assert written.time == "2099-01-01T00:00:00.001Z"
    assert read_decisions(tmp_path).settled[CAT].action == "reject"
    (other,) = decided(tmp_path, "alice", ReviewDecision(DOG, "reject"))
    assert other.time < "2099"


@pytest.mark.parametrize("tail", [b'{"action":"acc', b"\xff\xfe", b"x" * 100])
def test_a_torn_last_line_costs_itself_alone(tmp_path: Path, tail: bytes) -> None:
    decided(tmp_path, "alice", ReviewDecision(CAT, "accept", "cat"))
    (file,) = (tmp_path / "decisions").iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole + tail)
    decisions = read_decisions(tmp_path)
    assert set(decisions.current) == {CAT}
    (problem,) = decisions.problems
    assert (problem.kind, problem.examples) == ("left out: the end of a file, cut off in its last line", (file.name,))
    # the next process ends the line and writes behind it
    decided(tmp_path, "alice", ReviewDecision(DOG, "accept", "dog"))
    assert file.read_bytes().startswith(whole + tail + b"\n{")
    assert decisions.refresh() == {DOG}
    assert [(problem.count, problem.examples) for problem in decisions.problems] == [(1, (f"{file.name}, line 2",))]


def test_a_last_line_without_its_end_counts_and_is_not_counted_twice(tmp_path: Path) -> None:
    decided(
        tmp_path,
        "alice",
        ReviewDecision(CAT, "accept", "cat"),
        ReviewDecision(CAT, "reject"),
        ReviewDecision(CAT, "undo"),
    )
    (file,) = (tmp_path / "decisions").iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    decisions = read_decisions(tmp_path)
    assert (decisions.current[CAT].action, decisions.problems) == ("accept", ())
    decided(tmp_path, "alice", ReviewDecision(DOG, "reject"))
    assert decisions.refresh() == {DOG}
    assert len(list(decisions)) == 4


GOOD = json.loads(decision_line(ReviewDecision(CAT, "accept", "cat", reviewer="eve", time="2026-01-01T00:00:00Z")))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"action": "delete"}, "without a valid action"),
        ({"action": ["accept"]}, "without a valid action"),
        ({"image": "../../etc/passwd"}, "without a valid image"),
        ({"image": CAT.upper()}, "without a valid image"),
        ({"label": ""}, "without a valid label"),
        ({"label": 3}, "without a valid label"),
        ({"action": "reject"}, "without a valid label"),
        ({"shown_by": "luck"}, "without a valid shown_by"),
        ({"resolves": 1}, "without a valid resolves"),
        ({"reviewer": " "}, "without a valid reviewer"),
        ({"reviewer": "a\nb"}, "without a valid reviewer"),
        ({"time": "yesterday"}, "without a valid time"),
        ({"time": "0001-01-01T00:00:00+23:00"}, "without a valid time"),
        ({"time": None}, "without a valid time"),
        ({"version": 2}, "of another version of the toolkit"),
        ({"path": {"a": 1}}, "without a valid path"),
    ],
)
def test_a_line_that_is_no_decision_is_named_and_costs_itself_alone(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    (tmp_path / "decisions").mkdir()
    lines = [{**GOOD, **change}, {**GOOD, "image": DOG}]
    text = "\n".join(map(json.dumps, lines)) + "\n"
    (tmp_path / "decisions" / "eve.jsonl").write_text(text)
    decisions = read_decisions(tmp_path)
    assert set(decisions.current) == {DOG}
    assert [str(problem) for problem in decisions.problems] == [f"1 left out: a line {reason} (eve.jsonl, line 1)"]


def test_files_of_an_enemy_are_survived(tmp_path: Path) -> None:
    folder = tmp_path / "decisions"
    (folder / "sub.jsonl").mkdir(parents=True)
    (folder / "zero.jsonl").symlink_to("/dev/zero")
    (folder / "deep.jsonl").write_bytes(b"[" * 60_000 + b"\n")
    (folder / "long.jsonl").write_bytes(b"x" * 3_000_000 + b"\n" + json.dumps(GOOD).encode())
    (folder / "list.jsonl").write_bytes(b'[]\n17\nnull\n\n{"action":NaN}\n\xff\n')
    (folder / "notes.txt").write_text("no decisions")
    decisions = read_decisions(tmp_path)
    assert set(decisions.current) == {CAT}
    kinds = {problem.kind: problem.count for problem in decisions.problems}
    assert kinds == {
        "left out: not a file": 2,
        "left out: a line that is not JSON": 2,
        "left out: a line that is not a JSON object": 3,
        "left out: a line without a valid action": 1,
        "left out: a line that is too long": 1,
    }
    assert decisions.refresh() == set()


def test_a_file_that_was_replaced_is_read_anew(tmp_path: Path) -> None:
    decided(tmp_path, "alice", ReviewDecision(CAT, "accept", "cat"), ReviewDecision(DOG, "reject"))
    decided(tmp_path, "bob", ReviewDecision(OWL, "reject"))
    decisions = read_decisions(tmp_path)
    file = next((tmp_path / "decisions").glob("alice*"))
    file.write_bytes(file.read_bytes().splitlines(keepends=True)[0])
    assert decisions.refresh() == {DOG}
    file.unlink()
    assert decisions.refresh() == {CAT}
    assert set(decisions.current) == {OWL}


def test_two_processes_of_one_reviewer_write_two_files(tmp_path: Path) -> None:
    with DecisionLog(tmp_path, "alice") as first, DecisionLog(tmp_path, "alice") as second:
        first.append([ReviewDecision(CAT, "accept", "cat")])
        second.append([ReviewDecision(CAT, "reject")])
        assert len(list((tmp_path / "decisions").iterdir())) == 2
    assert read_decisions(tmp_path).settled[CAT].action == "reject"
    decided(tmp_path, "alice", ReviewDecision(DOG, "reject"))
    assert len(list((tmp_path / "decisions").iterdir())) == 2


@pytest.mark.parametrize("name", ["../../x", "a/b", "CON", ".hidden", "Zoë", "名" * 64, "a" * 64, "x@y"])
def test_any_name_of_a_reviewer_is_a_safe_file_name(tmp_path: Path, name: str) -> None:
    decided(tmp_path, name, ReviewDecision(CAT, "reject"))
    (file,) = tmp_path.rglob("*.jsonl")
    assert file.parent == tmp_path / "decisions"
    assert not file.name.startswith(".")
    assert file.name.isascii()
    assert read_decisions(tmp_path).current[CAT].reviewer == name


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a" * 65, "\x1b[31m", "\udcff\n."])
def test_a_name_that_cannot_be_shown_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="reviewer's name must have 1 to 64 printable characters"):
        reviewer_name(name)


def test_what_would_be_left_out_when_it_is_read_is_not_written(tmp_path: Path) -> None:
    with DecisionLog(tmp_path, "alice") as log:
        with pytest.raises(UsageError, match="without a valid label"):
            log.append([ReviewDecision(CAT, "accept", "cat"), ReviewDecision(DOG, "accept")])
        assert not (tmp_path / "decisions").exists()
        log.append([ReviewDecision(CAT, "label", "\udcff cat", path="\udcff.jpg")])
    assert read_decisions(tmp_path).current[CAT].path == "\\udcff.jpg"


@pytest.mark.faults
def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    code = """
import resource, signal, sys
from pathlib import Path
from abs_classify.labelling.decisions import ReviewDecision, DecisionLog
from abs_core.errors import StorageError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.RLIM_INFINITY))
ids = ["sha256:" + f"{number:064x}" for number in range(100)]
with DecisionLog(Path(sys.argv[1]), "alice") as log:
    done = 0
    try:
        for image in ids:
            log.append([ReviewDecision(image, "reject")])
            done += 1
    except StorageError as error:
        print(done, error)
"""
    result = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    done, message = result.stdout.split(" ", 1)
    assert "cannot write in" in message
    decisions = read_decisions(tmp_path)
    assert (len(decisions.current), decisions.problems) == (int(done), ())


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "decisions").write_text("a file")
    with pytest.raises(StorageError):
        decided(tmp_path, "alice", ReviewDecision(CAT, "reject"))


moments = st.integers(0, 4).map(lambda second: f"2026-01-01T00:00:0{second}.000Z")
outcomes = st.sampled_from([("accept", "cat"), ("label", "dog"), ("reject", ""), ("undo", "")])


@st.composite
def histories(draw: st.DrawFn) -> list[ReviewDecision]:
    count = draw(st.integers(1, 9))
    return [
        ReviewDecision(
            draw(st.sampled_from([CAT, DOG])),
            *draw(outcomes),  # type: ignore[arg-type]
            shown_by=draw(st.sampled_from(["random", "chosen"])),
            reviewer=draw(st.sampled_from(["alice", "bob", "carol"])),
            time=draw(moments),
            resolves=draw(st.booleans()),
        )
        for _ in range(count)
    ]


@given(histories(), st.randoms(use_true_random=False))
def test_neither_order_nor_number_of_files_nor_copies_change_what_is_decided(
    tmp_path_factory: pytest.TempPathFactory, history: list[ReviewDecision], chance: Any
) -> None:
    together, apart = tmp_path_factory.mktemp("together"), tmp_path_factory.mktemp("apart")
    for folder in (together, apart):
        (folder / "decisions").mkdir()
    (together / "decisions" / "all.jsonl").write_bytes(b"".join(map(decision_line, history)))
    expected = read_decisions(together).current
    shuffled = [*history, *chance.sample(history, len(history) // 2)]
    chance.shuffle(shuffled)
    decisions = read_decisions(apart)
    changed: set[str] = set()
    for decision in shuffled:
        file = apart / "decisions" / f"{chance.randrange(4)}.jsonl"
        with file.open("ab") as stream:
            stream.write(decision_line(decision))
        before = dict(decisions.current)
        changed = decisions.refresh()
        assert changed == {image for image in (CAT, DOG) if before.get(image) != decisions.current.get(image)}
    assert decisions.current == expected
    for image, current in expected.items():
        lines = [decision for decision in history if decision.image_id == image]
        assert current.conflict <= (len({decision.reviewer for decision in lines}) > 1)


@given(histories())
def test_a_line_gives_its_decision_back(history: list[ReviewDecision]) -> None:
    for decision in history:
        assert parse_decision(decision_line(decision)) == decision
