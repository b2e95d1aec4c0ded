"""Calibration files: what they must match, and that nothing else is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from abs_classify.methods.adaptive import AdaptiveViews
from abs_classify.methods.calibration import CalibrationEntry, StoppingCalibration, read_calibration, subject_of
from abs_classify.methods.table import METHODS
from abs_core.errors import StorageError, UsageError

MODEL, TEXTS = "sha256:" + "1" * 64, "sha256:" + "2" * 64
SUBJECT = subject_of(METHODS["abs"].key(), MODEL, "sha256:a", TEXTS)
CALIBRATION = StoppingCalibration.of([CalibrationEntry(name="abs", images=199, critical=(2.5, 1.5), **SUBJECT)])


def test_a_file_gives_the_rule_that_was_calibrated(tmp_path: Path) -> None:
    CALIBRATION.write(tmp_path / "abs.json")
    read = read_calibration(tmp_path / "abs.json")
    assert read == CALIBRATION
    views = AdaptiveViews(0.99, "calibrated", read)
    # (k + 1) / 200 <= 0.01: one of the 199 images may disagree
    assert views.rule("abs", SUBJECT).key() == {"rule": "calibrated", "agreement": 0.99, "threshold": 1.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "sha256:" + "3" * 64}, "another model or dtype"),
        ({"attention": "sha256:b"}, "another attention backend"),
        ({"texts": "sha256:" + "3" * 64}, "another classes or descriptions"),
        ({"method": "{}"}, "no entry for the method 'abs' with these views; it has: abs"),
    ],
)
def test_a_calibration_of_something_else_is_refused(change: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CALIBRATION.rule(0.99, "abs", SUBJECT | change)


def test_a_calibration_on_too_few_images_names_how_many_it_needs() -> None:
    with pytest.raises(UsageError, match="at least 999 images, and this one has 199"):
        CALIBRATION.rule(0.999, "abs", SUBJECT)


def _changed(path: Path, change: Any) -> Path:
    CALIBRATION.write(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["entries"][0].update(images=5000), "was changed after it was written"),
        (lambda content: content["entries"][0]["critical"].pop(), "was changed after it was written"),
        (lambda content: content["entries"][0]["critical"].append(-1.0), "is no calibration"),
        (lambda content: content.update(format_version=2), "is no calibration"),
        (lambda content: content.update(further=1), "is no calibration"),
        (lambda content: content.pop("digest"), "is no calibration"),
    ],
)
def test_a_changed_file_is_not_believed(tmp_path: Path, change: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read_calibration(_changed(tmp_path / "abs.json", change))


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[" * 100_000, b'{"entries": 1e999}', b"null"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "abs.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is no calibration"):
        read_calibration(path)
    with pytest.raises(StorageError):
        read_calibration(tmp_path / "missing.json")


def test_rule_and_calibration_belong_together() -> None:
    with pytest.raises(UsageError, match="'calibrated' needs a calibration"):
        AdaptiveViews(0.9, "calibrated")
    with pytest.raises(UsageError, match="'normal' takes no calibration"):
        AdaptiveViews(0.9, "normal", CALIBRATION)
