// DFT: the discrete Fourier transform along one axis. https://onnx.ai/onnx/operators/onnx__DFT.html
// Versions: 17 (axis as attribute, 1 by default), 20 (axis as input, -2 by default). As in NumPy, complex float32
// signals are transformed in float32, real ones in float64.

import ApusGraph
import ApusTensor

package struct DFT: OperatorDefinition {
  package let schema = OperatorSchema(
    "DFT", versions: [17, 20],
    inputs: [
      .required("input", "T1"), .optional("dft_length", "T2", readWhenPlanning: true),
      .optional("axis", "tensor(int64)", readWhenPlanning: true).since(20, before: .int("axis", default: 1)),
    ],
    outputs: [.required("output", "T1")], attributes: [.int("inverse", default: 0), .int("onesided", default: 0)],
    types: ["T1": .floats, "T2": .indices, "tensor(int64)": .int64])

  package init() {}

  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version < 20 else { return }
    let axis = node.attributes.int("axis") ?? 1
    _ = node.attributes.remove("axis")
    node.setInput(2, builder.addConstant(Tensor(scalar: Int64(axis))))
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let isOnesided = try context.bool("onesided")
    let isInverse = try context.bool("inverse")
    let isReal = isOnesided && isInverse
    guard var shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    guard shape.count >= 2, let last = shape.last, last.known == nil || last.known == 1 || last.known == 2 else {
      throw .mismatch("the input is \(shape.text); expected a signal axis and a last axis of 1 or 2")
    }
    let given = context.isPresent(2) ? context.values(2)?.first?.known : -2
    let length = context.isPresent(1) ? context.values(1)?.first ?? .unknown : nil
    guard let given else {
      let rest = [Dim](repeating: .unknown, count: shape.count - 1)
      return context.set(0, context.type(0), rest + [isReal ? 1 : 2])
    }
    let axis = try DFT.axis(given, rank: shape.count)
    let points = length ?? (isReal ? (shape[axis] - Dim(1)) * Dim(2) : shape[axis])
    shape[axis] = isOnesided && !isReal ? points.dividedRoundingDown(by: 2) + Dim(1) : points
    shape[shape.count - 1] = isReal ? 1 : 2
    if let points = points.known, points < 1 { throw .mismatch("dft_length is \(points); expected at least 1") }
    context.set(0, context.type(0), shape)
  }

  private static func axis(_ given: Int, rank: Int) throws(OperatorError) -> Int {
    let axis = try resolveAxis(given, rank: rank)
    guard axis < rank - 1 else { throw .mismatch("axis is \(given), the axis of real and imaginary parts") }
    return axis
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let isInverse = try context.bool("inverse")
    let isOnesided = try context.bool("onesided")
    let type = try context.type(0)
    switch type {
    case .float64: return DFT.kernel(Double.self, isInverse, isOnesided)
    case .float32: return DFT.kernel(Float.self, isInverse, isOnesided)
    default:
      return try StagedKernel.prepare(context) { (_) throws(OperatorError) in
        DFT.kernel(Float.self, isInverse, isOnesided)
      }
    }
  }

  private static func kernel<Element: Real>(_ type: Element.Type, _ isInverse: Bool, _ isOnesided: Bool)
    -> PreparedKernel
  {
    .planned { (plan) throws(OperatorError) in
      let (shape, result) = (plan.shape(0), plan.outputShape(0))
      let axis = try DFT.axis(plan.integers(2)?.first ?? -2, rank: shape.rank)
      let given = plan.integers(1)?.first
      let points = given ?? (isInverse && isOnesided ? 2 * (shape[axis] - 1) : shape[axis])
      let parts = shape[shape.rank - 1]
      let lines = DFTShape(
        isInverse: isInverse, isOnesided: isOnesided, inner: shape.count(of: axis + 1..<shape.rank - 1),
        inputLength: shape[axis], inputParts: parts, outputLength: result[axis],
        lines: shape.count(of: 0..<axis) * shape.count(of: axis + 1..<shape.rank - 1))
      return parts == 1
        ? DFTLines<Element, Double>(transform: try FourierTransform(length: points), shape: lines).step()
        : DFTLines<Element, Element>(transform: try FourierTransform(length: points), shape: lines).step()
    }
  }
}

