// What the models of ai.onnx.ml share: rows of features in, scores and classes out. https://onnx.ai/onnx/operators/
// Rank 1 is one row.

import ApusGraph
import ApusTensor

/// The element types of features.
let featureTypes: TypeSet = [.float32, .float64, .int64, .int32]

/// A model that gives some scores to each row of features, and perhaps a class.
protocol RowModel: Sendable {
  /// The number of scores of a row.
  var scoreCount: Int { get }
  /// Throws if rows of so many features do not fit the model.
  func check(columns: Int) throws(OperatorError)
  /// Bytes of scratch memory for `RowModelKernel.blockRows` rows, a multiple of 64.
  func scratchBytes(columns: Int) -> Int
  /// The cost of one row.
  func cost(columns: Int) -> Cost
  /// Writes the scores and classes of at most `RowModelKernel.blockRows` rows. `rows` is the first of them, in elements
  /// of the input's type.
  func run(
    _ rows: UnsafeRawPointer, count: Int, columns: Int, scores: UnsafeMutablePointer<Double>,
    classes: UnsafeMutablePointer<Int>, scratch: UnsafeMutableRawPointer)
}

/// The names of classes: a model's classes are positions in this list.
enum ClassLabels: Sendable {
  case integers([Int])
  case strings([String])

  /// Exactly one of the two attributes; the positions themselves if there is neither and `isOptional` is set.
  init(
    _ context: some OperatorContext, integers: String, strings: String = "classlabels_strings", isOptional: Bool = false
  ) throws(OperatorError) {
    let (numbers, names) = (context.optionalInts(integers) ?? [], context.optionalStrings(strings) ?? [])
    guard numbers.isEmpty || names.isEmpty, isOptional || !numbers.isEmpty || !names.isEmpty else {
      throw .invalid("expected one of the attributes \(integers) and \(strings)")
    }
    self = names.isEmpty ? .integers(numbers) : .strings(names)
  }

  var count: Int {
    switch self {
    case .integers(let labels): labels.count
    case .strings(let labels): labels.count
    }
  }

  var dataType: DataType {
    switch self {
    case .integers: .int64
    case .strings: .string
    }
  }

  /// With 0 or the empty string as a class before the only one, for models that say "this or not".
  var orNothing: ClassLabels {
    switch self {
    case .integers(let labels): .integers([0] + labels)
    case .strings(let labels): .strings([""] + labels)
    }
  }

  /// At least `count` labels: positions where there are none.
  func filled(to count: Int) -> ClassLabels {
    if case .integers(let labels) = self, labels.isEmpty { return .integers(Array(0..<count)) }
    return self
  }
}

/// Runs a `RowModel`: planned, unless the classes are strings.
enum RowModelKernel {
  /// Rows that a model gets at a time.
  static let blockRows = 64

  /// Rows and columns of the features.
  static func extents(_ shape: Shape) throws(OperatorError) -> (rows: Int, columns: Int) {
    guard shape.rank == 1 || shape.rank == 2 else {
      throw .mismatch("the features have the shape \(shape); expected [rows, columns] or [columns]")
    }
    return shape.rank == 1 ? (1, shape[0]) : (shape[0], shape[1])
  }

  /// The symbolic number of rows; throws if the rank cannot be.
  static func rows(_ context: InferenceContext) throws(OperatorError) -> Dim {
    guard let shape = context.shape(0) else { return .unknown }
    guard shape.count == 1 || shape.count == 2 else {
      throw .mismatch("the features have rank \(shape.count); expected [rows, columns] or [columns]")
    }
    return shape.count == 1 ? 1 : shape[0]
  }

  /// A regressor: output 0 holds the scores.
  static func prepareRegressor(_ model: some RowModel, _ context: PrepareContext) throws(OperatorError)
    -> PreparedKernel
  {
    let input = try context.type(0)
    guard let store = Lane.float64.store(context.outputType(0) ?? .float32) else {
      throw context.unsupportedType(input)
    }
    return .planned { (plan) throws(OperatorError) in
      let (rows, columns) = try extents(plan.shape(0))
      try model.check(columns: columns)
      let blocks = Blocks(model, input: input, rows: rows, columns: columns)
      return .parallel(parts: blocks.partition.parts, scratchBytes: blocks.scratchBytes) { run, part in
        blocks.run(model, run.inputBytes(0), part: part, scratch: run.scratch) { scores, _, first, count in
          store(scores, run.outputBytes(0), first &* model.scoreCount, count &* model.scoreCount)
        }
      }
    }
  }

