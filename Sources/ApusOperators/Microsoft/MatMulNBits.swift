// MatMulNBits: product with weights of 2, 4 or 8 bits, quantized by blocks along the columns of A.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits
// Versions: 1. Constant weights keep their few bits in memory. Computed in float32; accuracy_level 4 allows rows of A
// of 8 bits.

import ApusGraph
import ApusTensor

struct MatMulNBits: OperatorDefinition {
  let schema = OperatorSchema(
    "MatMulNBits", domain: "com.microsoft", versions: [1],
    inputs: [
      .required("A", "T1"), .required("B", "T2"), .required("scales", "T1"), .optional("zero_points", "T3"),
      .optional("g_idx", "T4"), .optional("bias", "T1"),
    ],
    outputs: [.required("Y", "T1")],
    attributes: [
      .required("K", .int), .required("N", .int), .int("accuracy_level", default: 0), .int("bits", default: 4),
      .required("block_size", .int), .int("weight_prepacked", default: 0),
    ],
    types: [
      "T1": .microsoftFloats, "T2": [.uint8], "T3": [.uint8] + .microsoftFloats, "T4": .int32,
    ],
    multiplyAdds: matMulProducts(a: 0))

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let n = try context.int("N")
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    let k = Dim(try context.int("K"))
    guard let last = shape.last, !last.isSurelyDifferent(from: k) else {
      throw .mismatch("A is \(shape.text); expected \(k) columns")
    }
    context.set(0, context.type(0), shape.dropLast() + [Dim(n)])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    guard try context.int("weight_prepacked") == 0 else {
      throw .unsupported("weight_prepacked is set: the weights are in a layout of one device")
    }
    let blocks = try QuantizedBlocks(
      n: context.int("N"), k: context.int("K"), bits: context.int("bits"), blockSize: context.int("block_size"))
    let level = try context.int("accuracy_level")
    return try prepareReal(
      context, packed: [2, 3], packing: context.packedWeights,
      float: { (context) throws(OperatorError) in try MatMulNBits.chosen(context, blocks, isShort: level == 4) },
      double: { (context) throws(OperatorError) in throw context.unsupportedType(.float64) })
  }

  /// `isShort`: rows of A may be rounded to 8 bits.
  private static func chosen(
    _ context: PrepareContext, _ blocks: QuantizedBlocks, isShort: Bool
  ) throws(OperatorError) -> PreparedKernel {
    let hasFloatZeros = context.optionalType(3).map { $0 != .uint8 } ?? false
    let isShort = isShort && BitsKernels.current.hasBytes
    return try ElementCandidate.choose(
      .weightsOfFewBits, type: context.type(0),
      [
        .plain {
          .planned { (plan) throws(OperatorError) in
            try MatMulNBits.step(plan, blocks, hasFloatZeros: hasFloatZeros)
          }
        },
        .vectors("panels", refusal: context.isPresent(4) ? "the columns are out of order" : nil) {
          () throws(OperatorError) in
          guard let packed = try PackedBits(context, blocks) else { return nil }
          return .planned(packing: packed.operands) { (plan) throws(OperatorError) in
            try MatMulNBits.checkBias(plan, blocks)
            let product = BitsProduct(m: plan.shape(0).elementCount / blocks.k, packed)
            let bias = plan.isPresent(5) ? 5 : nil
            return isShort ? product.shortStep(bias: bias) : product.step(bias: bias)
          }
        },
      ])
  }

  private static func checkBias(_ context: PlanContext, _ blocks: QuantizedBlocks) throws(OperatorError) {
    if context.isPresent(5), context.shape(5).elementCount != blocks.n {
      throw .mismatch("bias is \(context.shape(5)); expected [\(blocks.n)]")
    }
  }

  private static func step(_ context: PlanContext, _ blocks: QuantizedBlocks, hasFloatZeros: Bool) throws(OperatorError)
    -> Step
  {
    let rows = blocks.k == 0 ? 0 : context.shape(0).elementCount / blocks.k
    let hasGroups = context.isPresent(4)
    try blocks.check(
      weights: context.shape(1), scales: context.shape(2), zeroPoints: context.isPresent(3) ? context.shape(3) : nil,
      hasFloatZeros: hasFloatZeros)
    // Those behind the last column mean nothing.
    let filled = blocks.blocks * blocks.blockSize
    if hasGroups, context.shape(4).elementCount != blocks.k, context.shape(4).elementCount != filled {
      throw .mismatch("g_idx has \(context.shape(4).elementCount) elements; expected \(blocks.k) or \(filled)")
    }
    try checkBias(context, blocks)
    let hasZeros = context.isPresent(3)
    let product = DecodedProduct(m: rows, n: blocks.n, k: blocks.k)
    return product.step(bias: context.isPresent(5) ? 5 : nil) { run, row, target in
      let zeros: QuantizedBlocks.Zeros =
        !hasZeros ? .middle : hasFloatZeros ? .floats(run.input(3)) : .packed(run.input(3))
      let (weights, scales) = (run.input(1, as: UInt8.self), run.input(2, as: Float.self))
      if hasGroups {
        blocks.decode(run, row, weights: weights, scales: scales, zeros: zeros, groups: run.input(4), target)
      } else {
        blocks.decode(row, weights: weights, scales: scales, zeros: zeros, target)
      }
    }
  }
}

