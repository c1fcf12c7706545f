// The one table of activations: its forms agree with each other, with the operators, epilogues and recurrent layers
// that use it, and give the bits that they have always given.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

@Suite struct ActivationTests {
  private static let kinds = Activation.Kind.allCases
  private static let numbers = (0..<401).map { Float($0 - 200) / 16 }

  /// Parameters that are not the defaults.
  private func activation(_ kind: Activation.Kind) -> Activation {
    switch kind {
    case .clip: Activation(kind, alpha: -0.75, beta: 2)
    case .thresholdedRelu, .elu, .celu, .affine, .scaledTanh, .hardSigmoid, .leakyRelu:
      Activation(kind, alpha: 0.625, beta: 0.25)
    default: Activation(kind)
    }
  }

  private func applied(_ loop: UnaryLoop, _ numbers: [Float]) -> [Float] {
    var y = [Float](repeating: 0, count: numbers.count)
    numbers.withUnsafeBytes { x in
      y.withUnsafeMutableBytes { loop(x.baseAddress!, $0.baseAddress!, numbers.count) }
    }
    return y
  }

  @Test(arguments: kinds) func directFormsAreTheDefinition(_ kind: Activation.Kind) {
    let activation = activation(kind)
    let definition = activation.function.realLoop(Double.self)
    for x in ActivationTests.numbers.map(Double.init) + [.infinity, -3, 0] {
      var (x, y) = (x, 0.0)
      definition(&x, &y, 1)
      let direct = activation.direct(x)
      let isSame = direct == y || direct.isNaN && y.isNaN || abs(direct - y) <= 1e-6 * max(1, abs(y))
      #expect(isSame, "\(kind) of \(x): \(direct), \(y)")
    }
    #expect(activation.direct(Float.nan).isNaN)
  }

  /// What recurrent layers and experts computed before there was one table, bit for bit.
  @Test func directFormsKeepTheirBits() {
    for x in ActivationTests.numbers {
      let wide = Double(x)
      #expect(Activation(.sigmoid).direct(wide) == 1 / (1 + exp(-wide)))
      #expect(Activation(.sigmoid).direct(x) == 1 / (1 + expf(-x)))
      #expect(Activation(.softplus).direct(wide) == (wide > 0 ? wide : 0) + log1p(exp(-abs(wide))))
      #expect(Activation(.silu).direct(x) == x / (1 + expf(-x)))
      #expect(Activation(.silu, alpha: 1.702).direct(x) == x / (1 + expf(-1.702 * x)))
      #expect(Activation(.geluTanh).direct(x) == x / (1 + expf(-1.5957691 * (x + 0.044715 * x * x * x))))
      #expect(Activation(.elu, alpha: 0.5).direct(wide) == (wide < 0 ? 0.5 * expm1(wide) : wide))
      #expect(Activation(.scaledTanh, alpha: 0.5, beta: 0.3).direct(x) == 0.5 * tanhf(0.3 * x))
    }
  }

  /// The operator has the parameters of the table as attributes, with their defaults, and applies the function.
  @Test(arguments: kinds) func operatorsAreTheFunction(_ kind: Activation.Kind) throws {
    guard let id = kind.operator, kind != .clip else { return }
    let schema = try OperatorRegistry.standard.require(id).schema
    for parameter in kind.parameters {
      guard case .float(let value)? = schema.attributes.first(where: { $0.name == parameter.name })?.defaultValue else {
        Issue.record("\(id) has no default of \(parameter.name)")
        continue
      }
      #expect(value == parameter.value)
    }
    let activation = activation(kind)
    var attributes = zip(kind.parameters, [activation.alpha, activation.beta]).map {
      ($0.name, AttributeValue.float($1))
    }
    if kind == .geluTanh { attributes.append(("approximate", .string("tanh"))) }
    let y = try OperatorRun(id.name, attributes: attributes)(Tensor(ActivationTests.numbers))[0]
    let loop = try #require(try activation.function.loop(.float32))
    #expect(y.elements(as: Float.self) == applied(loop, ActivationTests.numbers))
  }

