// The forms that nodes have in older operator sets of ai.onnx and ai.onnx.ml, for files that older runtimes shall read.
// Attributes and inputs that came later, and what went without them, are in the schemas (`since`), as are the versions
// that only added element types (`portable`). What is here by name is what changed in another way, in operators that
// changed so: made by comparing all versions of the schemas of onnx 1.23.2 from operator set 7 on.

import ApusGraph
import ApusTensor

/// The forms of the standard operators.
package struct OlderForms: OpsetForms {
  package let floor = PortableForm.floor
  package let firstWithoutJoinedNodes = 13

  package init() {}

  package func form(
    of node: Node, versions: [Int], in target: OpsetTarget, _ builder: GraphBuilder
  ) -> Node? {
    OlderForm(opset: target.opset, source: target.source).form(of: node, versions: versions, in: builder)
  }

  package func decomposed(_ node: Node, in builder: GraphBuilder) throws(OperatorError) -> [Node]? {
    try Decomposition.nodes(for: node, in: builder)
  }

  package var decomposedOperators: [String] { Decomposition.rules.keys.sorted() }

  package func obstacle(of node: Node, in target: OpsetTarget, _ registry: OperatorRegistry) -> String {
    guard let schema = registry.definition(of: node.op)?.schema else { return "" }
    if let first = schema.versions.first, target.opset < first { return ": it came with operator set \(first)" }
    let young = schema.attributes.filter { attribute in
      guard target.opset < attribute.since, let value = node.attributes[attribute.name] else { return false }
      return !attribute.isDefault(value)
    }
    if young.isEmpty { return "" }
    return ": " + young.map { "its attribute \($0.name) came with operator set \($0.since)" }.joined(separator: ", ")
  }

  package func joined(_ graph: Graph) -> Graph { FlattenedAxes.restored(graph) }
}

/// Writes a node, which has the newest form of its operator, as an operator set has it.
private struct OlderForm {
  /// The operator set to write for.
  let opset: Int
  /// The operator set that the model was read from: what it could say there needs no proof that it can be said again.
  let source: Int

  /// The node as the operator set has it; nil if it cannot say the same. May add constants, and nodes before it, to
  /// `builder`. `versions` are those of the operator.
  func form(of node: Node, versions: [Int], in builder: GraphBuilder) -> Node? {
    let schema = builder.registry.definition(of: node.op)?.schema
    if node.op.domain == "ai.onnx.ml" { return learningForm(of: node, versions: versions) }
    guard node.op.domain.isEmpty else { return node }
    guard var result = specialForm(of: node, in: builder) else { return nil }
    if result.op == node.op, opset < versions.first ?? 1 { return nil }
    let types = (node.inputs + node.outputs).map { $0.flatMap { builder.fact($0).elementType } }
    if types.contains(where: { $0.map { Self.firstOpset(of: $0) > opset } ?? false }) { return nil }
    if opset < source {
      if TypeHistory.oldestOpset(of: node, { builder.fact($0).elementType }) > opset { return nil }
      let needed = schema?.oldestOpset(of: node, types: types) ?? 1
      if needed > PortableForm.floor, needed > opset { return nil }
    }
    guard let written = result.op == node.op ? schema : builder.registry.definition(of: result.op)?.schema else {
      return result
    }
    for young in written.attributes where opset < young.since {
      guard let value = result.attributes.remove(young.name) else { continue }
      if !young.isDefault(value) { return nil }
    }
    for (position, young) in written.inputs.enumerated() where opset < young.since && position < result.inputs.count {
      guard let value = result.inputs[position] else { continue }
      guard let attribute = young.formerAttribute, let tensor = builder.constant(value),
        let content = Self.attribute(tensor, attribute.kind)
      else { return nil }
      // An empty list of axes says what a missing one says.
      if tensor.count > 0 || young.presence == .required { result.attributes[attribute.name] = content }
      result.inputs[position] = nil
    }
    while result.inputs.last == .some(nil) { result.inputs.removeLast() }
    return FrontAxes(opset: opset, source: source).form(of: result, in: builder)
  }

