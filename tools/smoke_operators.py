#!/usr/bin/env python3
"""Loads and runs every operator in every version on every type that its schema allows.

One combination is an operator of onnx, a version of it, a type variable of that version's schema and a type that the
variable may stand for. The generators of operator_cases make small models of one node, each of which stands for all the
combinations that are found in its declared types. Where the reference evaluator, NumPy or a rule computes the model,
`apus conformance` compares with it; elsewhere the model must load and run, with outputs of the declared types. Ends
with the line
`N passed, N failed, N skipped`, one a combination. Run it with the python that `tools/python-env test` prints.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import onnx
import onnx.shape_inference

from differential import run_apus
from operator_cases.case import GENERATORS, Case, NotApplicable

ROOT = Path(__file__).resolve().parent.parent
# Draws until one has the type that is looked for; and then until one is computed.
ATTEMPTS, COMPUTED_ATTEMPTS = 60, 8
# What is not run, by domain, operator and, if only that, variable and type, with the reason.
EXCEPTIONS: dict[tuple[str, ...], str] = {
    ("", "Col2Im", "T", "tensor(string)"): "strings cannot be added",
}

Combination = tuple[str, int, str, str]  # operator with its domain, version, variable, type


@dataclass
class Written:
    """What the models of one operator stand for."""

    # By combination the name of its model, or nothing where no draw has that type.
    models: dict[Combination, str] = field(default_factory=dict)
    compared: set[str] = field(default_factory=set)
    reasons: dict[Combination, str] = field(default_factory=dict)
    summaries: dict[str, str] = field(default_factory=dict)


def label(schema: Any) -> str:
    return f"{schema.domain}.{schema.name}" if schema.domain else schema.name


def combinations(schema: Any) -> Iterator[Combination]:
    """All of a version. A variable that no input or output has stands for nothing."""
    used = {formal.type_str for formal in [*schema.inputs, *schema.outputs]}
    for constraint in schema.type_constraints:
        if constraint.type_param_str not in used:
            continue
        for text in constraint.allowed_type_strs:
            yield label(schema), schema.since_version, constraint.type_param_str, text


def is_exception(combination: Combination, schema: Any) -> bool:
    key = (schema.domain, schema.name)
    return key in EXCEPTIONS or (*key, *combination[2:]) in EXCEPTIONS


def realized(case: Case) -> set[tuple[str, str]]:
    """The variables and types that the node under test is declared with."""
    from operator_cases import values as forms

    types = {info.name: forms.type_text(info.type) for info in [*case.inputs, *case.outputs]}
    types |= {
        tensor.name: f"tensor({onnx.TensorProto.DataType.Name(tensor.data_type).lower()})"
        for tensor in case.initializers
    }
    if len(case.nodes) > 1:
        inner = onnx.shape_inference.infer_shapes(case.model()).graph.value_info
        types |= {info.name: forms.type_text(info.type) for info in inner}
    found = set()
    for formals, names in ((case.schema.inputs, case.under_test.input), (case.schema.outputs, case.under_test.output)):
        for index, name in enumerate(names):
            if name in types and formals:
                found.add((formals[min(index, len(formals) - 1)].type_str, types[name]))
    return found


def guidance(schema: Any, variable: str, text: str, attempt: int) -> dict[str, Any]:
    """What to force so that the variable becomes that type: the type itself, or its element type wherever it is
    allowed."""
    from operator_cases import values as forms

    if text in forms.ELEMENT_TYPES and attempt % 4 < 3:
        return {variable: forms.ELEMENT_TYPES[text]}
    element = next((number for name, number in forms.ELEMENT_TYPES.items() if name in text), None)
    if attempt % 3 == 0:
        return {variable: text} if text not in forms.ELEMENT_TYPES else {}
    if attempt % 3 == 1 or element is None:
        return {}
    plain = next(name for name, number in forms.ELEMENT_TYPES.items() if number == element)
    return {
        constraint.type_param_str: element
        for constraint in schema.type_constraints
        if plain in constraint.allowed_type_strs
    }


def draws(schema: Any, variable: str, text: str, seed: int) -> Iterator[Case]:
    """Cases in which the variable is that type, those without empty tensors first."""
    import numpy as np

    from operator_cases import draw

    key = zlib.crc32(f"{label(schema)}-{schema.since_version}-{variable}-{text}".encode())
    for attempt in range(ATTEMPTS):
        try:
            case = draw(
                np.random.default_rng([seed, key, attempt]),
                schema.name,
                schema.domain,
                version=schema.since_version,
                forced=guidance(schema, variable, text, attempt),
                max_rank=4,
                max_extent=7,
            )
        except NotApplicable:
            continue
        if case.under_test is None or (variable, text) not in realized(case):
            continue
        arrays = [value for value in case.values_by_name.values() if isinstance(value, np.ndarray)]
        if attempt > ATTEMPTS // 2 or all(array.size for array in arrays):
            yield case


def write(case: Case, folder: Path) -> bool:
    """Writes a case; true if there are values to compare with: of the reference evaluator, of NumPy, or of a rule that
    stands above them."""
    from operator_cases import oracles
    from operator_cases.judgement import judge

    shutil.rmtree(folder, ignore_errors=True)  # an earlier draw
    results = None
    try:
        judgement = judge(case, oracles.run_all(case, ("numpy", "reference"))[0])
        if judgement.kind != "UNEXPLAINED":
            results = next(iter(judgement.expected.values()))
    except oracles.Refusal:
        pass
    case.compares_values = case.compares_values and results is not None
    case.write(folder, results)
    return case.compares_values


def write_operator(job: tuple[str, str, Path, int]) -> Written:
    """The models of one operator in all its versions."""
    import numpy as np

    np.seterr(all="ignore")
    domain, op, folder, seed = job
    result = Written()
    for schema in onnx.defs.get_all_schemas_with_history():
        if (schema.domain, schema.name) != (domain, op) or schema.deprecated:
            continue
        for combination in combinations(schema):
            if combination in result.models or is_exception(combination, schema):
                continue
            name = f"{label(schema)}-{schema.since_version}-{len(result.summaries)}"
            try:
                write_one(result, schema, combination, folder / name, seed)
            except Exception as error:  # a generator at fault fails its combination
                result.reasons[combination] = f"GENERATOR {type(error).__name__}: {error}"
    return result


def write_one(result: Written, schema: Any, combination: Combination, folder: Path, seed: int) -> None:
    """A model in which the combination is found: one that has values to compare with, else the first draw."""
    *head, variable, text = combination
    chosen = None
    for case in itertools.islice(draws(schema, variable, text, seed), COMPUTED_ATTEMPTS):
        if write(case, folder):
            chosen = case
            result.compared.add(folder.name)
            break
        chosen = chosen or case
    if chosen is None:
        result.reasons[combination] = "no draw of its generator has this type"
        return
    if folder.name not in result.compared:
        write(chosen, folder)
    result.summaries[folder.name] = chosen.summary()
    known = set(combinations(schema))
    for pair in realized(chosen):
        if (entry := (*head, *pair)) in known:
            result.models.setdefault(entry, folder.name)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("operators", nargs="*", help="names of operators (default: all)")
    parser.add_argument("--apus", default=str(ROOT / ".build/release/apus"), help="the program to test")
    parser.add_argument("--keep", type=Path, help="write the models here and leave them")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes that write models (default: 2)")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    schemas = [
        schema
        for schema in onnx.defs.get_all_schemas_with_history()
        if not schema.deprecated and (not arguments.operators or schema.name in arguments.operators)
    ]
    total = {entry: schema for schema in schemas for entry in combinations(schema)}
    operators = sorted({(schema.domain, schema.name) for schema in schemas})
    with tempfile.TemporaryDirectory(prefix="apus-smoke-") as temporary:
        folder = arguments.keep or Path(temporary)
        jobs = [
            (domain, op, folder / (domain or "ai.onnx") / op, arguments.seed)
            for domain, op in operators
            if (domain, op) in GENERATORS
        ]
        for *_, place, _ in jobs:
            place.mkdir(parents=True, exist_ok=True)
        with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
            written = pool.map(write_operator, jobs, chunksize=1)
        found = run_apus(arguments.apus, folder, [])
    return report(total, written, found)


def report(total: dict[Combination, Any], written: list[Written], found: dict[str, str]) -> int:
    models = {entry: name for part in written for entry, name in part.models.items()}
    reasons = {entry: text for part in written for entry, text in part.reasons.items()}
    summaries = {name: text for part in written for name, text in part.summaries.items()}
    compared = {name for part in written for name in part.compared}
    skipped, failures = 0, {}
    for entry, schema in total.items():
        if is_exception(entry, schema):
            skipped += 1
        elif entry not in models:
            failures[entry] = reasons.get(entry, "there is no generator of the operator")
        elif message := found.get(models[entry], "apus did not report the model"):
            failures[entry] = f"{message}\n      {models[entry]}: {summaries[models[entry]]}"
    together: dict[tuple[str, str], list[str]] = {}
    for (op, version, variable, text), message in failures.items():
        together.setdefault((op, message), []).append(f"{version} {variable} = {text}")
    for (op, message), entries in together.items():
        rest = f" and {len(entries) - 3} more" if len(entries) > 3 else ""
        print(f"FAILED {op} {', '.join(entries[:3])}{rest}: {message[:1000]}")
    for key, reason in EXCEPTIONS.items():
        print(f"not run: {' '.join(filter(None, key))}: {reason}")
    print(f"{len(summaries)} models, {len(compared)} of them compared by value")
    print(f"{len(total) - len(failures) - skipped} passed, {len(failures)} failed, {skipped} skipped")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
