// TfIdfVectorizer: counts of n-grams, perhaps weighted. https://onnx.ai/onnx/operators/onnx__TfIdfVectorizer.html
// Versions: 9.

import ApusGraph
import ApusTensor

struct TfIdfVectorizer: OperatorDefinition {
  let schema = OperatorSchema(
    "TfIdfVectorizer", versions: [9],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "T1")],
    attributes: [
      .required("max_gram_length", .int), .required("max_skip_count", .int), .required("min_gram_length", .int),
      .required("mode", .string), .required("ngram_counts", .ints), .required("ngram_indexes", .ints),
      .optional("pool_int64s", .ints), .optional("pool_strings", .strings), .optional("weights", .floats),
    ],
    types: ["T": [.string, .int32, .int64], "T1": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let shape = context.shape(0) else { return context.set(0, .float32, nil) }
    guard shape.count <= 2 else { throw .mismatch("the input has rank \(shape.count); expected [C] or [N, C]") }
    let width = Dim(try NGrams.width(try context.ints("ngram_indexes")))
    context.set(0, .float32, shape.count == 2 ? [shape[0], width] : [width])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let grams = try NGrams(context)
    let width = grams.width
    let weighting = try Weighting(context, grams)
    let ids = grams.tokens
    let isString = try context.type(0) == .string
    guard isString == grams.isString else {
      throw .mismatch("the input is \(try context.type(0)); the pool holds \(grams.isString ? "strings" : "integers")")
    }
    return .eager { (inputs, context) throws(OperatorError) in
      let input = try inputs.tensor(0)
      guard input.rank <= 2 else { throw .mismatch("the input has rank \(input.rank); expected [C] or [N, C]") }
      let rows = input.rank == 2 ? input.shape[0] : 1
      let length = rows == 0 ? 0 : input.count / rows
      // Tokens that are in no n-gram have the number -1.
      let tokens: [Int32]
      if let strings = input.strings {
        tokens = strings.map { ids.strings[ExactString($0)] ?? -1 }
      } else {
        tokens = (input.integers ?? []).map { Int32(truncatingIfNeeded: ids.integers[$0]) }
      }
      let result = try context.allocate(.float32, input.rank == 2 ? [rows, width] : [width])
      nonisolated(unsafe) let target = result.storage.base.assumingMemoryBound(to: Float.self)
      let partition = Partition(rows, of: .heavy * length)
      // The parts write disjoint rows of `result`, which outlives the call.
      context.parallel(parts: rows == 0 ? 0 : partition.parts) { part in
        for row in partition.range(part) {
          let counts = target + row * width
          for index in 0..<width { counts[index] = 0 }
          tokens.withUnsafeBufferPointer { tokens in
            grams.count(UnsafeBufferPointer(rebasing: tokens[row * length..<(row + 1) * length]), counts)
          }
          weighting.apply(counts, width)
        }
      }
      return [.tensor(result)]
    }
  }

  /// What counts become.
  private struct Weighting: Sendable {
    let isBinary: Bool
    /// By output position; empty: ones.
    let weights: [Float]

    init(_ context: PrepareContext, _ grams: NGrams) throws(OperatorError) {
      let mode = try context.string("mode", oneOf: ["TF", "IDF", "TFIDF"])
      isBinary = mode == "IDF"
      let given = context.optionalFloats("weights") ?? []
      guard mode != "TF", !given.isEmpty else {
        weights = []
        return
      }
      guard given.count == grams.indexes.count else {
        throw .invalid("there are \(given.count) weights and \(grams.indexes.count) ngram_indexes")
      }
      // The weight of the i-th n-gram of the pool belongs to the output position of that n-gram.
      var weights = [Float](repeating: 1, count: grams.width)
      for (index, weight) in zip(grams.indexes, given) { weights[index] = weight }
      self.weights = weights
    }

    func apply(_ counts: UnsafeMutablePointer<Float>, _ width: Int) {
      if isBinary { for index in 0..<width { counts[index] = counts[index] > 0 ? 1 : 0 } }
      if !weights.isEmpty { for index in 0..<width { counts[index] *= weights[index] } }
    }
  }
}

/// The n-grams of the pool as a tree of tokens.
private struct NGrams: Sendable {
  let indexes: [Int]
  let width: Int
  let isString: Bool
  /// The numbers of the tokens in the pool.
  let tokens: (integers: IntegerTable, strings: [ExactString: Int32])
  /// By node and token: the node that comes next.
  private let children: IntegerTable
  /// By node: the output position of the n-gram that ends there, or -1.
  private let positions: [Int32]
  private let shortest: Int
  private let longest: Int
  private let skips: Int

