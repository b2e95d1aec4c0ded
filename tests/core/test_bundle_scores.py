"""Files of scores: what is written is read, and what comes from elsewhere is checked."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from abs_core.bundle_scores import (
    BundleScores,
    ClassScore,
    ExampleImage,
    Interval,
    NetGain,
    PulledImages,
    SentenceScore,
)
from abs_core.errors import BundleError, StorageError, UsageError

JPEG = base64.b64encode(b"\xff\xd8\xff\xe0 and so on").decode()


def scores() -> BundleScores:
    gain = NetGain(won=3, lost=1, images=40, interval=Interval(low=-2.5, high=11.0))
    sentence = SentenceScore(
        class_id="cat", text="A cat purrs.", gain=gain, margin=0.5, changed=4, usage=0.2,
        pulled=(PulledImages(class_id="dog", images=1),), examples=(0,),
    )  # fmt: skip
    return BundleScores(
        bundle="pets@1.0.0#sha256:" + "a" * 64,
        source="imagefolder:pets",
        has_truth=True,
        method="abs",
        model="embedded",
        images=40,
        right=30,
        classes=(ClassScore(class_id="cat", name="cat", images=20, right=15, over_name=gain),),
        sentences=(sentence, SentenceScore(class_id="dog", text="A dog barks.", is_only=True)),
        examples=(ExampleImage(path="a.jpg", true_class="cat", label="cat", thumbnail=JPEG),),
        created="2025-01-31T12:00:00Z",
    )


def test_scores_lie_by_the_digest_of_their_bundle(tmp_path: Path) -> None:
    path = BundleScores.path_in(tmp_path / "scores", scores().bundle)
    assert path == tmp_path / "scores" / ("a" * 16 + ".json")
    scores().write(path)
    assert BundleScores.read(path) == scores()
    with pytest.raises(UsageError, match="must be pinned"):
        BundleScores.path_in(tmp_path, "pets@1.0.0")


def test_what_is_written_is_read(tmp_path: Path) -> None:
    scores().write(tmp_path / "a.json")
    again = BundleScores.read(tmp_path / "a.json")
    assert again == scores()
    assert again.by_sentence["cat", "A cat purrs."].gain is not None
    assert again.by_sentence["cat", "A cat purrs."].gain.points == 5.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": -1}, "images"),
        ({"classes": None}, "classes"),
        ({"unknown": 1}, "an unknown key"),
        ({"examples": []}, "there is no example 0"),
        ({"examples": [{"path": "a", "true_class": None, "label": "cat", "thumbnail": "%%"}]}, "not base64"),
        ({"examples": [{"path": "a", "true_class": None, "label": "cat", "thumbnail": "PHN2Zz4="}]}, "no JPEG"),
        ({"format_version": 2}, "format_version"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    value = json.loads(scores().model_dump_json()) | change
    (tmp_path / "a.json").write_text(json.dumps(value))
    with pytest.raises(BundleError, match=message):
        BundleScores.read(tmp_path / "a.json")


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    text = scores().model_dump_json().replace('"margin":0.5', '"margin":NaN')
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BundleError, match="margin"):
        BundleScores.read(tmp_path / "a.json")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"a\.json"):
        BundleScores.read(tmp_path / "a.json")
