"""Tiny pretrained encoders with random weights, in the hub's own format: what `from_pretrained` finds in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

__all__ = [
    *("ENCODERS", "VILT_WORDS", "WORDS", "ast", "bert", "canine", "changed", "clip", "clip_text", "convbert", "dinov2"),
    *("fnet", "funnel", "gpt2", "llama", "mae", "mobilebert", "mobilenet", "modernbert", "naflex", "roberta", "shaken"),
    *("siglip", "swin", "vilt", "vilt_config", "vit", "wav2vec2", "whisper"),
]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "c", "##a", "##b", "##c", "hello", "world", "!"]
VILT_WORDS = [*WORDS[:5], "a", "cat", "dog", "on", "the", "mat", "##s", "sleeps", "."]
MIXED = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def vit(folder: Path) -> Path:
    """A vision transformer for pictures of 16 x 16, with its processor."""
    _saved(transformers.ViTModel, transformers.ViTConfig(image_size=16, patch_size=8, **MIXED), folder)
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def mobilenet(folder: Path) -> Path:
    """A convolutional network for pictures of 32 x 32."""
    config = transformers.MobileNetV2Config(image_size=32, depth_multiplier=0.1, min_depth=8, finegrained_output=False)
    _saved(transformers.MobileNetV2Model, config, folder)
    size = {"shortest_edge": 32}
    transformers.MobileNetV2ImageProcessorPil(size=size, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def swin(folder: Path) -> Path:
    """A vision transformer whose windows grow from layer to layer."""
    layers = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 2}
    _saved(transformers.SwinModel, transformers.SwinConfig(image_size=16, patch_size=4, **layers), folder)
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def mae(folder: Path) -> Path:
    """A masked autoencoder, which shows itself a quarter of a picture."""
    decoder = {"decoder_hidden_size": 8, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1}
    config = transformers.ViTMAEConfig(image_size=16, patch_size=4, decoder_intermediate_size=8, **decoder, **MIXED)
    _saved(transformers.ViTMAEForPreTraining, config, folder)
    transformers.ViTImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def naflex(folder: Path) -> Path:
    """A vision tower for pictures of any shape, padded to 16 patches."""
    config = transformers.Siglip2VisionConfig(patch_size=8, num_patches=16, **MIXED)
    _saved(transformers.Siglip2VisionModel, config, folder)
    transformers.Siglip2ImageProcessorPil(patch_size=8, max_num_patches=16).save_pretrained(folder)
    return folder


def bert(folder: Path, positions: int = 12, **options: Any) -> Path:
    """A text encoder with a word-piece vocabulary."""
    config = transformers.BertConfig(vocab_size=len(WORDS), max_position_embeddings=positions, **MIXED)
    _saved(transformers.BertModel, config, folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt"), **options).save_pretrained(folder)
    return folder


def clip(folder: Path) -> Path:
    """Two towers: pictures of 16 x 16 and texts."""
    text = {**MIXED, "vocab_size": len(WORDS), "max_position_embeddings": 12, "eos_token_id": 3, "bos_token_id": 2}
    vision = {**MIXED, "image_size": 16, "patch_size": 8, "hidden_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=4)
    _saved(transformers.CLIPModel, config, folder)
    side = {"height": 16, "width": 16}
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size=side).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=12).save_pretrained(folder)
    return folder


def clip_text(folder: Path) -> Path:
    """The text half of a CLIP model, of 4 numbers a sentence."""
    text = {**MIXED, "vocab_size": len(WORDS), "max_position_embeddings": 12, "eos_token_id": 3, "bos_token_id": 2}
    _saved(transformers.CLIPTextModelWithProjection, transformers.CLIPTextConfig(projection_dim=4, **text), folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt"), model_max_length=12).save_pretrained(folder)
    return folder


def wav2vec2(folder: Path) -> Path:
    """A sound encoder that reads waves of any length: two convolutions, then a transformer."""
    layers = {"conv_dim": (8, 8), "conv_kernel": (10, 4), "conv_stride": (5, 4)}
    shape = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    _saved(transformers.Wav2Vec2Model, transformers.Wav2Vec2Config(**layers, **shape, **MIXED), folder)
    transformers.Wav2Vec2FeatureExtractor(sampling_rate=8000).save_pretrained(folder)
    return folder


def ast(folder: Path) -> Path:
    """A sound encoder that reads spectrograms of one size."""
    shape = {"max_length": 32, "num_mel_bins": 16, "patch_size": 8, "time_stride": 8, "frequency_stride": 8}
    _saved(transformers.ASTModel, transformers.ASTConfig(**shape, **MIXED), folder)
    made = transformers.ASTFeatureExtractor(sampling_rate=16000, num_mel_bins=16, max_length=32)
    made.save_pretrained(folder)
    return folder


def dinov2(folder: Path) -> Path:
    """A vision transformer whose branches are scaled."""
    config = transformers.Dinov2Config(image_size=16, patch_size=8, mlp_ratio=2, **MIXED)
    _saved(transformers.Dinov2Model, config, folder)
    side = {"height": 16, "width": 16}
    transformers.BitImageProcessorPil(size={"shortest_edge": 16}, crop_size=side).save_pretrained(folder)
    return folder


def siglip(folder: Path) -> Path:
    """A vision tower without a [CLS]."""
    _saved(
        transformers.SiglipVisionModel, transformers.SiglipVisionConfig(image_size=16, patch_size=8, **MIXED), folder
    )
    transformers.SiglipImageProcessorPil(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


def roberta(folder: Path) -> Path:
    """A text encoder that counts its places from behind the padding's number."""
    config = transformers.RobertaConfig(vocab_size=40, max_position_embeddings=14, pad_token_id=1, **MIXED)
    _saved(transformers.RobertaModel, config, folder)
    return _spelled(folder, marks=True)