  /// The first operator set that has an element type at all, which is the first whose Cast has it.
  private static func firstOpset(of type: DataType) -> Int {
    switch type {
    case .bfloat16: 13
    case .float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz: 19
    case .uint4, .int4: 21
    case .float4e2m1: 23
    case .float8e8m0: 24
    case .uint2, .int2: 25
    case .float6e2m3, .float6e3m2: 28
    default: 1
    }
  }

  /// A constant as the value of an attribute; nil if it cannot be.
  private static func attribute(_ tensor: Tensor, _ kind: AttributeKind) -> AttributeValue? {
    switch kind {
    case .ints: return tensor.integers.map { .ints($0) }
    case .int: return tensor.count == 1 ? tensor.integers?.first.map { .int($0) } : nil
    case .float:
      guard tensor.count == 1 else { return nil }
      switch tensor.dataType {
      case .float32: return tensor.elements(as: Float.self)?.first.map { .float($0) }
      case .float16: return tensor.elements(as: Float16.self)?.first.map { .float(Float($0)) }
      case .float64:
        guard let value = tensor.elements(as: Double.self)?.first, Double(Float(value)) == value else { return nil }
        return .float(Float(value))
      default: return nil
      }
    default: return nil
    }
  }

  /// Gemm with a zero to add, which it did not do without.
  private func sumForm(of node: Node, _ builder: GraphBuilder) -> Node? {
    let zero: Tensor
    switch node.inputs[0].flatMap({ builder.fact($0).elementType }) {
    case .float32: zero = Tensor([Float(0)])
    case .float64: zero = Tensor([Double(0)])
    case .float16: zero = Tensor([Float16(0)])
    case .int32: zero = Tensor([Int32(0)])
    case .int64: zero = Tensor([Int64(0)])
    case .uint32: zero = Tensor([UInt32(0)])
    case .uint64: zero = Tensor([UInt64(0)])
    default: return nil
    }
    var form = node
    form.inputs = node.inputs.prefix(2) + [builder.addConstant(zero)]
    form.attributes["beta"] = nil
    return form
  }

  // MARK: Operators that changed in other ways

  private func specialForm(of node: Node, in builder: GraphBuilder) -> Node? {
    switch node.op.name {
    case "Attention", "RotaryEmbedding": return FullOperands.form(of: node, in: builder)
    case "CastLike": return opset < 15 ? castForm(of: node, in: builder.graph) : node
    case "Clip": return opset < 11 && hasCrossedBounds(node, in: builder) ? nil : node
    case "Max", "Mean", "Min", "Sum":
      return opset >= 8 || opset >= source || isOfOneShape(node, in: builder) ? node : nil
    case "Gemm":
      return opset >= 11 || (node.inputs.count > 2 && node.inputs[2] != nil) ? node : sumForm(of: node, builder)
    case "DFT": return opset >= 20 || (node.inputs.count > 2 && node.inputs[2] != nil) ? node : nil
    case "GridSample": return opset < 20 ? gridSampleForm(of: node) : node
    case "GroupNormalization": return opset < 21 ? nil : node
    // What was there before was an experiment with other attributes.
    case "MeanVarianceNormalization": return opset >= 9 ? node : nil
    case "OptionalHasElement": return opset >= 18 || node.inputs.first ?? nil != nil ? node : nil
    case "Pad": return padForm(of: node, in: builder)
    case "QuantizeLinear", "DequantizeLinear": return opset < firstOpset(ofCodes: node, in: builder) ? nil : node
    case "Reshape": return opset < 14 ? reshapeForm(of: node, in: builder.graph) : node
    case "Resize": return ResizeForms(opset: opset, source: source).form(of: node, in: builder)
    case "RoiAlign":
      if opset >= 16 { return node }
      return node.attributes.string("coordinate_transformation_mode") == "output_half_pixel"
        ? node.without("coordinate_transformation_mode") : nil
    case "ScatterElements", "ScatterND":
      let reduction = node.attributes.string("reduction")
      if opset < 18, reduction == "min" || reduction == "max" { return nil }
      if node.op.name == "ScatterND" || opset >= 11 { return node }
      var result = node.without("reduction")
      result.op = OperatorID("Scatter")
      return opset >= 9 && reduction ?? "none" == "none" ? result : nil
    case "Slice":
      guard opset < 10, node.inputs.count > 4, let steps = node.inputs[4] else { return node }
      guard builder.constant(steps)?.integers?.allSatisfy({ $0 == 1 }) ?? false else { return nil }
      var result = node
      result.inputs.removeLast()
      return result
    case "Softmax", "LogSoftmax", "Hardmax": return opset < 13 ? rowForm(of: node, in: builder.graph) : node
    // What was there before was an experiment.
    case "ThresholdedRelu": return opset >= 10 ? node : nil
    case "Split": return opset < 18 ? splitForm(of: node, in: builder.graph) : node
    default: return node
    }
  }

