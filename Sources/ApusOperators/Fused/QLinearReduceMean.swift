// apus.QLinearReduceMean: means of bytes that stand for floats, as bytes. Made by passes, never read from a file.
// Versions: 1.

import ApusGraph
import ApusTensor
import CApusKernels

/// Y = QuantizeLinear(ReduceMean(DequantizeLinear(X))) along the given axes, one scale and zero point each. The sum is
/// one of integers, exact; it is multiplied by X_scale / (Y_scale * count) in float64 and rounded, half to even, so
/// that what lies between two integers is told from what lies beside that. The mean of nothing is the least value.
package struct QLinearReduceMean: EngineOperator {
  package static let id = OperatorID("QLinearReduceMean", domain: "apus")

  package let schema = OperatorSchema(
    "QLinearReduceMean", domain: "apus", versions: [1],
    inputs: [
      .required("X", "T1"), .required("axes", "tensor(int64)", readWhenPlanning: true), .required("X_scale", "TS"),
      .required("X_zero_point", "T1"), .required("Y_scale", "TS"), .required("Y_zero_point", "T2"),
    ],
    outputs: [.required("Y", "T2")], attributes: [.int("keepdims", default: 1)],
    types: ["TS": .float32, "T1": .bytes, "T2": .bytes, "tensor(int64)": .int64], layout: .reducing)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let keepsDims = try context.bool("keepdims")
    guard let shape = context.shape(0), case .known(let given) = context.axes(1) else {
      return context.set(0, context.type(5), .unknown(rank: keepsDims ? context.rank(0) : nil))
    }
    let axes = try resolveAxes(given, rank: shape.count)
    context.set(
      0, context.type(5), shape.indices.compactMap { axes.contains($0) ? (keepsDims ? Dim(1) : nil) : shape[$0] })
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    guard node.inputs.count == 6, let x = node.inputs[0] else { throw .invalid("\(node.op) lacks inputs") }
    var operations = LoweredOperations(node, in: builder)
    operations.append("DequantizeLinear") { (x) throws(OperatorError) in [x, node.inputs[2], node.inputs[3]] }
    operations.append("ReduceMean", [("keepdims", .int(node.attributes.int("keepdims") ?? 1))]) {
      (value) throws(OperatorError) in [value, node.inputs[1]]
    }
    operations.append("QuantizeLinear") { (value) throws(OperatorError) in [value, node.inputs[4], node.inputs[5]] }
    try operations.finish(x)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try ElementCandidate.choose(
      .reduction, type: try context.type(0),
      [
        .plain { QLinearReduceMean.planned { $0.plainSums } },
        .vectors("vectors", types: [.int8, .uint8]) {
          QLinearReduceMean.planned { $0.isShort ? $0.plainSums : $0.vectorSums }
        },
      ])
  }

  private static func planned(_ sums: @escaping @Sendable (ByteMeans) -> ByteMeans.Sums) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      guard let x = plan.inputs[0], let y = plan.outputs[0], let axes = plan.integers(1) else {
        throw .invalid("an operand is missing")
      }
      let means = ByteMeans(
        geometry: ReductionGeometry(shape: x.shape, axes: try resolveAxes(axes, rank: x.shape.rank)),
        isSigned: x.dataType == .int8, yIsSigned: y.dataType == .int8)
      return means.step(sums(means)).named(id.name)
    }
  }
}

/// The means of a reduction of bytes.
private struct ByteMeans: Sendable {
  let geometry: ReductionGeometry
  let isSigned: Bool
  let yIsSigned: Bool

  /// Sums `length` elements of a line, or rows, for each of `count` outputs, the first of which begins at x.
  typealias Sums =
    @Sendable (_ x: UnsafeRawPointer, _ count: Int, _ length: Int, _ sums: UnsafeMutablePointer<Int32>) -> Void

  /// Outputs that are summed together, and bytes of a sum that 32 bits hold for sure.
  private static let tile = 64
  private static let longestSum = 1 << 23

  /// Lines of so few bytes that a vector would be empty for the most part.
  var isShort: Bool { geometry.isLine && geometry.lineLength <= 16 }

  var plainSums: Sums {
    let (columnStride, lineStride) = (geometry.columnStride, geometry.lineStride)
    func sums<Byte: FixedWidthInteger>(_: Byte.Type) -> Sums {
      { x, count, length, sums in
        let x = x.assumingMemoryBound(to: Byte.self)
        for output in 0..<count {
          var sum: Int32 = 0
          let line = x + output &* columnStride
          for position in 0..<length { sum &+= Int32(truncatingIfNeeded: line[position &* lineStride]) }
          sums[output] = sum
        }
      }
    }
    return isSigned ? sums(Int8.self) : sums(UInt8.self)
  }

