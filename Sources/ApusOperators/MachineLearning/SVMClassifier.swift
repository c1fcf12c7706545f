// SVMClassifier: a support vector machine for every pair of classes, or one linear function a class. Versions: 1.
// https://onnx.ai/onnx/operators/onnx_aionnxml_SVMClassifier.html

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

struct SVMClassifier: OperatorDefinition {
  let schema = OperatorSchema(
    "SVMClassifier", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2"), .required("Z", "tensor(float)")],
    attributes: [
      .optional("classlabels_ints", .ints), .optional("classlabels_strings", .strings),
      .optional("coefficients", .floats),
      .optional("kernel_params", .floats), .string("kernel_type", default: "LINEAR"),
      .string("post_transform", default: "NONE"), .optional("prob_a", .floats), .optional("prob_b", .floats),
      .optional("rho", .floats), .optional("support_vectors", .floats), .optional("vectors_per_class", .ints),
    ],
    types: ["T1": featureTypes, "T2": [.string, .int64], "tensor(float)": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let rows = try RowModelKernel.rows(context)
    let labels = try ClassLabels(context, integers: "classlabels_ints")
    context.set(0, labels.dataType, [rows])
    context.set(1, .float32, [rows, Dim(SVMClassifier.scoreCount(context, classes: labels.count))])
  }

  /// Pairs of classes without probabilities, else classes. Two classes always have two scores.
  private static func scoreCount(_ context: some OperatorContext, classes: Int) -> Int {
    let isLinear = (context.optionalInts("vectors_per_class") ?? []).allSatisfy { $0 == 0 }
    let hasProbabilities = !(context.optionalFloats("prob_a") ?? []).isEmpty
    return isLinear || hasProbabilities || classes <= 2 ? classes : classes * (classes - 1) / 2
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    let labels = try ClassLabels(context, integers: "classlabels_ints")
    return type == .float64
      ? try prepare(context, labels, Double.self, .float64) : try prepare(context, labels, Float.self, .float32)
  }

  private func prepare<Scalar: BinaryFloatingPoint & SIMDScalar & Sendable>(
    _ context: PrepareContext, _ labels: ClassLabels, _: Scalar.Type, _ lane: Lane
  ) throws(OperatorError) -> PreparedKernel {
    let coefficients = context.optionalFloats("coefficients") ?? []
    let rho = (context.optionalFloats("rho") ?? []).map { Double($0) }
    let perClass = context.optionalInts("vectors_per_class") ?? []
    guard perClass.allSatisfy({ $0 >= 0 && $0 < 1 << 31 }) else { throw .invalid("vectors_per_class is \(perClass)") }
    let supports = perClass.reduce(0, +)
    let (a, b) = (context.optionalFloats("prob_a") ?? [], context.optionalFloats("prob_b") ?? [])
    var kernel = try SupportKernel(context)
    let transform = try PostTransform(context)
    let type = try context.type(0)
    if supports == 0 {
      guard let rho = rho.first else { throw .invalid("attribute rho (floats) is missing") }
      kernel.kind = .linear
      let model = LinearMachine(
        vectors: try SupportVectors<Scalar>(
          type, lane: lane, kernel: kernel, count: labels.count, elements: coefficients),
        rho: rho, border: labels.count == 2 && a.isEmpty ? LinearBorder(coefficients) : nil, transform: transform)
      return try RowModelKernel.prepareClassifier(model, labels, context)
    }
    let pairs = labels.count * (labels.count - 1) / 2
    guard perClass.count == labels.count, labels.count >= 2, labels.count < 1 << 16, rho.count >= pairs,
      coefficients.count >= (labels.count - 1) * supports, a.count == b.count, a.isEmpty || a.count >= pairs
    else {
      throw .invalid(
        "\(perClass.count) vectors_per_class, \(rho.count) rho, \(coefficients.count) coefficients, \(a.count) prob_a "
          + "and \(b.count) prob_b do not fit \(labels.count) classes with \(supports) vectors")
    }
    let model = PairwiseMachine(
      vectors: try SupportVectors<Scalar>(
        type, lane: lane, kernel: kernel, count: supports, elements: context.optionalFloats("support_vectors") ?? []),
      perClass: perClass, coefficients: coefficients.map { Double($0) }, rho: rho, slopes: a.map { Double($0) },
      offsets: b.map { Double($0) }, transform: transform)
    return try RowModelKernel.prepareClassifier(model, labels, context)
  }
}

/// One linear function a class.
private struct LinearMachine<Scalar: BinaryFloatingPoint & SIMDScalar & Sendable>: RowModel {
  let vectors: SupportVectors<Scalar>
  let rho: Double
  /// Of two classes without probabilities.
  let border: LinearBorder?
  let transform: PostTransform