def modernbert(folder: Path) -> Path:
    """A text encoder whose queries, keys and values are packed, and turned by their place."""
    sizes = {**MIXED, "vocab_size": 40, "max_position_embeddings": 12, "pad_token_id": 1, "local_attention": 4}
    _saved(transformers.ModernBertModel, transformers.ModernBertConfig(**sizes), folder)
    return _spelled(folder, marks=True)


def gpt2(folder: Path) -> Path:
    """A causal language model whose tokenizer puts nothing around a text."""
    sizes = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 12, "vocab_size": 40}
    _saved(transformers.GPT2Model, transformers.GPT2Config(bos_token_id=0, eos_token_id=0, **sizes), folder)
    return _spelled(folder, marks=False)


def llama(folder: Path) -> Path:
    """A causal language model without biases, with fewer keys than queries."""
    sizes = {**MIXED, "num_key_value_heads": 1, "vocab_size": 40, "max_position_embeddings": 12}
    _saved(transformers.LlamaModel, transformers.LlamaConfig(bos_token_id=0, eos_token_id=0, **sizes), folder)
    return _spelled(folder, marks=False)


def fnet(folder: Path) -> Path:
    """A text encoder that mixes all tokens and reads no mask."""
    sizes = {k: v for k, v in MIXED.items() if k != "num_attention_heads"}
    config = transformers.FNetConfig(vocab_size=40, max_position_embeddings=12, pad_token_id=1, **sizes)
    _saved(transformers.FNetModel, config, folder)
    return _spelled(folder, marks=True)


def mobilebert(folder: Path) -> Path:
    """A text encoder whose tokens hold their neighbours."""
    sizes = {"vocab_size": 40, "max_position_embeddings": 12, "embedding_size": 16, "pad_token_id": 1}
    sizes |= {"intra_bottleneck_size": 8, "num_feedforward_networks": 1}
    _saved(transformers.MobileBertModel, transformers.MobileBertConfig(**sizes, **MIXED), folder)
    return _spelled(folder, marks=True)


