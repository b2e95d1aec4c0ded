"""`abs bundle rewrite`: a small image model, dark and bright images, and a chat server on loopback."""

from __future__ import annotations

import csv
import json
import re
import signal
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from gen_descriptions_command import ChatScript, Generate
from PIL import Image
from rewriting import pair_text
from servers import Answer, completion
from support import Abs, Ran
from torch.nn.functional import normalize

from abs_classify.encoding.encoder import encode_texts
from abs_classify.models.registry import load_model
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.rewriting.pair_prompts import shipped_pair_sets

pytest.importorskip("openai")

OLD = {"crane": "A crane has long legs.", "heron": "A heron has a pointed bill."}
WORDS = ["red", "blue", "round", "tall", "striped", "wooden", "shiny", "dark", "small", "feathered", "hooked", "bright"]


def sentences(name: str) -> list[str]:
    triples = list(product(WORDS, repeat=3))[::4]
    return [f"A {name} has {first} and {second} spots on its {third} wings." for first, second, third in triples]


@pytest.fixture(scope="module")
def best(small_clips: tuple[str, str]) -> dict[str, str]:
    """For each class the sentence that, added to the bundle, helps most to tell dark images from bright ones."""
    model = load_model(small_clips[0])
    greys = [Image.new("RGB", (40, 40), (grey,) * 3) for grey in (0, 19, 236, 255)]
    images = normalize(model.encode_image(torch.stack([model.preprocess(image) for image in greys])), dim=-1)
    dark, bright = (
        normalize(encode_texts(model, sentences(name)) + encode_texts(model, [text]), dim=-1) @ images.T
        for name, text in OLD.items()
    )
    margins = dark[:, None] - bright[None]
    worst = torch.cat([margins[..., :2], -margins[..., 2:]], dim=-1).amin(-1)
    assert worst.max() > 0
    crane, heron = divmod(int(worst.argmax()), worst.shape[1])
    return {"crane": sentences("crane")[crane], "heron": sentences("heron")[heron]}