  var scoreCount: Int { vectors.count }
  func check(columns: Int) throws(OperatorError) { try vectors.check(columns: columns) }
  func scratchBytes(columns: Int) -> Int { vectors.scratchBytes(columns: columns) }
  func cost(columns: Int) -> Cost { vectors.cost(columns: columns) }

  func run(
    _ rows: UnsafeRawPointer, count: Int, columns: Int, scores: UnsafeMutablePointer<Double>,
    classes: UnsafeMutablePointer<Int>, scratch: UnsafeMutableRawPointer
  ) {
    let targets = vectors.count
    for row in 0..<count {
      let values = vectors.values(rows, index: row, columns: columns, scratch: scratch)
      let target = scores + row &* targets
      for index in 0..<targets { target[index] = values[index] + rho }
      classes[row] = choose(target)
      transform.apply(target, targets)
    }
  }

  /// The class of the largest score before the transformation.
  private func choose(_ scores: UnsafePointer<Double>) -> Int {
    var best = 0
    for index in 1..<vectors.count where scores[index] > scores[best] { best = index }
    return border?.isPassed(by: scores[best]) == true ? 1 : best
  }
}

/// What the larger score of two classes has to pass to mean the second class, whichever of them it belongs to: the rule
/// of ONNX Runtime, as the specification does not say how the class is found.
private struct LinearBorder: Sendable {
  /// Without negative weights scores are taken for probabilities.
  let isProbability: Bool

  init(_ coefficients: [Float]) { isProbability = coefficients.allSatisfy { $0 >= 0 } }

  /// In float32, as the scores come out.
  func isPassed(by score: Double) -> Bool { isProbability ? Float(score) >= 0.5 : Float(score) > 0 }
}

/// A machine for every pair of classes; they vote for the class.
private struct PairwiseMachine<Scalar: BinaryFloatingPoint & SIMDScalar & Sendable>: RowModel {
  let vectors: SupportVectors<Scalar>
  let perClass: [Int]
  /// One row less than there are classes, each with one coefficient a vector: row j − 1 of the vectors of class i < j,
  /// and row i of those of class j, decide between i and j.
  let coefficients: [Double]
  let rho: [Double]
  /// Of the logistic functions that make probabilities of the decisions; empty: there are none.
  let slopes: [Double]
  let offsets: [Double]
  let transform: PostTransform

  private var classCount: Int { perClass.count }
  private var pairCount: Int { perClass.count * (perClass.count - 1) / 2 }
  var scoreCount: Int { !slopes.isEmpty || classCount == 2 ? classCount : pairCount }
  func check(columns: Int) throws(OperatorError) { try vectors.check(columns: columns) }
  /// Kernel values, decisions, votes, and the matrices of the probabilities.
  func scratchBytes(columns: Int) -> Int {
    vectors.scratchBytes(columns: columns) + (8 * (pairCount + 2 * classCount + 2 * classCount * classCount) + 63) / 64
      * 64
  }
  func cost(columns: Int) -> Cost { vectors.cost(columns: columns) + .light * 2 * vectors.count * classCount }

