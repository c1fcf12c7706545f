"""The models that tools/export_models.py makes, one file a family.

Each family lists its models in `MODELS`: name to a function that writes the model to a path and returns its
`ModelSpec`. Weights are random but seeded; each function checks what it wrote against the framework it came from.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from model_inputs import ModelSpec

Builder = Callable[[Path], ModelSpec]

# Families in the order of export. Listed as text, so that naming a model does not import a framework.
FAMILIES: dict[str, tuple[str, ...]] = {
    "vision": (
        "resnet50",
        "mobilenet_v3_large",
        "efficientnet_b0",
        "squeezenet1_1",
        "vgg16",
        "inception_v3",
        "vit_b_16",
        "unet",
        "mobilenet_v2_opset13",
        "resnet18",
        "mobilenet_v2",
        "densenet121",
        "shufflenet_v2",
        "convnext_tiny",
        "swin_t",
    ),
    "designs": ("mixer", "repvgg", "fastvit"),
    "language": ("bert_base", "gpt2", "gpt2_cached", "minilm", "llama", "whisper_encoder"),
    "small": ("lstm", "gru", "mlp_tiny", "greedy_decoder", "newton_loop"),
    "detection": ("detector", "ssdlite_opset13"),
    "classical": ("forest_classifier", "boosted_regressor", "survey_pipeline"),
    "keras_models": ("keras_mobilenet_v2", "keras_lstm"),
}


def model_names() -> list[str]:
    return [name for names in FAMILIES.values() for name in names]


def builder(name: str) -> Builder:
    """The function that makes the named model; imports the frameworks its family needs."""
    family = next(family for family, names in FAMILIES.items() if name in names)
    return import_module(f"model_zoo.{family}").MODELS[name]
