"""Matrix products: of floats, of whole numbers, of weights in blocks; sums over named indices."""

from __future__ import annotations

from functools import partial

from operator_speed.case import Case, draw, f32, fixed, one, weight

MICROSOFT = "com.microsoft"
CASE = partial(one, family="matrix")
# Rows, depth, columns.
SIZES = [
    (1, 768, 768),
    (1, 768, 3072),
    (1, 2048, 1000),
    (1, 768, 50257),
    (8, 512, 512),
    (16, 96, 96),
    (128, 768, 768),
    (128, 768, 3072),
    (128, 3072, 768),
    (512, 512, 512),
    (3136, 96, 384),
    (784, 192, 192),
]
INTEGER_SIZES = [(1, 768, 3072), (128, 768, 768), (128, 768, 3072), (512, 512, 512), (3136, 96, 384)]


def text(*numbers: int) -> str:
    return "x".join(map(str, numbers))


def products() -> list[Case]:
    found = [CASE("MatMul", text(m, k, n), [f32(1, m, k), weight(k, n)]) for m, k, n in SIZES]
    for m, k, n in [(1, 768, 3072), (128, 768, 768), (512, 512, 512)]:
        halves = [draw("f16", 1, m, k), fixed("f16", k, n, low=-0.05, high=0.05)]
        found.append(CASE("MatMul", text(m, k, n), halves, type="f16"))
    for batch, m, k, n in [(12, 128, 64, 128), (12, 128, 128, 64), (64, 49, 32, 49), (12, 1, 64, 128), (256, 8, 8, 8)]:
        found.append(CASE("MatMul", f"batch {text(batch, m, k, n)}", [f32(batch, m, k), f32(batch, k, n)]))
    found += [
        CASE("MatMul", "both fed 512x512x512", [f32(512, 512), f32(512, 512)]),
        CASE("MatMul", "both fed 128x768x768", [f32(128, 768), f32(768, 768)]),
        CASE("MatMul", "vector 1024x1024", [f32(1024), f32(1024, 1024)]),
        CASE("MatMul", "64x64x64", [draw("f64", 64, 64), draw("f64", 64, 64)], type="f64"),
        CASE("MatMul", "256x256x256", [draw("f64", 256, 256), draw("f64", 256, 256)], type="f64"),
    ]
    for m, k, n in [(1, 2048, 1000), (16, 96, 96), (128, 768, 768), (8, 4096, 4096)]:
        inputs = [f32(m, k), weight(n, k), weight(n)]
        found.append(CASE("Gemm", f"transB {text(m, k, n)}", inputs, transB=1))
    for m, k, n in [(32, 256, 64), (512, 512, 512)]:
        found.append(CASE("Gemm", f"transA {text(m, k, n)}", [f32(k, m), f32(k, n)], transA=1))
        inputs = [f32(m, k), f32(k, n)]
        found.append(CASE("FusedMatMul", text(m, k, n), inputs, domain=MICROSOFT, alpha=0.125))
    inputs = [f32(12, 128, 64), f32(12, 128, 64)]
    found.append(CASE("FusedMatMul", "transB 12x128x64x128", inputs, domain=MICROSOFT, transB=1, alpha=0.125))
    for m, k, n in [(1, 2048, 1000), (128, 768, 768)]:
        inputs = [f32(m, k), weight(k, n), weight(n)]
        found.append(CASE("FusedGemm", text(m, k, n), inputs, domain=MICROSOFT, activation="Relu"))
    return found


def einsums() -> list[Case]:
    return [
        CASE("Einsum", "bhid,bhjd->bhij", [f32(1, 12, 128, 64), f32(1, 12, 128, 64)], equation="bhid,bhjd->bhij"),
        CASE("Einsum", "bij,jk->bik", [f32(1, 128, 768), f32(768, 768)], equation="bij,jk->bik"),
        CASE("Einsum", "ij,ij->i", [f32(512, 512), f32(512, 512)], equation="ij,ij->i"),
        CASE("Einsum", "bchw,bkc->bkhw", [f32(1, 64, 28, 28), f32(1, 32, 64)], equation="bchw,bkc->bkhw"),
        CASE("Einsum", "ij->ji", [f32(512, 512)], equation="ij->ji"),
        CASE("Det", "64 of 4x4", [f32(64, 4, 4)]),
        CASE("Inverse", "64 of 4x4", [f32(64, 4, 4)], domain=MICROSOFT, tolerance=1e-2),
    ]


