"""Keras models through tf2onnx: channels-last images, and a masked recurrent text model."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

from model_inputs import InputSpec, ModelSpec, make_feeds
from model_zoo import Builder

OPSET = 17


def export(model: keras.Model, signature: tf.TensorSpec, path: Path, spec: ModelSpec) -> ModelSpec:
    """Writes the model with tf2onnx and holds it against TensorFlow at every size of `spec`."""
    function = tf.function(lambda x: model(x, training=False), input_signature=[signature])
    proto, _ = tf2onnx.convert.from_function(function, input_signature=[signature], opset=OPSET)
    for info in (*proto.graph.input, *proto.graph.output):  # tf2onnx numbers unknown dimensions
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value"):
                dim.dim_param = ("batch", "sequence")[axis]
    path.write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for binding in spec.shapes:
        feeds = make_feeds(path, spec, binding)
        expected = model(next(iter(feeds.values())), training=False).numpy()
        np.testing.assert_allclose(session.run(None, feeds)[0], expected, rtol=1e-3, atol=1e-4)
        if expected.std() < 1e-3:
            raise ValueError(f"{path.name} {binding}: the output is nearly constant")
    return spec


def export_mobilenet(path: Path) -> ModelSpec:
    """MobileNetV2 at a third of its width on 96×96 images, with batch norm statistics from random images."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=10)
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    random = np.random.default_rng(0)
    for norm in norms:
        norm.momentum = 0.0
        norm.gamma.assign(random.uniform(0.8, 1.2, norm.gamma.shape))
        norm.beta.assign(random.normal(0, 0.1, norm.beta.shape))
    model(random.uniform(-1, 1, (16, 96, 96, 3)).astype(np.float32), training=True)
    model.layers[-1].kernel.assign(random.normal(0, 0.1, model.layers[-1].kernel.shape))
    shapes = [{"batch": size} for size in (1, 2, 5)]
    spec = ModelSpec({"image": InputSpec("uniform", -1, 1)}, shapes, shapes[0])
    return export(model, tf.TensorSpec((None, 96, 96, 3), tf.float32, name="image"), path, spec)


def export_lstm(path: Path) -> ModelSpec:
    """Word numbers through an embedding and a bidirectional LSTM to three classes."""
    keras.utils.set_random_seed(0)
    words = keras.Input((None,), dtype="int32", name="words")
    x = keras.layers.Embedding(500, 32, embeddings_initializer="random_normal")(words)
    x = keras.layers.Bidirectional(keras.layers.LSTM(32, return_sequences=True))(x)
    x = keras.layers.GlobalMaxPooling1D()(x)
    head = keras.layers.Dense(3, "softmax", kernel_initializer=keras.initializers.RandomNormal(0, 3))
    model = keras.Model(words, head(x))
    spec = ModelSpec(
        {"words": InputSpec("integers", 0, 500)},
        [{"batch": 1, "sequence": 20}, {"batch": 4, "sequence": 7}, {"batch": 2, "sequence": 33}],
        {"batch": 1, "sequence": 20},
    )
    return export(model, tf.TensorSpec((None, None), tf.int32, name="words"), path, spec)


MODELS: dict[str, Builder] = {"keras_mobilenet_v2": export_mobilenet, "keras_lstm": export_lstm}
