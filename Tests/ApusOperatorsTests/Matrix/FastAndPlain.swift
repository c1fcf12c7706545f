// What the tests of arithmetic operators share: each operator in its fast and in its plain form, on the same inputs.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

/// One operator with its attributes, run in its forms.
struct FormComparison {
  var name: String
  var domain = ""
  var attributes: [(String, AttributeValue)] = []
  var outputs = 1
  var tolerance = 2e-5

  init(
    _ name: String, domain: String = "", _ attributes: [(String, AttributeValue)] = [], outputs: Int = 1,
    tolerance: Double = 2e-5
  ) {
    (self.name, self.domain, self.attributes) = (name, domain, attributes)
    (self.outputs, self.tolerance) = (outputs, tolerance)
  }

  private func operatorRun(threads: Int, constants: Set<Int>) -> OperatorRun {
    var run = OperatorRun(name, domain: domain, attributes: attributes)
    run.threads = threads
    run.constantInputs = constants
    return run
  }

  func run(_ inputs: [Tensor?], plain: Bool = false, threads: Int = 1, constants: Set<Int> = []) throws -> [Tensor] {
    try KernelSelection.$current.withValue(plain ? .plain : .cheapest) {
      try operatorRun(threads: threads, constants: constants)(
        inputs.map { $0.map { .tensor($0) } }, outputs: outputs
      ).compactMap(\.tensor)
    }
  }

  /// The fast form must give what the plain form gives; the same bits with constants and with three threads; and in
  /// float16 and bfloat16 what float32 gives, rounded.
  func check(
    _ inputs: [Tensor?], constants: Set<Int> = [], halves: Bool = true,
    sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let fast = try run(inputs)
    let plain = try run(inputs, plain: true)
    #expect(fast.count == outputs, sourceLocation: sourceLocation)
    for (a, b) in zip(fast, plain) {
      #expect(a.shape == b.shape, sourceLocation: sourceLocation)
      let worst = distance(a, b)
      #expect(worst <= tolerance, "\(name): the forms differ by \(worst)", sourceLocation: sourceLocation)
    }
    for other in [try run(inputs, threads: 3), try run(inputs, threads: 2, constants: constants)] {
      for (a, b) in zip(fast, other) {
        #expect(haveSameBits(a, b), "\(name): other bits", sourceLocation: sourceLocation)
      }
    }
    guard halves else { return }
    for type in [DataType.float16, .bfloat16] {
      // The same numbers in both types, so that only the result is rounded.
      let narrow = inputs.map { $0.map { $0.dataType == .float32 ? narrowed($0, type) : $0 } }
      let wide = narrow.map { $0.map { $0.dataType == type ? widened($0) : $0 } }
      let limit = type == .float16 ? 2e-3 : 1.6e-2
      for (a, b) in zip(try run(narrow, constants: constants), try run(wide)) {
        let worst = distance(widened(a), b, relative: true)
        #expect(worst <= limit, "\(name): \(type) differs by \(worst)", sourceLocation: sourceLocation)
      }
    }
  }
}

/// The largest difference of two tensors of float32; infinity where only one is finite.
func distance(_ a: Tensor, _ b: Tensor, relative: Bool = false) -> Double {
  guard a.shape == b.shape, let x = a.elements(as: Float.self), let y = b.elements(as: Float.self) else {
    return .infinity
  }
  var worst = 0.0
  for (p, q) in zip(x, y) where p.bitPattern != q.bitPattern && !(p.isNaN && q.isNaN) {
    let difference = abs(Double(p) - Double(q))
    worst = max(worst, difference.isNaN ? .infinity : relative ? difference / max(1, abs(Double(q))) : difference)
  }
  return worst
}

func haveSameBits(_ a: Tensor, _ b: Tensor) -> Bool {
  a.dataType == b.dataType && a.shape == b.shape
    && a.elements(as: UInt8.self, reinterpreting: true) == b.elements(as: UInt8.self, reinterpreting: true)
}

/// A float32 tensor as float16 or bfloat16, and back.
func narrowed(_ tensor: Tensor, _ type: DataType) -> Tensor {
  let values = tensor.elements(as: Float.self) ?? []
  return type == .float16
    ? Tensor(values.map { Float16($0) }, shape: tensor.shape) : Tensor(values.map { BFloat16($0) }, shape: tensor.shape)
}

func widened(_ tensor: Tensor) -> Tensor {
  if let values = tensor.elements(as: Float16.self) { return Tensor(values.map { Float($0) }, shape: tensor.shape) }
  if let values = tensor.elements(as: BFloat16.self) { return Tensor(values.map(\.float), shape: tensor.shape) }
  return tensor
}
