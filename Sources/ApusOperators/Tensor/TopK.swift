// TopK: the largest or smallest elements along an axis, with their positions.
// https://onnx.ai/onnx/operators/onnx__TopK.html Versions: 1 (k as attribute), 10 (K as input), 11 (largest, sorted),
// 24 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

/// Equal elements come in the order of their positions; NaN counts as larger than everything. The results are sorted
/// whether asked for or not.
struct TopK: OperatorDefinition {
  let schema = OperatorSchema(
    "TopK", versions: [1, 10, 11, 24],
    inputs: [
      .required("X", "T"),
      .required("K", "tensor(int64)", readWhenPlanning: true).since(10, before: .required("k", .int)),
    ],
    outputs: [.required("Values", "T"), .required("Indices", "I")],
    attributes: [
      .int("axis", default: -1), .int("largest", default: 1).since(11), .int("sorted", default: 1).since(11),
    ],
    types: ["T": .numeric, "I": .int64, "tensor(int64)": .int64], portable: .moreTypes)

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 1 else { return }
    guard case .int(let k)? = node.attributes.remove("k") else { throw .invalid("attribute k (int) is missing") }
    node.setInput(1, builder.addConstant(Tensor([k])))
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard var shape = context.shape(0) else {
      context.set(0, context.type(0), nil)
      return context.set(1, .int64, nil)
    }
    let axis = try resolveAxis(try context.int("axis"), rank: shape.count)
    if let values = context.values(1), values.count != 1 {
      throw .mismatch("K has \(values.count) elements; expected one")
    }
    let k = context.values(1)?.first ?? .unknown
    if let k = k.known, k < 0 || k > shape[axis].known ?? Int.max {
      throw .mismatch("K is \(k); expected 0 to \(shape[axis]), the extent of axis \(axis)")
    }
    shape[axis] = k
    context.set(0, context.type(0), shape)
    context.set(1, .int64, shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let keys = SortKeys(type) else { throw context.unsupportedType(type) }
    let givenAxis = try context.int("axis")
    let isLargest = try context.bool("largest")
    return .planned { plan throws(OperatorError) in
      let shape = plan.shape(0)
      let axis = try resolveAxis(givenAxis, rank: shape.rank)
      let k = (plan.isWanted(0) ? plan.outputShape(0) : plan.outputShape(1)).dims[axis]
      let (extent, inner) = (shape[axis], shape.count(of: axis + 1..<shape.rank))
      let lines = shape.count(of: 0..<axis) * inner
      let partition = Partition(lines, of: .medium * extent)
      let parts = lines * k == 0 ? 0 : partition.parts
      let heapBytes = TopKHeap.bytes(capacity: k)
      let width = keys.width
      // Neighbouring lines are laid out one behind the other first.
      let tile = inner == 1 ? 1 : max(1, min(TopK.tileLines, inner, TopK.tileElements / max(extent, 1)))
      let bytes = heapBytes + (tile > 1 ? aligned(tile * extent * width) : 0)
      let transpose = TopK.transpose(width: width)
      let (hasValues, hasIndices) = (plan.isWanted(0), plan.isWanted(1))
      /// One element from one place to another.
      @Sendable func move(_ source: UnsafeRawPointer, _ target: UnsafeMutableRawPointer) {
        switch width {
        case 4: target.storeBytes(of: source.loadUnaligned(as: UInt32.self), as: UInt32.self)
        case 8: target.storeBytes(of: source.loadUnaligned(as: UInt64.self), as: UInt64.self)
        default: target.copyMemory(from: source, byteCount: width)
        }
      }
      return Step.parallel(parts: parts, scratchBytes: parts * bytes) { run, part in
        let memory = run.scratch + part &* bytes
        var heap = TopKHeap(memory: memory, capacity: k)
        let block = memory + heapBytes
        let range = partition.range(part)
        var line = range.lowerBound
        while line < range.upperBound {
          let (outer, column) = line.quotientAndRemainder(dividingBy: inner)
          let count = min(tile, range.upperBound &- line, inner &- column)
          let source = run.inputBytes(0) + (outer &* extent &* inner &+ column) &* width
          if tile > 1 { transpose(extent, count, source, inner, block, extent) }
          for index in 0..<count {
            let elements = tile > 1 ? UnsafeRawPointer(block + index &* extent &* width) : source
            let stride = tile > 1 ? width : inner &* width
            heap.select(from: elements, stride: stride, count: extent, keys: keys, isLargest: isLargest)
            let first = outer &* k &* inner &+ column &+ index
            for rank in 0..<k {
              let position = heap.positions[rank]
              let target = first &+ rank &* inner
              if hasIndices { run.output(1, as: Int.self)[target] = position }
              if hasValues { move(elements + position &* stride, run.outputBytes(0) + target &* width) }
            }
          }
          line &+= count
        }
      }.named("top k")
    }
  }
}

