"""Folders of small transformers models with random weights, as save_pretrained writes them."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import open_clip
import torch

#: Texts that a tokenizer could treat in more than one way.
TEXTS = ["a photo of a dog", "A  Photo, of `the` cat's café!\n", "", "x" * 200, "word " * 60, "😀 naïve ﬁn 12345"]


def save_clip(folder: Path, *, text: dict[str, Any] | None = None, image: dict[str, Any] | None = None) -> Any:
    """A CLIPModel in ``folder``; returns it."""
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "vocab_size": 49408,
            "max_position_embeddings": 16,
            **(text or {}),
        },
        vision_config={
            "hidden_size": 48,
            "intermediate_size": 61,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            **(image or {}),
        },
        projection_dim=24,
    )
    return _save(CLIPModel, config, folder)


def save_siglip(folder: Path, *, text: dict[str, Any] | None = None, image: dict[str, Any] | None = None) -> Any:
    """A SiglipModel in ``folder``; returns it."""
    from transformers import SiglipConfig, SiglipModel

    config = SiglipConfig(
        text_config={
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "vocab_size": 64,
            "max_position_embeddings": 12,
            **(text or {}),
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 61,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            **(image or {}),
        },
    )
    return _save(SiglipModel, config, folder)


def _save(kind: Any, config: Any, folder: Path) -> Any:
    torch.manual_seed(3)
    model = kind(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # biases and norms that are zero and one would hide a mistake
            if name not in ("logit_scale", "logit_bias"):
                parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return model


def save_clip_tokenizer(folder: Path) -> Any:
    """OpenAI's byte pairs as transformers' CLIPTokenizer."""
    from transformers import CLIPTokenizer

    special = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    vocabulary = {special.get(token, token): number for token, number in open_clip.SimpleTokenizer().encoder.items()}
    path = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    merges = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    pairs = [tuple(merge.split()) for merge in merges]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=77)
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_siglip_tokenizer(folder: Path) -> Any:
    """A small unigram tokenizer with the end of a text and padding as SigLIP has them."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pieces = ["<pad>", "</s>", "<unk>", "▁a", "▁photo", "▁of", "▁", "▁dog", "▁cat", *"abcdefghijklmnopqrstuvwxyz12345"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(rank)) for rank, piece in enumerate(pieces)], unk_id=2))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="</s>", eos_token="</s>", unk_token="<unk>",
        model_input_names=["input_ids"],
    )  # fmt: skip
    fast.save_pretrained(folder)
    return fast


def save_processor(folder: Path, kind: str) -> Any:
    """The image processor of CLIP or SigLIP for images of 32 pixels."""
    from transformers import CLIPImageProcessor, SiglipImageProcessor

    side = {"height": 32, "width": 32}
    if kind == "clip":
        processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=side)
    else:
        processor = SiglipImageProcessor(size=side)
    processor.save_pretrained(folder)
    return processor


def save_shards(folder: Path) -> list[Path]:
    """A SigLIP in several files, with its tokenizer and image processor; returns its files."""
    model = save_siglip(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")
    save_siglip_tokenizer(folder)
    save_processor(folder, "siglip")
    return sorted(folder.iterdir())
