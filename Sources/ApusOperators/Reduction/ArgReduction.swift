// ArgMax and ArgMin: where along an axis the largest or smallest element stands.
// https://onnx.ai/onnx/operators/onnx__ArgMax.html
// Versions: 1, 11 (negative axis), 12 (select_last_index), 13 (bfloat16).

import ApusGraph
import ApusTensor

/// Among equal elements the first wins, or the last with `select_last_index`. NaN wins over everything, as in NumPy.
struct ArgReduction: OperatorDefinition {
  let schema: OperatorSchema
  private let isMaximum: Bool

  static let all = [ArgReduction("ArgMax", isMaximum: true), ArgReduction("ArgMin", isMaximum: false)]

  private init(_ name: String, isMaximum: Bool) {
    self.isMaximum = isMaximum
    schema = OperatorSchema(
      name, versions: [1, 11, 12, 13],
      inputs: [.required("data", "T")], outputs: [.required("reduced", "tensor(int64)")],
      attributes: [
        .int("axis", default: 0), .int("keepdims", default: 1), .int("select_last_index", default: 0).since(12),
      ],
      types: ["T": .numeric, "tensor(int64)": .int64])
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard var shape = context.shape(0) else { return context.set(0, .int64, nil) }
    // A scalar counts as one element on axis 0.
    let axis = try resolveAxis(try context.int("axis"), rank: max(shape.count, 1))
    if shape.isEmpty { return context.set(0, .int64, []) }
    if try context.bool("keepdims") { shape[axis] = 1 } else { shape.remove(at: axis) }
    context.set(0, .int64, shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let keys = SortKeys(type) else { throw context.unsupportedType(type) }
    let givenAxis = try context.int("axis")
    let prefersLast = try context.bool("select_last_index")
    // NaN has the largest key; for the smallest element it must have the smallest.
    let isMaximum = self.isMaximum
    let isFloat = type.isFloat
    return .planned { plan throws(OperatorError) in
      let shape = plan.shape(0).rank == 0 ? [1] : plan.shape(0)
      let axis = try resolveAxis(givenAxis, rank: shape.rank)
      let extent = shape[axis]
      let inner = shape.count(of: axis + 1..<shape.rank)
      let outputs = plan.outputShape(0).elementCount
      if extent == 0 && outputs > 0 {
        throw .mismatch("axis \(axis) of the shape \(shape) is empty: no element stands out")
      }
      let partition = Partition(outputs, of: .light * 2 * extent)
      let block = 128
      let parts = outputs == 0 ? 0 : partition.parts
      return Step.parallel(parts: parts, scratchBytes: parts * block * 8) { run, part in
        let buffer = (run.scratch + part &* block &* 8).assumingMemoryBound(to: UInt64.self)
        let target = run.output(0, as: Int.self)
        for index in partition.range(part) {
          let first = run.inputBytes(0) + (index / inner &* extent &* inner &+ index % inner) &* keys.width
          var best: UInt64 = 0
          var place = 0
          var start = 0
          while start < extent {
            let count = min(block, extent &- start)
            keys.load(first + start &* inner &* keys.width, inner &* keys.width, count, buffer)
            for offset in 0..<count {
              // Larger is better; for the minimum the order is turned round, with NaN still best.
              let key = isMaximum || (isFloat && buffer[offset] == .max) ? buffer[offset] : ~buffer[offset]
              if key > best || (prefersLast && key == best) || start &+ offset == 0 {
                (best, place) = (key, start &+ offset)
              }
            }
            start &+= count
          }
          target[index] = place
        }
      }.named(isMaximum ? "argmax" : "argmin")
    }
  }
}