def answer(body: dict[str, Any], best: dict[str, str]) -> Answer:
    """Two differences, or a sentence: the best one to the first prompt, another one to the second."""
    question = body["messages"][-1]["content"]
    name = question.removeprefix("What tells ").split()[0]
    is_best = name in best and "never taken" not in question
    return completion(best[name] if is_best else pair_text(question, body["seed"] % 70), prompt=20, drawn=10)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 images of two classes, dark and bright."""
    for number in range(20):
        for name, grey in (("crane", number), ("heron", 255 - number)):
            path = tmp_path / "photos" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40), (grey, grey, grey)).save(path)
    return tmp_path / "photos"


class Rewrite:
    """`abs bundle rewrite` of a bundle of two classes."""

    def __init__(self, run: Abs, server: ChatScript, model: str, folder: Path) -> None:
        self.run, self.server, self.folder = run, server, folder
        self.images = ("--model", model, "--attention", "self", "--method", "cupl", "--threads", "1")
        (folder / "own.tsv").write_text("".join(f"{name}\t{text}\n" for name, text in OLD.items()))
        assert run("bundle", "import", folder / "own.tsv", "--name", "birds").code == 0

    def arguments(self, *options: str | Path, bundle: str = "birds") -> list[str]:
        language = ("--backend", "openai", "--language-model", "m", "--base-url", self.server.url)
        return ["bundle", "rewrite", bundle, *language, *self.images, *map(str, options)]

    def __call__(self, *options: str | Path, bundle: str = "birds") -> Ran:
        return self.run(*self.arguments(*options, bundle=bundle))

    @property
    def store(self) -> Repository:
        return Repository.local(self.run.home / "bundles")


@pytest.fixture
def rewrite(abs_command: Abs, server: ChatScript, small_clips: tuple[str, str], tmp_path: Path) -> Rewrite:
    server.behave = lambda name, body: answer(body, {})
    return Rewrite(abs_command, server, small_clips[0], tmp_path)


def test_a_gain_on_the_other_half_adds_a_version(rewrite: Rewrite, photos: Path, best: dict[str, str]) -> None:
    rewrite.server.behave = lambda name, body: answer(body, best)
    dataset = ("--dataset", f"imagefolder:{photos}", "--per-class", "2")
    plan = rewrite(*dataset, "--dry-run", "--price-in", "1", "--price-out", "2", "--json")
    assert plan.code == 0, plan.err
    assert json.loads(plan.out)["to_ask"]["requests"] == 2 + 2 * 2
    assert rewrite.server.seen == []
    ran = rewrite(*dataset, "--json")
    assert ran.code == 0, ran
    value = json.loads(ran.out)
    assert (value["outcome"], value["pairs"], value["new"]) == ("kept", 1, True)
    assert value["choice"]["images"] == value["test"]["images"] == 20
    assert value["test"]["interval"]["low"] > 0
    assert set(best.values()) <= {entry["text"] for entry in value["candidates"] if entry["chosen"]}
    (child,) = [manifest for manifest in rewrite.store.list("birds") if manifest.version == "1.1.0"]
    assert value["bundle"] == str(child)
    shown = rewrite.run("bundle", "show", str(child)).out
    assert re.search("  generator  openai m for (crane / heron|heron / crane)\n", shown)
    assert rewrite.run("bundle", "log", "birds").out.count("openai m") == 1
    paid = len(rewrite.server.seen)
    again = rewrite(*dataset, bundle="birds@1.0.0")
    assert again.code == 0
    assert again.out.startswith(f"{child}\n")
    assert "unchanged: the store has this version already" in again.out
    assert "WARNING" not in again.out
    assert len(rewrite.server.seen) == paid
    (test,) = (rewrite.run.home / "journals" / "tested").glob("*/*")
    test.rename(test.with_stem("another"))
    again = rewrite(*dataset, bundle="birds@1.0.0")
    assert "WARNING: 20 images of the test half had tested an earlier rewriting" in again.out
    assert "warning: 20 of the 20 images" in again.err


def test_the_help_lists_the_prompt_sets(abs_command: Abs) -> None:
    said = re.split(r"[\s,]+", abs_command("bundle", "rewrite", "--help").out)
    assert {*shipped_pair_sets()} <= set(said)


def test_no_gain_adds_none_and_says_what_was_measured(rewrite: Rewrite, tmp_path: Path) -> None:
    for number in range(8):
        # all alike, so that what wins an image of one class loses one of the other
        image = Image.new("RGB", (40, 40), (90, 90, 90))
        image.putpixel((0, 0), (90, 90, number))
        path = tmp_path / "same" / ("crane", "heron")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    ran = rewrite("--dataset", f"imagefolder:{tmp_path / 'same'}", "--per-class", "1")
    assert ran.code == 1
    assert "2 new descriptions of 2 wanted; 0 chosen" in ran.out
    assert "none wins an image on the half on which to choose: no version was added" in ran.out
    assert "used: " in ran.out
    assert [manifest.version for manifest in rewrite.store.list("birds")] == ["1.0.0"]


def test_images_alone_give_a_review_file(rewrite: Rewrite, photos: Path) -> None:
    none = rewrite("--images", photos)
    assert none.code == 0
    (rewrite.folder / "alike.tsv").write_text("crane\tIt has long legs.\nheron\tIt has long legs.\n")
    assert rewrite.run("bundle", "import", rewrite.folder / "alike.tsv", "--name", "alike").code == 0
    options = ("--images", photos, "--out", rewrite.folder / "proposals", "--per-class", "2")
    ran = rewrite(*options, bundle="alike")
    assert ran.code == 0, ran
    assert "crane / heron: 40 images\n" in ran.out
    assert "no gain was measured, no version was added" in ran.out
    with (rewrite.folder / "proposals" / "alike-1.0.0-proposals.csv").open(encoding="utf-8-sig", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["decision"] for row in rows] == ["", "", "add", "add", "add", "add"]
    assert all(row["new_text"] for row in rows[2:])
    assert [manifest.version for manifest in rewrite.store.list("alike")] == ["1.0.0"]
    sheet = rewrite.folder / "proposals" / "alike-1.0.0-proposals.csv"
    read = rewrite.run("bundle", "review", "alike", "--read", sheet, "--reviewer", "Jane", "--name", "reviewed")
    assert read.code == 0, read
    reviewed = {record.text for record in rewrite.store.read("reviewed").records()}
    assert reviewed == {"It has long legs.", *(row["new_text"] for row in rows[2:])}
    paid = len(rewrite.server.seen)
    assert rewrite(*options, "--add", bundle="alike").code == 0
    assert [manifest.version for manifest in rewrite.store.list("alike")] == ["1.0.0", "1.1.0"]
    assert len(rewrite.server.seen) == paid


def test_nonsense_for_ever_costs_little_and_adds_nothing(rewrite: Rewrite, photos: Path) -> None:
    rewrite.server.behave = lambda name, body: completion("?!", prompt=20, drawn=2)
    line = rewrite.run.refuses(
        *rewrite.arguments("--dataset", f"imagefolder:{photos}", "--price-in", "1", "--price-out", "1")
    )
    assert "requests were sent: " in line
    assert "replies are in the journal" in line
    assert len(rewrite.server.seen) <= 16
    assert [manifest.version for manifest in rewrite.store.list("birds")] == ["1.0.0"]


def test_what_cannot_be_used_is_refused_before_anything_is_asked(
    rewrite: Rewrite, photos: Path, image_folder: Callable[..., Path]
) -> None:
    strange = image_folder("strange", crane=1, dodo=1)
    for options, words in {
        ("--dataset", f"imagefolder:{strange}"): "'dodo'",
        ("--dataset", f"imagefolder:{photos}", "--images", str(photos)): "both given",
        (): "the images are not given",
        ("--dataset", f"imagefolder:{photos}", "--add"): "--add needs --images",
        ("--dataset", f"imagefolder:{photos}", "--prompts", "pear"): "pairs",
        ("--dataset", f"imagefolder:{photos}", "--max-cost", "1"): "--max-cost needs prices",
        ("--dataset", f"imagefolder:{photos}", "--version", "1.0.0"): "exists already",
    }.items():
        assert words in rewrite.run.refuses(*rewrite.arguments(*options))
    assert rewrite.server.seen == []


@pytest.mark.slow
@pytest.mark.faults
def test_ctrl_c_keeps_what_was_paid_for_and_the_same_command_resumes(
    rewrite: Rewrite, generate: Generate, photos: Path
) -> None:
    arguments = rewrite.arguments("--dataset", f"imagefolder:{photos}", "--per-class", "8", "--concurrency", "2")
    slow = rewrite.server.behave

    def behave(name: str, body: dict[str, Any]) -> Any:
        time.sleep(0.2)
        return slow(name, body)

    rewrite.server.behave = behave
    with generate.start(*arguments) as run:
        rewrite.server.wait_for(6)
        run.send_signal(signal.SIGINT)
        out, err = run.communicate(timeout=120)
    assert run.returncode == 130, err
    assert "STOPPED" in out
    paid = len(rewrite.server.seen)
    assert 6 <= paid < 18
    rewrite.server.behave = slow
    assert rewrite(*arguments[arguments.index("--dataset") :]).code in (0, 1)
    asked = [seen.raw for seen in rewrite.server.seen]
    assert len(set(asked)) == len(asked) >= 18
