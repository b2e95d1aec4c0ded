"""Checkpoints of every kind of file, and files that are none, do not fit, or could run code."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tiny_open_clip import ARCH, CONFIG, load
from torch import Tensor

from abs_classify.models.checkpoint import fit_state, state_digest
from abs_classify.models.registry import load_model
from abs_classify.models.store import WeightsStore
from abs_classify.models.transfer import import_weights
from abs_classify.models.weights import PUBLISHED_TORCHSCRIPT
from abs_core.errors import ModelError, WeightsError
from abs_core.files import sha256_file

pytestmark = pytest.mark.usefixtures("no_network")


def test_the_same_from_every_kind_of_file(tiny: Any, checkpoint: Path, tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in tiny.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "training.pt")
    torch.save(tiny.state_dict(), tmp_path / "plain.bin")
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = load(f"{ARCH}@{checkpoint}").encode_image(pixels)
    for name in ("training.pt", "plain.bin"):
        assert torch.equal(load(f"{ARCH}@{tmp_path / name}").encode_image(pixels), expected)


def test_a_checkpoint_of_another_architecture(tiny: Any, tmp_path: Path) -> None:
    wider = open_clip.model.CLIP(24, {**CONFIG["vision_cfg"], "width": 80}, CONFIG["text_cfg"])
    save_file(wider.state_dict(), tmp_path / "wider.safetensors")
    with pytest.raises(WeightsError, match=r"do not fit: .* another shape .first: visual") as caught:
        load_model(f"{ARCH}@{tmp_path / 'wider.safetensors'}")
    assert "wider.safetensors" in caught.value.message
    assert ARCH in caught.value.message
    few = {name: tensor for name, tensor in tiny.state_dict().items() if "ln_post" not in name}
    save_file({**few, "head.weight": torch.zeros(3)}, tmp_path / "few.safetensors")
    with pytest.raises(
        WeightsError, match=r"2 tensors are missing \(first: visual.ln_post.weight\); 1 tensors are unknown"
    ):
        load_model(f"{ARCH}@{tmp_path / 'few.safetensors'}")


def test_weights_that_are_whole_numbers(tiny: Any, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    state["visual.ln_post.weight"] = torch.ones(64, dtype=torch.int8)
    save_file(state, tmp_path / "quantized.safetensors")
    with pytest.raises(WeightsError, match=r"1 tensors are whole numbers \(first: visual.ln_post.weight"):
        load_model(f"{ARCH}@{tmp_path / 'quantized.safetensors'}")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_bad_numbers_in_the_weights(tiny: Any, tmp_path: Path, value: float) -> None:
    state = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    state["visual.ln_post.weight"][7] = value
    save_file(state, tmp_path / "bad.safetensors")
    with pytest.raises(ModelError, match=r"NaN or infinity in visual.ln_post.weight \(1 of 64"):
        load_model(f"{ARCH}@{tmp_path / 'bad.safetensors'}")


def test_weights_that_overflow_float16(tiny: Any, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    state["visual.ln_post.weight"][7] = 1e6
    save_file(state, tmp_path / "large.safetensors")
    with pytest.raises(ModelError, match=r"torch\.float16") as caught:
        load_model(f"{ARCH}@{tmp_path / 'large.safetensors'}", dtype="float16")
    assert "float32" in caught.value.remedy


class _Trap:
    """What a hostile checkpoint holds: code that runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("trap-was-sprung"),)  # type: ignore[return-value]


