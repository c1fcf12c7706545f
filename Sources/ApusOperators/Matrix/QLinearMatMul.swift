// QLinearMatMul: product of quantized matrices, quantized. https://onnx.ai/onnx/operators/onnx__QLinearMatMul.html
// Versions: 10 (8-bit integers), 21 (float8, and scales of float16 and bfloat16).

import ApusGraph
import ApusTensor

package struct QLinearMatMul: OperatorDefinition {
  package let schema = OperatorSchema(
    "QLinearMatMul", versions: [10, 21],
    inputs: [
      .required("a", "T1"), .required("a_scale", "TS"), .required("a_zero_point", "T1"), .required("b", "T2"),
      .required("b_scale", "TS"), .required("b_zero_point", "T2"), .required("y_scale", "TS"),
      .required("y_zero_point", "T3"),
    ],
    outputs: [.required("y", "T3")],
    types: [
      "TS": [.float32, .float16, .bfloat16], "T1": [.int8, .uint8] + .float8, "T2": [.int8, .uint8] + .float8,
      "T3": [.int8, .uint8] + .float8,
    ], multiplyAdds: matMulProducts(a: 0))

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, context.type(7), try matMulShape(context.shape(0), context.shape(3)))
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let product = try IntegerProduct(context, IntegerOperandPositions(a: 0, aZero: 2, b: 3, bZero: 5))
    return .planned(packing: product.packedInputs) { (plan) throws(OperatorError) in
      try product.step(plan, ByteResult(requantizing: plan)) { () throws(OperatorError) in
        try QuantizedProduct(plan, product).step
      }
    }
  }
}

extension ByteResult {
  /// That of QLinearMatMul, or of QLinearGemm with `bias`; nil for numbers that are no bytes, and where rows or the
  /// matrices of a batch have scales of their own.
  init?(requantizing context: PlanContext, bias: Int? = nil, isTransposed: Bool = false) {
    let bytes: [DataType] = [.int8, .uint8]
    guard let a = context.inputs[0], let b = context.inputs[3], let y = context.outputs[0],
      [a, b, y].allSatisfy({ bytes.contains($0.dataType) }),
      [1, 4, 6].allSatisfy({ context.inputs[$0]?.dataType == .float32 }),
      [1, 6, 7].allSatisfy({ context.shape($0).elementCount == 1 })
    else { return nil }
    let columns = b.shape.asRightFactor(isTransposed: isTransposed).last ?? 1
    let scales = context.shape(4)
    guard scales.elementCount == 1 || scales.dims == [columns] else { return nil }
    self = .bytes(
      ByteRequantization(
        aScale: 1, bScale: 4, bScaleCount: scales.elementCount, yScale: 6, yZero: 7, isSigned: y.dataType == .int8,
        bias: bias))
  }
}

/// The product in int32, or in float32 where a factor is of float8, and its quantization.
struct QuantizedProduct {
  let step: Step

