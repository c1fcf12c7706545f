// GatherBlockQuantized: rows of a quantized table, dequantized.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.GatherBlockQuantized
// Versions: 1.

import ApusGraph
import ApusTensor

struct GatherBlockQuantized: OperatorDefinition {
  let schema = OperatorSchema(
    "GatherBlockQuantized", domain: "com.microsoft", versions: [1],
    inputs: [
      .required("data", "T1"), .required("indices", "Tind"), .required("scales", "T2"), .optional("zero_points", "T1"),
    ],
    outputs: [.required("output", "T2")],
    attributes: [
      .int("bits", default: 4), .int("block_size", default: 128), .int("gather_axis", default: 0),
      .int("quantize_axis", default: 1),
    ],
    types: [
      "T1": [.int4, .uint4, .uint8, .float4e2m1] + .float8, "T2": .microsoftFloats, "Tind": .indices,
    ])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard var data = context.shape(0), let indices = context.shape(1) else {
      return context.set(0, context.type(2), nil)
    }
    let (gatherAxis, _) = try GatherBlockQuantized.axes(context, rank: data.count)
    if context.type(0) == .uint8 {
      let bits = try context.int("bits")
      guard [2, 4, 8].contains(bits) else { throw .unsupported("bits is \(bits); expected 2, 4 or 8") }
      data[data.count - 1] = data[data.count - 1] * Dim(8 / bits)
    }
    context.set(0, context.type(2), data[..<gatherAxis] + indices + data[(gatherAxis + 1)...])
  }

  private static func axes(_ context: some OperatorContext, rank: Int) throws(OperatorError) -> (
    gather: Int, quantize: Int
  ) {
    let gather = try resolveAxis(context.int("gather_axis"), rank: rank, name: "gather_axis")
    let quantize = try resolveAxis(context.int("quantize_axis"), rank: rank, name: "quantize_axis")
    guard gather != quantize else { throw .invalid("gather_axis and quantize_axis are the same") }
    return (gather, quantize)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let bits = type == .uint8 ? try context.int("bits") : type.bits
    let blockSize = try context.int("block_size")
    guard blockSize >= 1 else { throw .invalid("block_size is \(blockSize); expected a positive number") }
    guard let codec = FloatCodec(try context.type(2)), let load = QuantizedTable.loader(type, bits: bits),
      let reader = IndexReader(try context.type(1))
    else { throw context.unsupportedType(type) }
    return .planned { (plan) throws(OperatorError) in
      let axes = try GatherBlockQuantized.axes(context, rank: plan.shape(0).rank)
      return try QuantizedTable(
        plan, gatherAxis: axes.gather, axis: axes.quantize, blockSize: blockSize, bits: bits, type: type, load: load,
        codec: codec,
        reader: reader
      ).step
    }
  }
}

/// A table [outer, rows, inner], quantized by blocks of one axis, of which some rows are wanted.
private struct QuantizedTable: Sendable {
  typealias Loader =
    @Sendable (
      _ base: UnsafeRawPointer, _ start: Int, _ target: UnsafeMutablePointer<Float>, _ count: Int
    ) -> Void

  private let shape: Shape
  private let scaleShape: Shape
  private let gatherAxis: Int
  private let axis: Int
  private let blockSize: Int
  private let indexCount: Int
  private let load: Loader
  private let codec: FloatCodec
  private let reader: IndexReader
  /// 0 where there are none, and no middle of the range either.
  private let middle: Float
  private let hasZeros: Bool
  /// Elements from one row of packed zero points to the next, in units of the zero points.
  private let zeroRow: Int
  /// Bits of codes without a sign whose blocks begin at bytes and lie along lines, for results of float32; 0: others.
  private let directBits: Int

  init(
    _ context: PlanContext, gatherAxis: Int, axis: Int, blockSize: Int, bits: Int, type: DataType,
    load: @escaping Loader,
    codec: FloatCodec, reader: IndexReader
  ) throws(OperatorError) {
    var shape = context.shape(0)
    let perByte = type == .uint8 ? 8 / bits : 1
    let last = shape.rank - 1
    shape[last] *= perByte
    if perByte > 1 && axis != last { throw .unsupported("packed data is quantized along its last axis only") }
    var expected = shape
    expected[axis] = shape[axis] == 0 ? 0 : (shape[axis] - 1) / blockSize + 1
    scaleShape = context.shape(2)
    guard scaleShape == expected else { throw .mismatch("scales is \(scaleShape); expected \(expected)") }
    hasZeros = context.isPresent(3)
    var zeroShape = expected
    zeroShape[last] = (zeroShape[last] - 1) / perByte + 1
    if hasZeros && context.shape(3) != zeroShape {
      throw .mismatch("zero_points is \(context.shape(3)); expected \(zeroShape)")
    }
    zeroRow = zeroShape[last] * perByte
    middle = type == .uint8 ? Float(1 << (bits - 1)) : 0
    indexCount = context.shape(1).elementCount
    (self.shape, self.gatherAxis, self.axis, self.blockSize) = (shape, gatherAxis, axis, blockSize)
    (self.load, self.codec, self.reader) = (load, codec, reader)
    let isDirect =
      axis == last && (type == .uint8 || type == .uint4) && context.inputs[2]?.dataType == .float32
      && (blockSize >= shape[last] || blockSize * bits % 8 == 0) && shape[last] * bits % 8 == 0
    directBits = isDirect ? bits : 0
  }