@pytest.mark.parametrize("how", ["torch", "pickle", "zip", "text", "empty", "json"])
def test_files_that_are_no_checkpoint(tiny: Any, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file.pt"
    if how == "torch":
        torch.save({"state_dict": _Trap()}, file)
    elif how == "pickle":
        file.write_bytes(pickle.dumps(_Trap(), protocol=2))
    elif how == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme", "nothing")
    else:
        file.write_bytes({"text": b"hello", "empty": b"", "json": b"{}"}[how])
    with pytest.raises(WeightsError, match=r"file\.pt"):
        load_model(f"{ARCH}@{file}")
    assert not Path("trap-was-sprung").exists()
    torn = tmp_path / "file.safetensors"
    torn.write_bytes(file.read_bytes())
    what = {"empty": "is empty", "json": "is JSON text", "text": "not in a checkpoint format"}.get(
        how, "not a readable safetensors file"
    )
    with pytest.raises(WeightsError, match=what):
        load_model(f"{ARCH}@{torn}")


def test_a_file_without_weights(tiny: Any, tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "file.pt")
    with pytest.raises(WeightsError, match="holds no tensors"):
        load_model(f"{ARCH}@{tmp_path / 'file.pt'}")
    with pytest.raises(WeightsError, match="no weights file"):
        load_model(f"{ARCH}@{tmp_path / 'absent.pt'}")


class _Archive(torch.nn.Module):
    """The layout of OpenAI's archives: the weights of CLIP, and facts about it as buffers."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("input_resolution", torch.tensor(32))
        for name, tensor in state.items():
            module: torch.nn.Module = self
            *parents, last = name.split(".")
            for parent in parents:
                if not hasattr(module, parent):
                    module.add_module(parent, torch.nn.Module())
                module = getattr(module, parent)
            module.register_buffer(last, tensor.half())

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_torchscript_only_with_a_published_sha256(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "archive.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.trace(_Archive(tiny.state_dict()), torch.zeros(1)).save(str(archive))
    with pytest.raises(WeightsError, match="TorchScript archive") as caught:
        load_model(f"{ARCH}@{archive}")
    assert "safetensors" in caught.value.remedy
    monkeypatch.setitem(PUBLISHED_TORCHSCRIPT, sha256_file(archive).removeprefix("sha256:"), "tiny")
    with pytest.raises(ModelError, match="QuickGELU mismatch"):
        load_model(f"{ARCH}@{archive}")
    model = load(f"{ARCH}-quickgelu@{archive}")
    half = {name: tensor.half().float() for name, tensor in tiny.state_dict().items()}
    torch.testing.assert_close(model.network.visual.proj, half["visual.proj"], rtol=0, atol=0)
    assert model.dtype == torch.float32


def test_the_digest_of_a_state_names_each_tensor_its_type_its_shape_and_its_bytes() -> None:
    def module(name: str = "weight", value: Tensor | None = None) -> torch.nn.Module:
        made = torch.nn.Module()
        made.register_buffer(name, torch.arange(6.0).reshape(2, 3) if value is None else value)
        return made

    changed = torch.arange(6.0).reshape(2, 3)
    changed[1, 2] = 7
    variants = [
        module(),
        module("bias"),
        module(value=changed),
        module(value=changed.reshape(3, 2)),
        module(value=changed.view(torch.int32)),
    ]
    assert len({state_digest(variant) for variant in variants}) == len(variants)
    assert state_digest(module()) == state_digest(module())


@pytest.mark.parametrize("change", [Tensor.to_sparse, lambda weight: weight.to(torch.complex64)])
def test_tensors_that_cannot_be_copied_as_they_are(change: Callable[[Tensor], Tensor]) -> None:
    module = torch.nn.Linear(2, 2)
    state = dict(module.state_dict())
    state["weight"] = change(state["weight"])
    with pytest.raises(WeightsError, match=r"1 tensors are sparse or complex \(first: weight\)"):
        fit_state(module, state, subject="the weights")


def test_a_folder_with_its_weights_in_several_files(tiny: Any, tmp_path: Path) -> None:
    state = tiny.state_dict()
    names, pixels = list(state), torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    files = {name: f"model-{1 + place % 2}.safetensors" for place, name in enumerate(names)}
    for file in set(files.values()):
        save_file({name: state[name].contiguous() for name in names if files[name] == file}, tmp_path / file)
    with pytest.raises(WeightsError, match=r"found: model-1.safetensors, model-2.safetensors"):
        load_model(f"local-dir:{tmp_path}")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    expected = tiny.eval().encode_image(pixels)
    assert torch.allclose(load_model(f"local-dir:{tmp_path}").encode_image(pixels), expected, atol=1e-6)
    with pytest.raises(WeightsError) as caught:
        import_weights(tmp_path, ARCH, WeightsStore(tmp_path / "store"))
    assert caught.value.remedy == f"Weights in several files are used where they are: --model local-dir:{tmp_path}"
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(WeightsError, match="1 of 2 files"):
        load_model(f"local-dir:{tmp_path}")


def test_weights_and_a_configuration_that_stands_beside_them(tiny: Any, tmp_path: Path) -> None:
    few = {name: tensor for name, tensor in tiny.state_dict().items() if "ln_post" not in name}
    save_file(few, tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {}}))
    with pytest.raises(WeightsError, match="2 tensors are missing") as caught:
        load_model(f"local-dir:{tmp_path}")
    assert caught.value.remedy == "Take the weights and open_clip_config.json from the same place, whole"