  /// True if the lower bound is above the upper one, which runtimes refuse in attributes.
  private func hasCrossedBounds(_ node: Node, in builder: GraphBuilder) -> Bool {
    guard node.inputs.count > 2, let low = builder.constant(node.inputs[1]),
      let high = builder.constant(node.inputs[2]),
      case .float(let least)? = Self.attribute(low, .float), case .float(let most)? = Self.attribute(high, .float)
    else { return false }
    return least > most
  }

  /// True if all operands are known to have the same shape: before version 8 none is broadcast.
  private func isOfOneShape(_ node: Node, in builder: GraphBuilder) -> Bool {
    let shapes = node.inputs.map { builder.shape($0)?.concrete }
    return shapes.count == 1 || shapes.allSatisfy { $0 != nil && $0 == shapes[0] }
  }

  /// Before version 18 there is a number for each axis, before 19 none of them goes round.
  private func padForm(of node: Node, in builder: GraphBuilder) -> Node? {
    if opset < 19, node.attributes.string("mode") == "wrap" { return nil }
    guard opset < 18, node.inputs.count > 3, let list = node.inputs[3] else { return node }
    guard let rank = builder.shape(node.inputs[0])?.count, let axes = builder.constant(list)?.integers,
      let pads = builder.constant(node.inputs[1])?.integers, pads.count == 2 * axes.count
    else { return nil }
    var all = [Int](repeating: 0, count: 2 * rank)
    for (place, axis) in axes.enumerated() {
      let position = axis < 0 ? axis + rank : axis
      guard position >= 0, position < rank else { return nil }
      (all[position], all[rank + position]) = (pads[place], pads[axes.count + place])
    }
    var result = node
    result.inputs[1] = builder.addConstant(Tensor(all.map { Int64($0) }))
    result.inputs[3] = nil
    return result
  }

  /// The first operator set whose QuantizeLinear and DequantizeLinear have the element types of a node, and scales for
  /// each channel if it has several.
  private func firstOpset(ofCodes node: Node, in builder: GraphBuilder) -> Int {
    let types = (node.inputs + node.outputs).compactMap { $0.flatMap { builder.fact($0).elementType } }
    if types.contains(where: { $0 == .int16 || $0 == .uint16 }) { return 21 }
    if types.contains(where: { $0 == .float16 || $0 == .bfloat16 }) { return 19 }
    let scale = node.inputs.count > 1 ? node.inputs[1] : nil
    let hasOneScale = builder.shape(scale)?.allSatisfy { $0.known == 1 } ?? false
    return hasOneScale ? 10 : 13
  }

  private func castForm(of node: Node, in graph: Graph) -> Node? {
    guard node.inputs.count == 2, let like = node.inputs[1], let type = graph.fact(like).tensor?.dataType else {
      return nil
    }
    var result = node
    result.op = OperatorID("Cast")
    result.inputs.removeLast()
    result.attributes["to"] = .int(Int(type.rawValue))
    return result
  }

  private func gridSampleForm(of node: Node) -> Node? {
    var result = node
    switch node.attributes.string("mode") ?? "linear" {
    case "linear": result.attributes["mode"] = .string("bilinear")
    case "cubic": result.attributes["mode"] = .string("bicubic")
    default: break
    }
    return result
  }

