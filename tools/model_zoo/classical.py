"""scikit-learn models through skl2onnx: a forest, boosted trees, and a pipeline over strings and numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from model_inputs import Feeds, InputSpec, ModelSpec
from model_zoo import Builder

BATCHES = [{"batch": size} for size in (1, 7, 64)]
OPSETS = {"": 18, "ai.onnx.ml": 3}


def check_labels(path: Path, feeds: Feeds, expected: np.ndarray) -> None:
    """Holds the first output of the written model against scikit-learn's predictions."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, feeds)[0].reshape(expected.shape)
    agree = found == expected if expected.dtype.kind in "OUi" else np.isclose(found, expected, rtol=1e-4)
    if agree.mean() < 0.99:
        raise ValueError(f"{path.name}: onnxruntime and scikit-learn agree on {agree.mean():.1%} of the rows")


def export_forest(path: Path) -> ModelSpec:
    """A random forest on the wine data, with probabilities as a sequence of maps (ZipMap)."""
    x, y = load_wine(return_X_y=True)
    x = x.astype(np.float32)
    forest = RandomForestClassifier(50, max_depth=8, random_state=0).fit(x, y)
    inputs = [("features", FloatTensorType([None, x.shape[1]]))]
    path.write_bytes(to_onnx(forest, initial_types=inputs, target_opset=OPSETS).SerializeToString())
    check_labels(path, {"features": x}, forest.predict(x))
    return ModelSpec({"features": InputSpec("uniform", 0.5, 20)}, BATCHES, BATCHES[0])


def export_boosted(path: Path) -> ModelSpec:
    """Gradient boosted regression trees on the diabetes data."""
    x, y = load_diabetes(return_X_y=True)
    x = x.astype(np.float32)
    trees = GradientBoostingRegressor(n_estimators=80, max_depth=4, random_state=0).fit(x, y)
    inputs = [("features", FloatTensorType([None, x.shape[1]]))]
    path.write_bytes(to_onnx(trees, initial_types=inputs, target_opset=OPSETS).SerializeToString())
    check_labels(path, {"features": x}, trees.predict(x))
    return ModelSpec({"features": InputSpec("normal", 0, 0.05)}, BATCHES, BATCHES[0])


TOWNS = ("Oslo", "Bergen", "Trondheim", "Tromsø")
TRADES = ("baker", "smith", "teacher", "pilot", "other")


def people(rows: int) -> tuple[Feeds, np.ndarray]:
    """A made-up survey: town, trade, age and income decide whether somebody rents, owns or shares a home."""
    random = np.random.default_rng(0)
    town = random.integers(0, len(TOWNS), rows)
    trade = random.integers(0, len(TRADES), rows)
    age = random.uniform(18, 90, rows)
    income = random.normal(40 + 5 * trade, 12, rows)
    wealth = (income - 50) / 12 + (age - 50) / 25 - 0.6 * town + random.normal(0, 0.5, rows)
    home = np.where(wealth > 0.3, "owns", np.where(wealth > -1.2, "rents", "shares"))
    columns = {
        "town": np.array(TOWNS, dtype=object)[town],
        "trade": np.array(TRADES, dtype=object)[trade],
        "age": age.astype(np.float32),
        "income": income.astype(np.float32),
    }
    return {name: column.reshape(-1, 1) for name, column in columns.items()}, home


def export_pipeline(path: Path) -> ModelSpec:
    """One-hot strings and scaled numbers into a logistic regression; string labels, probabilities in maps."""
    import pandas

    feeds, home = people(600)
    frame = pandas.DataFrame({name: column.ravel() for name, column in feeds.items()})
    pipeline = Pipeline(
        [
            (
                "columns",
                ColumnTransformer(
                    [
                        ("words", OneHotEncoder(handle_unknown="ignore"), ["town", "trade"]),
                        ("numbers", StandardScaler(), ["age", "income"]),
                    ]
                ),
            ),
            ("model", LogisticRegression(max_iter=1000)),
        ]
    ).fit(frame, home)
    types = [
        ("town", StringTensorType([None, 1])),
        ("trade", StringTensorType([None, 1])),
        ("age", FloatTensorType([None, 1])),
        ("income", FloatTensorType([None, 1])),
    ]
    path.write_bytes(to_onnx(pipeline, initial_types=types, target_opset=OPSETS).SerializeToString())
    check_labels(path, feeds, pipeline.predict(frame))
    spec = {
        "town": InputSpec("choice", values=(*TOWNS, "Paris")),  # one word that the encoder has not seen
        "trade": InputSpec("choice", values=TRADES),
        "age": InputSpec("uniform", 18, 90),
        "income": InputSpec("normal", 50, 15),
    }
    return ModelSpec(spec, BATCHES, BATCHES[0])


MODELS: dict[str, Builder] = {
    "forest_classifier": export_forest,
    "boosted_regressor": export_boosted,
    "survey_pipeline": export_pipeline,
}
