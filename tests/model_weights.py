"""Weights files for tests of `abs models`, and a machine to run it on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import GOLDEN, ROOT, Ran

from abs_cli.main import main

GOLDEN_DINO = GOLDEN / "models" / "dino"


SMALL_DINO = "vit_small_patch16_224.dino"


CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8},
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


@dataclass
class Machine:
    """`abs` in this process, with a home and a hub cache of its own."""

    home: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *args: str | Path) -> Ran:
        self.capture.readouterr()
        with pytest.raises(SystemExit) as done:
            main(["--home", str(self.home), "models", *map(str, args)])
        said = self.capture.readouterr()
        return Ran(int(done.value.code or 0), said.out, said.err)


def save_clip(folder: Path, config: dict[str, Any]) -> Path:
    import torch
    from open_clip.model import CLIP
    from safetensors.torch import save_file

    torch.manual_seed(0)
    model = CLIP(**{name: config["model_cfg"][name] for name in ("embed_dim", "vision_cfg", "text_cfg")})
    save_file(half(model.state_dict()), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def half(state: dict[str, Any]) -> dict[str, Any]:
    return {name: (each.half() if each.is_floating_point() else each).contiguous() for name, each in state.items()}


def save_zeros(model: Any, path: Path) -> Path:
    """The weights of a model on the meta device as a file of zeros, which fit it as well as any."""
    import torch
    from safetensors.torch import save_file

    zeros = {name: torch.zeros(each.shape, dtype=torch.float16) for name, each in model.state_dict().items()}
    save_file(zeros, path)
    return path


def save_torchscript(path: Path) -> Path:
    import torch

    with warnings.catch_warnings():
        # torch advises against TorchScript; OpenAI's files are what they are
        warnings.simplefilter("ignore")
        torch.jit.script(torch.nn.Linear(2, 2)).save(str(path))
    return path


def save_worded_clip(folder: Path) -> Path:
    """A CLIP whose tokenizer is a Hugging Face one in its own repository, as SigLIP's is."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({"<pad>": 0, "<unk>": 1, "a": 2, "photo": 3, "of": 4}, unk_token="<unk>"))
    words.pre_tokenizer = Whitespace()
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    model = CONFIG["model_cfg"]
    text = {**model["text_cfg"], "vocab_size": 8, "hf_tokenizer_name": "tiny/worded"}
    return save_clip(folder, {**CONFIG, "model_cfg": {**model, "text_cfg": text}})


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**inherited, "OMP_NUM_THREADS": "1", **environment},
        cwd=ROOT,
    )
