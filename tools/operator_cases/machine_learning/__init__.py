"""Random cases of the operators of ai.onnx.ml."""
