"""Scorers of others: what they give is checked, and an error names the method and its plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import colour

from abs_classify import Classifier, load_model, load_plugins
from abs_core.errors import UsageError

pytestmark = pytest.mark.usefixtures("clean_plugins")

SCORER = """
from dataclasses import dataclass
import torch
from abs_classify import Method, register
from abs_classify.methods.class_texts import Template
from abs_classify.methods.views import FullImage

@dataclass(frozen=True)
class Mine:
    def key(self):
        return {"mine": 1}
    def scores(self, views, texts):
        rows = views["whole"][:, 0] @ texts.means.T
        %s

register(Method("mine", "", (FullImage(),), Template(), Mine()))
"""


def classify(scorer: str, model: Any, folder: Path) -> Any:
    path = folder / "own.py"
    path.write_text(SCORER % scorer, encoding="utf-8")
    load_plugins([path])
    return next(Classifier(model, ["cat", "dog"], method="mine").classify([colour(0)]))


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        ("return rows[:, :1]", r"must give floating-point scores \[1, 2\], got float32 \[1, 1\]"),
        ("return rows[0]", r"must give floating-point scores \[1, 2\], got float32 \[2\]"),
        ("return (100 * rows).long()", r"got int64 \[1, 2\]"),
        ("return rows + 1j", r"got complex64 \[1, 2\]"),
        ("return rows.numpy()", "got ndarray"),
        ("return None", "got NoneType"),
        ("return rows * float('nan')", "gives scores that are not finite"),
        ("return rows / 0", "gives scores that are not finite"),
        ("raise KeyError('no')", "failed at line 14: KeyError: 'no'"),
    ],
)
def test_wrong_scores_are_refused_by_name(
    scorer: str, message: str, small_clips: tuple[str, str], tmp_path: Path
) -> None:
    model = load_model(small_clips[0], device="cpu")
    with pytest.raises(UsageError, match=rf"the method 'mine' of the plugin own\.py .*{message}"):
        classify(scorer, model, tmp_path)


@pytest.mark.parametrize("scorer", ["return rows", "return rows.double()", "return rows.clone().requires_grad_()"])
def test_other_floating_point_scores_are_taken(scorer: str, small_clips: tuple[str, str], tmp_path: Path) -> None:
    model = load_model(small_clips[0], device="cpu")
    plain = next(Classifier(model, ["cat", "dog"], method="clip").classify([colour(0)]))
    assert classify(scorer, model, tmp_path).class_id == plain.class_id
