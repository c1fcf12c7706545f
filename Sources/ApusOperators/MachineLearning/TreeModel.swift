// The scores of a forest: leaves summed up, or the least or the largest of them, and what becomes of that.

import ApusGraph
import ApusTensor

enum TreeAggregate: String, Sendable, CaseIterable {
  case average = "AVERAGE"
  case sum = "SUM"
  case minimum = "MIN"
  case maximum = "MAX"
}

/// What the scores of a row become.
enum TreeResult: Sendable {
  case regression
  /// The class with the largest score.
  case classes
  /// All leaves speak for one of two classes; weights without a sign are probabilities.
  case twoClasses(isProbability: Bool)
  /// One score for or against the only class.
  case oneClass
}

/// `Score` is the type that sums are made in: float32, or float64 for features or weights of that type.
struct TreeModel<Score: BinaryFloatingPoint & Sendable>: RowModel {
  let forest: TreeForest
  let aggregate: TreeAggregate
  /// Empty, or one number a target.
  let base: [Score]
  let transform: PostTransform
  let result: TreeResult
  /// The element type of the features, and how they become float64 unless they are float32 or float64 themselves.
  let featureType: DataType
  let load: LaneLoad

  private var targets: Int { forest.targetCount }
  var scoreCount: Int { if case .twoClasses = result { 2 } else { targets } }

  func check(columns: Int) throws(OperatorError) {
    // A leaf looks at the first feature too.
    let features = max(forest.featureCount, 1)
    guard columns >= features else {
      throw .mismatch("the trees look at feature \(features - 1); the input has \(columns) features")
    }
  }

  private var isConverted: Bool { featureType != .float32 && featureType != .float64 }
  private var sumBytes: Int { (RowModelKernel.blockRows * targets * MemoryLayout<Score>.stride + 63) / 64 * 64 }
  private var flagBytes: Int { (RowModelKernel.blockRows * targets + 63) / 64 * 64 }
  private var leafBytes: Int { max(RowModelKernel.blockRows, TreeForest.lanes) * 4 }

  func scratchBytes(columns: Int) -> Int {
    sumBytes + flagBytes + leafBytes + (isConverted ? RowModelKernel.blockRows * columns * 8 : 0)
  }
  func cost(columns: Int) -> Cost { .medium * forest.roots.count * forest.depth }

  func run(
    _ rows: UnsafeRawPointer, count: Int, columns: Int, scores: UnsafeMutablePointer<Double>,
    classes: UnsafeMutablePointer<Int>, scratch: UnsafeMutableRawPointer
  ) {
    let sums = scratch.assumingMemoryBound(to: Score.self)
    let flags = (scratch + sumBytes).assumingMemoryBound(to: UInt8.self)
    let leaves = (scratch + sumBytes + flagBytes).assumingMemoryBound(to: Int32.self)
    for index in 0..<count &* targets {
      sums[index] = 0
      flags[index] = 0
    }
    if featureType == .float32 {
      accumulate(rows.assumingMemoryBound(to: Float.self), count, columns, sums, flags, leaves)
    } else if isConverted {
      let converted = scratch + sumBytes + flagBytes + leafBytes
      load(rows, 0, converted, count &* columns)
      accumulate(UnsafePointer(converted.assumingMemoryBound(to: Double.self)), count, columns, sums, flags, leaves)
    } else {
      accumulate(rows.assumingMemoryBound(to: Double.self), count, columns, sums, flags, leaves)
    }
    finish(sums, rows: count, scores, classes)
  }