def convbert(folder: Path) -> Path:
    """A text encoder whose convolutions look at a token's neighbours, whatever the mask says."""
    sizes = {"vocab_size": 40, "max_position_embeddings": 12, "embedding_size": 16, "pad_token_id": 1}
    _saved(transformers.ConvBertModel, transformers.ConvBertConfig(conv_kernel_size=3, **sizes, **MIXED), folder)
    return _spelled(folder, marks=True)


def funnel(folder: Path) -> Path:
    """A text encoder that halves a text twice, so that four tokens are too few for it."""
    sizes = {"d_model": 16, "n_head": 2, "d_head": 8, "d_inner": 24, "num_decoder_layers": 1, "vocab_size": 40}
    config = transformers.FunnelConfig(block_sizes=[1, 1, 1], pad_token_id=1, **sizes)
    _saved(transformers.FunnelModel, config, folder)
    return _spelled(folder, marks=True, model_max_length=12)


def canine(folder: Path) -> Path:
    """A text encoder that reads four characters as one, so that an empty text is too short for it."""
    hashed = {"num_hash_buckets": 64, "num_hash_functions": 4, "max_position_embeddings": 12}
    _saved(transformers.CanineModel, transformers.CanineConfig(**hashed, **MIXED), folder)
    transformers.CanineTokenizer(model_max_length=12).save_pretrained(folder)
    return folder


def whisper(folder: Path) -> Path:
    """A translator of speech, for sounds of one second."""
    sizes = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 2}
    sizes |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24, "max_source_positions": 50}
    marks = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.WhisperConfig(num_mel_bins=8, vocab_size=40, max_target_positions=8, **sizes, **marks)
    _saved(transformers.WhisperModel, config, folder)
    transformers.WhisperFeatureExtractor(feature_size=8, chunk_length=1).save_pretrained(folder)
    return folder


def _spelled(folder: Path, *, marks: bool, **more: Any) -> Path:
    """A tokenizer that spells bytes; with `marks` a text stands between <s> and </s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyz!Ġ012345"]
    spelling = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=[], unk_token="<unk>"))
    spelling.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if marks:
        spelling.post_processor = processors.BertProcessing(("</s>", 2), ("<s>", 0))
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"} | (
        {"pad_token": "<pad>"} if marks else {}
    )
    transformers.PreTrainedTokenizerFast(tokenizer_object=spelling, **special, **more).save_pretrained(folder)
    return folder


def vilt(folder: Path) -> Path:
    """A ViLT with tokenizer and image processor."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(VILT_WORDS) + "\n", encoding="utf-8")
    transformers.BertTokenizer.from_pretrained(folder).save_pretrained(folder)
    made = transformers.models.vilt.image_processing_pil_vilt.ViltImageProcessorPil
    made(size={"shortest_edge": 32}, size_divisor=8).save_pretrained(folder)
    shaken(transformers.ViltModel(vilt_config())).save_pretrained(folder)
    return folder


def vilt_config() -> transformers.ViltConfig:
    """Small enough for tests, with places for 16 word pieces and pictures of 5 x 5 patches."""
    return transformers.ViltConfig(
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=48,
        vocab_size=len(VILT_WORDS),
        max_position_embeddings=16,
        image_size=40,
        patch_size=8,
        initializer_range=0.2,
    )


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    """Random numbers everywhere, also where a fresh model has zeros and ones."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


ENCODERS: dict[str, Callable[[Path], Path]] = {
    make.__name__: make
    for make in (
        *(vit, dinov2, siglip, naflex, mae, swin, mobilenet, bert, roberta, modernbert, fnet, convbert, mobilebert),
        *(funnel, canine, gpt2, llama, clip, wav2vec2, ast, whisper),
    )
}


def changed(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Rewrite the weights of a checkpoint."""
    tensors = change(load_file(folder / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _saved(model: Any, config: Any, folder: Path) -> None:
    """Weights large enough that inputs show in the features, from a generator of their own."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = model(config).eval()
        for parameter in made.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    logging = transformers.utils.logging
    logging.disable_progress_bar()
    made.save_pretrained(folder)
    logging.enable_progress_bar()