/// A tensor [outer, length, inner, parts] and what becomes of its lines.
private struct DFTShape: Sendable {
  let isInverse: Bool
  let isOnesided: Bool
  let inner: Int
  let inputLength: Int
  /// 1 for real numbers, 2 for complex ones.
  let inputParts: Int
  let outputLength: Int
  let lines: Int

  /// 1 for real numbers, 2 for complex ones.
  var outputParts: Int { isInverse && isOnesided ? 1 : 2 }
}

/// The transforms of all lines. `Inner` is the type of the computation.
private struct DFTLines<Element: Real, Inner: Real>: Sendable {
  typealias Complex = ComplexNumber<Inner>

  let transform: FourierTransform<Inner>
  let shape: DFTShape

  func step() -> Step {
    let partition = Partition(shape.lines, of: .medium * 2 * transform.length)
    // The signal, then what the transform needs, 16-byte aligned.
    let dataBytes = (transform.length * MemoryLayout<Complex>.stride + 15) & ~15
    let perPart = dataBytes + transform.workBytes
    return .parallel(parts: shape.lines == 0 ? 0 : partition.parts, scratchBytes: partition.parts * perPart) {
      run, part in
      let memory = run.scratch + part &* perPart
      let data = memory.assumingMemoryBound(to: Complex.self)
      for line in partition.range(part) {
        let (outer, position) = line.quotientAndRemainder(dividingBy: shape.inner)
        let source =
          run.input(0, as: Element.self) + (outer &* shape.inputLength &* shape.inner &+ position) &* shape.inputParts
        load(source, to: data)
        let result = transform(data, memory + dataBytes)
        store(
          result,
          to: run.output(0, as: Element.self) + (outer &* shape.outputLength &* shape.inner &+ position)
            &* shape.outputParts)
      }
    }.named("fft")
  }

  /// The signal, cut or padded. For an inverse transform real and imaginary parts change places, here and in the
  /// result: that makes a forward transform of it.
  private func load(_ source: UnsafePointer<Element>, to data: UnsafeMutablePointer<Complex>) {
    let points = transform.length
    let count = min(shape.inputLength, shape.isInverse && shape.isOnesided ? points / 2 + 1 : points)
    let stride = shape.inner &* shape.inputParts
    data.update(repeating: .zero, count: points)
    for index in 0..<count {
      let real = Inner(source[index &* stride])
      let imaginary = shape.inputParts == 2 ? Inner(source[index &* stride &+ 1]) : 0
      data[index] = shape.isInverse ? Complex(imaginary, real) : Complex(real, imaginary)
    }
    guard shape.isInverse && shape.isOnesided else { return }
    // The other half of the spectrum of a real signal; what is its own mirror is real.
    data[0].x = 0
    for index in 1..<max(1, (points + 1) / 2) {
      data[points - index] = Complex(-data[index].x, data[index].y)
    }
    if points % 2 == 0 && points > 0 { data[points / 2].x = 0 }
  }

  private func store(_ result: UnsafeMutablePointer<Complex>, to target: UnsafeMutablePointer<Element>) {
    let scale = shape.isInverse ? 1 / Inner(transform.length) : 1
    for index in 0..<shape.outputLength {
      let value = shape.isInverse ? scale * result[index] : result[index]
      if shape.isInverse && shape.isOnesided {
        target[index &* shape.inner] = Element(value.y)
      } else {
        target[index &* shape.inner &* 2] = Element(shape.isInverse ? value.y : value.x)
        target[index &* shape.inner &* 2 &+ 1] = Element(shape.isInverse ? value.x : value.y)
      }
    }
  }
}
