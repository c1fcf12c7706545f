#!/usr/bin/env python3
"""Holds the table of operators against the schemas of the onnx package.

Every version of every schema must be registered, and every type that it allows for an input or output must be allowed
by the operator. An attribute or input that came after the first version, and after operator set 7, must say so. Prints
what is missing, a row each: operator, version, operand, types. The last line is `N passed, N failed, N skipped`; one
check is one type of one operand of one version, or the version of one attribute or input.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx

# Operands of old versions that are converted while a file is read, so that the newest signature does not show them.
CONVERTED = {
    ("BatchNormalization", "saved_mean"): "computed beside the node",
    ("BatchNormalization", "saved_var"): "computed beside the node",
    ("Dropout", "mask"): "had the type of the data before version 10",
    ("Split", "split"): "had the type of the data in version 1",
    ("Tile", "tiles"): "had the type of the data in version 1",
    ("Tile", "axis"): "had the type of the data in version 1",
}
# Operators in a domain of the specification that are not in it.
FOREIGN = {"SimplifiedLayerNormalization": "ONNX Runtime writes it in the default domain"} | dict.fromkeys(
    (
        "Affine",
        "ConstantFill",
        "Crop",
        "DynamicSlice",
        "GivenTensorFill",
        "ImageScaler",
        "ParametricSoftplus",
        "Scale",
        "ScaledTanh",
    ),
    "experimental in the first operator sets; the onnx package has no schema any more",
)
# Operators whose older forms are written by code of their own: the writer does not ask when their attributes came.
WRITTEN_BY_HAND = {
    "Constant": "is written as an initializer",
    "GroupNormalization": "has no older form",
    "Reshape": "allowzero: an extent of 0 was copied",
    "Resize": "was another operator",
    "RoiAlign": "coordinate_transformation_mode: has another default",
    "Scan": "ran over batches",
    "Split": "num_outputs: the outputs were counted",
    "Upsample": "deprecated",
}
# The first operator set of the default domain that models are written for.
OLDEST = 7
# Versions of operators that were experimental; the onnx package has later ones only.
EXPERIMENTAL = {("MeanVarianceNormalization", 1), ("ThresholdedRelu", 1)}

ROOT = Path(__file__).resolve().parent.parent


def operand(known: list[dict[str, str]], position: int, name: str) -> dict[str, str] | None:
    """The operand of the newest signature that an operand of some version is: by name, else by position."""
    for entry in known:
        if entry["name"].lower() == name.lower():
            return entry
    if position < len(known):
        return known[position]
    return known[-1] if known and known[-1]["presence"] == "variadic" else None


def allows(types: set[str], wanted: str) -> bool:
    """True if a type string of the specification is among the types of an operator."""
    return (
        wanted in types
        or ("map" in types and wanted.startswith("map("))
        or ("seq(map)" in types and wanted.startswith("seq(map("))
    )


def missing_types(schema: Any, row: dict[str, Any]) -> tuple[int, list[str]]:
    """The number of types of all operands of a schema, and what the operator does not allow."""
    count, missing = 0, []
    for kind, formals in (("inputs", schema.inputs), ("outputs", schema.outputs)):
        for position, formal in enumerate(formals):
            wanted = sorted(formal.types)
            count += len(wanted)
            if (schema.name, formal.name) in CONVERTED:
                continue
            entry = operand(row[kind], position, formal.name)
            what = f"{row['domain']}.{row['name']} {schema.since_version}: {kind[:-1]} {formal.name}"
            if entry is None:
                missing.append(f"{what} is not there")
                continue
            # A type that is no variable is the operand's type, spelled out.
            known = set(row["types"].get(entry["type"], [entry["type"]]))
            lacking = [name for name in wanted if not allows(known, name)]
            missing += [f"{what}: {name}" for name in lacking]
    return count, missing


def wrong_versions(history: list[Any], row: dict[str, Any]) -> tuple[int, list[str]]:
    """Attributes and inputs whose version is not the first that has them. `history`: the schemas, oldest first."""
    newest, first = history[-1], history[0].since_version
    expected: list[tuple[str, dict[str, Any] | None, int]] = []
    by_name = {entry["name"]: entry for entry in row["attributes"]}
    for name in newest.attributes:
        since = next(schema.since_version for schema in history if name in schema.attributes)
        expected.append((f"attribute {name}", by_name.get(name), since))
    for position, formal in enumerate(newest.inputs):
        since = next(schema.since_version for schema in history if position < len(schema.inputs))
        expected.append((f"input {formal.name}", operand(row["inputs"], position, formal.name), since))
    wrong = []
    for what, entry, since in expected:
        wanted = since if since > max(OLDEST, first) else None
        if entry is not None and entry.get("since") != wanted:
            wrong.append(f"{row['domain']}.{row['name']}: {what} is since {entry.get('since')}; expected {wanted}")
    return len(expected), wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", default=str(ROOT / ".build/release/apus"), help="the program")
    arguments = parser.parse_args()
    listing = subprocess.run([arguments.apus, "operators", "--json"], check=True, capture_output=True, text=True).stdout
    rows = {(row["domain"], row["name"]): row for row in json.loads(listing)["operators"]}
    checks, failures = 0, []
    histories: dict[tuple[str, str], list[Any]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if not schema.domain and schema.name not in WRITTEN_BY_HAND:
            histories.setdefault(("ai.onnx", schema.name), []).append(schema)
        row = rows.get((schema.domain or "ai.onnx", schema.name))
        checks += 1
        if row is None:
            failures.append(f"{schema.domain or 'ai.onnx'}.{schema.name} is missing")
        elif schema.since_version not in row["versions"]:
            failures.append(f"{row['domain']}.{row['name']}: version {schema.since_version} is missing")
        elif not schema.deprecated:
            count, missing = missing_types(schema, row)
            checks += count
            failures += missing
    for key, history in histories.items():
        if key in rows:
            count, wrong = wrong_versions(sorted(history, key=lambda schema: schema.since_version), rows[key])
            checks += count
            failures += wrong
    unknown = [
        f"{domain}.{name}: version {version} is unknown to onnx"
        for (domain, name), row in rows.items()
        if domain.startswith("ai.onnx") and name not in FOREIGN
        for version in row["versions"]
        if not is_version(domain, name, version)
    ]
    failures += unknown
    for failure in failures:
        print(f"FAILED {failure}")
    print(f"{checks + len(unknown) - len(failures)} passed, {len(failures)} failed, 0 skipped")
    return 1 if failures else 0


def is_version(domain: str, name: str, version: int) -> bool:
    domain = "" if domain == "ai.onnx" else domain
    if not domain and (name, version) in EXPERIMENTAL:
        return True
    try:
        return onnx.defs.get_schema(name, version, domain).since_version == version
    except onnx.defs.SchemaError:
        return False


if __name__ == "__main__":
    sys.exit(main())