  /// `bias`: an input of int32, one a column, that is added to the sums.
  init(
    _ context: PlanContext, _ integerProduct: IntegerProduct, bias: Int? = nil, isTransposed: Bool = false
  ) throws(OperatorError) {
    guard let a = context.inputs[0], let b = context.inputs[3], let y = context.outputs[0] else {
      throw .invalid("an input is missing")
    }
    var sequence = StepSequence()
    let product = sequence.reserve(bytes: y.count * 4)
    let isInteger = a.dataType.isInteger && b.dataType.isInteger
    var (name, cost) = ("gemm_f32", Cost())
    if isInteger {
      (name, cost) = try integerProduct.append(context, to: product, in: &sequence)
    } else {
      try QuantizedProduct.floatProduct(context, a, b, to: product, in: &sequence)
    }
    var scales: [StepSequence.Operand] = []
    for input in [1, 4, 6, 7] {
      let place = sequence.reserve(bytes: context.shape(input).elementCount * 4)
      sequence.append(try QuantizedProduct.widening(context, input), inputs: [.input(input)], outputs: [place])
      scales.append(place)
    }
    // Rows and columns of the result are those of the factors; a vector's missing axis is one of extent 1.
    let rowShape = Shape(a.shape.rank > 1 ? a.shape.dims : [1] + a.shape.dims)
    let columnShape = b.shape.asRightFactor(isTransposed: isTransposed)
    let extents = MatMulExtents(a.shape, b.shape, transposesB: isTransposed)
    let batchShape = y.shape.dims.dropLast((a.shape.rank > 1 ? 1 : 0) + (b.shape.rank > 1 ? 1 : 0))
    let resultShape = Shape(batchShape + [rowShape[rowShape.rank - 2], extents.n])
    let rows = try LineIndex(context.shape(1), of: rowShape, axis: 2, name: "a_scale")
    let columns = try LineIndex(context.shape(4), of: columnShape, axis: 1, name: "b_scale")
    let results = try LineIndex(context.shape(6), of: resultShape, axis: 2, name: "y_scale")
    let resultPoints = try LineIndex(context.shape(7), of: resultShape, axis: 2, name: "y_zero_point")
    let batchDims = Array(batchShape)
    let quantizer = Quantizer(
      lines: resultShape[resultShape.rank - 2], columns: extents.n, count: y.count, rows: rows, columnScales: columns,
      results: results, resultPoints: resultPoints,
      leftMatrix: BroadcastMatrices(of: rowShape, in: batchDims),
      rightMatrix: BroadcastMatrices(of: columnShape, in: batchDims))
    if let bias {
      sequence.append(
        QuantizedProduct.addition(count: y.count, columns: extents.n), inputs: [.input(bias)], outputs: [product])
    }
    let last =
      isInteger
      ? try quantizer.step(Int32.self, y.dataType) : try quantizer.step(Float.self, y.dataType)
    sequence.append(last, inputs: [product] + scales, outputs: [.output(0)])
    var whole = sequence.step
    whole.unreadInputs = integerProduct.packedInputs
    step = whole.named(name, cost: isInteger ? cost : whole.cost)
  }

  /// Adds input 0, one number a column, to the sums of output 0.
  private static func addition(count: Int, columns: Int) -> Step {
    let rows = Partition(columns == 0 ? 0 : count / columns, of: .light * columns)
    return .parallel(parts: rows.parts) { run, part in
      let (bias, sums) = (run.input(0, as: Int32.self), run.output(0, as: Int32.self))
      for row in rows.range(part) {
        for column in 0..<columns { sums[row &* columns &+ column] &+= bias[column] }
      }
    }
  }

  private static func widening(_ context: PlanContext, _ input: Int) throws(OperatorError) -> Step {
    guard let type = context.inputs[input] else { throw .invalid("input \(input) is missing") }
    let count = type.count
    if let codec = FloatCodec(type.dataType) {
      return .serial { run in codec.load(run.inputBytes(0), 0, run.output(), count) }
    }
    guard let convert = elementConverter(from: type.dataType, to: .float32) else {
      throw .unsupported("QLinearMatMul has no kernel for \(type.dataType) at input \(input)")
    }
    return .serial { run in convert(run.inputBytes(0), run.outputBytes(), count) }
  }

  /// Factors as float32 less their zero points, then their product.
  private static func floatProduct(
    _ context: PlanContext, _ a: TensorType, _ b: TensorType, to target: StepSequence.Operand,
    in sequence: inout StepSequence
  ) throws(OperatorError) {
    var places: [StepSequence.Operand] = []
    for (input, type) in [(0, a), (3, b)] {
      let place = sequence.reserve(bytes: type.count * 4)
      sequence.append(try widening(context, input), inputs: [.input(input)], outputs: [place])
      let points = sequence.reserve(bytes: context.shape(input + 2).elementCount * 4)
      sequence.append(try widening(context, input + 2), inputs: [.input(input + 2)], outputs: [points])
      let isLeft = input == 0
      let shape = type.shape
      let lines = try LineIndex(
        context.shape(input + 2), of: isLeft ? shape : shape.asColumn, axis: isLeft ? 2 : 1, name: "a zero point")
      let columns = shape.last ?? 1
      let rowsPerMatrix = shape.rank > 1 ? shape[shape.rank - 2] : 1
      let isColumn = shape.rank == 1 && !isLeft
      let subtract = Step.serial { run in
        let (points, values) = (run.input(0, as: Float.self), run.output(0, as: Float.self))
        for row in 0..<(columns == 0 ? 0 : type.count / columns) {
          let (matrix, line) = row.quotientAndRemainder(dividingBy: max(rowsPerMatrix, 1))
          for column in 0..<columns {
            let index = isColumn ? 0 : lines(matrix: matrix, line: isLeft ? line : column)
            values[row &* columns &+ column] -= points[index]
          }
        }
      }
      sequence.append(subtract, inputs: [points], outputs: [place])
      places.append(place)
    }
    let extents = MatMulExtents(a.shape, b.shape)
    let product = GemmPlan(
      m: extents.m, n: extents.n, k: extents.k, left: extents.left, right: .unpacked(extents.right, scale: 1),
      batch: extents.batch)
    sequence.append(product.step(), inputs: places, outputs: [target])
  }
}