extension TopK {
  /// Lines that are laid out together, and elements of theirs: they stay in the second-level cache.
  fileprivate static let tileLines = 16
  fileprivate static let tileElements = 64 << 10

  fileprivate typealias Transpose =
    @convention(c) (Int, Int, UnsafeRawPointer, Int, UnsafeMutableRawPointer, Int) -> Void

  /// The kernel for elements of a width.
  fileprivate static func transpose(width: Int) -> Transpose {
    let kernels = apus_kernels().pointee
    return switch width {
    case 1: kernels.transpose_1
    case 2: kernels.transpose_2
    case 4: kernels.transpose_4
    default: kernels.transpose_8
    }
  }
}

/// The k best elements of a line in memory of the caller: a heap whose root is the worst of them, sorted at the end.
struct TopKHeap {
  private let block: UnsafeMutablePointer<UInt64>
  private let keys: UnsafeMutablePointer<UInt64>
  /// Elements of a block that may be among the best.
  private let candidates: UnsafeMutablePointer<UInt32>
  /// After `select`: the positions of the best elements, best first.
  let positions: UnsafeMutablePointer<Int>
  private let capacity: Int
  private static let blockLength = 128
  private static let leastBlock = 16

  static func bytes(capacity: Int) -> Int { ((2 * blockLength + 2 * capacity) * 8 + 63) & ~63 }

  /// `memory` has `bytes(capacity:)` bytes, aligned to 8.
  init(memory: UnsafeMutableRawPointer, capacity: Int) {
    block = memory.assumingMemoryBound(to: UInt64.self)
    candidates = UnsafeMutableRawPointer(block + TopKHeap.blockLength).assumingMemoryBound(to: UInt32.self)
    keys = block + 2 * TopKHeap.blockLength
    positions = UnsafeMutableRawPointer(keys + capacity).assumingMemoryBound(to: Int.self)
    self.capacity = capacity
  }

  /// Finds the best of `count` elements, `stride` bytes apart. `count` is at least the capacity.
  mutating func select(from source: UnsafeRawPointer, stride: Int, count: Int, keys sortKeys: SortKeys, isLargest: Bool)
  {
    let keysBelow = apus_kernels().pointee.keys_below
    var start = 0
    while start < count {
      // Short blocks first: the more elements have been seen, the fewer of the next are candidates.
      let wanted = start < capacity ? capacity &- start : max(TopKHeap.leastBlock, start)
      let length = min(TopKHeap.blockLength, wanted, count &- start)
      sortKeys.load(source + start &* stride, stride, length, block)
      if isLargest { for offset in 0..<length { block[offset] = ~block[offset] } }
      if start < capacity {
        for offset in 0..<length { siftUp(block[offset], start &+ offset) }
      } else {
        let found = keysBelow(length, block, keys[0], candidates)
        for index in 0..<found {
          let offset = Int(candidates[index])
          // Equal keys keep the earlier position.
          if block[offset] < keys[0] { siftDown(block[offset], start &+ offset, size: capacity) }
        }
      }
      start &+= length
    }
    var size = capacity
    while size > 1 {
      size &-= 1
      let (key, position) = (keys[size], positions[size])
      (keys[size], positions[size]) = (keys[0], positions[0])
      siftDown(key, position, size: size)
    }
  }

  /// True if the element in slot `a` is worse than the given one.
  @inline(__always)
  private func isWorse(_ a: Int, than key: UInt64, _ position: Int) -> Bool {
    keys[a] > key || (keys[a] == key && positions[a] > position)
  }

  /// Adds an element in the slot `position`, the next free one.
  private func siftUp(_ key: UInt64, _ position: Int) {
    var slot = position
    while slot > 0 {
      let parent = (slot &- 1) / 2
      if isWorse(parent, than: key, position) { break }
      (keys[slot], positions[slot]) = (keys[parent], positions[parent])
      slot = parent
    }
    (keys[slot], positions[slot]) = (key, position)
  }

  /// Puts an element in place of the root of the first `size` slots.
  private func siftDown(_ key: UInt64, _ position: Int, size: Int) {
    var slot = 0
    while true {
      var child = 2 &* slot &+ 1
      if child >= size { break }
      if child &+ 1 < size, isWorse(child &+ 1, than: keys[child], positions[child]) { child &+= 1 }
      if !isWorse(child, than: key, position) { break }
      (keys[slot], positions[slot]) = (keys[child], positions[child])
      slot = child
    }
    (keys[slot], positions[slot]) = (key, position)
  }
}