  /// A classifier: output 0 holds the classes, output 1 the scores.
  static func prepareClassifier(
    _ model: some RowModel, _ labels: ClassLabels, _ context: PrepareContext
  ) throws(OperatorError) -> PreparedKernel {
    let input = try context.type(0)
    guard let store = Lane.float64.store(.float32) else { throw context.unsupportedType(input) }
    guard case .integers(let numbers) = labels else { return classifier(model, labels, input, store) }
    return .planned { (plan) throws(OperatorError) in
      let (rows, columns) = try extents(plan.shape(0))
      try model.check(columns: columns)
      let blocks = Blocks(model, input: input, rows: rows, columns: columns)
      let (wantsClasses, wantsScores) = (plan.isWanted(0), plan.isWanted(1))
      return .parallel(parts: blocks.partition.parts, scratchBytes: blocks.scratchBytes) { run, part in
        blocks.run(model, run.inputBytes(0), part: part, scratch: run.scratch) { scores, classes, first, count in
          if wantsScores { store(scores, run.outputBytes(1), first &* model.scoreCount, count &* model.scoreCount) }
          guard wantsClasses else { return }
          let target: UnsafeMutablePointer<Int> = run.output(0)
          numbers.withUnsafeBufferPointer { numbers in
            for row in 0..<count { target[first &+ row] = numbers[classes[row]] }
          }
        }
      }
    }
  }

  /// With strings as labels.
  private static func classifier(
    _ model: some RowModel, _ labels: ClassLabels, _ input: DataType, _ store: @escaping LaneStore
  ) -> PreparedKernel {
    guard case .strings(let names) = labels else { return .eager { (_, _) throws(OperatorError) in [] } }
    return .eager { (inputs, context) throws(OperatorError) in
      let features = try inputs.tensor(0)
      let (rows, columns) = try extents(features.shape)
      try model.check(columns: columns)
      let aligned = try context.allowance.aligned(features, to: 16)
      let blocks = Blocks(model, input: input, rows: rows, columns: columns)
      let scores = try context.allocate(.float32, [rows, model.scoreCount])
      let classes = try context.allocate(.int64, [rows])
      let scratch = try context.allocate(.uint8, [blocks.scratchBytes])
      // The parts write disjoint rows, and `aligned` and the tensors outlive the call.
      nonisolated(unsafe) let target = (scores: scores.storage.base, classes: classes.storage.base)
      context.parallel(parts: blocks.partition.parts) { part in
        blocks.run(model, aligned.base, part: part, scratch: scratch.storage.base) { block, found, first, count in
          store(block, target.scores, first &* model.scoreCount, count &* model.scoreCount)
          (target.classes + first &* 8).copyMemory(from: found, byteCount: count &* 8)
        }
      }
      withExtendedLifetime((aligned, scratch)) {}
      let positions = classes.elements(as: Int.self) ?? []
      return [.tensor(try context.tensor(strings: positions.map { names[$0] }, shape: [rows])), .tensor(scores)]
    }
  }

  /// How rows are divided into parts and blocks.
  private struct Blocks: Sendable {
    let partition: Partition
    let scratchBytes: Int
    private let partBytes: Int
    private let scoreBytes: Int
    private let columns: Int
    private let rowBytes: Int

    init(_ model: some RowModel, input: DataType, rows: Int, columns: Int) {
      // Parts are whole blocks, so that a row lies in the same place of a block for any number of threads.
      let blockCount = (rows + blockRows - 1) / blockRows
      partition = Partition(blockCount, of: model.cost(columns: columns) * blockRows)
      self.rows = rows
      self.columns = columns
      rowBytes = columns * input.byteWidth
      scoreBytes = (blockRows * model.scoreCount * 8 + 63) / 64 * 64
      partBytes = scoreBytes + blockRows * 8 + model.scratchBytes(columns: columns)
      scratchBytes = partBytes * partition.parts
    }

    private let rows: Int

    /// Calls the model for every block of a part, and `finish` with scores, classes, the first row and the number of
    /// rows.
    @inline(__always)
    func run(
      _ model: some RowModel, _ features: UnsafeRawPointer, part: Int, scratch: UnsafeMutableRawPointer,
      finish: (UnsafePointer<Double>, UnsafePointer<Int>, _ first: Int, _ count: Int) -> Void
    ) {
      let base = scratch + part &* partBytes
      let scores = base.assumingMemoryBound(to: Double.self)
      let classes = (base + scoreBytes).assumingMemoryBound(to: Int.self)
      for block in partition.range(part) {
        let first = block &* blockRows
        let count = min(blockRows, rows &- first)
        model.run(
          features + first &* rowBytes, count: count, columns: columns, scores: scores, classes: classes,
          scratch: base + scoreBytes + blockRows &* 8)
        finish(scores, classes, first, count)
      }
    }
  }
}
