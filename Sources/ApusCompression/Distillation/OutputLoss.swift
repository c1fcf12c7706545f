// How far one model's outputs are from another's, over many samples. Hinton et al., arXiv 1503.02531.

import ApusTensor

/// The loss of one output, as a sum over samples that takes no memory.
public struct OutputLoss: Sendable {
  public let name: String
  private let temperature: Double
  /// Samples, rows (along the last axis) and elements seen.
  private var samples = 0
  private var rows = 0
  private var elements = 0
  private var squares = 0.0
  private var cosines = 0.0
  private var divergence = 0.0
  private var agreements = 0
  private var largest = 0.0

  /// - Parameter temperature: what logits are divided by before the divergence is taken; above 0.
  package init(name: String, temperature: Double = 1) { (self.name, self.temperature) = (name, temperature) }

  /// The loss so far.
  public struct Report: Sendable, Encodable {
    public let output: String
    public let samples: Int
    /// The mean squared error of an element, and the largest error.
    public let meanSquaredError, maximumError: Double
    /// The mean over samples of the cosine between the outputs, taken as vectors.
    public let cosine: Double
    /// The mean over rows of the Kullback-Leibler divergence of the student's softmax from the teacher's, both of
    /// logits over the temperature, times the square of the temperature; nil where rows have one element.
    public let divergence: Double?
    /// The share of the rows whose largest elements are at the same place; nil where rows have one element.
    public let argmaxAgreement: Double?
  }

  public var report: Report {
    let hasRows = elements > rows
    return Report(
      output: name, samples: samples, meanSquaredError: squares / Double(max(elements, 1)), maximumError: largest,
      cosine: cosines / Double(max(samples, 1)),
      divergence: hasRows ? divergence / Double(rows) * temperature * temperature : nil,
      argmaxAgreement: hasRows ? Double(agreements) / Double(rows) : nil)
  }

  /// Adds one sample. Throws where the tensors differ in shape, or are no floats.
  package mutating func add(teacher: Tensor, student: Tensor) throws(CompressionError) {
    guard teacher.shape == student.shape else {
      throw CompressionError(
        .invalidSample, "output '\(name)' is \(teacher.shape) of one model and \(student.shape) of the other")
    }
    guard let a = Self.numbers(teacher), let b = Self.numbers(student) else {
      throw CompressionError(
        .invalidSample, "output '\(name)' is \(teacher.dataType) and \(student.dataType); expected numbers")
    }
    guard !a.isEmpty else { return }
    var (dot, left, right) = (0.0, 0.0, 0.0)
    for (x, y) in zip(a, b) {
      let error = abs(x - y)
      squares += error * error
      largest = error.isNaN ? .nan : max(largest, error)
      dot += x * y
      left += x * x
      right += y * y
    }
    // Two vectors of zeros are alike.
    cosines += left == 0 && right == 0 ? 1 : dot / max((left * right).squareRoot(), .leastNormalMagnitude)
    samples += 1
    elements += a.count
    let length = max(teacher.shape.dims.last ?? 1, 1)
    for start in stride(from: 0, to: a.count, by: length) {
      addRow(a[start..<start + length], b[start..<start + length])
    }
  }

  private mutating func addRow(_ teacher: ArraySlice<Double>, _ student: ArraySlice<Double>) {
    rows += 1
    guard teacher.count > 1 else { return }
    let best = teacher.indices.max { teacher[$0] < teacher[$1] }
    if best == student.indices.max(by: { student[$0] < student[$1] }) { agreements += 1 }
    let (p, q) = (logarithms(teacher), logarithms(student))
    for (a, b) in zip(p, q) where a > -.infinity { divergence += a.exponential * (a - b) }
  }

  /// The logarithm of the softmax.
  private func logarithms(_ row: ArraySlice<Double>) -> [Double] {
    let most = row.max() ?? 0
    let scaled = row.map { ($0 - most) / temperature }
    let total = scaled.reduce(0) { $0 + $1.exponential }.naturalLogarithm
    return scaled.map { $0 - total }
  }

  /// The softmax along the last axis of logits over the temperature, in float32.
  package static func softmax(_ logits: Tensor, temperature: Double) -> Tensor {
    let numbers = numbers(logits) ?? []
    let loss = OutputLoss(name: "", temperature: temperature)
    let length = max(logits.shape.dims.last ?? 1, 1)
    var result: [Float] = []
    for start in stride(from: 0, to: numbers.count, by: length) {
      result += loss.logarithms(numbers[start..<start + length]).map { Float($0.exponential) }
    }
    return Tensor(result, shape: logits.shape)
  }

  private static func numbers(_ tensor: Tensor) -> [Double]? {
    switch tensor.dataType {
    case .float64: tensor.elements(as: Double.self)
    case .float32, .float16, .bfloat16: WeightNumbers.read(tensor)?.map { Double($0) }
    default: tensor.integers?.map { Double($0) }
    }
  }
}