/// y = saturate(round(product * (a_scale * b_scale / y_scale)) + y_zero_point).
private struct Quantizer: Sendable {
  let lines: Int
  let columns: Int
  let count: Int
  let rows: LineIndex
  let columnScales: LineIndex
  let results: LineIndex
  let resultPoints: LineIndex
  let leftMatrix: BroadcastMatrices
  let rightMatrix: BroadcastMatrices

  /// Inputs: the product, the scales of a, b and y and the zero point of y, all but the first as float32.
  func step<Sum: BitwiseCopyable & Sendable>(_ sum: Sum.Type, _ type: DataType) throws(OperatorError) -> Step
  where Sum: SumOfProducts {
    let partition = Partition(columns == 0 ? 0 : count / columns, of: .medium * 2 * columns)
    let limits: ByteLimits? =
      switch type {
      case .int8: ByteLimits(low: -128, high: 127)
      case .uint8: ByteLimits(low: 0, high: 255)
      default: nil
      }
    let format = SmallFloat(type)
    guard limits != nil || format != nil else {
      throw .unsupported("QLinearMatMul has no kernel for \(type) at the output")
    }
    return .parallel(parts: partition.parts) { run, part in
      let product = run.input(0, as: Sum.self)
      let (a, b) = (run.input(1, as: Float.self), run.input(2, as: Float.self))
      let (y, points) = (run.input(3, as: Float.self), run.input(4, as: Float.self))
      let output = run.output(0, as: UInt8.self)
      for row in partition.range(part) {
        let (matrix, line) = row.quotientAndRemainder(dividingBy: max(lines, 1))
        let left = a[rows(matrix: leftMatrix[matrix], line: line)]
        let rightIndex = rightMatrix[matrix]
        let result = y[results(matrix: matrix, line: line)]
        let point = Double(points[resultPoints(matrix: matrix, line: line)])
        let first = row &* columns
        if let limits, let stride = columnScales.lineStride {
          if stride == 0 {
            let scale = Double(left * b[0] / result)
            for column in 0..<columns {
              output[first &+ column] = limits.quantized(product[first &+ column].inDouble * scale, zeroPoint: point)
            }
          } else {
            for column in 0..<columns {
              let scale = Double(left * b[column] / result)
              output[first &+ column] = limits.quantized(product[first &+ column].inDouble * scale, zeroPoint: point)
            }
          }
          continue
        }
        for column in 0..<columns {
          let scale = left * b[columnScales(matrix: rightIndex, line: column)] / result
          let value = product[first &+ column].inDouble * Double(scale)
          if let limits {
            output[first &+ column] = limits.quantized(value, zeroPoint: point)
          } else if let format {
            output[first &+ column] = format.encode(Float(value + point))
          }
        }
      }
    }
  }
}

/// The range of an 8-bit integer.
private struct ByteLimits {
  let low: Double
  let high: Double

  /// 1.5 · 2^52: added to a number of small magnitude it leaves the nearest integer, half to even.
  private static var integerShift: Double { 0x1.8p52 }
  /// Beyond this every zero point leaves the range.
  private static var largest: Double { 1024 }

  /// The nearest integer, half to even, plus the zero point, in the range; 0 for NaN.
  @inline(__always) func quantized(_ value: Double, zeroPoint: Double) -> UInt8 {
    let atMost = value < ByteLimits.largest ? value : ByteLimits.largest
    let bounded = atMost > -ByteLimits.largest ? atMost : -ByteLimits.largest
    let number = (bounded + ByteLimits.integerShift) - ByteLimits.integerShift + zeroPoint
    let saturated = number < high ? (number > low ? number : low) : high
    return UInt8(truncatingIfNeeded: ((value == value ? saturated : 0) + ByteLimits.integerShift).bitPattern)
  }
}

private protocol SumOfProducts { var inDouble: Double { get } }
extension Int32: SumOfProducts { fileprivate var inDouble: Double { Double(self) } }
extension Float: SumOfProducts { fileprivate var inDouble: Double { Double(self) } }
