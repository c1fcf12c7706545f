"""Encoders and decoders from transformers, batch and sequence symbolic."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn
from torch.export import Dim

from model_inputs import InputSpec, ModelSpec
from model_zoo import Builder
from model_zoo.torch_export import check, export, rename_dimension, seed
from model_zoo.torchvision_ops import torchvision as torchvision  # transformers imports it, so it must come first

from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel  # isort: skip
from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig  # isort: skip
from transformers.models.whisper.modeling_whisper import WhisperEncoder  # isort: skip
from transformers.cache_utils import DynamicCache  # isort: skip

BERT_VOCABULARY = BertConfig().vocab_size
GPT2_VOCABULARY = GPT2Config().vocab_size
LLAMA_VOCABULARY = 32000


def liven(model: nn.Module) -> nn.Module:
    """Moves biases and layer norms off the zeros and ones that transformers starts them at."""
    for parameter in model.parameters():
        if parameter.dim() == 1:
            with torch.no_grad():
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


class Bert(nn.Module):
    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.model = BertModel(config)

    def forward(self, input_ids, attention_mask, token_type_ids):
        result = self.model(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return result.last_hidden_state, result.pooler_output


def export_bert(path: Path, config: BertConfig | None = None) -> ModelSpec:
    seed()
    model = liven(Bert(config or BertConfig()))
    names = ["input_ids", "attention_mask", "token_type_ids"]
    # Distinct tensors with distinct contents: the exporter takes inputs that are one object for one input.
    mask = torch.ones(2, 16, dtype=torch.int64)
    mask[1, 12:] = 0
    arguments = (torch.arange(32).reshape(2, 16), mask, torch.zeros_like(mask))
    axes = {0: Dim("batch"), 1: Dim("sequence", max=BertConfig().max_position_embeddings)}
    export(model, arguments, path, names, ["last_hidden_state", "pooler_output"], (axes,) * 3)
    spec = ModelSpec(
        {
            "input_ids": InputSpec("integers", 0, BERT_VOCABULARY),
            "attention_mask": InputSpec("mask"),
            "token_type_ids": InputSpec("integers", 0, 2),
        },
        [{"batch": 1, "sequence": 128}, {"batch": 3, "sequence": 17}, {"batch": 2, "sequence": 1}],
        {"batch": 1, "sequence": 128},
    )
    return check(model, path, spec)


def export_minilm(path: Path) -> ModelSpec:
    """The size of MiniLM-L6: 6 layers of 12 heads over 384 features."""
    sizes = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    return export_bert(path, BertConfig(**sizes))


class GPT2(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.model = GPT2LMHeadModel(GPT2Config())

    def forward(self, input_ids):
        return self.model(input_ids, use_cache=False).logits


def export_gpt2(path: Path) -> ModelSpec:
    seed()
    model = liven(GPT2())
    axes = ({0: Dim("batch"), 1: Dim("sequence", max=1024)},)
    export(model, (torch.ones(2, 16, dtype=torch.int64),), path, ["input_ids"], ["logits"], axes)
    spec = ModelSpec(
        {"input_ids": InputSpec("integers", 0, GPT2_VOCABULARY)},
        [{"batch": 1, "sequence": 64}, {"batch": 2, "sequence": 9}, {"batch": 3, "sequence": 1}],
        {"batch": 1, "sequence": 64},
    )
    return check(model, path, spec)


class CachedGPT2(nn.Module):
    """GPT-2 with the keys and values of earlier tokens as inputs, and those of all tokens so far as outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.model = GPT2LMHeadModel(GPT2Config())

    def forward(self, input_ids, attention_mask, *past):
        cache = DynamicCache(config=self.model.config)
        for layer, (key, value) in enumerate(zip(past[::2], past[1::2], strict=True)):
            cache.update(key, value, layer)
        result = self.model(input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True)
        present = [part for layer in result.past_key_values.layers for part in (layer.keys, layer.values)]
        return result.logits, *present


def export_gpt2_cached(path: Path) -> ModelSpec:
    seed()
    model = liven(CachedGPT2())
    config = model.model.config
    parts = [f"{layer}.{part}" for layer in range(config.n_layer) for part in ("key", "value")]
    batch, past, sequence = 2, 7, 5
    arguments = (
        torch.ones(batch, sequence, dtype=torch.int64),
        torch.ones(batch, past + sequence, dtype=torch.int64),
        *[torch.zeros(batch, config.n_head, past, config.n_embd // config.n_head) for _ in parts],
    )
    rows, tokens, kept = Dim("batch"), Dim("sequence", max=512), Dim("past", max=512)
    axes = ({0: rows, 1: tokens}, {0: rows, 1: Dim.DYNAMIC}, tuple({0: rows, 2: kept} for _ in parts))
    export(
        model,
        arguments,
        path,
        ["input_ids", "attention_mask", *(f"past.{part}" for part in parts)],
        ["logits", *(f"present.{part}" for part in parts)],
        axes,
    )
    rename_dimension(path, "attention_mask", 1, "past + sequence")  # torch has no sums of dimensions
    spec = ModelSpec(
        {
            "input_ids": InputSpec("integers", 0, GPT2_VOCABULARY),
            "attention_mask": InputSpec("ones"),
            **{f"past.{part}": InputSpec("normal") for part in parts},
        },
        [
            {"batch": 1, "past": 63, "sequence": 1},
            {"batch": 2, "past": 5, "sequence": 3},
            {"batch": 1, "past": 0, "sequence": 8},
        ],
        {"batch": 1, "past": 63, "sequence": 1},
    )
    return check(model, path, spec)


class Llama(nn.Module):
    """A decoder after Llama: rotary positions, RMS norms, gated layers, 12 heads over 4 of keys."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": 768, "num_hidden_layers": 8, "num_attention_heads": 12, "num_key_value_heads": 4}
        config = LlamaConfig(**sizes, intermediate_size=2048, vocab_size=LLAMA_VOCABULARY)
        self.model = LlamaForCausalLM(config)

    def forward(self, input_ids):
        return self.model(input_ids, use_cache=False).logits


def export_llama(path: Path) -> ModelSpec:
    seed()
    model = liven(Llama())
    axes = ({0: Dim("batch"), 1: Dim("sequence", max=1024)},)
    export(model, (torch.ones(2, 16, dtype=torch.int64),), path, ["input_ids"], ["logits"], axes)
    spec = ModelSpec(
        {"input_ids": InputSpec("integers", 0, LLAMA_VOCABULARY)},
        [{"batch": 1, "sequence": 64}, {"batch": 2, "sequence": 9}, {"batch": 3, "sequence": 2}],
        {"batch": 1, "sequence": 64},
    )
    return check(model, path, spec)


class WhisperEncoding(nn.Module):
    """The encoder of Whisper tiny: two convolutions over 80 mel bands, then 4 layers over 1,500 positions."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
        self.model = WhisperEncoder(WhisperConfig(**sizes))

    def forward(self, features):
        return self.model(features).last_hidden_state


def export_whisper_encoder(path: Path) -> ModelSpec:
    seed()
    model = liven(WhisperEncoding())
    export(model, (torch.randn(1, 80, 3000),), path, ["features"], ["states"])
    return check(model, path, ModelSpec({"features": InputSpec("normal")}))


MODELS: dict[str, Builder] = {
    "bert_base": export_bert,
    "gpt2": export_gpt2,
    "gpt2_cached": export_gpt2_cached,
    "minilm": export_minilm,
    "llama": export_llama,
    "whisper_encoder": export_whisper_encoder,
}