  func run(
    _ rows: UnsafeRawPointer, count: Int, columns: Int, scores: UnsafeMutablePointer<Double>,
    classes: UnsafeMutablePointer<Int>, scratch: UnsafeMutableRawPointer
  ) {
    let decisions = (scratch + vectors.scratchBytes(columns: columns)).assumingMemoryBound(to: Double.self)
    let votes = decisions + pairCount
    for row in 0..<count {
      let values = vectors.values(rows, index: row, columns: columns, scratch: scratch)
      decide(values, decisions, votes)
      var best = 0
      for index in 1..<classCount where votes[index] > votes[best] { best = index }
      classes[row] = best
      let target = scores + row &* scoreCount
      if !slopes.isEmpty {
        probabilities(decisions, votes + classCount, target)
        transform.apply(target, classCount)
      } else if classCount == 2 {
        target[0] = decisions[0]
        _ = transform.applyBinary(target, isProbability: false)
      } else {
        for index in 0..<pairCount { target[index] = decisions[index] }
        transform.apply(target, pairCount)
      }
    }
  }

  private func decide(
    _ values: UnsafePointer<Double>, _ decisions: UnsafeMutablePointer<Double>, _ votes: UnsafeMutablePointer<Double>
  ) {
    for index in 0..<classCount { votes[index] = 0 }
    var pair = 0
    var startI = 0
    for i in 0..<classCount {
      var startJ = startI &+ perClass[i]
      for j in i &+ 1..<max(classCount, i &+ 1) {
        var sum = 0.0
        let (rowI, rowJ) = ((j &- 1) &* vectors.count, i &* vectors.count)
        for index in startI..<startI &+ perClass[i] { sum += coefficients[rowI &+ index] * values[index] }
        for index in startJ..<startJ &+ perClass[j] { sum += coefficients[rowJ &+ index] * values[index] }
        sum += rho[pair]
        decisions[pair] = sum
        votes[sum > 0 ? i : j] += 1
        pair &+= 1
        startJ &+= perClass[j]
      }
      startI &+= perClass[i]
    }
  }

  /// Probabilities of the classes from those of the pairs: T.-F. Wu, C.-J. Lin, R. Weng, Probability Estimates for
  /// Multi-class Classification by Pairwise Coupling, JMLR 5 (2004), second method. `scratch` holds 2·k² + k numbers.
  private func probabilities(
    _ decisions: UnsafePointer<Double>, _ scratch: UnsafeMutablePointer<Double>, _ result: UnsafeMutablePointer<Double>
  ) {
    let k = classCount
    let (r, q, qp) = (scratch, scratch + k &* k, scratch + 2 &* k &* k)
    var pair = 0
    for i in 0..<k {
      r[i &* k &+ i] = 0
      for j in i &+ 1..<max(k, i &+ 1) {
        let probability = 1 / (1 + exp(decisions[pair] * slopes[pair] + offsets[pair]))
        let bounded = min(max(probability, 1e-7), 1 - 1e-7)
        (r[i &* k &+ j], r[j &* k &+ i]) = (bounded, 1 - bounded)
        pair &+= 1
      }
    }
    for i in 0..<k {
      result[i] = 1 / Double(k)
      var sum = 0.0
      for j in 0..<k where j != i {
        sum += r[j &* k &+ i] * r[j &* k &+ i]
        q[i &* k &+ j] = -r[j &* k &+ i] * r[i &* k &+ j]
      }
      q[i &* k &+ i] = sum
    }
    for _ in 0..<max(100, k) {
      var total = 0.0
      for i in 0..<k {
        qp[i] = 0
        for j in 0..<k { qp[i] += q[i &* k &+ j] * result[j] }
        total += result[i] * qp[i]
      }
      var error = 0.0
      for i in 0..<k { error = max(error, abs(qp[i] - total)) }
      if error < 0.005 / Double(k) { break }
      for i in 0..<k {
        let step = (total - qp[i]) / q[i &* k &+ i]
        result[i] += step
        total = (total + step * (step * q[i &* k &+ i] + 2 * qp[i])) / ((1 + step) * (1 + step))
        for j in 0..<k {
          qp[j] = (qp[j] + step * q[i &* k &+ j]) / (1 + step)
          result[j] /= 1 + step
        }
      }
    }
  }
}
