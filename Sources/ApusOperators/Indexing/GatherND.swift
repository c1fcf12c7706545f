// GatherND: slices at tuples of indices. https://onnx.ai/onnx/operators/onnx__GatherND.html
// Versions: 11, 12 (batch_dims), 13 (bfloat16).

import ApusGraph
import ApusTensor

struct GatherND: OperatorDefinition {
  let schema = OperatorSchema(
    "GatherND", versions: [11, 12, 13],
    inputs: [.required("data", "T"), .required("indices", "tensor(int64)")], outputs: [.required("output", "T")],
    attributes: [.int("batch_dims", default: 0).since(12)], types: ["T": .basic, "tensor(int64)": .int64],
    traits: .rearranges)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let batches = try context.int("batch_dims")
    guard let data = context.shape(0), let indices = context.shape(1) else {
      return context.set(0, context.type(0), nil)
    }
    guard batches >= 0, batches < min(data.count, indices.count) else {
      throw .mismatch("batch_dims is \(batches); expected 0 to \(min(data.count, indices.count) - 1)")
    }
    for axis in 0..<batches where data[axis].isSurelyDifferent(from: indices[axis]) {
      throw .mismatch("data \(data.text) and indices \(indices.text) differ on the batch axis \(axis)")
    }
    guard let length = indices[indices.count - 1].known else { return context.set(0, context.type(0), nil) }
    guard length >= 1, length <= data.count - batches else {
      throw .mismatch("the tuples of indices have \(length) elements; expected 1 to \(data.count - batches)")
    }
    context.set(0, context.type(0), Array(indices[..<(indices.count - 1)]) + data[(batches + length)...])
    context.moveValues(of: self)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let batches = try context.int("batch_dims")
    return .moving { plan throws(OperatorError) in
      guard let data = plan.inputs[0], let indices = plan.inputs[1], let reader = IndexReader(indices.dataType) else {
        throw .mismatch("data or indices is no tensor")
      }
      let length = indices.shape[indices.shape.rank - 1]
      let tuples = IndexTuples(data: data, first: batches, length: length, reader: reader)
      let count = indices.count / length
      let perBatch = max(1, indices.shape.count(of: batches..<indices.shape.rank - 1))
      let batchBytes = data.shape.count(of: batches..<data.shape.rank) * data.dataType.byteWidth
      let bytes = tuples.sliceBytes
      let gather = GatherRun(width: bytes)
      let partition = Partition(count, of: .medium + .copying(bytes: bytes))
      let parts = count * bytes == 0 ? 0 : partition.parts
      let scratch = tuples.scratchBytes
      return Step.parallel(parts: parts, scratchBytes: parts * scratch) { run, part in
        let memory = run.scratch + part &* scratch
        let range = partition.range(part)
        var tuple = range.lowerBound
        while tuple < range.upperBound {
          let batch = tuple / perBatch
          let length = min(tuples.block, range.upperBound &- tuple, (batch &+ 1) &* perBatch &- tuple)
          guard let offsets = tuples.offsets(run.inputBytes(1), from: tuple, length, memory, run) else { return }
          gather(run.inputBytes(0) + batch &* batchBytes, offsets, length, run.outputBytes() + tuple &* bytes)
          tuple &+= length
        }
      }.named("gather tuples", cost: .copying(bytes: bytes) * count)
    }
  }
}

/// Tuples of indices into consecutive axes of a tensor.
struct IndexTuples: Sendable {
  /// The longest block of tuples that is read at a time.
  let block: Int
  /// Bytes of what one tuple names.
  let sliceBytes: Int
  /// Bytes that `offsets` needs to work in.
  let scratchBytes: Int
  private let shape: Shape
  private let first: Int
  private let length: Int
  private let strides: [Int]
  private let reader: IndexReader

  /// Tuples of `length` indices into the axes of `data` from `first` on.
  init(data: TensorType, first: Int, length: Int, reader: IndexReader) {
    shape = data.shape
    self.first = first
    self.length = length
    self.reader = reader
    strides = data.shape.strides.map { $0 * data.dataType.byteWidth }
    sliceBytes = data.shape.count(of: first + length..<data.shape.rank) * data.dataType.byteWidth
    block = max(1, IndexReader.block / length)
    scratchBytes = (block * length * 8 + 63) & ~63
  }

  /// The byte offsets that `count` tuples name, in `memory`; nil after reporting an index that is out of range.
  func offsets(
    _ indices: UnsafeRawPointer, from start: Int, _ count: Int, _ memory: UnsafeMutableRawPointer, _ run: RunContext
  ) -> UnsafePointer<Int>? {
    let numbers = memory.assumingMemoryBound(to: Int.self)
    reader.read(indices, from: start &* length, count &* length, into: numbers)
    // Each offset takes the place of a number that has been read.
    for tuple in 0..<count {
      var total = 0
      for position in 0..<length {
        let number = numbers[tuple &* length &+ position]
        let extent = shape[first &+ position]
        let index = number < 0 ? number &+ extent : number
        guard index >= 0, index < extent else {
          run.fail(indexMessage(number, extent: extent, axis: first + position, shape: shape))
          return nil
        }
        total &+= index &* strides[first &+ position]
      }
      numbers[tuple] = total
    }
    return UnsafePointer(numbers)
  }
}
