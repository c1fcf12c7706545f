// MatMulBnb4: product with weights of 4 bits that stand for the numbers of a table (FP4 or NF4), scaled by blocks.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulBnb4
// Versions: 1. The tables are those of QLoRA, https://arxiv.org/abs/2305.14314.

import ApusGraph
import ApusTensor

struct MatMulBnb4: OperatorDefinition {
  let schema = OperatorSchema(
    "MatMulBnb4", domain: "com.microsoft", versions: [1],
    inputs: [.required("A", "T1"), .required("B", "T2"), .required("absmax", "T1")],
    outputs: [.required("Y", "T1")],
    attributes: [
      .required("K", .int), .required("N", .int), .required("block_size", .int), .required("quant_type", .int),
      .int("training_mode", default: 0), .int("transB", default: 1),
    ],
    types: ["T1": .microsoftFloats, "T2": [.uint8]])

  private static let magnitudes: [Float] = [0, 0.005_208_333_5, 0.666_666_7, 1, 0.333_333_34, 0.5, 0.166_666_67, 0.25]
  private static let fp4 = NumberTable(magnitudes + magnitudes.map { -$0 })
  private static let nf4 = NumberTable([
    -1, -0.696_192_8, -0.525_073_05, -0.394_917_5, -0.284_441_38, -0.184_773_43, -0.091_050_036, 0, 0.079_580_3,
    0.160_930_2,
    0.246_112_3, 0.337_915_24, 0.440_709_83, 0.562_617, 0.722_956_84, 1,
  ])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard try context.bool("transB") else { throw .unsupported("transB is 0; only weights [N, K] are supported") }
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    let k = Dim(try context.int("K"))
    guard let last = shape.last, !last.isSurelyDifferent(from: k) else {
      throw .mismatch("A is \(shape.text); expected \(k) columns")
    }
    context.set(0, context.type(0), shape.dropLast() + [Dim(try context.int("N"))])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (n, k, size) = (try context.int("N"), try context.int("K"), try context.int("block_size"))
    guard n > 0, k > 0, n <= 1 << 31, k <= 1 << 31, size > 0 else {
      throw .invalid("N is \(n), K \(k) and block_size \(size); expected positive numbers")
    }
    let kind = try context.int("quant_type")
    guard kind == 0 || kind == 1 else { throw .invalid("quant_type is \(kind); expected 0 (FP4) or 1 (NF4)") }
    let table = kind == 0 ? MatMulBnb4.fp4 : MatMulBnb4.nf4
    return try prepareReal(
      context, packed: [2], packing: context.packedWeights,
      float: { (context) throws(OperatorError) in
        try ElementCandidate.choose(
          .weightsOfFewBits, type: context.type(0),
          [
            .plain { MatMulBnb4.decoded(n: n, k: k, size: size, table) },
            .vectors("panels", refusal: k % size == 0 ? nil : "a block belongs to two rows of weights") {
              () throws(OperatorError) in
              let blocks = QuantizedBlocks(rows: n, columns: k, bits: 4, size: size)
              guard let packed = try PackedBits(context, blocks, table: table) else { return nil }
              return .planned(packing: packed.operands) { (plan) throws(OperatorError) in
                BitsProduct(m: plan.shape(0).elementCount / k, packed).step(bias: nil)
              }
            },
          ])
      },
      double: { (context) throws(OperatorError) in throw context.unsupportedType(.float64) })
  }

  /// Weights that are decoded row by row, for the blocks of which only the order of all of them counts.
  private static func decoded(n: Int, k: Int, size: Int, _ table: NumberTable) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let (codes, scales) = (plan.shape(1).elementCount, plan.shape(2).elementCount)
      guard codes == (n * k + 1) / 2, scales == (n * k - 1) / size + 1 else {
        throw .mismatch("B has \(codes) bytes and absmax \(scales) elements, which do not fit \(n * k) weights")
      }
      return DecodedProduct(m: plan.shape(0).elementCount / k, n: n, k: k).step(bias: nil) { run, row, target in
        let (codes, scales) = (run.input(1, as: UInt8.self), run.input(2, as: Float.self))
        for column in 0..<k {
          // The first of two weights is in the high bits.
          let index = row &* k &+ column
          let code = Int(index & 1 == 0 ? codes[index >> 1] >> 4 : codes[index >> 1] & 15)
          target[column] = table[code] * scales[index / size]
        }
      }
    }
  }
}
