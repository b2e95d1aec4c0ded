"""`abs lint`: what it opens, what it prints, and the exit code that CI reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import Abs


def bundle(abs_command: Abs, tmp_path: Path, *lines: str, labels: str = "horse\ndonkey\n") -> str:
    (tmp_path / "labels.txt").write_text(labels, encoding="utf-8")
    (tmp_path / "texts.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    ran = abs_command("bundle", "import", tmp_path / "texts.tsv", "--name", "own", "--labels", tmp_path / "labels.txt")
    assert ran.code == 0, ran.err
    return "own"


def test_a_clean_bundle_is_exit_code_0(abs_command: Abs) -> None:
    ran = abs_command("lint", "pets", "--strict")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[0].startswith("pets@1.0.0#sha256:")
    assert ran.out.splitlines()[-1] == "nothing found"


def test_warnings_fail_with_strict_only(abs_command: Abs, tmp_path: Path) -> None:
    name = bundle(abs_command, tmp_path, "horse\tA horse runs.", "donkey\tA donkey runs like a horse.")
    ran = abs_command("lint", name)
    assert ran.code == 0
    assert "warning: too-few (2)" in ran.out
    assert "warning: names-other-class (1)" in ran.out
    assert "0 errors, 3 warnings" in ran.out
    assert abs_command("lint", name, "--strict").code == 1
    assert abs_command("lint", name, "--strict", "--min-descriptions", "1").code == 1


def test_rules_names_and_texts_can_be_left_out(abs_command: Abs, tmp_path: Path) -> None:
    name = bundle(abs_command, tmp_path, "horse\tA horse <b>runs</b>.", "donkey\tA donkey runs like a horse.")
    fine = tmp_path / "fine.txt"
    fine.write_text("# names and texts\nHorse\nA horse <b>runs</b>.\n", encoding="utf-8")
    ran = abs_command("lint", name, "--strict", "--ignore", "too-few", "--allow", fine)
    assert ran.code == 0
    assert ran.out.endswith("left out as asked: 4 findings\nnothing found\n")
    assert json.loads(abs_command("lint", name, "--json", "--ignore", "too-few").out)["silenced"] == 2
    assert "unknown lint rule 'to-few' (did you mean 'too-few'?)" in abs_command.refuses(
        "lint", name, "--ignore", "to-few"
    )
    assert "missing.txt" in abs_command.refuses("lint", name, "--allow", tmp_path / "missing.txt")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert "not UTF-8" in abs_command.refuses("lint", name, "--allow", tmp_path / "latin.txt")


def test_a_name_of_nothing_and_one_finding(abs_command: Abs, tmp_path: Path) -> None:
    assert "no bundle is called 'nosuch'; unknown label set 'nosuch'" in abs_command.refuses("lint", "nosuch")
    (tmp_path / "twice.txt").write_text("owl\nowl\n")
    ran = abs_command("lint", tmp_path / "twice.txt")
    assert ran.code == 1
    assert ran.out.endswith("\n1 error, 0 warnings\n")


def test_an_error_is_exit_code_1_and_json_says_all(abs_command: Abs, tmp_path: Path) -> None:
    name = bundle(abs_command, tmp_path, "horse\tIt has four legs.", "donkey\tIt has four legs.")
    ran = abs_command("lint", name, "--json")
    assert ran.code == 1
    found = json.loads(ran.out)
    assert (found["errors"], found["warnings"], found["failed"]) == (1, 2, True)
    assert (found["classes"], found["descriptions"]) == (2, 2)
    assert found["findings"][0] == {
        "rule": "shared-text",
        "severity": "error",
        "message": "'donkey' and 'horse' share a text",
        "class": "donkey",
        "other": "horse",
        "text": "It has four legs.",
    }


def test_labels_before_any_money(abs_command: Abs, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("id,name,note\na,crane,the bird\nb,mouse,\nc,Mouse pad,\n", encoding="utf-8")
    ran = abs_command("lint", path)
    assert ran.code == 0
    assert "'mouse' (b) may mean rodent; computer mouse" in ran.out
    assert "crane" not in ran.out
    assert abs_command("lint", "crane,mouse,kite").out.count(" may mean ") == 3
    assert abs_command("lint", "cifar100").out.startswith("labels cifar100#sha256:")


def test_a_name_twice_in_a_file_is_a_finding(abs_command: Abs, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("cat\ndog\nCat\n", encoding="utf-8")
    ran = abs_command("lint", path, "--json")
    assert ran.code == 1
    (found,) = json.loads(ran.out)["findings"]
    assert found["rule"] == "labels-refused"
    assert "line 3" in found["message"]
    assert abs_command("lint", "cat,dog,Cat").code == 1


def test_bundle_and_label_set_of_one_name(abs_command: Abs) -> None:
    assert abs_command("lint", "pets").out.startswith("pets@1.0.0#sha256:")
    assert abs_command("lint", "pets", "--label-set").out.startswith("labels pets#sha256:")


@pytest.mark.parametrize("source", ["no-such-thing", "./missing.txt", "own@1.0.0", "missing.jsonl", ""])
def test_wrong_input_is_exit_code_2(abs_command: Abs, source: str) -> None:
    abs_command.refuses("lint", source)


def test_a_broken_bundle_is_exit_code_2(abs_command: Abs, tmp_path: Path) -> None:
    path = tmp_path / "broken.jsonl"
    path.write_text('{"format":"abs-descriptions"}\n', encoding="utf-8")
    assert "broken.jsonl" in abs_command.refuses("lint", path)


def test_tokens_are_counted_by_the_named_model(abs_command: Abs, tmp_path: Path) -> None:
    long = "A horse " + "gallops over the wide green meadow and " * 60 + "rests."
    name = bundle(abs_command, tmp_path, f"horse\t{long}", "donkey\tA donkey eats thistles.")
    assert "over-token-limit" not in abs_command("lint", name).out
    ran = abs_command("lint", name, "--model", "embedded", "--json")
    assert ran.code == 1
    found = [one for one in json.loads(ran.out)["findings"] if one["rule"] == "over-token-limit"]
    assert len(found) == 1
    assert "the limit is 256" in found[0]["message"]
    assert "no-such-model" in abs_command.refuses("lint", name, "--model", "no-such-model")


def test_hostile_text_is_shown_harmless(abs_command: Abs, tmp_path: Path) -> None:
    name = bundle(abs_command, tmp_path, "horse\tA horse \x1b[31mis red.", "donkey\tA donkey is grey.")
    ran = abs_command("lint", name)
    assert ran.code == 1
    assert "\x1b" not in ran.out
    assert "control-character" in ran.out


def test_a_bundle_goes_before_what_bears_its_name_here(
    abs_command: Abs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = bundle(abs_command, tmp_path, "horse\tA horse runs.", "donkey\tA donkey brays.")
    monkeypatch.chdir(tmp_path)
    (tmp_path / name / "cat").mkdir(parents=True)
    (tmp_path / "pets").write_text("no bundle")
    assert abs_command("lint", name).out.startswith("own@1.0.0#sha256:")
    assert abs_command("lint", f"./{name}").out.startswith("labels own#sha256:")
    (tmp_path / "other" / "cat").mkdir(parents=True)
    assert abs_command("lint", "other").out.startswith("labels other#sha256:")
    assert abs_command("lint", "pets").out.startswith("pets@1.0.0#sha256:")
    assert "pets@1.0.0" in abs_command("bundle", "show", "pets").out
    assert "pets" in abs_command.refuses("bundle", "show", "./pets")
