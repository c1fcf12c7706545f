// Rows of features times coefficients, plus intercepts: what LinearClassifier and LinearRegressor compute.

import ApusGraph
import ApusTensor

/// How the scores of a linear model become its result.
enum LinearResult: Sendable {
  case regression
  /// The class with the largest score.
  case classes
  /// One score for the second of two classes.
  case twoClasses
  /// One score for the second of two classes, or one for each: the number of features tells how many there are.
  case oneOrTwoScores
  /// One score for or against the only class.
  case oneClass
}

/// `coefficients` holds one row of weights a target. Computes in float32, for features of float64 in float64.
struct LinearModel<Scalar: BinaryFloatingPoint & SIMDScalar & Sendable>: RowModel {
  let load: LaneLoad
  let coefficients: [Scalar]
  let intercepts: [Scalar]
  let transform: PostTransform
  let result: LinearResult
  /// The number of targets; for `oneOrTwoScores` two.
  let targets: Int

  var scoreCount: Int { result == .twoClasses ? 2 : targets }

  /// The rows of coefficients of so many features.
  private func rowCount(columns: Int) -> Int {
    result == .oneOrTwoScores && coefficients.count == columns ? 1 : targets
  }

  /// Where the attributes say how many targets there are, further coefficients are left alone, as in ONNX Runtime.
  func check(columns: Int) throws(OperatorError) {
    let (product, overflow) = columns.multipliedReportingOverflow(by: rowCount(columns: columns))
    let isGiven = result == .regression || !intercepts.isEmpty
    guard !overflow, product == coefficients.count || (isGiven && product < coefficients.count) else {
      throw .mismatch("\(coefficients.count) coefficients do not fit \(targets) targets of \(columns) features")
    }
  }

  func scratchBytes(columns: Int) -> Int {
    (RowModelKernel.blockRows * columns * MemoryLayout<Scalar>.stride + 63) / 64 * 64
  }
  func cost(columns: Int) -> Cost { .light * 2 * (columns + 8) * targets }

  func run(
    _ rows: UnsafeRawPointer, count: Int, columns: Int, scores: UnsafeMutablePointer<Double>,
    classes: UnsafeMutablePointer<Int>, scratch: UnsafeMutableRawPointer
  ) {
    let features = UnsafePointer(scratch.assumingMemoryBound(to: Scalar.self))
    let (rowCount, stride) = (rowCount(columns: columns), scoreCount)
    load(rows, 0, scratch, count &* columns)
    coefficients.withUnsafeBufferPointer { coefficients in
      guard let weights = coefficients.baseAddress else { return }
      for score in 0..<rowCount {
        let intercept = intercepts.isEmpty ? nil : intercepts[score]
        for index in 0..<count {
          let sum = dotProduct(features + index &* columns, weights + score &* columns, columns)
          scores[index &* stride &+ score] = Double(intercept.map { sum + $0 } ?? sum)
        }
      }
    }
    finish(scores, rows: count, given: rowCount, classes)
  }

  /// Makes results of `given` scores of each row, and the classes.
  private func finish(
    _ scores: UnsafeMutablePointer<Double>, rows: Int, given: Int, _ classes: UnsafeMutablePointer<Int>
  ) {
    switch result {
    case .regression:
      transform.apply(scores, targets, rows: rows)
      for row in 0..<rows { classes[row] = 0 }
    case .classes: transform.applyAndFindLargest(scores, targets, rows: rows, classes: classes)
    case .oneOrTwoScores where given == 2: transform.applyAndFindLargest(scores, 2, rows: rows, classes: classes)
    case .twoClasses, .oneOrTwoScores:
      for row in 0..<rows {
        // Beside a score as it is stands what is left to 1, as in onnxruntime; what is transformed is the negative and
        // the score itself, also for PROBIT.
        let score = scores[2 &* row]
        (scores[2 &* row], scores[2 &* row &+ 1]) = (transform == .none ? 1 - score : -score, score)
        classes[row] = score > 0 ? 1 : 0
      }
      transform.apply(scores, 2, rows: rows)
    case .oneClass:
      for row in 0..<rows { classes[row] = scores[row] >= 0 ? 1 : 0 }
      transform.apply(scores, 1, rows: rows)
    }
  }
}

extension Node {
  /// Notes in the graph that a linear model has more coefficients than its targets have features, if that is known.
  func noteExtraCoefficients(targets: Int, in builder: GraphBuilder) {
    guard targets > 0, let x = inputs.first ?? nil, let columns = builder.shape(x)?.last?.known,
      let count = attributes.floats("coefficients")?.count,
      case (let used, let overflow) = columns.multipliedReportingOverflow(by: targets), !overflow, used < count
    else { return }
    builder.graph.notes.append(
      "\(op) '\(name)': only the first \(used) of \(count) coefficients count: \(targets) rows of \(columns) features")
  }
}

extension LinearModel {
  init(
    _ type: DataType, lane: Lane, coefficients: [Float], intercepts: [Float], transform: PostTransform,
    result: LinearResult, targets: Int
  ) throws(OperatorError) {
    guard let load = lane.load(type) else { throw .unsupported("features of \(type)") }
    guard targets > 0, intercepts.isEmpty || intercepts.count == targets else {
      throw .invalid("\(intercepts.count) intercepts for \(targets) targets")
    }
    self.init(
      load: load, coefficients: coefficients.map { Scalar($0) }, intercepts: intercepts.map { Scalar($0) },
      transform: transform, result: result, targets: targets)
  }
}
