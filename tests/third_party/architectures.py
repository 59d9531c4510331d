"""Tiny models of the `transformers` library, with random weights from their configuration classes.

Nothing is downloaded. What calls a weight or an activation function without a module of its own is counted here by
hand, from the library's source; everything else is counted by forward hooks (see `counting.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import transformers as tf
from torch import Tensor, nn

HIDDEN, HEADS, LAYERS, INNER, VOCABULARY, LENGTH, ROWS = 16, 2, 2, 32, 29, 10, 4
Batch = dict[str, Tensor]


@dataclass(frozen=True)
class Architecture:
    """How to make a model and its batches, and what no module stands for.

    `weights_by_hand` and `activations_by_hand` name calls that no module of their own makes, by the path of the module
    they happen in: matrix products and convolutions with a parameter, look-ups in a table of parameters; activation
    functions.
    """

    name: str
    make: Callable[[], nn.Module]
    batch: Callable[[torch.Generator], Batch]
    weights_by_hand: tuple[str, ...] = ()
    activations_by_hand: tuple[str, ...] = ()
    options: dict[str, bool] = field(default_factory=dict)  # of the model's call


def tokens(g: torch.Generator) -> Tensor:
    return torch.randint(4, VOCABULARY, (ROWS, LENGTH), generator=g)


def language(g: torch.Generator) -> Batch:
    ids = tokens(g)
    return {"input_ids": ids, "labels": ids}


def masked(g: torch.Generator) -> Batch:
    ids = tokens(g)
    hidden = torch.rand(ids.shape, generator=g) < 0.3
    return {"input_ids": ids.masked_fill(hidden, 3), "labels": ids.masked_fill(~hidden, -100)}


def sentences(g: torch.Generator) -> Batch:
    ids = tokens(g)
    return {"input_ids": ids, "labels": ids[:, 0] % 3}


def translation(g: torch.Generator) -> Batch:
    ids = tokens(g)
    return {"input_ids": ids, "labels": ids.flip(1)}


def images(g: torch.Generator) -> Batch:
    labels = torch.randint(0, 3, (ROWS,), generator=g)
    pixels = torch.randn(ROWS, 3, 16, 16, generator=g) + labels[:, None, None, None]
    return {"pixel_values": pixels, "labels": labels}


def speech(g: torch.Generator) -> Batch:
    return {"input_features": torch.randn(ROWS, 8, 24, generator=g), "labels": tokens(g)}


def pairs(g: torch.Generator) -> Batch:
    return {"input_ids": tokens(g), "pixel_values": images(g)["pixel_values"]}


def layers(*patterns: str) -> tuple[str, ...]:
    return tuple(pattern.format(i) for pattern in patterns for i in range(LAYERS))


def gpt2(**options: object) -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "n_positions": 16, "n_embd": HIDDEN, "n_layer": LAYERS, "n_head": HEADS}
    return tf.GPT2LMHeadModel(tf.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, **options))


BERT_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": INNER,
}
DECODER_SIZES = {**BERT_SIZES, "max_position_embeddings": 16}
SEQ2SEQ_SIZES = {
    "vocab_size": VOCABULARY,
    "d_model": HIDDEN,
    "encoder_layers": LAYERS,
    "decoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": INNER,
    "decoder_ffn_dim": INNER,
}


def t5(**options: object) -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "d_model": HIDDEN, "d_kv": 8, "d_ff": INNER, "num_layers": LAYERS}
    return tf.T5ForConditionalGeneration(
        tf.T5Config(**sizes, num_heads=HEADS, decoder_start_token_id=0, pad_token_id=0, **options)
    )


def vit() -> nn.Module:
    sizes = {name: size for name, size in BERT_SIZES.items() if name != "vocab_size"}
    return tf.ViTForImageClassification(tf.ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=3))


def whisper() -> nn.Module:
    return tf.WhisperForConditionalGeneration(
        tf.WhisperConfig(
            **SEQ2SEQ_SIZES,
            num_mel_bins=8,
            max_source_positions=12,
            max_target_positions=16,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
            decoder_start_token_id=1,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )


def clip() -> nn.Module:
    sizes = {name: size for name, size in BERT_SIZES.items() if name != "vocab_size"}
    text = {**BERT_SIZES, "max_position_embeddings": 16, "eos_token_id": 2, "bos_token_id": 1, "pad_token_id": 0}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    return tf.CLIPModel(tf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=HIDDEN))


def convnext() -> nn.Module:
    return tf.ConvNextForImageClassification(
        tf.ConvNextConfig(patch_size=2, num_stages=2, hidden_sizes=[8, HIDDEN], depths=[1, 1], num_labels=3)
    )


def swin() -> nn.Module:
    sizes = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4}
    return tf.SwinForImageClassification(tf.SwinConfig(**sizes, num_labels=3))


def resnet() -> nn.Module:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, HIDDEN], "depths": [1, 1], "layer_type": "basic"}
    return tf.ResNetForImageClassification(tf.ResNetConfig(**sizes, num_labels=3))


def distilbert() -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "dim": HIDDEN, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": INNER}
    return tf.DistilBertForSequenceClassification(tf.DistilBertConfig(**sizes, num_labels=3))


def mamba() -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "state_size": 4, "num_hidden_layers": LAYERS}
    return tf.MambaForCausalLM(tf.MambaConfig(**sizes, bos_token_id=1, eos_token_id=2, pad_token_id=0))


def opt() -> nn.Module:
    return tf.OPTForCausalLM(tf.OPTConfig(**DECODER_SIZES, ffn_dim=INNER, word_embed_proj_dim=HIDDEN))


def bart() -> nn.Module:
    return tf.BartForConditionalGeneration(tf.BartConfig(**SEQ2SEQ_SIZES, max_position_embeddings=16))


def mixtral() -> nn.Module:
    return tf.MixtralForCausalLM(tf.MixtralConfig(**DECODER_SIZES, num_key_value_heads=HEADS, num_local_experts=4))


def gemma2() -> nn.Module:
    return tf.Gemma2ForCausalLM(tf.Gemma2Config(**DECODER_SIZES, num_key_value_heads=1, head_dim=8))


def rwkv() -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "context_length": 16}
    return tf.RwkvForCausalLM(tf.RwkvConfig(**sizes, attention_hidden_size=HIDDEN, intermediate_size=INNER))


def bloom() -> nn.Module:
    sizes = {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "n_layer": LAYERS, "n_head": HEADS}
    return tf.BloomForCausalLM(tf.BloomConfig(**sizes))


def deberta() -> nn.Module:
    relative = {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4}
    config = tf.DebertaV2Config(**BERT_SIZES, **relative, max_position_embeddings=16, num_labels=3)
    return tf.DebertaV2ForSequenceClassification(config)


ARCHITECTURES = [
    Architecture("gpt2", gpt2, language),
    Architecture("gpt2 with eager attention", lambda: gpt2(attn_implementation="eager"), language),
    Architecture("bert", lambda: tf.BertForMaskedLM(tf.BertConfig(**BERT_SIZES)), masked),
    # an activation module made anew in each forward pass stands for its function in the caller
    Architecture("distilbert", distilbert, sentences, activations_by_hand=("",)),
    Architecture("deberta", deberta, sentences, activations_by_hand=("pooler",)),
    # one layer, run LAYERS times: one site each, with the numbers of both calls
    Architecture("albert", lambda: tf.AlbertForMaskedLM(tf.AlbertConfig(**BERT_SIZES, embedding_size=8)), masked),
    Architecture("electra", lambda: tf.ElectraForMaskedLM(tf.ElectraConfig(**BERT_SIZES, embedding_size=8)), masked),
    Architecture("llama", lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**DECODER_SIZES)), language),
    Architecture("t5", t5, translation),
    Architecture("vit", vit, images),
    # one table of relative positions, read by indexing, for each of the two blocks
    Architecture(
        "swin",
        swin,
        images,
        weights_by_hand=layers("swin.encoder.layers.{}.blocks.0.attention.relative_position_bias"),
    ),
    Architecture("resnet", resnet, images),
    Architecture("convnext", convnext, images),
    # causal_conv1d_fn calls F.conv1d with the weight of the module conv1d; dt_proj is a matmul with its weight
    Architecture(
        "mamba",
        mamba,
        language,
        weights_by_hand=layers("backbone.layers.{}.mixer", "backbone.layers.{}.mixer"),
        activations_by_hand=layers(*["backbone.layers.{}.mixer"] * 3),  # silu of the convolution and the gate, softplus
    ),
    # sigmoid(receptance) in both halves of a block, relu(key) in the second
    Architecture(
        "rwkv",
        rwkv,
        language,
        activations_by_hand=layers(
            "rwkv.blocks.{}.attention", "rwkv.blocks.{}.feed_forward", "rwkv.blocks.{}.feed_forward"
        ),
    ),
    # gelu after each of the encoder's two convolutions
    Architecture("whisper", whisper, speech, activations_by_hand=("model.encoder", "model.encoder")),
    Architecture("opt", opt, language),
    # the router is a linear map without a module of its own; each expert is a slice of one parameter
    Architecture(
        "mixtral",
        mixtral,
        language,
        weights_by_hand=(
            *layers("model.layers.{}.mlp.gate"),
            *layers("model.layers.{}.mlp.experts", "model.layers.{}.mlp.experts"),
        ),
    ),
    Architecture("bloom", bloom, language),  # no activation is known: its gelu is a custom autograd.Function
    Architecture("gpt_neox", lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**DECODER_SIZES)), language),
    Architecture("bart", bart, translation),
    # tanh bounds the scores of each attention and the logits
    Architecture("gemma2", gemma2, language, activations_by_hand=(*layers("model.layers.{}.self_attn"), "")),
    Architecture("clip", clip, pairs, options={"return_loss": True}),
]