  init(_ context: PrepareContext) throws(OperatorError) {
    indexes = try context.ints("ngram_indexes")
    width = try NGrams.width(indexes)
    shortest = try context.int("min_gram_length")
    longest = try context.int("max_gram_length")
    skips = try context.int("max_skip_count")
    guard shortest >= 1, longest >= shortest, skips >= 0 else {
      throw .invalid("n-grams of \(shortest) to \(longest) tokens with \(skips) skips are not possible")
    }
    let (numbers, strings) = (context.optionalInts("pool_int64s") ?? [], context.optionalStrings("pool_strings") ?? [])
    guard numbers.isEmpty || strings.isEmpty else {
      throw .invalid("only one of pool_int64s and pool_strings may be set")
    }
    isString = !strings.isEmpty || context.has("pool_strings")
    var ids: (integers: [Int: Int32], strings: [ExactString: Int32]) = ([:], [:])
    var pool: [Int32] = []
    for number in numbers {
      let next = Int32(ids.integers.count)
      pool.append(ids.integers[number] ?? next)
      if ids.integers[number] == nil { ids.integers[number] = next }
    }
    for string in strings.map({ ExactString($0) }) {
      let next = Int32(ids.strings.count)
      pool.append(ids.strings[string] ?? next)
      if ids.strings[string] == nil { ids.strings[string] = next }
    }
    tokens = (IntegerTable(ids.integers.map { (UInt64(bitPattern: Int64($0.key)), Int($0.value)) }), ids.strings)
    let tree = try NGrams.tree(
      pool, starts: try context.ints("ngram_counts"), lengths: shortest...longest, indexes: indexes)
    children = IntegerTable(tree.children.map { (key: $0.key, value: Int($0.value)) })
    positions = tree.positions
  }

  /// An edge of the tree.
  @inline(__always) private static func edge(_ node: Int32, _ token: Int32) -> UInt64 {
    UInt64(UInt32(bitPattern: node)) << 32 | UInt64(UInt32(bitPattern: token))
  }

  /// The number of outputs: one more than the largest position.
  static func width(_ indexes: [Int]) throws(OperatorError) -> Int {
    guard let largest = indexes.max(), largest < 1 << 28, indexes.allSatisfy({ $0 >= 0 }) else {
      throw .invalid("ngram_indexes is empty, or has negative or huge elements")
    }
    return largest + 1
  }

  /// The n-grams as a tree: those of length n begin at `starts[n - 1]` in the pool.
  private static func tree(
    _ pool: [Int32], starts: [Int], lengths: ClosedRange<Int>, indexes: [Int]
  ) throws(OperatorError) -> (children: [UInt64: Int32], positions: [Int32]) {
    var children: [UInt64: Int32] = [:]
    var positions: [Int32] = [-1]
    var gram = 0
    for (index, start) in starts.enumerated() {
      let end = index + 1 < starts.count ? starts[index + 1] : pool.count
      let length = index + 1
      guard start >= 0, start <= end, end <= pool.count, (end - start) % length == 0 else {
        throw .invalid("ngram_counts is \(starts), which does not divide a pool of \(pool.count) tokens")
      }
      for first in stride(from: start, to: end, by: length) {
        guard gram < indexes.count else { throw .invalid("the pool has more n-grams than there are ngram_indexes") }
        if lengths.contains(length) {
          var node: Int32 = 0
          for token in pool[first..<first + length] {
            let edge = edge(node, token)
            if let next = children[edge] {
              node = next
            } else {
              node = Int32(positions.count)
              children[edge] = node
              positions.append(-1)
            }
          }
          // The first of equal n-grams counts.
          if positions[Int(node)] < 0 { positions[Int(node)] = Int32(indexes[gram]) }
        }
        gram += 1
      }
    }
    return (children, positions)
  }

  /// Counts the n-grams of one row, with every number of tokens skipped between neighbours. Single tokens are counted
  /// once.
  func count(_ row: UnsafeBufferPointer<Int32>, _ counts: UnsafeMutablePointer<Float>) {
    positions.withUnsafeBufferPointer { count(row, counts, positions: $0) }
  }

  private func count(
    _ row: UnsafeBufferPointer<Int32>, _ counts: UnsafeMutablePointer<Float>, positions: UnsafeBufferPointer<Int32>
  ) {
    var smallest = shortest
    // No two tokens of a row lie as far apart as the row is long.
    for distance in 1...min(skips, row.count) + 1 {
      // Farther apart no n-gram fits.
      if smallest > 1, distance > row.count / (smallest - 1) { break }
      for start in row.indices {
        var (node, position, length): (Int32, Int, Int) = (0, start, 1)
        while length <= longest, position < row.endIndex, row[position] >= 0 {
          let next = children[NGrams.edge(node, row[position])]
          if next < 0 { break }
          let output = positions[next]
          if length >= smallest, output >= 0 { counts[Int(output)] += 1 }
          node = Int32(truncatingIfNeeded: next)
          length += 1
          position += distance
        }
      }
      if smallest == 1 {
        smallest = 2
        if smallest > longest { break }
      }
    }
  }
}
