"""Clauses and sentences are those of CLIP-D's authors."""

from __future__ import annotations

import numpy as np
import pytest
from support import GOLDEN

from abs_classify.methods.phrases import clause, descriptor_sentence

pytestmark = pytest.mark.golden

BASELINES = GOLDEN / "rivals"


def test_the_clip_d_rule_gives_the_authors_clauses_and_sentences() -> None:
    with np.load(BASELINES / "clipd.npz") as golden:
        for descriptor, expected, plain, imagenet in zip(
            golden["descriptor"],
            golden["clause"],
            golden["sentence_clipd"],
            golden["sentence_clipd_imagenet"],
            strict=True,
        ):
            assert clause(str(descriptor)) == expected
            assert descriptor_sentence("toy_widget", str(descriptor)) == plain
            assert descriptor_sentence("toy_widget", str(descriptor), stop=True) == imagenet
