// LRN: each element over a power of the squares of neighbouring channels. https://onnx.ai/onnx/operators/onnx__LRN.html
// Versions: 1, 13 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

package struct LRN: OperatorDefinition {
  package let schema = OperatorSchema(
    "LRN", versions: [1, 13], inputs: [.required("X", "T")], outputs: [.required("Y", "T")],
    attributes: [
      .float("alpha", default: 0.0001), .float("beta", default: 0.75), .float("bias", default: 1),
      .required("size", .int),
    ],
    types: ["T": .floats])

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let size = try context.int("size")
    guard size > 0 else { throw .invalid("size is \(size); expected at least 1") }
    if let rank = context.rank(0), rank < 2 { throw .mismatch("X has rank \(rank); expected a batch and channels") }
    context.copy()
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let window = Window(
      size: try context.int("size"), alpha: Double(try context.float("alpha")), beta: Double(try context.float("beta")),
      bias: Double(try context.float("bias")))
    let kernels = VectorKernels.current
    return try prepareReal(
      context,
      float: { (_) throws(OperatorError) in
        try ElementCandidate.choose(
          .localResponse, type: .float32,
          [
            .plain { LRN.kernel(Float.self, window) { LRN.divide($0, $1, $2, $3, window) } },
            .vectors("rows") { LRN.rows(window, kernels) },
          ])
      },
      double: { (_) throws(OperatorError) in LRN.kernel(Double.self, window) { LRN.divide($0, $1, $2, $3, window) } })
  }

  /// By logarithms and exponentials of whole rows.
  private static func rows(_ window: Window, _ kernels: VectorKernels) -> PreparedKernel {
    let (slope, bias, exponent) = (Float(window.alpha / Double(window.size)), Float(window.bias), -Float(window.beta))
    return LRN.kernel(Float.self, window) { x, sums, y, count in
      // sums ^ -beta = exp(-beta * log(sums)); not for a base of 0 or less.
      for index in 0..<count { sums[index] = bias + slope * sums[index] }
      guard kernels.table.pointee.min_f32(count, sums) > 0 else {
        for index in 0..<count { y[index] = x[index] * Float.pow(sums[index], exponent) }
        return
      }
      kernels.table.pointee.log_f32(count, sums, sums, nil)
      for index in 0..<count { sums[index] *= exponent }
      kernels.table.pointee.exp_f32(count, sums, sums, nil)
      for index in 0..<count { y[index] = x[index] * sums[index] }
    }
  }

  private struct Window: Sendable {
    let size: Int
    let alpha: Double
    let beta: Double
    let bias: Double

    /// The channels whose squares count for `channel`.
    func channels(around channel: Int, of count: Int) -> Range<Int> {
      let size = min(self.size, 2 * count + 1)
      let before = (size - 1) / 2
      return max(0, channel - before)..<min(count, channel + (size - 1 - before) + 1)
    }
  }

  /// y = x / (bias + alpha / size * sums) ^ beta.
  private static func divide<Element: Real>(
    _ x: UnsafePointer<Element>, _ sums: UnsafeMutablePointer<Element>, _ y: UnsafeMutablePointer<Element>,
    _ count: Int,
    _ window: Window
  ) {
    for index in 0..<count {
      let base = window.bias + window.alpha / Double(window.size) * Double(sums[index])
      y[index] = Element(Double(x[index]) / Double.pow(base, window.beta))
    }
  }

  private static let blockWidth = 128

  /// `divide` takes x, the sums of squares (which it may overwrite), y and their count.
  private static func kernel<Element: Real>(
    _ type: Element.Type, _ window: Window,
    _ divide:
      @escaping @Sendable (
        _ x: UnsafePointer<Element>, _ sums: UnsafeMutablePointer<Element>, _ y: UnsafeMutablePointer<Element>,
        _ count: Int
      ) -> Void
  ) -> PreparedKernel {
    .planned { plan in
      let shape = plan.shape(0)
      let (channels, inner) = (shape[1], shape.count(of: 2..<shape.rank))
      let planes = shape[0] * channels
      let partition = Partition(planes, of: .heavy * inner)
      return .parallel(parts: inner == 0 ? 0 : partition.parts) { run, part in
        let (x, y) = (run.input(0, as: Element.self), run.output(0, as: Element.self))
        withUnsafeTemporaryAllocation(of: Element.self, capacity: blockWidth) { block in
          guard let sums = block.baseAddress else { return }
          for plane in partition.range(part) {
            let (image, channel) = plane.quotientAndRemainder(dividingBy: channels)
            var start = 0
            while start < inner {
              let count = min(blockWidth, inner &- start)
              sums.update(repeating: 0, count: count)
              for neighbour in window.channels(around: channel, of: channels) {
                let line = x + ((image &* channels &+ neighbour) &* inner &+ start)
                for index in 0..<count { sums[index] += line[index] * line[index] }
              }
              let offset = plane &* inner &+ start
              divide(x + offset, sums, y + offset, count)
              start &+= count
            }
          }
        }
      }
    }
  }
}
