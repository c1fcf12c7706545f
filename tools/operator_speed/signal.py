"""Fourier transforms, windows, and filters of mel bands."""

from __future__ import annotations

from functools import partial

from operator_speed.case import Case, draw, f32, ints, one, scalar

CASE = partial(one, family="signal", tolerance=1e-3)


def cases() -> list[Case]:
    found = []
    for length, rows in [(512, 64), (400, 100), (1024, 1), (4096, 4)]:
        inputs = [f32(rows, length, 1), None, ints(1)[0]]
        found.append(CASE("DFT", f"{rows} of {length}", inputs))
        found.append(CASE("DFT", f"one-sided {rows} of {length}", inputs, onesided=1))
    found += [
        CASE("DFT", "complex 16 of 512", [f32(16, 512, 2), None, ints(1)[0]]),
        CASE("STFT", "16000 by 160 of 400", [f32(1, 16000, 1), scalar("i64", 160), None, scalar("i64", 400)]),
        CASE("HannWindow", "400", [draw("i64", low=400, high=401)]),
        CASE(
            "MelWeightMatrix",
            "80 of 400",
            [
                draw("i64", low=80, high=81),
                draw("i64", low=400, high=401),
                draw("i64", low=16000, high=16001),
                scalar("f32", 0),
                scalar("f32", 8000),
            ],
        ),
    ]
    return found
