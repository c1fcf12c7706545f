"""scikit-learn models on the iris data."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from test_models import Feeds, TestModel

OPSETS = {"": 18, "ai.onnx.ml": 3}


def convert(estimator, options: dict | None) -> onnx.ModelProto:
    inputs = [("measurements", FloatTensorType([None, 4]))]
    model = to_onnx(estimator, initial_types=inputs, options=options, target_opset=OPSETS)
    for entry in model.opset_import:  # skl2onnx writes the header of the operators it used, not of the domain's version
        if entry.domain == "ai.onnx.ml":
            entry.version = OPSETS["ai.onnx.ml"]
    return model


def models() -> Iterator[TestModel]:
    iris = load_iris()
    x, held_out, y, _ = train_test_split(iris.data.astype(np.float32), iris.target, test_size=0.3, random_state=0)
    cases: list[Feeds] = [{"measurements": held_out[:count]} for count in (1, 5, 45)]

    forest = RandomForestClassifier(20, max_depth=5, random_state=0).fit(x, y)
    yield TestModel("iris_forest", convert(forest, {"zipmap": False}), cases)

    # String labels, and a map from label to probability for each row.
    scaled = make_pipeline(StandardScaler(), LogisticRegression()).fit(x, iris.target_names[y])
    yield TestModel("iris_pipeline", convert(scaled, None), cases)
