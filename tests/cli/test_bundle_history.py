"""`abs bundle ls, log, diff`: which versions there are, what each was made of, and what changed."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from bundle_samples import import_texts
from history_samples import make_history
from support import ROOT, Abs


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


@pytest.fixture
def birds(abs_command: Abs, tmp_path: Path) -> Abs:
    """With birds@1.0.0, two reviews of it and a merge of these."""
    make_history(abs_command, tmp_path)
    return abs_command


def undated(text: str) -> str:
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE", text)


def test_the_page_shows_what_the_commands_print(
    birds: Abs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "history.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^\$ abs (bundle .*)\n((?:.*\n)*?)```", page, flags=re.MULTILINE)
    assert len(blocks) >= 5
    for command, output in blocks:
        assert undated(birds(*shlex.split(command)).out) == undated(output), command
    monkeypatch.setenv("ABS_HOME", str(birds.home))
    [block] = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    exec(compile(block, "docs/history.md", "exec"), {})
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "sparrow [('A sparrow has a short beak and brown fethers.', 'A sparrow has a short beak and brown feathers.')]",
        "owl []",
    ]


def test_a_log_says_what_each_version_was_made_of_and_changed(birds: Abs) -> None:
    ran = birds("bundle", "log", "birds@1.2.0")
    assert undated(ran.out) == (
        "birds@1.2.0  DATE  2 classes, 4 descriptions\n"
        "    by Ravi (review)\n"
        "    from birds@1.0.0: -1 sentence in 1 class, 1 accepted\n"
        "birds@1.0.0  DATE  2 classes, 5 descriptions\n"
        "    by an import, source not stated\n"
    )
    assert ran.err == "2 other versions of the name; --all shows them too\n"
    graph = birds("bundle", "log", "birds").out.splitlines()
    assert undated(graph[0]) == "* birds@1.3.0  DATE  2 classes, 4 descriptions  (latest)"
    assert graph[1:3] == [
        "|\\    from birds@1.1.0: -1 sentence in 1 class, 1 accepted",
        "| |   from birds@1.2.0: ~1 sentence in 1 class, 1 accepted",
    ]
    assert graph == birds("bundle", "log", "birds@1.0.0", "--all").out.splitlines()
    cut = birds("bundle", "log", "birds", "--limit", "1")
    assert (len(cut.out.splitlines()), cut.err) == (
        3,
        "1 of 4 versions; --limit 4 shows all\n",
    )
    assert "did you mean 'birds'?" in birds.refuses("bundle", "log", "brids")


def test_a_bundle_is_shown_with_its_reviews_and_where_its_parents_are(birds: Abs) -> None:
    shown = birds("bundle", "show", "birds@1.1.0").out
    assert "  records    5 (1 accepted, 1 edited), rejected 1\n" in shown
    assert "(not here)" not in shown
    assert birds("bundle", "rm", "birds@1.0.0", "--yes", "--force").code == 0
    assert re.search(
        r"  parent     birds@1\.0\.0#sha256:[0-9a-f]{64} \(not here\)\n", birds("bundle", "show", "birds@1.1.0").out
    )


def test_a_log_in_json(birds: Abs) -> None:
    birds("bundle", "yank", "birds@1.3.0", "--reason", "too soon")
    first, *rest = [json.loads(line) for line in birds("bundle", "log", "birds@1.3.0", "--json").out.splitlines()]
    assert (first["version"], first["yanked"], first["latest"], len(rest)) == ("1.3.0", "too soon", False, 3)
    assert [(parent["reference"][:11], parent["changes"]["edited"]) for parent in first["parents"]] == [
        ("birds@1.1.0", 0),
        ("birds@1.2.0", 1),
    ]
    assert {author["model"] for entry in rest for author in entry["authors"]} == {"Jane Doe", "Ravi", "not stated"}
    assert "  YANKED: too soon\n" in birds("bundle", "log", "birds@1.3.0").out


def test_a_listing_has_counts_parents_and_what_a_name_means(birds: Abs) -> None:
    ran = birds("bundle", "ls", "birds")
    assert [line.split()[:1] + line.split()[3:] for line in ran.out.splitlines()[1:]] == [
        ["birds@1.0.0", "2", "5"],
        ["birds@1.1.0", "2", "5", "1.0.0"],
        ["birds@1.2.0", "2", "4", "1.0.0"],
        ["birds@1.3.0", "2", "4", "1.1.0,", "1.2.0", "latest"],
    ]
    assert ran.err.startswith("4 in ")
    latest = json.loads(birds("bundle", "ls", "--latest", "--json").out)
    assert [entry["reference"].partition("#")[0] for entry in latest] == ["birds@1.3.0", "pets@1.0.0", "textures@1.0.0"]
    assert [entry["origin"] for entry in latest] == ["store", "shipped", "shipped"]
    references = birds("bundle", "ls", "birds", "--latest", "--references").out
    assert references == f"{latest[0]['reference']}\n"
    assert "did you mean 'birds'?" in birds.refuses("bundle", "ls", "brids")
    assert "exclude each other" in birds.refuses("bundle", "ls", "--json", "--references")
    assert "--limit needs --remote" in birds.refuses("bundle", "ls", "--limit", "3")


@pytest.mark.parametrize("width", [30, 45, 60, 100])
def test_a_listing_fits_a_narrow_terminal(birds: Abs, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    birds("bundle", "yank", "birds@1.3.0", "--reason", "half of the sentences are about dogs")
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    lines = birds("bundle", "ls", "birds").out.splitlines()
    assert all(len(line) <= width for line in lines)
    assert "YANKED" in lines[-1]
    assert ("PARENTS" in lines[0]) == (width == 100)


def test_a_push_says_what_stays_behind_and_what_went_apart(
    birds: Abs, shared_cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    pushed = birds("bundle", "push", "birds@1.1.0", shared)
    assert f"{shared} lacks what it was made of, birds@1.0.0: " in pushed.err
    assert "--with-parents copies it too" in pushed.err
    apart = birds("bundle", "push", "birds@1.2.0", shared, "--with-parents")
    assert "lacks what" not in apart.err
    assert apart.err.splitlines()[1] == (
        f"warning: {shared} also has birds@1.1.0, and neither was made of the other: each lacks the other's changes; "
        f"`abs bundle pull birds@1.1.0 {shared}` and `abs bundle merge birds@1.2.0 birds@1.1.0` join both"
    )
    joined = birds("bundle", "push", "birds@1.3.0", shared)
    assert joined.err == f"pushed to {shared}\n"
    theirs = Abs(tmp_path / "theirs", shared_cache, capsys)
    assert (
        "the local store lacks what it was made of, birds@1.1.0, birds@1.2.0: "
        in theirs("bundle", "pull", "birds", shared).err
    )
    log = theirs("bundle", "log", "birds").out
    assert re.search(r"    from birds@1.1.0#sha256:[0-9a-f]{12}…, which is not here\n", log)
    assert "lacks" not in theirs("bundle", "pull", "birds", shared, "--with-parents").err
    assert "which is not here" not in theirs("bundle", "log", "birds").out


def test_two_versions_of_one_number_meet(
    abs_command: Abs, shared_cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shared, theirs = tmp_path / "shared", Abs(tmp_path / "theirs" / "home", shared_cache, capsys)
    theirs.home.mkdir(parents=True)
    import_texts(theirs, "own", "cat\tA cat hunts.")
    theirs("bundle", "push", "own", shared)
    import_texts(abs_command, "own", "cat\tA cat purrs.")
    refused = abs_command.refuses("bundle", "push", "own", shared)
    assert refused.endswith("such as 1.1.0, with `abs bundle renumber own@1.0.0 --version 1.1.0`.")
    assert abs_command("bundle", "renumber", "own@1.0.0", "--version", "1.1.0").out.startswith("own@1.1.0#")
    assert abs_command("bundle", "push", "own", shared).code == 0
    assert abs_command("bundle", "pull", "own@1.0.0", shared).code == 0
    assert "must name a version" in abs_command.refuses("bundle", "renumber", "own")


def test_what_ships_with_the_toolkit_does_not_stay_behind(abs_command: Abs, tmp_path: Path) -> None:
    review_file = Path(abs_command("bundle", "review", "pets", "--out", tmp_path).out.split()[0])
    rows = review_file.read_bytes().split(b"\r\n")
    rows[1] = rows[1].removesuffix(b",,,") + b",accept,,"
    review_file.write_bytes(b"\r\n".join(rows))
    assert abs_command("bundle", "review", "pets", "--read", review_file, "--reviewer", "Jane").code == 0
    for options in ((), ("--with-parents",)):
        assert "\n" not in abs_command("bundle", "push", "pets", tmp_path / "shared", *options).err.strip()
