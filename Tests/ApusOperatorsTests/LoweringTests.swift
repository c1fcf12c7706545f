// Every operator of the engine's own domain is written to files as standard operators that compute the same.

import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct LoweringTests {
  /// A node of the engine's own domain, its inputs random float32 numbers where they are not given.
  struct Case: CustomStringConvertible, Sendable {
    enum Operand: Sendable {
      case floats(Shape)
      case weights(Shape)
      case constant(Tensor)
      case absent
    }

    let op: String
    let operands: [Operand]
    var attributes: [(String, AttributeValue)] = []

    var description: String { "\(op) \(attributes.map { "\($0.0) \($0.1)" })" }
  }

  private static let pads: [(String, AttributeValue)] = [("pads", .ints([1, 1, 1, 1]))]
  private static let window: [(String, AttributeValue)] =
    pads + [("kernel_shape", .ints([3, 3])), ("strides", .ints([2, 2]))]

  private static func activation(_ name: String, _ alpha: Float = 0, _ beta: Float = 0) -> [(String, AttributeValue)] {
    [("activation", .string(name)), ("activation_alpha", .float(alpha)), ("activation_beta", .float(beta))]
  }

  private static let image = Case.Operand.floats([2, 7, 6, 4])
  private static let variances = Case.Operand.constant(Tensor([0.5, 2, 1, 0] as [Float]))
  private static let bytes = Tensor((0..<168).map { UInt8(truncatingIfNeeded: $0 * 73) }, shape: [1, 7, 6, 4])
  private static let filter = Tensor((0..<180).map { Int8(truncatingIfNeeded: $0 * 37) }, shape: [5, 4, 3, 3])

  private static let cases: [Case] =
    [
      Case(op: "Gemm", operands: [.floats([3, 8]), .weights([8, 5])]),
      Case(
        op: "Gemm", operands: [.floats([3, 8]), .weights([5, 8]), .weights([5])], attributes: [("transB", .int(1))]),
      Case(
        op: "Gemm", operands: [.floats([2, 3, 8]), .weights([5, 8]), .absent, .floats([2, 3, 5])],
        attributes: [("transB", .int(1)), ("alpha", .float(0.5))]),
      Case(op: "Gemm", operands: [.floats([8]), .weights([8, 5]), .weights([5])]),
      Case(op: "Conv", operands: [image, .weights([5, 4, 3, 3])], attributes: pads),
      Case(op: "Conv", operands: [image, .weights([4, 1, 3, 3]), .weights([4])], attributes: [("group", .int(4))]),
      Case(op: "Conv", operands: [.floats([1, 9, 2]), .weights([3, 2, 4])]),
      Case(
        op: "Conv", operands: [image, .weights([5, 4, 3, 3]), .absent, .floats([2, 7, 6, 5])],
        attributes: pads + activation("relu")),
      Case(
        op: "Attention",
        operands: [
          .constant(sampleTensor([2, 3, 4, 8], seed: 1)), .constant(sampleTensor([2, 3, 5, 8], seed: 2)),
          .floats([2, 3, 5, 6]),
        ],
        attributes: [("scale", .float(0.3))]),
      Case(
        op: "Attention",
        operands: [
          .floats([2, 4, 16]), .floats([2, 5, 16]), .floats([2, 5, 12]),
          .constant(Tensor((0..<20).map { $0 < 5 ? -.infinity : Float($0 % 3) }, shape: [4, 5])),
        ],
        attributes: [("scale", .float(0.3)), ("q_num_heads", .int(2)), ("kv_num_heads", .int(2))]),
      Case(
        op: "Attention",
        operands: [
          .constant(sampleTensor([1, 6, 4, 8], seed: 1)), .constant(sampleTensor([1, 2, 5, 8], seed: 2)),
          .constant(sampleTensor([1, 2, 5, 6], seed: 3)), .floats([1, 6, 4, 5]),
        ]),
      Case(op: "ConvTranspose", operands: [image, .weights([4, 3, 2, 2]), .weights([3])]),
      Case(
        op: "BatchNormalization", operands: [image, .weights([4]), .weights([4]), .weights([4]), variances],
        attributes: [("epsilon", .float(0.5))]),
      Case(op: "MaxPool", operands: [image], attributes: window),
      Case(op: "AveragePool", operands: [image], attributes: window + [("count_include_pad", .int(1))]),
      Case(op: "GlobalAveragePool", operands: [image]),
      Case(
        op: "QLinearConv",
        operands: [
          .constant(bytes), .constant(Tensor(scalar: Float(0.1))), .constant(Tensor(scalar: UInt8(120))),
          .constant(filter), .constant(Tensor(scalar: Float(0.02))), .constant(Tensor(scalar: Int8(0))),
          .constant(Tensor(scalar: Float(0.5))), .constant(Tensor(scalar: UInt8(128))),
          .constant(Tensor([1, -2, 3, -4, 5] as [Int32])),
        ], attributes: pads),
    ] + byteCases
    + [
      ("none", 0, 0), ("relu", 0, 0), ("clip", -0.5, 0.5), ("clip", 0, .infinity), ("leaky_relu", 0.3, 0),
      ("sigmoid", 0, 0), ("tanh", 0, 0), ("hard_sigmoid", 0.3, 0.4), ("hard_swish", 0, 0), ("silu", 0, 0),
      ("gelu", 0, 0), ("gelu_tanh", 0, 0),
    ].flatMap { (name: String, alpha: Float, beta: Float) in
      [
        Case(
          op: "Gemm", operands: [.floats([3, 8]), .weights([8, 5]), .weights([5]), .floats([3, 5])],
          attributes: activation(name, alpha, beta)),
        Case(
          op: "Conv", operands: [image, .weights([5, 4, 3, 3]), .weights([5])],
          attributes: pads + activation(name, alpha, beta)),
        Case(
          op: "BatchNormalization", operands: [image, .weights([4]), .weights([4]), .weights([4]), variances],
          attributes: activation(name, alpha, beta)),
      ]
    }

  private static func number<Element: TensorElement>(_ value: Element) -> Case.Operand {
    .constant(Tensor(scalar: value))
  }
  private static let rows = Tensor((0..<24).map { UInt8(truncatingIfNeeded: $0 * 73) }, shape: [3, 8])
  private static let matrix = Tensor((0..<40).map { Int8(truncatingIfNeeded: $0 * 37) }, shape: [8, 5])
  private static let transposedMatrix = Tensor((0..<40).map { Int8(truncatingIfNeeded: $0 * 41) }, shape: [5, 8])
  private static let columnScales = Tensor((1...5).map { Float($0) / 64 })

  /// Weights of some bits, their scales and zero points: alike everywhere, in each row, or in each block.
  private static let bitCases: [Case] = [2, 4, 8].flatMap { bits in
    [0, 1, 2].map { kind in
      let (rows, blocks, size) = (3, 3, 16)
      let codes = (0..<rows * blocks * size * bits / 8).map { UInt8(truncatingIfNeeded: $0 * 73) }
      let place = (0..<rows * blocks).map { kind == 0 ? 1 : kind == 1 ? $0 / blocks + 1 : $0 + 1 }
      var zeros = [UInt8](repeating: 0, count: rows * ((blocks * bits + 7) / 8))
      for (index, number) in place.enumerated() {
        let bit = index % blocks * bits
        zeros[index / blocks * ((blocks * bits + 7) / 8) + bit / 8] |= UInt8(number % (1 << bits)) << UInt8(bit % 8)
      }
      return Case(
        op: "MatMulNBits",
        operands: [
          .floats([2, blocks * size]), .constant(Tensor(codes, shape: [rows, blocks, size * bits / 8])),
          .constant(Tensor(place.map { Float($0) / 256 }, shape: [rows, blocks])),
          kind == 1 ? .absent : .constant(Tensor(zeros, shape: [rows, zeros.count / rows])), .absent, .weights([rows]),
        ],
        attributes: [
          ("N", .int(rows)), ("K", .int(blocks * size)), ("bits", .int(bits)), ("block_size", .int(size)),
        ])
    }
  }

  private static let byteCases: [Case] =
    bitCases + [
      Case(
        op: "IntegerGemm",
        operands: [
          .constant(rows), .constant(matrix), number(UInt8(120)), number(Int8(3)), number(Float(0.02)), .weights([5]),
          .floats([3, 5]),
        ], attributes: activation("relu")),
      Case(
        op: "IntegerGemm",
        operands: [.constant(rows), .constant(transposedMatrix), .absent, .absent, .constant(columnScales)],
        attributes: [("transB", .int(1))]),
      Case(
        op: "QLinearGemm",
        operands: [
          .constant(rows), number(Float(0.125)), number(UInt8(120)), .constant(transposedMatrix),
          .constant(columnScales), .constant(Tensor([0, 1, -1, 2, 3] as [Int8])), number(Float(2)), number(Int8(-5)),
          .constant(Tensor([1, -2, 3, -4, 5] as [Int32])),
        ], attributes: [("transB", .int(1))]),
      Case(
        op: "QLinearReduceMean",
        operands: [
          .constant(rows), .constant(Tensor([1])), number(Float(0.25)), number(UInt8(100)), number(Float(0.75)),
          number(Int8(3)),
        ], attributes: [("keepdims", .int(0))]),
      Case(
        op: "ByteMap",
        operands: [.constant(matrix), .constant(Tensor((0..<256).map { UInt8(truncatingIfNeeded: $0 * 7) }))]),
      Case(
        op: "ByteMap", operands: [.constant(rows), .constant(Tensor((0..<256).map { Int8(truncatingIfNeeded: $0) }))]),
    ]
    + ["QLinearAdd", "QLinearMul"].map { op in
      Case(
        op: op,
        operands: [
          .constant(rows), number(Float(0.25)), number(UInt8(100)),
          .constant(Tensor((0..<8).map { Int8(truncatingIfNeeded: $0 * 31) })), number(Float(0.5)), number(Int8(-3)),
          number(Float(0.75)), number(UInt8(130)),
        ])
    }

  @Test func everyOperatorHasACase() {
    let own = OperatorRegistry.standard.all.filter { $0.schema.id.domain == OperatorID.engineDomain }
    #expect(own.allSatisfy { $0 is any EngineOperator })
    #expect(Set(own.map(\.schema.id.name)) == Set(Self.cases.map(\.op)))
  }

  @Test(arguments: cases) func computesTheSame(_ test: Case) throws {
    let builder = GraphBuilder()
    var values: [Value] = []
    let inputs = test.operands.enumerated().map { index, operand -> ValueID? in
      switch operand {
      case .absent: return nil
      case .constant(let tensor): return builder.addConstant(tensor)
      case .weights(let shape): return builder.weights(shape)
      case .floats(let shape):
        values.append(.tensor(sampleTensor(shape, seed: index + 5)))
        return builder.input("x\(index)", shape.indices.map { .symbol("d\(index)_\($0)") })
      }
    }
    builder.output(try builder.node(test.op, inputs, test.attributes, domain: OperatorID.engineDomain))
    let lowered = try builder.graph.lowered(builder.inference)
    try GraphVerifier.verify(lowered, registry: .standard)
    #expect(!lowered.nodes.contains { $0.op.domain == OperatorID.engineDomain })
    let (own, standard) = (try result(of: builder.graph, values), try result(of: lowered, values))
    if own.dataType == .float32 {
      #expect(largestDifference(own, standard) < 1e-5)
    } else {
      #expect(own.dataType == standard.dataType && own.elements(as: UInt8.self) == standard.elements(as: UInt8.self))
    }
  }

  /// Where rows may be rounded to bfloat16, the standard operators round them, as a kernel does that can.
  @Test func roundsRows() throws {
    let builder = GraphBuilder()
    let matrix = builder.addConstant(try cast(sampleTensor([32, 5], seed: 3), .bfloat16))
    let inputs = [builder.input("x", [3, 32]), matrix]
    builder.output(try builder.node("Gemm", inputs, [("narrow", .int(1))], domain: OperatorID.engineDomain))
    let lowered = try builder.graph.lowered(builder.inference)
    try GraphVerifier.verify(lowered, registry: .standard)
    #expect(lowered.nodes.map(\.op.name) == ["Cast", "Cast", "Cast", "Gemm"])
    let x = sampleTensor([3, 32], seed: 4)
    let values = [Value.tensor(try cast(try cast(x, .bfloat16), .float32))]
    let standard = try result(of: lowered, [.tensor(x)])
    #expect(largestDifference(standard, try result(of: lowered, values)) == 0)
    let own = try result(of: builder.graph, FusedGemm.canRoundRows ? [.tensor(x)] : values)
    #expect(largestDifference(own, standard) < 1e-5)
  }

  private func cast(_ tensor: Tensor, _ type: DataType) throws -> Tensor {
    let run = OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])
    return try run(tensor)[0]
  }

  private func result(of graph: Graph, _ inputs: [Value]) throws -> Tensor {
    let pool = WorkerPool(threads: 1)
    let program = try Program(graph: graph, registry: .standard, pool: pool)
    return try #require(program.run(inputs, on: pool)[0].tensor)
  }

  @Test func lowersGraphsInsideNodes() throws {
    let builder = GraphBuilder()
    let (x, condition) = (builder.input("x", [3, 8]), builder.input("c", [], .bool))
    let branch = GraphBuilder(name: "branch", inference: builder.inference, parent: builder)
    let product = [branch.importing(x, of: builder), branch.weights([8, 5])]
    branch.output(try branch.node("Gemm", product, domain: OperatorID.engineDomain))
    let subgraph = AttributeValue.graph(branch.subgraph)
    builder.output(try builder.node("If", [condition], [("then_branch", subgraph), ("else_branch", subgraph)]))
    let lowered = try builder.graph.lowered(builder.inference)
    try GraphVerifier.verify(lowered, registry: .standard)
    #expect(lowered.nodes[0].subgraphs.map { $0.subgraph.graph.nodes.map(\.op.description) } == [["Gemm"], ["Gemm"]])
  }
}