  /// A node that may become an epilogue becomes the one that computes the same bits; on general paths the same numbers.
  @Test(arguments: kinds) func epiloguesAreTheOperators(_ kind: Activation.Kind) throws {
    guard let id = kind.operator, kind != .none, Activation.epilogueOperators.contains(id) else { return }
    let schema = try OperatorRegistry.standard.require(id).schema
    let (low, high) = (Tensor(scalar: -0.75 as Float), Tensor(scalar: 0.5 as Float))
    let attributes: [(String, AttributeValue)] = kind == .geluTanh ? [("approximate", .string("tanh"))] : []
    let bounds: [Tensor?] = kind == .clip ? [low, high] : []
    let node = Node(
      id, inputs: [ValueID(0)] + bounds.indices.map { ValueID($0 + 1) }, outputs: [ValueID(9)],
      attributes: Attributes(attributes))
    let facts = NodeFacts(
      node: node, schema: schema, inputs: [.tensor(.float32, nil)] + bounds.map { _ in .tensor(.float32, []) },
      outputs: [.tensor(.float32, nil)], constants: [nil] + bounds)
    let activation = try #require(Activation(epilogueFor: facts))
    #expect(activation.kind == kind)
    var fused = Attributes()
    activation.write(to: &fused)
    let (a, b) = (sampleTensor([7, 5], seed: 1), sampleTensor([5, 19], seed: 2))
    func gemm(_ attributes: [(String, AttributeValue)]) throws -> Tensor {
      var run = OperatorRun("Gemm", domain: "apus", attributes: attributes)
      run.constantInputs = [1]
      return try run(a, b)[0]
    }
    let entries = fused.entries.map { ($0.name, $0.value) }
    let expected = try OperatorRun(id.name, attributes: attributes)(
      [.tensor(try gemm([]))] + bounds.map { $0.map { .tensor($0) } })
    let wanted = try #require(expected[0].tensor)
    #expect(largestDifference(try gemm(entries), wanted) == 0)
    let general = try KernelSelection.$current.withValue(.plain) { try gemm(entries) }
    #expect(largestDifference(general, wanted) < 2e-6)
  }

  /// A slope of Swish, or a bound that is no constant, has no epilogue.
  @Test func whatNoEpilogueDoesIsLeft() throws {
    func found(_ op: String, _ attributes: [(String, AttributeValue)], bound: Tensor? = nil, inputs: Int = 1) throws
      -> Activation?
    {
      let node = Node(
        OperatorID(op), inputs: (0..<inputs).map { ValueID($0) }, outputs: [ValueID(9)],
        attributes: Attributes(attributes))
      return Activation(
        epilogueFor: NodeFacts(
          node: node, schema: try OperatorRegistry.standard.require(node.op).schema,
          inputs: [ValueFact?](repeating: .tensor(.float32, []), count: inputs), outputs: [.tensor(.float32, [])],
          constants: [nil] + [Tensor?](repeating: bound, count: inputs - 1)))
    }
    #expect(try found("Swish", [])?.kind == .silu)
    #expect(try found("Swish", [("alpha", .float(2))]) == nil)
    #expect(try found("Clip", [])?.alpha == -.infinity)
    #expect(try found("Clip", [], bound: nil, inputs: 2) == nil)
    #expect(try found("Clip", [], bound: Tensor(scalar: Float.nan), inputs: 2) == nil)
    #expect(try found("Clip", [], bound: Tensor(scalar: 2 as Float), inputs: 2)?.alpha == 2)
    #expect(try found("Elu", []) == nil && found("Identity", []) == nil)
  }

  /// A layer of one unit without memory is its activation.
  @Test(arguments: [
    ("Relu", Activation.Kind.relu), ("Tanh", .tanh), ("Sigmoid", .sigmoid), ("Affine", .affine),
    ("LeakyRelu", .leakyRelu), ("ThresholdedRelu", .thresholdedRelu), ("ScaledTanh", .scaledTanh),
    ("HardSigmoid", .hardSigmoid), ("Elu", .elu), ("Softsign", .softsign), ("Softplus", .softplus),
  ]) func recurrentLayersUseIt(_ name: String, _ kind: Activation.Kind) throws {
    let x = ActivationTests.numbers
    let run = OperatorRun("RNN", attributes: [("activations", .strings([name])), ("hidden_size", .int(1))])
    let expected = x.map { Activation(kind).direct(Double($0)) }
    // One step, a batch of all numbers.
    let single = try run(
      Tensor(x, shape: [1, x.count, 1]), Tensor([1 as Float], shape: [1, 1, 1]), Tensor([0 as Float], shape: [1, 1, 1]))
    let numbers = try #require(single[0].elements(as: Float.self))
    #expect(zip(numbers, expected).allSatisfy { abs(Double($0) - $1) <= 2e-6 * max(1, abs($1)) })
    let double = try run(
      Tensor(x.map(Double.init), shape: [1, x.count, 1]), Tensor([1.0], shape: [1, 1, 1]),
      Tensor([0.0], shape: [1, 1, 1]))
    #expect(double[0].elements(as: Double.self) == expected)
  }
}