/// A matrix [n, k] of integers of 2, 4 or 8 bits; each row in blocks of `blockSize` with a scale and a zero point each.
struct QuantizedBlocks: Sendable {
  /// The zero points of all blocks.
  enum Zeros {
    /// Half the range.
    case middle
    /// As many bits as the weights, each row of blocks from a byte on.
    case packed(UnsafePointer<UInt8>)
    case floats(UnsafePointer<Float>)
  }

  let n: Int
  let k: Int
  let bits: Int
  let blockSize: Int
  /// Blocks of a row, the last perhaps not full.
  let blocks: Int

  init(n: Int, k: Int, bits: Int, blockSize: Int) throws(OperatorError) {
    guard [2, 4, 8].contains(bits) else { throw .unsupported("bits is \(bits); expected 2, 4 or 8") }
    guard n > 0, k > 0, n <= 1 << 31, k <= 1 << 31, blockSize >= 16, blockSize <= 1 << 30,
      blockSize & (blockSize - 1) == 0
    else {
      throw .invalid(
        "N is \(n), K \(k) and block_size \(blockSize); expected positive numbers up to 2^31, and a power "
          + "of two from 16 on")
    }
    (self.n, self.k, self.bits, self.blockSize) = (n, k, bits, blockSize)
    blocks = (k - 1) / blockSize + 1
  }

  /// The same for extents that are known to be possible.
  init(rows: Int, columns: Int, bits: Int, size: Int) {
    (n, k, self.bits, blockSize) = (rows, columns, bits, size)
    blocks = columns == 0 ? 0 : (columns - 1) / size + 1
  }

  private var blockBytes: Int { blockSize * bits / 8 }
  /// Words of 32 bits of a block; 0 if it is no whole number of them.
  var blockWords: Int { blockSize * bits % 32 == 0 ? blockSize * bits / 32 : 0 }
  /// Bytes of the packed zero points of a row.
  var zeroBytes: Int { (blocks * bits + 7) / 8 }

  /// Throws where a tensor has not as many elements as it must.
  func check(weights: Shape, scales: Shape, zeroPoints: Shape?, hasFloatZeros: Bool) throws(OperatorError) {
    var counts = [("B", weights.elementCount, n * blocks * blockBytes), ("scales", scales.elementCount, n * blocks)]
    if let zeroPoints {
      counts.append(("zero_points", zeroPoints.elementCount, n * (hasFloatZeros ? blocks : zeroBytes)))
    }
    for (name, found, expected) in counts where found != expected {
      throw .mismatch("\(name) has \(found) elements; expected \(expected) for \(n) rows of \(blocks) blocks")
    }
  }

  @inline(__always)
  private func zero(_ zeros: Zeros, row: Int, block: Int) -> Float {
    switch zeros {
    case .middle: Float(1 << (bits &- 1))
    case .packed(let codes): Float(PackedElements.load(codes + row &* zeroBytes, bits: bits, at: block))
    case .floats(let values): values[row &* blocks &+ block]
    }
  }

  /// Writes one row.
  func decode(
    _ row: Int, weights: UnsafePointer<UInt8>, scales: UnsafePointer<Float>, zeros: Zeros,
    _ target: UnsafeMutablePointer<Float>
  ) {
    for block in 0..<blocks {
      let scale = scales[row &* blocks &+ block]
      let offset = zero(zeros, row: row, block: block)
      let source = weights + (row &* blocks &+ block) &* blockBytes
      let first = block &* blockSize
      decodeBlock(source, target + first, min(blockSize, k &- first), scale, offset)
    }
  }

  /// Writes `count` elements of one block.
  func decodeBlock(
    _ source: UnsafePointer<UInt8>, _ target: UnsafeMutablePointer<Float>, _ count: Int, _ scale: Float, _ offset: Float
  ) {
    decodeCodes(source, bits: bits, target, count, scale, offset)
  }

  /// Writes one row whose columns belong to the blocks that `groups` says.
  func decode(
    _ run: RunContext, _ row: Int, weights: UnsafePointer<UInt8>, scales: UnsafePointer<Float>, zeros: Zeros,
    groups: UnsafePointer<Int32>, _ target: UnsafeMutablePointer<Float>
  ) {
    let codes = weights + row &* blocks &* blockBytes
    for index in 0..<k {
      let group = Int(groups[index])
      guard group >= 0, group < blocks else {
        run.fail("g_idx[\(index)] is \(group); expected 0 to \(blocks - 1)")
        return
      }
      let code = bits == 8 ? codes[index] : PackedElements.load(codes, bits: bits, at: index)
      target[index] = (Float(code) - zero(zeros, row: row, block: group)) * scales[row &* blocks &+ group]
    }
  }
}

/// Writes (code - offset) * scale for `count` codes of 2, 4 or 8 bits, the first in the lowest bits of a byte.
func decodeCodes(
  _ source: UnsafePointer<UInt8>, bits: Int, _ target: UnsafeMutablePointer<Float>, _ count: Int, _ scale: Float,
  _ offset: Float
) {
  // As Int32, from which vectors have a conversion.
  switch bits {
  case 8:
    for index in 0..<count { target[index] = (Float(Int32(source[index])) - offset) * scale }
  case 4:
    for pair in 0..<count / 2 {
      let byte = Int32(source[pair])
      target[2 &* pair] = (Float(byte & 15) - offset) * scale
      target[2 &* pair &+ 1] = (Float(byte >> 4) - offset) * scale
    }
    if count & 1 == 1 { target[count &- 1] = (Float(source[count / 2] & 15) - offset) * scale }
  default:
    for index in 0..<count {
      target[index] = (Float(source[index >> 2] >> UInt8((index & 3) &* 2) & 3) - offset) * scale
    }
  }
}
