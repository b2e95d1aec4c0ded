"""What tests of the command line share: `abs` as a user runs it, in this process, and pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from abs_cli.main import main

if TYPE_CHECKING:
    from torch import Tensor

    from abs_classify.models.base import Model

#: The root of the checkout.
ROOT = Path(__file__).parents[1]

#: Arrays that the authors' code computed, with the models and images that it computed them of.
GOLDEN = ROOT / "tests" / "golden"


@dataclass
class Ran:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Abs:
    """Runs `abs` with a home of its own and, unless told otherwise, one cache for all tests."""

    def __init__(self, home: Path, cache: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.home, self.cache, self._capture = home, cache, capture

    def __call__(self, *args: str | Path, cache: Path | None = None) -> Ran:
        self._capture.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["--home", str(self.home), "--cache", str(cache or self.cache), *map(str, args)])
        said = self._capture.readouterr()
        return Ran(int(done.value.code or 0), said.out, said.err)

    def refuses(self, *args: str | Path, cache: Path | None = None) -> str:
        """Run a command that must fail with exit code 2, one line and nothing on stdout; return the line."""
        ran = self(*args, cache=cache)
        assert ran.code == 2, ran
        assert ran.out == ""
        lines = [
            line for line in ran.err.splitlines() if not line.startswith(("loading ", "classifying: ", "matching: "))
        ]
        assert len(lines) == 1, ran.err
        assert lines[0].startswith("abs: error: ")
        assert "Traceback" not in ran.err
        return lines[0]


def colour(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture of coloured noise."""
    width, height = size
    generator = np.random.default_rng(seed)
    base = generator.integers(0, 200, 3)
    noise = generator.integers(0, 56, (height, width, 3))
    return Image.fromarray((base + noise).astype(np.uint8))


def save_small_clip(folder: Path, seed: int = 0) -> Path:
    """A folder as open_clip saves one, of a small CLIP with random weights: a model that is loaded in no time."""
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    parts: dict[str, Any] = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    torch.manual_seed(seed)
    state = {name: each.contiguous() for name, each in CLIP(**parts).state_dict().items()}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": parts, "preprocess_cfg": preprocess}))
    return folder


def share_vocabulary(patch: pytest.MonkeyPatch) -> None:
    """Let open_clip read its vocabulary once and not for each model, a third of what a small evaluation costs."""
    from open_clip.tokenizer import SimpleTokenizer

    read, vocabularies = SimpleTokenizer.__init__, dict[str, dict[str, Any]]()

    def init(self: SimpleTokenizer, **options: Any) -> None:
        key = repr(sorted(options.items()))
        if "bpe_path" in options or key not in vocabularies:
            read(self, **options)
            vocabularies[key] = dict(vars(self))
        vars(self).update(vocabularies[key])

    patch.setattr(SimpleTokenizer, "__init__", init)


@dataclass(frozen=True)
class ImagesInMemory:
    """An image group, as attention backends take one, that computes everything in one batch."""

    images: Sequence[Image.Image]
    model: Model

    def __len__(self) -> int:
        return len(self.images)

    @property
    def tokens(self) -> Tensor:
        return self.run(self.model.preprocess, self.model.tokens)

    def run(self, preprocess: Callable[[Image.Image], Tensor], network: Callable[[Tensor], Tensor]) -> Tensor:
        import torch

        return network(torch.stack([preprocess(image) for image in self.images]))


#: registers a method, the model that fills it in, and a kind of data set
PLUGIN = """
from dataclasses import dataclass
from abs_classify import Method, register, register_dataset, register_model
from abs_classify.methods.class_texts import Template
from abs_classify.methods.scoring import CosineToMean
from abs_classify.methods.views import FullImage

@dataclass(frozen=True)
class Opposite(CosineToMean):
    def key(self):
        return {"opposite": 1}
    def scores(self, views, texts):
        return -super().scores(views, texts)

register(Method("opposite", "the least likely class", (FullImage(),), Template(), Opposite()))

def load(device):
    from abs_classify import load_model
    return load_model(%r, device=device)

register_model("small", load)

def open_mine(location):
    from dataclasses import replace
    from abs_classify.datasets import open_dataset
    return replace(open_dataset(f"imagefolder:{location}"), name=f"mine:{location}")

register_dataset("mine", open_mine, "images of mine")
"""