  var vectorSums: Sums {
    let (rows, columns) = (apus_kernels().pointee.sum_byte_rows, apus_kernels().pointee.sum_byte_columns)
    return { [geometry, isSigned] x, count, length, sums in
      if geometry.isLine {
        rows(count, length, x, geometry.columnStride, isSigned, sums)
      } else {
        columns(length, count, x, geometry.lineStride, isSigned, sums)
      }
    }
  }

  func step(_ sums: @escaping Sums) -> Step {
    let tiles = (geometry.columns + ByteMeans.tile - 1) / ByteMeans.tile
    let cost = Cost(operations: geometry.reduceCount &* min(geometry.columns, ByteMeans.tile) / 4)
    let partition = Partition(geometry.outerCount * tiles, of: cost)
    let bytes = aligned(ByteMeans.tile * (MemoryLayout<Int>.stride + MemoryLayout<Int32>.stride))
    return .parallel(parts: partition.parts, scratchBytes: partition.parts * bytes) { run, part in
      let totals = (run.scratch + part &* bytes).assumingMemoryBound(to: Int.self)
      let (input, output) = (run.inputBytes(3), run.inputBytes(5))
      let zero = Int(IntegerCodes.byte(input, 0, isSigned: isSigned))
      let round = MeanRounding(
        scale: run.input(2, as: Float.self)[0], resultScale: run.input(4, as: Float.self)[0],
        count: geometry.reduceCount, zero: IntegerCodes.byte(output, 0, isSigned: yIsSigned), isSigned: yIsSigned)
      for task in partition.range(part) {
        let (outer, tile) = task.quotientAndRemainder(dividingBy: tiles)
        let first = tile &* ByteMeans.tile
        let count = min(ByteMeans.tile, geometry.columns &- first)
        let start = geometry.keptOffset(outer) &+ first &* geometry.columnStride
        add(run.inputBytes(0) + start, count, sums, totals)
        let y = run.output(0, as: UInt8.self) + (outer &* geometry.columns &+ first)
        for index in 0..<count { y[index] = round(totals[index] &- zero &* geometry.reduceCount) }
      }
    }
  }

  /// The totals of `count` outputs, the first of which begins at x. Behind the totals there is room for as many sums.
  private func add(_ x: UnsafeRawPointer, _ count: Int, _ sums: Sums, _ totals: UnsafeMutablePointer<Int>) {
    let partial = UnsafeMutableRawPointer(totals + ByteMeans.tile).assumingMemoryBound(to: Int32.self)
    totals.update(repeating: 0, count: count)
    if geometry.reduceCount == 0 { return }
    for line in 0..<geometry.reduceCount / geometry.lineLength {
      var start = 0
      while start < geometry.lineLength {
        let length = min(ByteMeans.longestSum, geometry.lineLength &- start)
        sums(x + (geometry.lineOffset(line) &+ start &* geometry.lineStride), count, length, partial)
        for index in 0..<count { totals[index] &+= Int(partial[index]) }
        start &+= length
      }
    }
  }
}

/// From sums of bytes to bytes of their means.
private struct MeanRounding {
  private let scale: Double
  private let divisor: Double
  private let factor: Double
  private let bytes: ByteRounding

  /// Quotients that lie so near to the middle between two integers are divided out: the product with the rounded
  /// factor is beside them by less.
  private static let nearness = 0x1p-30

  init(scale: Float, resultScale: Float, count: Int, zero: Int32, isSigned: Bool) {
    (self.scale, divisor) = (Double(scale), Double(resultScale) * Double(count))
    factor = self.scale / divisor
    bytes = ByteRounding(zero: zero, isSigned: isSigned)
  }

  @inline(__always) func callAsFunction(_ sum: Int) -> UInt8 {
    let quotient = Double(sum) * factor
    var nearest = MeanRounding.nearest(quotient)
    if abs(abs(quotient - nearest) - 0.5) < MeanRounding.nearness {
      nearest = MeanRounding.nearest(Double(sum) * scale / divisor)
    }
    return bytes(Float(nearest))
  }

  /// The nearest integer, the even one of two; what no byte holds is brought near.
  @inline(__always) private static func nearest(_ value: Double) -> Double {
    // Adding 1.5 · 2^52 leaves the integer part, rounded as the machine rounds, in the lowest bits.
    let anchor = 0x1.8p52
    let bounded = value > -1024 ? (value < 1024 ? value : 1024) : -1024
    return (bounded + anchor) - anchor
  }
}
