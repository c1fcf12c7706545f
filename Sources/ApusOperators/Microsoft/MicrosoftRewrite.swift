// Operators of com.microsoft that become standard operators while a file is read.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md

import ApusGraph
import ApusTensor

/// Whether float16 and bfloat16 become float32 for the operators that an operator is written as, so that it rounds
/// once.
enum Widening: Sendable {
  /// One operator computes, or none.
  case none
  case always
  /// Where an optional input is there.
  case with(input: Int)
}

/// A rule that writes its nodes as standard operators, so that every pass knows what they are.
struct MicrosoftRewrite: ImportRule {
  let schema: OperatorSchema
  let readAs = "standard operators"
  private let widening: Widening
  private let body: @Sendable (inout Rewriter) throws(OperatorError) -> Void

  init(
    _ name: String, domain: String = "com.microsoft", inputs: [Parameter], outputs: [Parameter],
    attributes: [AttributeSchema] = [], types: [String: TypeSet],
    widening: Widening = .none, _ body: @escaping @Sendable (inout Rewriter) throws(OperatorError) -> Void
  ) {
    schema = OperatorSchema(
      name, domain: domain, versions: [1], inputs: inputs, outputs: outputs, attributes: attributes, types: types)
    self.widening = widening
    self.body = body
  }

  func emit(_ node: Node, from version: Int, into builder: GraphBuilder) throws(OperatorError) {
    try node.validate(against: schema)
    try node.validateTypes(node.inputs.map { $0.map { builder.fact($0) } }, against: schema)
    var rewriter = Rewriter(node, schema, in: builder)
    if widens(node) {
      try rewriter.widenHalves()
      try body(&rewriter)
      try rewriter.narrowOutputs()
    } else {
      try body(&rewriter)
    }
    guard rewriter.isFinished else { throw .unsupported("\(schema.id) cannot be read") }
  }

  private func widens(_ node: Node) -> Bool {
    switch widening {
    case .none: false
    case .always: true
    case .with(let input): input < node.inputs.count && node.inputs[input] != nil
    }
  }
}

extension TypeSet {
  static let microsoftFloats: TypeSet = [.float32, .float16, .bfloat16]
  static let bytes: TypeSet = [.uint8, .int8]
  static let int32: TypeSet = [.int32]
  static let float32: TypeSet = [.float32]
}
