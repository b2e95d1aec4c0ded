"""`abs bundle diff`: what changed from one version to another."""

from __future__ import annotations

import json
from pathlib import Path

from bundle_samples import import_texts
from support import Abs


def test_equal_bundles_have_no_difference(abs_command: Abs) -> None:
    ran = abs_command("bundle", "diff", "pets", "pets@1.0.0")
    assert (ran.code, ran.out, ran.err) == (0, "", "no difference in classes or descriptions\n")


def test_label_sets_that_differ_are_a_json_line(abs_command: Abs, tmp_path: Path) -> None:
    (tmp_path / "texts.tsv").write_text("c\tIt lifts.\n")
    for name, note in (("a", ""), ("b", "the machine")):
        (tmp_path / f"{name}.csv").write_text(f"id,name,note\nc,crane,{note}\n")
        abs_command("bundle", "import", tmp_path / "texts.tsv", "--name", name, "--labels", tmp_path / f"{name}.csv")
    first = json.loads(abs_command("bundle", "diff", "a", "b", "--json").out.splitlines()[0])
    assert first["labels"]["noted"] == [{"class": "c", "old": None, "new": "the machine"}]


def test_one_bundle_is_compared_with_what_it_was_made_of(abs_command: Abs, tmp_path: Path) -> None:
    first = import_texts(abs_command, "own", "cat\tA cat has wiskers.", "cat\tIt purrs.", "dog\tA dog barks.")
    assert "own@1.0.0 was not made of another bundle" in abs_command.refuses("bundle", "diff", "own")
    changed = tmp_path / "changed.csv"
    abs_command("bundle", "export", "own", changed, "--format", "csv")
    changed.write_text(changed.read_text(encoding="utf-8-sig").replace("wiskers", "whiskers").replace("barks", "runs"))
    abs_command("bundle", "import", changed, "--name", "own", "--parent", "own")
    ran = abs_command("bundle", "diff", "own", "--stat")
    assert ran.err == f"against {first}\n"
    assert ran.out == " cat | 1 ~\n dog | 1 ~\n 2 classes differ: ~2 sentences in 2 classes\n"
    assert abs_command("bundle", "diff", first, "own", "--stat").out == ran.out
    assert (
        "  ~ A cat has [-wiskers-].               | A cat has {+whiskers+}.\n"
        in abs_command("bundle", "diff", "own").out
    )
    lines = [json.loads(line) for line in abs_command("bundle", "diff", "own", "--json").out.splitlines()]
    assert [line["edited"] for line in lines] == [
        [{"old": "A cat has wiskers.", "new": "A cat has whiskers."}],
        [{"old": "A dog barks.", "new": "A dog runs."}],
    ]
    *classes, total = abs_command("bundle", "diff", "own", "--stat", "--json").out.splitlines()
    none = {"added": 0, "removed": 0, "altered": 0, "accepted": 0, "otherwise": 0}
    assert [json.loads(line) for line in classes] == [
        {"class": label, "name": label, "edited": 1, **none} for label in ("cat", "dog")
    ]
    assert json.loads(total) == {"total": {"edited": 2, "classes": 2, **none}}
