// Rows of 16-bit floats for kernels of float32, one row at a time: what StagedKernel does with whole operands.

import ApusGraph
import ApusTensor

/// The rows of input 0 and of output 0 of a kernel that works on rows of float32, of which the output may be the input.
struct NarrowRows: Sendable {
  /// nil: the rows are of float32, and are read and written where they lie.
  private let load: FloatCodec.Load?
  private let store: FloatCodec.Store?

  /// Rows of float32.
  static let none = NarrowRows(load: nil, store: nil)

  private init(load: FloatCodec.Load?, store: FloatCodec.Store?) { (self.load, self.store) = (load, store) }

  /// Rows of the types of the node; nil unless at least one is narrow, and all of its floats are of 32 bits or less.
  init?(_ context: PrepareContext) {
    let types = (context.inputs + context.outputs).compactMap { $0?.tensor?.dataType }.filter(\.isFloat)
    guard let x = context.inputs.first??.tensor?.dataType, let y = context.outputs.first??.tensor?.dataType,
      !types.contains(.float64), x != .float32 || y != .float32, let from = FloatCodec(x), let to = FloatCodec(y)
    else { return nil }
    self.init(load: x == .float32 ? nil : from.load, store: y == .float32 ? nil : to.store)
  }

  /// Bytes that one part works in.
  func scratchBytes(length: Int) -> Int { load == nil && store == nil ? 0 : aligned(length &* 4) }

  /// Calls `body` with the row that starts at the element `start`, of `length` elements, and with where its result
  /// belongs; `memory` has `scratchBytes(length:)` bytes.
  @inline(__always)
  func with(
    _ run: RunContext, _ start: Int, _ length: Int, _ memory: UnsafeMutableRawPointer,
    _ body: (_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) -> Void
  ) {
    let row = memory.assumingMemoryBound(to: Float.self)
    if let load { load(run.inputBytes(0), start, row, length) }
    body(
      load == nil ? run.input(0, as: Float.self) + start : UnsafePointer(row),
      store == nil ? run.output(0, as: Float.self) + start : row)
    if let store { store(row, run.outputBytes(0), start, length) }
  }

  /// The kernel that `make` gives for the node with its other inputs in float32.
  static func prepare(
    _ context: PrepareContext, parameters: [Int], _ make: (PrepareContext) throws(OperatorError) -> PreparedKernel
  ) throws(OperatorError) -> PreparedKernel {
    try StagedKernel.prepare(context, operands: parameters, outputs: false, make)
  }
}