  /// Adds up the leaves of every row, tree by tree in the order of the trees.
  private func accumulate<Feature: BinaryFloatingPoint>(
    _ rows: UnsafePointer<Feature>, _ count: Int, _ columns: Int, _ sums: UnsafeMutablePointer<Score>,
    _ flags: UnsafeMutablePointer<UInt8>, _ leaves: UnsafeMutablePointer<Int32>
  ) {
    let step = forest.step(rows, count &* columns)
    forest.roots.withUnsafeBufferPointer { roots in
      guard let first = roots.baseAddress else { return }
      if count < TreeForest.lanes {
        for row in 0..<count {
          for tree in stride(from: 0, to: roots.count, by: TreeForest.lanes) {
            let lanes = min(TreeForest.lanes, roots.count &- tree)
            forest.descend(tree: tree, roots: first + tree, step, rows + row &* columns, count: lanes, leaves: leaves)
            for lane in 0..<lanes { add(leaf: leaves[lane], sums + row &* targets, flags + row &* targets) }
          }
        }
        return
      }
      for tree in 0..<roots.count {
        for row in stride(from: 0, to: count, by: TreeForest.lanes) {
          let lanes = min(TreeForest.lanes, count &- row)
          forest.descend(
            tree: tree, root: first[tree], step, rows + row &* columns, columns: columns, count: lanes, leaves: leaves)
          for lane in 0..<lanes {
            let target = (row &+ lane) &* targets
            add(leaf: leaves[lane], sums + target, flags + target)
          }
        }
      }
    }
  }

  @inline(__always)
  private func add(leaf: Int32, _ sums: UnsafeMutablePointer<Score>, _ flags: UnsafeMutablePointer<UInt8>) {
    var entry = Int(forest.starts[Int(leaf)])
    let end = Int(forest.starts[Int(leaf) &+ 1])
    while entry < end {
      let target = Int(forest.targets[entry])
      let weight = Score(forest.weights[entry])
      switch aggregate {
      case .sum, .average: sums[target] += weight
      case .minimum: if flags[target] == 0 || weight < sums[target] { sums[target] = weight }
      case .maximum: if flags[target] == 0 || weight > sums[target] { sums[target] = weight }
      }
      flags[target] = 1
      entry &+= 1
    }
  }

  /// Makes results of the sums of all rows, and the classes. A target that no leaf was for is 0 whatever the aggregate,
  /// as for other runtimes.
  private func finish(
    _ sums: UnsafeMutablePointer<Score>, rows: Int, _ scores: UnsafeMutablePointer<Double>,
    _ classes: UnsafeMutablePointer<Int>
  ) {
    let stride = scoreCount
    for row in 0..<rows {
      for target in 0..<targets {
        var sum = sums[row &* targets &+ target]
        if aggregate == .average { sum /= Score(forest.roots.count) }
        if target < base.count { sum += base[target] }
        scores[row &* stride &+ target] = Double(sum)
      }
    }
    switch result {
    case .regression:
      transform.apply(scores, targets, rows: rows)
      for row in 0..<rows { classes[row] = 0 }
    case .classes: transform.applyAndFindLargest(scores, targets, rows: rows, classes: classes)
    case .twoClasses(let isProbability):
      for row in 0..<rows {
        classes[row] = transform.applyBinary(scores + row &* stride, isProbability: isProbability)
      }
    case .oneClass:
      for row in 0..<rows { classes[row] = scores[row] > 0 ? 1 : 0 }
      transform.apply(scores, 1, rows: rows)
    }
  }
}

/// Prepares a forest's kernel with sums of the type that features and weights ask for.
func prepareTrees(
  _ context: PrepareContext, _ forest: TreeForest, aggregate: TreeAggregate, base: [Double], transform: PostTransform,
  result: TreeResult, labels: ClassLabels?, isDouble: Bool
) throws(OperatorError) -> PreparedKernel {
  func prepare<Score: BinaryFloatingPoint & Sendable>(_: Score.Type) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    guard let load = Lane.float64.load(type) else { throw context.unsupportedType(type) }
    let model = TreeModel<Score>(
      forest: forest, aggregate: aggregate, base: base.map { Score($0) }, transform: transform, result: result,
      featureType: type, load: load)
    guard let labels else { return try RowModelKernel.prepareRegressor(model, context) }
    return try RowModelKernel.prepareClassifier(model, labels, context)
  }
  return try isDouble ? prepare(Double.self) : prepare(Float.self)
}
