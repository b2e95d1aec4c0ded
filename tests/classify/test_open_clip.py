"""open_clip models behind the protocol: every family split at its last block, and loading from files, good and bad."""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from parity import within
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import normalize

from abs_classify.models.base import Model
from abs_classify.models.open_clip import OpenClipModel
from abs_classify.models.registry import available_models, load_model, model_files
from abs_classify.models.weights import PUBLISHED_TORCHSCRIPT
from abs_core.errors import ModelError, UnknownNameError, UsageError, WeightsError
from abs_core.files import sha256_file

ARCH = "tiny-for-tests"
CONFIG = {
    "embed_dim": 24,
    "vision_cfg": {"layers": 2, "width": 64, "head_width": 16, "patch_size": 8, "image_size": 32},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
#: family -> how it pools, its prefix tokens, whether its feature views are nearly free
FAMILIES = {
    "CLIP": ("token", 1, True),
    "CLIP with layer scale": ("token", 1, True),
    "CLIP, norm after pooling": ("token", 1, True),
    "CLIP with query and key norm": ("token", 1, False),
    "CLIPA": ("average", 1, False),
    "average after norm": ("average", 1, False),
    "CoCa": ("attention", 1, False),
    "CoCa without pooler": ("token", 1, True),
    "SigLIP": ("attention", 0, False),
    "SigLIP 2": ("attention", 0, False),
    "EVA01": ("token", 1, False),
    "EVA02": ("token", 1, False),
    "PE": ("attention", 1, False),
    "MobileCLIP2-L": ("token", 1, True),
    "registers": ("token", 5, True),
    "MobileCLIP-B": ("token", 1, True),
    "ViTamin": ("average", 0, False),
    "average of patches": ("average", 0, False),
    "relative positions": ("token", 1, False),
    "relative positions, shared": ("average", 0, False),
}


def image_pixels(model: OpenClipModel, images: int = 2) -> Tensor:
    size = model.network.visual.image_size
    side = size if isinstance(size, int) else size[0]
    return torch.randn(images, 3, side, side, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("family", FAMILIES)
def test_split_equals_the_model(family_model: Callable[[str], Any], family: str) -> None:
    network = family_model(family)
    model = OpenClipModel.from_model(network, name=family)
    pooling, prefix, fast = FAMILIES[family]
    assert model.split is not None
    assert (model.split.pooling, model.split.prefix, model.split.cls is not None) == (pooling, prefix, fast)
    pixels = image_pixels(model)
    with torch.inference_mode():
        own = network.encode_image(pixels, normalize=False)
    tokens = model.tokens(pixels)
    assert tokens.shape[1] == prefix + model.grid**2
    assert own.shape == (2, model.embed_dim)
    for features in (model.pool(tokens), model.encode_image(pixels), model.split.finish(tokens)):
        assert within(
            "models split at the last block",
            f"{family}: {pooling}, {'exact short cut' if fast else 'whole block'}",
            float((features - own).abs().max()),
            1e-5,
        )
    assert (own[0] - own[1]).abs().max() > 0.01


@pytest.mark.parametrize("family", FAMILIES)
def test_the_window_of_the_whole_grid_is_the_whole_image(family_model: Callable[[str], Any], family: str) -> None:
    model = OpenClipModel.from_model(family_model(family), name=family)
    tokens, g = model.tokens(image_pixels(model)), model.grid
    windows = torch.tensor([[[0, g, 0, g], [1, g - 1, 0, g // 2]]]).expand(2, -1, -1)
    views, whole = model.pool_windows(tokens, windows), model.pool(tokens)
    assert views.shape == (2, 2, model.embed_dim)
    assert (views[:, 0] - whole).abs().max() < 1e-5
    assert (normalize(views[:, 1], dim=-1) - normalize(whole, dim=-1)).abs().max() > 1e-4
    by_block = model.pool_windows_by_block(tokens, windows)
    assert (normalize(views, dim=-1) - normalize(by_block, dim=-1)).abs().max() < 1e-6


@pytest.mark.parametrize("family", ["ResNet", "ConvNeXt", "MobileCLIP-S"])
def test_a_model_without_tokens_says_so_and_encodes(family_model: Callable[[str], Any], family: str) -> None:
    network = family_model(family)
    model = OpenClipModel.from_model(network, name=family)
    assert model.grid == 0
    assert model.attention_backends() == {}
    pixels = image_pixels(model)
    with torch.inference_mode():
        own = network.encode_image(pixels, normalize=False)
    torch.testing.assert_close(model.encode_image(pixels), own)
    assert own.shape[1] == model.embed_dim
    for ask in (lambda: model.tokens(pixels), lambda: model.pool_windows(own, own), lambda: model.pool(own)):
        with pytest.raises(ModelError, match="no feature views"):
            ask()


@pytest.mark.parametrize("family", ["CLIP", "EVA02", "SigLIP", "average of patches"])
def test_low_precision_weights_give_float32_features_nearby(family_model: Callable[[str], Any], family: str) -> None:
    import copy

    model = family_model(family)
    exact = OpenClipModel.from_model(model, name=family)
    low = OpenClipModel.from_model(copy.deepcopy(model), name=family, dtype="bfloat16")
    pixels = image_pixels(exact)
    features, ours = exact.encode_image(pixels), low.encode_image(pixels)
    assert low.dtype == torch.bfloat16
    assert ours.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(features, ours).min() > 0.99
    assert exact.digest != low.digest


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ({}, True),
        ({"proj_bias": True}, True),
        ({"pool_type": "last", "no_causal_mask": True}, False),
        ({"pool_type": "eos"}, False),
        ({"embed_cls": True}, False),
    ],
)
def test_texts_without_their_padding_are_what_the_model_computes(text: dict[str, Any], cut: bool) -> None:
    from open_clip.model import CLIP, CustomTextCLIP

    text_cfg = {**CONFIG["text_cfg"], "vocab_size": 50, **text}
    kinds = [CustomTextCLIP] if text.get("embed_cls") else [CLIP, CustomTextCLIP]
    for kind in kinds:
        torch.manual_seed(4)
        model = OpenClipModel.from_model(kind(24, CONFIG["vision_cfg"], text_cfg).eval(), name="texts")
        ids = torch.randint(3, 48, (9, 12), generator=torch.Generator().manual_seed(2))
        for row, end in enumerate([3, 11, 2, 5, 5, 7, 4, 6, 9]):
            ids[row, end], ids[row, end + 1 :] = 49, 0
        with torch.inference_mode():
            own = model.network.encode_text(ids, normalize=False)
        assert (model._cut_encoder is not None) == cut
        torch.testing.assert_close(model.encode_tokens(ids), own, rtol=0, atol=1e-5)


def test_models_satisfy_the_protocol(family_model: Callable[[str], Any]) -> None:
    assert isinstance(OpenClipModel.from_model(family_model("CLIP"), name="CLIP"), Model)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny architecture that open_clip knows by name, and a model of it."""
    folder = tmp_path_factory.mktemp("configs")
    for name, quick in ((ARCH, False), (f"{ARCH}-quickgelu", True)):
        (folder / f"{name}.json").write_text(json.dumps({**CONFIG, "quick_gelu": quick}))
    open_clip.add_model_config(folder)
    torch.manual_seed(5)
    return open_clip.create_model(ARCH).eval()


@pytest.fixture
def checkpoint(tiny: Any, tmp_path: Path) -> Path:
    save_file(tiny.state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty hub cache, and a wall around the machine."""

    def refuse(*args: object) -> None:
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", refuse)


def load(name: str, **settings: Any) -> OpenClipModel:
    model = load_model(name, device="cpu", **settings)
    assert isinstance(model, OpenClipModel)
    return model


def test_a_checkpoint_of_ones_own(tiny: Any, checkpoint: Path) -> None:
    model = load(f"{ARCH}@{checkpoint}")
    assert (model.grid, model.embed_dim, model.context_length, model.crop_fraction) == (4, 24, 12, 1.0)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8))
    pixels = model.preprocess(image)
    assert pixels.shape == (3, 32, 32)
    assert torch.equal(pixels, model.preprocess_crop(image))
    with torch.inference_mode():
        own = tiny.encode_image(pixels[None])
        words = tiny.encode_text(open_clip.get_tokenizer(ARCH)(["a photo of a cat", "x " * 50]))
    torch.testing.assert_close(model.encode_image(pixels[None]), own, rtol=0, atol=1e-5)
    torch.testing.assert_close(model.encode_text(["a photo of a cat", "x " * 50]), words)
    assert model_files(f"{ARCH}@{checkpoint}") == (checkpoint,)


def test_texts_in_batches(tiny: Any, checkpoint: Path) -> None:
    model = load(f"{ARCH}@{checkpoint}")
    texts = [f"number {'x ' * (i % 12)} {i}" for i in range(300)]
    features = model.encode_text(texts)
    with torch.inference_mode():
        own = tiny.encode_text(open_clip.get_tokenizer(ARCH)(texts))
    torch.testing.assert_close(features, own, rtol=0, atol=1e-5)
    assert (own[:-1] - own[1:]).abs().max() > 0.01
    assert model.encode_text([]).shape == (0, 24)


def test_tokens_are_counted_before_cutting(checkpoint: Path) -> None:
    model = load(f"{ARCH}@{checkpoint}")
    assert model.count_tokens("a photo of a cat") == 7
    assert model.count_tokens("cat " * 40) == 42
    assert model.count_tokens("") == 2


def test_the_same_from_every_kind_of_file(tiny: Any, checkpoint: Path, tmp_path: Path) -> None:
    state = {f"module.{name}": tensor for name, tensor in tiny.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "training.pt")
    torch.save(tiny.state_dict(), tmp_path / "plain.bin")
    pixels = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = load(f"{ARCH}@{checkpoint}").encode_image(pixels)
    for name in ("training.pt", "plain.bin"):
        assert torch.equal(load(f"{ARCH}@{tmp_path / name}").encode_image(pixels), expected)


def test_digests_tell_apart_what_computes_otherwise(tiny: Any, checkpoint: Path, tmp_path: Path) -> None:
    changed = {**tiny.state_dict(), "visual.proj": tiny.state_dict()["visual.proj"] + 1e-6}
    save_file(changed, tmp_path / "changed.safetensors")
    digests = [
        load(f"{ARCH}@{checkpoint}").digest,
        load(f"{ARCH}-quickgelu@{checkpoint}").digest,
        load(f"{ARCH}@{checkpoint}", dtype="bfloat16").digest,
        load(f"{ARCH}@{tmp_path / 'changed.safetensors'}").digest,
    ]
    assert len(set(digests)) == 4
    moved = tmp_path / "elsewhere.safetensors"
    moved.write_bytes(checkpoint.read_bytes())
    assert load(f"{ARCH}@{moved}").digest == digests[0]


def test_digests_of_models_in_memory(tiny: Any) -> None:
    import copy

    quick = open_clip.create_model(f"{ARCH}-quickgelu")
    quick.load_state_dict(tiny.state_dict())
    same, other = (OpenClipModel.from_model(each, name="x").digest for each in (copy.deepcopy(tiny), quick))
    assert same == OpenClipModel.from_model(tiny, name="another name").digest
    assert same != other


def folder_with_configuration(tiny: Any, folder: Path, **model_cfg: Any) -> Path:
    folder.mkdir(parents=True)
    save_file(tiny.state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bilinear", "resize_mode": "squash"}
    content = {"model_cfg": {**CONFIG, **model_cfg}, "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


def check_squashed(model: OpenClipModel) -> None:
    image = Image.new("RGB", (64, 32), (255, 255, 255))
    image.paste((0, 0, 0), (0, 0, 32, 32))
    pixels = model.preprocess(image)
    assert model.crop_fraction is None
    assert pixels[:, :, 0].tolist() == [[-2.0] * 32] * 3
    assert pixels[:, :, 31].tolist() == [[2.0] * 32] * 3


def test_a_local_folder_brings_its_preprocessing(tiny: Any, tmp_path: Path) -> None:
    folder = folder_with_configuration(tiny, tmp_path / "folder")
    check_squashed(load(f"local-dir:{folder}"))
    # a checkpoint that is named with its architecture uses the configuration beside it
    check_squashed(load(f"{ARCH}@{folder / 'open_clip_model.safetensors'}"))
    assert len(model_files(f"local-dir:{folder}")) == 2


def test_a_repository_in_the_hub_cache(tiny: Any, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--tiny"
    folder_with_configuration(tiny, repository / "snapshots" / ("0" * 40))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    check_squashed(load("hf-hub:org/tiny"))


def test_nothing_is_downloaded_unasked() -> None:
    for name in ("ViT-B-16-quickgelu/openai", "ViT-SO400M-14-SigLIP2/webli", "hf-hub:org/nothing"):
        with pytest.raises(WeightsError, match="nothing is downloaded unasked") as caught:
            load_model(name)
        assert f"abs models pull {name}" in caught.value.remedy


def test_a_missing_tokenizer_is_named(tiny: Any, tmp_path: Path) -> None:
    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "org/words"}
    folder = folder_with_configuration(tiny, tmp_path / "folder", text_cfg=text)
    with pytest.raises(WeightsError, match="tokenizer 'org/words'"):
        load_model(f"local-dir:{folder}")


def test_a_tokenizer_beside_the_checkpoint(tiny: Any, tmp_path: Path) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    text = {**CONFIG["text_cfg"], "hf_tokenizer_name": "org/words"}
    folder = folder_with_configuration(tiny, tmp_path / "folder", text_cfg=text)
    words = Tokenizer(WordLevel({"[UNK]": 0, "[PAD]": 1, "a": 2, "cat": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    model = load(f"local-dir:{folder}")
    assert model.count_tokens("a cat a cat") == 4
    assert model.count_tokens("cat " * 40) == 40
    assert model.encode_text(["a cat", "cat " * 40]).shape == (2, 24)


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        ("ViT-B-16/openai", "ViT-B-16-quickgelu"),
        ("ViT-L-14/dfn2b", "ViT-L-14-quickgelu"),
        ("ViT-B-32/metaclip_400m@some.pt", "ViT-B-32-quickgelu"),
    ],
)
def test_a_quickgelu_mismatch_is_an_error(name: str, twin: str) -> None:
    with pytest.raises(ModelError, match="QuickGELU mismatch") as caught:
        load_model(name)
    assert twin in caught.value.remedy


def test_a_mismatch_without_a_twin_points_to_the_repository() -> None:
    with pytest.raises(ModelError, match="QuickGELU mismatch") as caught:
        load_model("roberta-ViT-B-32/laion2b_s12b_b32k")
    assert "hf-hub:laion/CLIP-ViT-B-32-roberta-base-laion2B-s12B-b32k" in caught.value.remedy


def test_a_quickgelu_mismatch_with_the_configuration_beside(tiny: Any, tmp_path: Path) -> None:
    folder = folder_with_configuration(tiny, tmp_path / "folder", quick_gelu=True)
    with pytest.raises(ModelError, match="QuickGELU mismatch") as caught:
        load_model(f"{ARCH}@{folder / 'open_clip_model.safetensors'}")
    assert f"{ARCH}-quickgelu" in caught.value.remedy


def test_names() -> None:
    names = available_models()
    assert names[0] == "embedded"
    assert {"ViT-B-16-quickgelu/openai", "ViT-H-14/laion2b_s32b_b79k", "ViT-B-16-SigLIP2/webli"} <= set(names)
    assert "ViT-B-16/openai" not in names
    for name, expected in (
        ("nonsense", "embedded, coca_base"),
        ("ViT-B-17/openai", "ViT-B-16"),
        ("ViT-B-16", "ViT-B-16-quickgelu/openai"),
        ("ViT-B-16-quickgelu/nobody", "dfn2b"),
        ("ViT-B-16", r"ViT-B-16/\w+, .* and \d+ more. Name the weights too, see `abs models ls ViT-B-16`"),
    ):
        with pytest.raises(UnknownNameError, match=expected):
            load_model(name)
    with pytest.raises(UnknownNameError, match="bfloat16"):
        load_model("embedded", dtype="float8")
    for device in ("banana", "cuda:99"):
        with pytest.raises(UsageError, match=device):
            load_model("ViT-B-16-quickgelu/openai", device=device)


def test_a_bare_checkpoint_of_an_architecture_with_two_preprocessings(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="differ in their preprocessing") as caught:
        load_model(f"ViT-L-14@{checkpoint}")
    assert "ViT-L-14/TAG@FILE" in caught.value.remedy


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
    with pytest.raises(WeightsError, match="not a readable safetensors file"):
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


def test_every_published_torchscript_is_one_that_open_clip_would_fetch() -> None:
    addresses = {
        open_clip.get_pretrained_url(arch, "openai").split("/")[-2]: arch
        for arch in open_clip.list_pretrained_models_by_tag("openai")
        if not arch.endswith("-quickgelu")
    }
    assert addresses == PUBLISHED_TORCHSCRIPT


def test_a_model_without_a_tokenizer(tiny: Any) -> None:
    model = OpenClipModel.from_model(tiny, name="tiny")
    for ask in (lambda: model.encode_text(["a"]), lambda: model.count_tokens("a")):
        with pytest.raises(ModelError, match="without a tokenizer"):
            ask()
    assert model.encode_tokens(torch.zeros(2, 12, dtype=torch.int64)).shape == (2, 24)


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "not JSON"), ("[]", "not a JSON object"), ('{"model_cfg": {"embed_dim": 3}}', "cannot build")],
)
def test_configurations_that_are_broken(tiny: Any, tmp_path: Path, content: str, message: str) -> None:
    folder = folder_with_configuration(tiny, tmp_path / "folder")
    (folder / "open_clip_config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        load_model(f"local-dir:{folder}")


def test_a_folder_with_two_weights_files(tiny: Any, tmp_path: Path) -> None:
    folder = folder_with_configuration(tiny, tmp_path / "folder")
    (folder / "other.safetensors").write_bytes(b"")
    with pytest.raises(WeightsError, match="one weights file"):
        load_model(f"local-dir:{folder}")
    with pytest.raises(WeightsError, match=r"no open_clip_config\.json"):
        load_model(f"local-dir:{tmp_path / 'nowhere'}")