def integers() -> list[Case]:
    found = []
    for m, k, n in INTEGER_SIZES:
        zero = fixed("u8", low=120, high=130)
        inputs = [draw("u8", 1, m, k), fixed("s8", k, n, low=-60, high=60), zero, fixed("s8", low=0, high=1)]
        found.append(CASE("MatMulInteger", text(m, k, n), inputs, type="u8"))
        scales = [fixed("f32", low=0.02, high=0.03), zero]
        weights = [fixed("s8", k, n, low=-60, high=60), fixed("f32", low=0.001, high=0.002), fixed("s8", low=0, high=1)]
        results = [fixed("f32", low=0.05, high=0.06), zero]
        inputs = [draw("u8", 1, m, k), *scales, *weights, *results]
        found.append(CASE("QLinearMatMul", text(m, k, n), inputs, type="u8", tolerance=0.01))
        inputs = [
            f32(m, k),
            fixed("s8", k, n, low=-60, high=60),
            fixed("f32", n, low=0.001, high=0.002),
            fixed("s8", n, low=0, high=1),
        ]
        found.append(CASE("DynamicQuantizeMatMul", text(m, k, n), inputs, type="u8", domain=MICROSOFT, tolerance=0.02))
    for m, k, n in [(1, 768, 3072), (128, 768, 768)]:
        scale = fixed("f32", low=0.02, high=0.03)
        inputs = [draw("s8", m, k), fixed("s8", k, n, low=-60, high=60)]
        found.append(CASE("MatMulInteger", text(m, k, n), inputs, type="s8"))
        inputs = [
            draw("u8", m, k),
            fixed("s8", k, n, low=-60, high=60),
            scale,
            fixed("f32", low=0.001, high=0.002),
            fixed("u8", low=120, high=130),
            fixed("s8", low=0, high=1),
        ]
        found.append(CASE("MatMulIntegerToFloat", text(m, k, n), inputs, type="u8", domain=MICROSOFT))
        inputs = [
            draw("u8", m, k),
            scale,
            fixed("u8", low=120, high=130),
            fixed("s8", n, k, low=-60, high=60),
            fixed("f32", low=0.001, high=0.002),
            fixed("s8", low=0, high=1),
            fixed("i32", n),
            fixed("f32", low=0.05, high=0.06),
            fixed("u8", low=120, high=130),
        ]
        found.append(CASE("QGemm", text(m, k, n), inputs, type="u8", domain=MICROSOFT, transB=1, tolerance=0.01))
    return found


def blocks() -> list[Case]:
    """Weights of four or eight bits in blocks of 32 or 128, each with a scale and perhaps a zero point."""
    found = []
    for m, k, n in [(1, 768, 3072), (1, 4096, 4096), (16, 768, 3072), (128, 768, 3072)]:
        for bits, block, zeros in [(4, 32, False), (4, 32, True), (4, 128, False), (8, 32, False)]:
            if (block == 128 or zeros or bits == 8) and k != 768:
                continue
            count = k // block
            inputs = [
                f32(1, m, k),
                fixed("u8", n, count, block * bits // 8),
                fixed("f32", n * count, low=0.01, high=0.02),
            ]
            inputs += [fixed("u8", n * ((count * bits + 7) // 8))] if zeros else []
            size = f"{bits} bit block {block}{' zeros' if zeros else ''} {text(m, k, n)}"
            found.append(
                CASE(
                    "MatMulNBits",
                    size,
                    inputs,
                    type="u4" if bits == 4 else "u8",
                    domain=MICROSOFT,
                    K=k,
                    N=n,
                    bits=bits,
                    block_size=block,
                    tolerance=1e-2,
                )
            )
    inputs = [f32(1, 1, 768), fixed("u8", 3072, 24, 16), fixed("f32", 3072 * 24, low=0.01, high=0.02)]
    found.append(
        CASE(
            "MatMulNBits",
            "4 bit accuracy 4 1x768x3072",
            inputs,
            type="u4",
            domain=MICROSOFT,
            K=768,
            N=3072,
            bits=4,
            block_size=32,
            accuracy_level=4,
            tolerance=2e-2,
        )
    )
    inputs = [f32(1, 128, 768), fixed("u8", 3072, 24, 16), fixed("f32", 3072 * 24, low=0.01, high=0.02)]
    found.append(
        CASE(
            "MatMulNBits",
            "4 bit accuracy 4 128x768x3072",
            inputs,
            type="u4",
            domain=MICROSOFT,
            K=768,
            N=3072,
            bits=4,
            block_size=32,
            accuracy_level=4,
            tolerance=2e-2,
        )
    )
    inputs = [f32(1, 768), fixed("u8", 768 * 768 // 2), fixed("f32", 768 * 768 // 64, low=0.01, high=0.02)]
    found.append(
        CASE(
            "MatMulBnb4",
            "1x768x768",
            inputs,
            type="u4",
            domain=MICROSOFT,
            K=768,
            N=768,
            block_size=64,
            quant_type=1,
            tolerance=1e-2,
        )
    )
    for count, rows, width in [(128, 32000, 768), (1, 32000, 4096)]:
        inputs = [
            fixed("u8", rows, width // 2),
            draw("i64", 1, count, low=0, high=rows),
            fixed("f32", rows, width // 32, low=0.01, high=0.02),
        ]
        found.append(
            CASE(
                "GatherBlockQuantized",
                f"4 bit {count} of {rows}x{width}",
                inputs,
                type="u4",
                domain=MICROSOFT,
                block_size=32,
                bits=4,
                gather_axis=0,
                quantize_axis=1,
            )
        )
    return found


def experts() -> list[Case]:
    found = []
    for rows, hidden, inner, experts in [(1, 256, 512, 8), (32, 256, 512, 8)]:
        inputs = [
            f32(rows, hidden),
            f32(rows, experts),
            fixed("u8", experts, inner, hidden // 2),
            fixed("f32", experts, inner, low=0.01, high=0.02),
            None,
            fixed("u8", experts, hidden, inner // 2),
            fixed("f32", experts, hidden, low=0.01, high=0.02),
        ]
        found.append(
            CASE(
                "QMoE",
                f"{rows} rows {experts} experts",
                inputs,
                type="u4",
                domain=MICROSOFT,
                k=2,
                activation_type="relu",
                expert_weight_bits=4,
                normalize_routing_weights=1,
                tolerance=2e-2,
            )
        )
        inputs = [
            f32(rows, hidden),
            f32(rows, experts),
            weight(experts, inner, hidden),
            None,
            weight(experts, hidden, inner),
        ]
        found.append(
            CASE(
                "MoE",
                f"{rows} rows {experts} experts",
                inputs,
                domain=MICROSOFT,
                k=2,
                activation_type="relu",
                normalize_routing_weights=1,
            )
        )
    return found


def cases() -> list[Case]:
    return products() + einsums() + integers() + blocks() + experts()
