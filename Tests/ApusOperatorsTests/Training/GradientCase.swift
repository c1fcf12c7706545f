// Gradients against central differences in float64.

import Apus
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Testing

/// One operator on small operands, whose gradients are compared with central differences.
struct GradientCase: CustomStringConvertible, Sendable {
  /// An input of the operator.
  enum Operand: Sendable {
    /// Random float64 numbers of a range, differentiated.
    case x([Int], ClosedRange<Double> = -2...2)
    /// float64 numbers, differentiated.
    case values([Double], [Int])
    /// A constant.
    case constant(Tensor)
    case absent
  }

  let op: String
  let operands: [Operand]
  let attributes: [(String, AttributeValue)]
  let outputs: Int
  /// The largest order of derivatives that is compared.
  let order: Int

  init(
    _ op: String, _ operands: [Operand], _ attributes: [(String, AttributeValue)] = [], outputs: Int = 1, order: Int = 2
  ) {
    (self.op, self.operands, self.attributes) = (op, operands, attributes)
    (self.outputs, self.order) = (outputs, order)
  }

  var description: String { "\(op) \(operands.count)" }

  func check() throws {
    var random = SplitMix64(seed: UInt64(op.utf8.reduce(7) { $0 &* 31 &+ UInt64($1) }))
    var inputs: [Tensor] = []
    for operand in operands {
      switch operand {
      case .x(let shape, let range):
        let count = shape.reduce(1, *)
        inputs.append(Tensor((0..<count).map { _ in random.next(in: range) }, shape: Shape(shape)))
      case .values(let values, let shape): inputs.append(Tensor(values, shape: Shape(shape)))
      case .constant, .absent: break
      }
    }
    for isSymbolic in [false, true] {
      let check = GradientCheck(inputs: inputs, isSymbolic: isSymbolic, order: order)
      try check.run(label: "\(op), \(isSymbolic ? "symbols" : "extents")") { b, xs in
        var next = xs[...]
        let ids: [ValueID?] = operands.map { operand in
          switch operand {
          case .x, .values: next.popFirst()
          case .constant(let tensor): b.constant(tensor)
          case .absent: nil
          }
        }
        return try b.node(op, ids, attributes, outputCount: outputs)
      }
    }
  }
}

/// Compares gradients of sums of sines of the results of a graph, which tell all elements apart.
struct GradientCheck {
  let inputs: [Tensor]
  var isSymbolic = false
  var order = 1
  var tolerance = 2e-6

  /// `body` builds the graph from float64 inputs and returns the values that count.
  func run(label: String, _ body: (GradientGraph, [ValueID]) throws -> [ValueID]) throws {
    let builder = GradientGraph()
    let xs = inputs.enumerated().map { index, tensor in
      let symbols = tensor.shape.indices.map { Dim.symbol("d\(index)_\($0)") }
      return builder.input("x\(index)", isSymbolic ? symbols : [Dim](tensor.shape))
    }
    var loss = try builder.sumOfSines(body(builder, xs).filter { builder.isFloat($0) })
    for level in 1...order {
      let plain = try builder.program([loss])
      let gradients = try builder.gradients(of: loss, xs)
      let found = try builder.program(gradients).values(inputs)
      for (index, tensor) in inputs.enumerated() {
        let expected = try differences(plain, index)
        guard let actual = found[index].elements(as: Double.self), found[index].shape == tensor.shape else {
          Issue.record("\(label): gradient \(index) is \(found[index].dataType)\(found[index].shape)")
          continue
        }
        let errors = zip(actual, expected).map { abs($0 - $1) / max(1, abs($1)) }
        let worst = errors.map { $0.isNaN ? .infinity : $0 }.max() ?? 0
        #expect(worst < tolerance, "\(label), order \(level), input \(index): \(actual) instead of \(expected)")
      }
      if level < order { loss = try builder.sumOfSines(gradients) }
    }
  }

  /// Central differences of a scalar with respect to every element of an input.
  private func differences(_ program: GradientGraph.Runner, _ index: Int) throws -> [Double] {
    guard let values = inputs[index].elements(as: Double.self) else { return [] }
    let step = 1e-5
    return try values.indices.map { position in
      let ends = try [step, -step].map { offset in
        var moved = values
        moved[position] += offset
        var all = inputs
        all[index] = Tensor(moved, shape: inputs[index].shape)
        return try program.values(all)[0].elements(as: Double.self)?.first ?? .nan
      }
      return (ends[0] - ends[1]) / (2 * step)
    }
  }
}

/// A graph with float64 inputs, to which Gradient nodes are added as a reader would.
struct GradientGraph {
  let builder = GraphBuilder()
  var graph: Graph { builder.graph }

  /// A graph inside a node of this one.
  func inside() -> GraphBuilder { GraphBuilder(name: "branch", inference: builder.inference, parent: builder) }

  func input(_ name: String, _ shape: [Dim], _ type: DataType = .float64) -> ValueID {
    builder.input(name, shape, type)
  }

  func constant(_ tensor: Tensor) -> ValueID { builder.addConstant(tensor) }

  func node(
    _ name: String, _ inputs: [ValueID?], _ attributes: [(String, AttributeValue)] = [], outputCount: Int = 1
  ) throws -> [ValueID] {
    try builder.apply(
      OperatorID(name), name: "n\(graph.nodes.count)", inputs, attributes, outputCount: outputCount)
  }

  func isFloat(_ value: ValueID) -> Bool { graph.fact(value).tensor?.dataType == .float64 }

  func sumOfSines(_ values: [ValueID]) throws -> ValueID {
    var sums: [ValueID] = []
    for value in values {
      let sine = try node("Sin", [node("Add", [value, constant(Tensor(scalar: 0.4))])[0]])[0]
      sums.append(try node("ReduceSum", [sine], [("keepdims", .int(0))])[0])
    }
    return try sums.count == 1 ? sums[0] : node("Sum", sums)[0]
  }

  /// The gradients of `y` with respect to `xs`, at `values` instead of at them if given.
  func gradients(
    of y: ValueID, _ xs: [ValueID], zs: [ValueID] = [], at values: [ValueID]? = nil
  ) throws -> [ValueID] {
    let id = OperatorID("Gradient", domain: "ai.onnx.preview.training")
    let outputs = xs.map { _ in builder.addValue() }
    let node = Node(
      id, name: "gradient", inputs: (values ?? xs + zs) + xs + zs + [y], outputs: outputs,
      attributes: Attributes([
        ("xs", .strings(xs.map { "\($0.index)" })), ("zs", .strings(zs.map { "\($0.index)" })), ("y", .string("y")),
      ]))
    try builder.append(node, from: 1)
    return outputs
  }

  /// The graph with these outputs, ready to run.
  func program(_ outputs: [ValueID]) throws -> Runner {
    var graph = graph
    graph.outputs = outputs
    if let error = InferenceDriver(registry: .standard).infer(&graph).first { throw error }
    try GraphVerifier.verify(graph)
    let pool = WorkerPool(threads: 1)
    return Runner(program: try Program(graph: graph, registry: .standard, pool: pool), pool: pool)
  }

  struct Runner {
    let program: Program
    let pool: WorkerPool

    func values(_ inputs: [Tensor]) throws -> [Tensor] {
      try program.run(inputs.map { .tensor($0) }, on: pool).compactMap(\.tensor)
    }
  }
}

extension SplitMix64 {
  mutating func next(in range: ClosedRange<Double>) -> Double {
    range.lowerBound + unit() * (range.upperBound - range.lowerBound)
  }
}
