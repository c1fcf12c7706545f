#!/usr/bin/env python3
"""Holds the textual forms of `apus convert` against google.protobuf and onnx: protobuf text, protobuf JSON, onnxtxt.

Usage: check_text_forms.py [--apus PROGRAM] [--every N] [MODEL or FOLDER…]; without any, the ONNX backend suite in
.cache and TestModels. For each model and form: what Apus writes, the reader of the form's own library reads as the same
message; what the library's printer writes, Apus reads as the same message; and what Apus writes and reads again is the
model. In onnxtxt tensors are compared by their elements, since the syntax has no raw_data, and without the fields that
Apus reports as left out. Run it with the python that `tools/python-env test` prints. Ends with a line for each form;
the exit status is 0 only if nothing differed.
"""

from __future__ import annotations

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf import json_format, text_format
from onnx import numpy_helper

ROOT = Path(__file__).resolve().parent.parent
FORMS = ("textproto", "json", "onnxtxt")


def models(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.onnx"))
        else:
            yield path


def convert(apus: Path, source: Path, target: Path) -> list[str]:
    """Runs `apus convert`; returns what was left out."""
    done = subprocess.run(
        [apus, "convert", "--unchecked", "--json", source, "-o", target], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ValueError(f"apus convert {source.name} {target.name}: {done.stderr.strip()}")
    return json.loads(done.stdout)["left_out"]


# ---- messages


def bare(message) -> None:
    """Takes out what onnxtxt has no place for, gives tensors one form, and takes out strings that are empty."""
    if isinstance(message, onnx.TensorProto) and message.data_location != onnx.TensorProto.EXTERNAL:
        elements = numpy_helper.to_array(message)
        for name in ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data"):
            message.ClearField(name)
        message.ClearField("data_location")
        if message.data_type == onnx.TensorProto.STRING:
            message.raw_data = repr(elements.tolist()).encode()
        else:
            if elements.dtype.kind == "f":
                elements = np.where(np.isnan(elements), np.float32(np.nan).astype(elements.dtype), elements)
            message.raw_data = elements.tobytes()
    lost = {
        "ModelProto": ("training_info", "configuration"),
        "FunctionProto": ("metadata_props",),
        "GraphProto": ("doc_string", "quantization_annotation", "sparse_initializer", "metadata_props"),
        "NodeProto": ("doc_string", "metadata_props", "device_configurations"),
        "ValueInfoProto": ("doc_string", "metadata_props"),
        "AttributeProto": ("doc_string",),
        "TensorProto": ("doc_string", "metadata_props"),
        "TypeProto": ("denotation",),
        "Dimension": ("denotation",),
    }
    for name in lost.get(message.DESCRIPTOR.name, ()):
        message.ClearField(name)
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if field.is_repeated else [value]:
                bare(inner)
        elif not field.is_repeated and value in ("", b"") and field.name != "dim_param":
            message.ClearField(field.name)
    if isinstance(message, onnx.ValueInfoProto) and not message.type.ListFields():
        message.ClearField("type")


def encoded(model: onnx.ModelProto, form: str) -> bytes:
    model = onnx.ModelProto.FromString(model.SerializeToString())
    if form == "onnxtxt":
        bare(model)
    return model.SerializeToString(deterministic=True)


def library_read(text: bytes, form: str) -> onnx.ModelProto:
    if form == "textproto":
        return text_format.Parse(text, onnx.ModelProto())
    if form == "json":
        return json_format.Parse(text, onnx.ModelProto())
    return onnx.parser.parse_model(text.decode())


def library_text(model: onnx.ModelProto, form: str) -> bytes:
    if form == "textproto":
        return text_format.MessageToString(model).encode()
    if form == "json":
        return json_format.MessageToJson(model).encode()
    return onnx.printer.to_text(model).encode()


class Outcome:
    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.left_out: collections.Counter[str] = collections.Counter()


def check(apus: Path, path: Path, form: str, folder: Path, outcome: Outcome) -> None:
    model = onnx.load(path, load_external_data=False)
    wanted = encoded(model, form)
    text, back = folder / f"model.{form}", folder / "back.onnx"
    for name in convert(apus, path, text):
        outcome.left_out[name.split(" ")[0]] += 1
    convert(apus, text, back)
    if encoded(onnx.load(back, load_external_data=False), form) != wanted:
        outcome.faults.append(f"{path}: {form} and back is another model")
    try:
        if encoded(library_read(text.read_bytes(), form), form) != wanted:
            outcome.faults.append(f"{path}: the library reads another model from {form}")
        outcome.counts["read by the library"] += 1
    except Exception as error:
        outcome.counts["refused by the library"] += 1
        if form != "onnxtxt":
            outcome.faults.append(f"{path}: the library refuses {form}: {str(error)[:200]}")
    printed = library_text(model, form)
    if form == "onnxtxt" and b"..." in printed:
        # onnx.printer leaves the elements of some types out.
        outcome.counts["printed without elements by the library"] += 1
        return
    theirs = folder / f"theirs.{form}"
    theirs.write_bytes(printed)
    convert(apus, theirs, back)
    # onnx.printer leaves the defaults of functions' attributes out: then the library reads the same of it.
    found = encoded(onnx.load(back, load_external_data=False), form)
    if found != wanted and found != encoded(library_read(printed, form), form):
        outcome.faults.append(f"{path}: what the library prints as {form} is read as another model")
    outcome.counts["printed by the library and read"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", type=Path, default=ROOT / ".build/release/apus", help="the program")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th model")
    parser.add_argument("--form", choices=FORMS, action="append", help="only this form; may be repeated")
    parser.add_argument("paths", nargs="*", type=Path)
    arguments = parser.parse_args()
    paths = arguments.paths or [ROOT / ".cache/onnx-backend-tests", ROOT / "TestModels"]
    chosen = list(models(paths))[:: arguments.every]
    passed = failed = 0
    for form in arguments.form or FORMS:
        outcome = Outcome()
        with tempfile.TemporaryDirectory() as folder:
            for path in chosen:
                try:
                    check(arguments.apus, path, form, Path(folder), outcome)
                except Exception as error:
                    outcome.faults.append(f"{path}: {form}: {str(error)[:400]}")
        for fault in outcome.faults[:40]:
            print(fault)
        failed += len(outcome.faults)
        passed += len(chosen) - len(outcome.faults)
        counts = ", ".join(f"{count} {name}" for name, count in sorted(outcome.counts.items()))
        print(f"{form}: {len(chosen)} models, {len(outcome.faults)} faults; {counts}")
        if outcome.left_out:
            print("  left out: " + ", ".join(f"{name} of {count}" for name, count in sorted(outcome.left_out.items())))
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return int(failed > 0 or passed == 0)


if __name__ == "__main__":
    sys.exit(main())
