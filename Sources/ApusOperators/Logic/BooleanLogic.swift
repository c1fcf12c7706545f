// And, Or, Xor and Not of bool tensors. https://onnx.ai/onnx/operators/onnx__And.html …
// Versions: 1 (one-way broadcasting with `broadcast` and `axis`; Not has only this one), 7.

import ApusGraph
import ApusTensor
import CApusKernels

/// A function of two truth values with broadcasting.
struct BooleanLogic: OperatorDefinition {
  let schema: OperatorSchema
  private let loop: BinaryLoop
  private let kernel: @Sendable () -> CompareKernel
  private let values: @Sendable (Dim, Dim) -> Dim

  private init(
    _ name: String, values: @escaping @Sendable (Dim, Dim) -> Dim, _ loop: @escaping BinaryLoop,
    kernel: @escaping @Sendable () -> CompareKernel
  ) {
    schema = OperatorSchema(
      name, versions: [1, 7], inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("C", "T1")],
      types: ["T": .bool, "T1": .bool], traits: .commutative, layout: .broadcasting)
    self.values = values
    (self.loop, self.kernel) = (loop, kernel)
  }

  // Any byte but 0 is true; results are 0 or 1.
  static let all: [any OperatorDefinition] = [
    BooleanLogic(
      "And", values: { a, b in a.known == 0 || b.known == 0 ? 0 : a.known != nil && b.known != nil ? 1 : .unknown },
      Elementwise.test { (a: UInt8, b: UInt8) in a != 0 && b != 0 }, kernel: { apus_kernels().pointee.and_bool }),
    BooleanLogic(
      "Or",
      values: { a, b in (a.known ?? 0) != 0 || (b.known ?? 0) != 0 ? 1 : a.known == 0 && b.known == 0 ? 0 : .unknown },
      Elementwise.test { (a: UInt8, b: UInt8) in a | b != 0 }, kernel: { apus_kernels().pointee.or_bool }),
    BooleanLogic(
      "Xor",
      values: { a, b in
        guard let x = a.known, let y = b.known else { return .unknown }
        return (x != 0) == (y != 0) ? 0 : 1
      },
      Elementwise.test { (a: UInt8, b: UInt8) in (a == 0) != (b == 0) }, kernel: { apus_kernels().pointee.xor_bool }),
  ]

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version < 7 { try node.upgradeLegacyBroadcast(in: builder) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try inferBroadcast(&context, [0, 1], type: .bool) { values($0[0], $0[1]) }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let loops = try KernelCandidate<ElementFacts, BinaryLoops>.choose(
      .elementwise, type: .bool,
      [
        .plain { Elementwise.spreadingScalars(loop, widths: (1, 1, 1)) },
        .vectors("vectors", types: [.bool]) { Elementwise.comparing(kernel()) },
      ])
    return Elementwise.binary(loops, cost: .light, name: schema.id.name)
  }
}

struct Not: OperatorDefinition {
  let schema = OperatorSchema(
    "Not", versions: [1], inputs: [.required("X", "T")], outputs: [.required("Y", "T")], types: ["T": .bool],
    layout: .elementwise)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let shape = context.shape(0)
    let values = context.elementwiseValues([0], output: shape) { $0[0].known.map { $0 == 0 ? 1 : 0 } ?? .unknown }
    context.set(0, .bool, shape, values: values)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let loop = try Elementwise.choose(
      .bool, plain: Elementwise.test { (x: UInt8) in x == 0 },
      Elementwise.inRange(width: 1, mask: .max, low: 0, span: 0))
    return Elementwise.unary(loop, cost: .light, name: "Not")
  }
}
