// RotaryEmbedding: turns pairs of elements by angles of their position.
// https://onnx.ai/onnx/operators/onnx__RotaryEmbedding.html Versions: 23.

import ApusGraph
import ApusTensor
import CApusKernels

package struct RotaryEmbedding: OperatorDefinition {
  package let schema = OperatorSchema(
    "RotaryEmbedding", versions: [23],
    inputs: [
      .required("X", "T"), .required("cos_cache", "T"), .required("sin_cache", "T"), .optional("position_ids", "M"),
    ],
    outputs: [.required("Y", "T")],
    attributes: [
      .int("interleaved", default: 0), .optional("num_heads", .int), .int("rotary_embedding_dim", default: 0),
    ],
    types: ["T": [.float32, .float16, .bfloat16], "M": .int64])

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.copy()
    guard let shape = context.shape(0) else { return }
    guard shape.count == 3 || shape.count == 4 else { throw .mismatch("X is \(shape.text); expected 3 or 4 axes") }
    if shape.count == 3, context.optionalInt("num_heads") ?? 0 < 1 {
      throw .invalid("an input of 3 axes needs the attribute num_heads")
    }
    let axes = context.isPresent(3) ? 2 : 3
    for input in 1...2 {
      guard let cache = context.shape(input), cache.count != axes else { continue }
      throw .mismatch("\(schema.inputs[input].name) is \(cache.text); expected \(axes) axes")
    }
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let heads = context.optionalInt("num_heads")
    let rotated = try context.int("rotary_embedding_dim")
    let isInterleaved = try context.bool("interleaved")
    let narrow = NarrowRows(context)
    let kernel = PreparedKernel.planned { (plan) throws(OperatorError) in
      try Rotation(plan, narrow ?? .none, heads: heads, rotated: rotated, isInterleaved: isInterleaved).step
    }
    return narrow == nil ? kernel : try NarrowRows.prepare(context, parameters: [1, 2]) { _ in kernel }
  }
}

/// A rotation of [batch, length, heads, size] or [batch, heads, length, size].
private struct Rotation: Sendable {
  private let shape: Shape
  /// True of [batch, heads, length, size].
  private let isHeadsFirst: Bool
  private let heads: Int
  private let length: Int
  private let size: Int
  private let rotated: Int
  private let isInterleaved: Bool
  /// Elements of a cache from one image to the next; 0 if all share one.
  private let cacheStride: Int
  private let positionStride: Int
  private let hasPositions: Bool
  private let narrow: NarrowRows
  /// Rows of a cache that positions choose from.
  private let positions: Int

  init(
    _ context: PlanContext, _ narrow: NarrowRows, heads headCount: Int?, rotated: Int, isInterleaved: Bool
  ) throws(OperatorError) {
    let shape = context.shape(0)
    (self.shape, self.narrow) = (shape, narrow)
    isHeadsFirst = shape.rank == 4
    if shape.rank == 4 {
      (heads, length, size) = (shape[1], shape[2], shape[3])
    } else {
      heads = headCount ?? 1
      length = shape[1]
      guard shape[2] % heads == 0 else {
        throw .mismatch("the last extent of X is \(shape[2]), which is no multiple of \(heads) heads")
      }
      size = shape[2] / heads
    }
    self.rotated = rotated == 0 ? size : rotated
    self.isInterleaved = isInterleaved
    guard self.rotated >= 0, self.rotated <= size, self.rotated % 2 == 0 else {
      throw .mismatch("rotary_embedding_dim is \(self.rotated); expected an even number up to \(size)")
    }
    let half = self.rotated / 2
    let cache = context.shape(1)
    guard cache == context.shape(2), cache.last == half else {
      throw .mismatch("the caches are \(cache) and \(context.shape(2)); expected \(half) columns in both")
    }
    hasPositions = context.isPresent(3)
    if hasPositions {
      let ids = context.shape(3)
      guard ids.rank == 2, ids[1] == length, ids[0] == shape[0] || ids[0] == 1 else {
        throw .mismatch("position_ids is \(ids); expected [\(shape[0]), \(length)]")
      }
      positions = cache[0]
      positionStride = ids[0] == 1 ? 0 : length
      cacheStride = 0
    } else {
      guard cache[0] == shape[0] || cache[0] == 1, cache[1] == length else {
        throw .mismatch("the caches are \(cache); expected [\(shape[0]), \(length), \(half)]")
      }
      positions = length
      positionStride = 0
      cacheStride = cache[0] == 1 ? 0 : length * half
    }
  }

  /// Elements of rows that are brought to float32 together.
  private static let blockElements = 4096

  /// Rows are [batch, heads, length] or [batch, length, heads], as they lie.
  var step: Step {
    let rows = size == 0 ? 0 : shape.elementCount / size
    let partition = Partition(rows, of: .light * 2 * size)
    let blockRows = max(1, Rotation.blockElements / max(size, 1))
    let bytes = narrow.scratchBytes(length: blockRows * size)
    return .parallel(parts: partition.parts, scratchBytes: partition.parts * bytes) { run, part in
      let range = partition.range(part)
      var first = range.lowerBound
      while first < range.upperBound {
        let block = first..<min(range.upperBound, first &+ blockRows)
        narrow.with(run, first &* size, block.count &* size, run.scratch + part &* bytes) { x, y in
          turn(block, x, y, run)
        }
        first = block.upperBound
      }
    }
  }

  /// Turns some rows, of which the first lies at x, into y.
  @inline(__always)
  private func turn(
    _ rows: Range<Int>, _ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ run: RunContext
  ) {
    let rotate = apus_kernels().pointee.rotate_f32
    let (cosines, sines) = (run.input(1, as: Float.self), run.input(2, as: Float.self))
    let pairs = rotated / 2
    // Where the first row stands: rows change first by what lies innermost.
    let inner = isHeadsFirst ? length : heads
    let outer = isHeadsFirst ? heads : length
    var image = rows.lowerBound / (heads &* length)
    let rest = rows.lowerBound &- image &* heads &* length
    var (outside, inside) = (rest / inner, rest % inner)
    var angles: Int? = nil
    var start = 0
    for _ in rows {
      if inside == inner {
        (inside, outside) = (0, outside &+ 1)
        if outside == outer { (outside, image) = (0, image &+ 1) }
        angles = nil
      }
      // All heads of a token turn by the same angles.
      if isHeadsFirst || angles == nil {
        guard let found = self.angles(image, isHeadsFirst ? inside : outside, pairs, run) else { return }
        angles = found
      }
      let first = angles ?? 0
      rotate(pairs, x + start, y + start, cosines + first, sines + first, isInterleaved)
      if rotated < size { (y + (start &+ rotated)).update(from: x + (start &+ rotated), count: size &- rotated) }
      start &+= size
      inside &+= 1
    }
  }

  /// Where the angles of a token lie in the caches; nil if its position is not there, which ends the run.
  @inline(__always)
  private func angles(_ image: Int, _ index: Int, _ pairs: Int, _ run: RunContext) -> Int? {
    guard hasPositions else { return image &* cacheStride &+ index &* pairs }
    let position = run.input(3, as: Int.self)[image &* positionStride &+ index]
    if position >= 0, position < positions { return position &* pairs }
    run.fail("position \(position) is not in the caches; expected 0 to \(positions - 1)")
    return nil
  }
}
