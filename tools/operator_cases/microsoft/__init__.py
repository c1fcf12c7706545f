"""Operators of com.microsoft; onnxruntime is their only oracle."""