  /// The codes of a type as numbers. Bytes hold elements of `bits` bits.
  static func loader(_ type: DataType, bits: Int) -> Loader? {
    guard type == .uint8, bits < 8 else {
      guard let load = Lane.float32.load(type) else { return nil }
      return { base, start, target, count in load(base, start, target, count) }
    }
    return { base, start, target, count in
      for index in 0..<count { target[index] = Float(PackedElements.load(base, bits: bits, at: start &+ index)) }
    }
  }

  /// Rows of the result along its last axis, in parts of whole bytes.
  var step: Step {
    let columns = shape.last ?? 1
    let lines = shape.count(of: 0..<gatherAxis) * indexCount * shape.count(of: gatherAxis + 1..<shape.rank)
    let inner = shape.count(of: gatherAxis + 1..<shape.rank)
    let rows = inner == 0 ? 0 : lines / max(inner, 1)
    let partition = Partition(rows, of: .medium * inner)
    return .parallel(parts: columns == 0 ? 0 : partition.parts) { run, part in
      for row in partition.range(part) {
        let (outer, position) = row.quotientAndRemainder(dividingBy: indexCount)
        var index = 0
        reader.read(run.inputBytes(1), from: position, 1, into: &index)
        let extent = shape[gatherAxis]
        guard index >= -extent, index < extent else {
          run.fail("index \(index) is out of range; expected \(-extent) to \(extent - 1)")
          return
        }
        if index < 0 { index &+= extent }
        let source = (outer &* extent &+ index) &* inner
        if directBits > 0, inner % columns == 0 {
          let target: UnsafeMutablePointer<Float> = run.output() + row &* inner
          for line in 0..<inner / columns {
            decodeLine(run, source / columns &+ line, target + line &* columns)
          }
        } else {
          decode(run, source: source, target: row &* inner, inner)
        }
      }
    }
  }

  /// All blocks of one line of the last axis, from its bytes.
  private func decodeLine(_ run: RunContext, _ line: Int, _ target: UnsafeMutablePointer<Float>) {
    let columns = shape[shape.rank - 1]
    let blocks = scaleShape[scaleShape.rank - 1]
    let codes = run.input(0, as: UInt8.self) + line &* (columns &* directBits / 8)
    let scales = run.input(2, as: Float.self) + line &* blocks
    var first = 0
    for block in 0..<blocks {
      let count = min(blockSize, columns &- first)
      let zero =
        hasZeros
        ? Float(PackedElements.load(run.inputBytes(3), bits: directBits, at: line &* zeroRow &+ block)) : middle
      decodeCodes(
        codes + first &* directBits / 8, bits: directBits, target + first, count, scales[block], zero)
      first &+= count
    }
  }

  /// `count` elements in runs that lie within one line of the last axis and one block.
  private func decode(_ run: RunContext, source: Int, target: Int, _ count: Int) {
    let columns = shape[shape.rank - 1]
    let isLast = axis == shape.rank - 1
    withUnsafeTemporaryAllocation(of: Float.self, capacity: 3 * blockLength) { block in
      guard let values = block.baseAddress else { return }
      let (scales, zeros) = (values + blockLength, values + 2 * blockLength)
      var done = 0
      while done < count {
        let element = source &+ done
        let column = element % columns
        var length = min(blockLength, count &- done, columns &- column)
        if isLast { length = min(length, blockSize &- column % blockSize) }
        let scale = scaleIndex(of: element)
        load(run.inputBytes(0), element, values, length)
        codec.load(run.inputBytes(2), scale, scales, isLast ? 1 : length)
        if hasZeros {
          // Packed zero points of a line begin at a byte.
          let scaleColumns = scaleShape[scaleShape.rank - 1]
          let zero = scale / scaleColumns &* zeroRow &+ scale % scaleColumns
          load(run.inputBytes(3), zero, zeros, isLast ? 1 : length)
        }
        for index in 0..<length {
          let place = isLast ? 0 : index
          values[index] = (values[index] - (hasZeros ? zeros[place] : middle)) * scales[place]
        }
        codec.store(values, run.outputBytes(), target &+ done, length)
        done &+= length
      }
    }
  }

  private func scaleIndex(of element: Int) -> Int {
    let inner = shape.count(of: axis + 1..<shape.rank)
    let (rest, below) = element.quotientAndRemainder(dividingBy: inner)
    let (outer, position) = rest.quotientAndRemainder(dividingBy: shape[axis])
    return (outer &* scaleShape[axis] &+ position / blockSize) &* inner &+ below
  }
}
