"""`abs bundle review --out`: what `abs bundle score` kept stands on the page, and a file of scores can be named."""

from __future__ import annotations

from pathlib import Path

from bundle_samples import import_texts
from support import Abs

from abs_core.bundle_scores import BundleScores, SentenceScore


def scores_of(reference: str, source: str) -> BundleScores:
    return BundleScores(
        bundle=reference,
        source=source,
        has_truth=False,
        method="abs",
        model="ViT-B-32",
        images=7,
        classes=(),
        sentences=(SentenceScore(class_id="cat", text="It purrs.", usage=0.5),),
        created="2025-02-01T00:00:00Z",
    )


def test_the_page_shows_the_scores_of_its_bundle(abs_command: Abs, tmp_path: Path) -> None:
    pets = import_texts(abs_command, "pets", "cat\tIt purrs.", "dog\tIt runs.")
    kept = BundleScores.path_in(abs_command.home / "scores", pets)

    def page(name: str, *options: object) -> str:
        written = abs_command("bundle", "review", "pets", "--out", tmp_path / name, *options)
        return Path(written.out.split()[1]).read_text(encoding="utf-8")

    assert '"scores": null' in page("none")
    scores_of(pets, "kept photos").write(kept)
    assert "kept photos" in page("kept")
    scores_of(pets, "other photos").write(tmp_path / "scores.json")
    assert "other photos" in page("named", "--scores", tmp_path / "scores.json")
    scores_of(pets.replace("pets@", "birds@"), "photos").write(tmp_path / "scores.json")
    refused = abs_command.refuses(
        "bundle", "review", "pets", "--out", tmp_path / "x", "--scores", tmp_path / "scores.json"
    )
    assert "the scores must be of pets@1.0.0#" in refused
    kept.write_text("{}")
    written = abs_command("bundle", "review", "pets", "--out", tmp_path / "broken")
    assert "the page has no scores" in written.err
    assert '"scores": null' in Path(written.out.split()[1]).read_text(encoding="utf-8")


def test_scores_belong_to_out(abs_command: Abs) -> None:
    refused = abs_command.refuses("bundle", "review", "pets", "--read", __file__, "--scores", __file__)
    assert "--scores needs --out" in refused