  /// Before version 14 an extent of 0 is copied from the data.
  private func reshapeForm(of node: Node, in graph: Graph) -> Node? {
    guard node.attributes.int("allowzero") ?? 0 != 0 else { return node.without("allowzero") }
    guard node.inputs.count == 2, let shape = graph.constant(node.inputs[1])?.integers, !shape.contains(0) else {
      return nil
    }
    return node.without("allowzero")
  }

  /// Before version 13 all axes from `axis` on were one; it is the same for the last axis, which could be counted from
  /// the end from version 11 on. See `FlattenedAxes` for those that were read so.
  private func rowForm(of node: Node, in graph: Graph) -> Node? {
    if node.attributes[FlattenedAxes.mark] != nil { return node.without(FlattenedAxes.mark) }
    let axis = node.attributes.int("axis") ?? -1
    var result = node
    if let input = node.inputs.first ?? nil, let rank = graph.fact(input).tensor?.shape?.count, rank > 0 {
      guard axis == -1 || axis == rank - 1 else { return nil }
      result.attributes["axis"] = .int(rank - 1)
    } else {
      guard axis == -1, opset >= 11 else { return nil }
      result.attributes["axis"] = .int(-1)
    }
    return result
  }

  /// Before version 18 parts without lengths are equal.
  private func splitForm(of node: Node, in graph: Graph) -> Node? {
    guard let count = node.attributes.int("num_outputs") else { return node }
    if opset < source {
      guard count > 0, let input = node.inputs[0], let shape = graph.fact(input).tensor?.shape else { return nil }
      let axis = node.attributes.int("axis") ?? 0
      let position = axis < 0 ? axis + shape.count : axis
      guard shape.indices.contains(position), let extent = shape[position].known, extent % count == 0 else {
        return nil
      }
    }
    return node.without("num_outputs")
  }

  // MARK: ai.onnx.ml

  private func learningForm(of node: Node, versions: [Int]) -> Node? {
    guard opset >= versions.first ?? 1 else { return nil }
    let hasTensors = node.attributes.entries.contains { $0.name.hasSuffix("_as_tensor") }
    let tables = ["keys_tensor", "values_tensor", "default_tensor"]
    let hasTables = node.attributes.entries.contains { tables.contains($0.name) }
    switch node.op.name {
    // Version 5 has TreeEnsemble instead.
    case "TreeEnsembleClassifier", "TreeEnsembleRegressor":
      return opset < 5 && (opset >= 3 || !hasTensors) ? node : nil
    case "LabelEncoder": return opset >= 4 || (opset >= 2 && !hasTables) ? node : nil
    default: return node
    }
  }
}

extension AttributeSchema {
  /// True if the value says what a node says that does not have the attribute.
  fileprivate func isDefault(_ value: AttributeValue) -> Bool {
    switch (value, defaultValue) {
    case (.int(let a), .int(let b)?): a == b
    case (.string(let a), .string(let b)?): a == b
    case (.ints(let values), nil): isOnesByDefault && values.allSatisfy { $0 == 1 }
    default: false
    }
  }
}

extension OperatorSchema {
  /// The oldest operator set, not below `PortableForm.floor`, in which a node of this operator means the same. `types`
  /// are those of its operands, nil where one is absent or unknown.
  fileprivate func oldestOpset(of node: Node, types: [DataType?]) -> Int {
    let newest = versions.last ?? 1
    guard newest > PortableForm.floor else { return newest }
    guard let portable else { return newest }
    let young = Set(attributes.filter { $0.since > portable.opset }.map(\.name))
    if node.attributes.entries.contains(where: { young.contains($0.name) }) { return newest }
    for (operand, type) in zip(node.inputs + node.outputs, types) where operand != nil {
      guard let type, portable.types.contains(type) else { return newest }
    }
    return portable.opset
  }
}

extension ValueFact {
  /// The element type of a tensor, or of the tensors in a container; nil if it is unknown or the value is none.
  fileprivate var elementType: DataType? {
    switch self {
    case .tensor(let tensor): tensor.dataType
    case .sequence(let element), .optional(let element): element.elementType
    case .map, .unknown: nil
    }
  }
}

extension Node {
  /// The same node without an attribute.
  func without(_ attribute: String) -> Node {
    var copy = self
    copy.attributes[attribute] = nil
    return copy
  }
}
