// The forms that nodes have in older operator sets of ai.onnx and ai.onnx.ml, for files that older runtimes shall read.
// Made by comparing all versions of the schemas of onnx 1.23.2 from operator set 7 on.

import ApusGraph
import ApusTensor

/// The forms of the standard operators.
package struct OlderForms: OpsetForms {
  package let floor = PortableOpsets.floor
  package let firstWithoutJoinedNodes = 13

  package init() {}

  package func form(
    of node: Node, versions: [Int], in target: OpsetTarget, _ builder: GraphBuilder
  ) -> Node? {
    OlderForm(opset: target.opset, source: target.source).form(of: node, versions: versions, in: builder)
  }

  package func joined(_ graph: Graph) -> Graph { FlattenedAxes.restored(graph) }
}

/// Writes a node, which has the newest form of its operator, as an operator set has it.
private struct OlderForm {
  /// The operator set to write for.
  let opset: Int
  /// The operator set that the model was read from.
  let source: Int

  /// An attribute that versions before `since` do not have; what they do is what it says by `value`.
  private struct YoungAttribute {
    let name: String
    let since: Int
    let value: Value

    enum Value {
      case int(Int)
      case string(String)
      /// A list of ones.
      case ones
      /// Never to be left out.
      case none
    }
  }

  /// An input that versions before `since` do not have, or have as an attribute.
  private struct YoungInput {
    let position: Int
    let since: Int
    var attribute: (name: String, kind: AttributeKind)?
  }

  private static let casting = [
    YoungAttribute(name: "saturate", since: 19, value: .int(1)),
    YoungAttribute(name: "round_mode", since: 24, value: .string("up")),
  ]

  private static let youngAttributes: [String: [YoungAttribute]] = [
    "ArgMax": [.init(name: "select_last_index", since: 12, value: .int(0))],
    "ArgMin": [.init(name: "select_last_index", since: 12, value: .int(0))],
    "Attention": [
      .init(name: "left_window_size", since: 25, value: .int(-1)),
      .init(name: "right_window_size", since: 25, value: .int(-1)),
    ],
    "AveragePool": [
      .init(name: "ceil_mode", since: 10, value: .int(0)), .init(name: "dilations", since: 19, value: .ones),
    ],
    "BatchNormalization": [.init(name: "training_mode", since: 14, value: .int(0))],
    "Cast": casting,
    "CastLike": casting,
    "DepthToSpace": [.init(name: "mode", since: 11, value: .string("DCR"))],
    "DequantizeLinear": [
      .init(name: "axis", since: 13, value: .int(1)), .init(name: "block_size", since: 21, value: .int(0)),
      .init(name: "output_dtype", since: 23, value: .int(0)),
    ],
    "Dropout": [.init(name: "seed", since: 12, value: .none)],
    "GRU": [.init(name: "layout", since: 14, value: .int(0))],
    "GatherND": [.init(name: "batch_dims", since: 12, value: .int(0))],
    "LSTM": [.init(name: "layout", since: 14, value: .int(0))],
    "LpPool": [.init(name: "ceil_mode", since: 18, value: .int(0)), .init(name: "dilations", since: 18, value: .ones)],
    "MaxPool": [
      .init(name: "storage_order", since: 8, value: .int(0)), .init(name: "ceil_mode", since: 10, value: .int(0)),
      .init(name: "dilations", since: 10, value: .ones),
    ],
    "QuantizeLinear": [
      .init(name: "axis", since: 13, value: .int(1)), .init(name: "saturate", since: 19, value: .int(1)),
      .init(name: "block_size", since: 21, value: .int(0)), .init(name: "output_dtype", since: 21, value: .int(0)),
      .init(name: "precision", since: 23, value: .int(0)),
    ],
    "RNN": [.init(name: "layout", since: 14, value: .int(0))],
    "Range": [.init(name: "stash_type", since: 27, value: .int(1))],
    "ReduceSum": [.init(name: "noop_with_empty_axes", since: 13, value: .int(0))],
    // Before, a Scan ran over batches.
    "Scan": [.init(name: "num_scan_inputs", since: 9, value: .none)],
    "ScatterElements": [.init(name: "reduction", since: 16, value: .string("none"))],
    "ScatterND": [.init(name: "reduction", since: 16, value: .string("none"))],
    "Shape": [.init(name: "start", since: 15, value: .int(0)), .init(name: "end", since: 15, value: .none)],
    "SpaceToDepth": [.init(name: "mode", since: 28, value: .string("DCR"))],
    "TopK": [.init(name: "largest", since: 11, value: .int(1)), .init(name: "sorted", since: 11, value: .int(1))],
  ]

  private static let youngInputs: [String: [YoungInput]] = [
    "Attention": [.init(position: 6, since: 24)],
    "Clip": [
      .init(position: 1, since: 11, attribute: ("min", .float)),
      .init(position: 2, since: 11, attribute: ("max", .float)),
    ],
    "DFT": [.init(position: 2, since: 20, attribute: ("axis", .int))],
    "Dropout": [.init(position: 1, since: 12), .init(position: 2, since: 12)],
    "Pad": [
      .init(position: 1, since: 11, attribute: ("pads", .ints)),
      .init(position: 2, since: 11, attribute: ("value", .float)), .init(position: 3, since: 18),
    ],
    "ReduceSum": [.init(position: 1, since: 13, attribute: ("axes", .ints))],
    "Slice": [
      .init(position: 1, since: 10, attribute: ("starts", .ints)),
      .init(position: 2, since: 10, attribute: ("ends", .ints)),
      .init(position: 3, since: 10, attribute: ("axes", .ints)), .init(position: 4, since: 10),
    ],
    "Split": [.init(position: 1, since: 13, attribute: ("split", .ints))],
    "Squeeze": [.init(position: 1, since: 13, attribute: ("axes", .ints))],
    "TopK": [.init(position: 1, since: 10, attribute: ("k", .int))],
    "Unsqueeze": [.init(position: 1, since: 13, attribute: ("axes", .ints))],
  ]

  private static let reductions: Set<String> = [
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSumSquare",
  ]
  private static let reductionAttributes = [YoungAttribute(name: "noop_with_empty_axes", since: 18, value: .int(0))]
  private static let reductionInputs = [YoungInput(position: 1, since: 18, attribute: ("axes", .ints))]

  /// The node as the operator set has it; nil if it cannot say the same. May add constants to `builder`. `versions` are
  /// those of the operator.
  func form(of node: Node, versions: [Int], in builder: GraphBuilder) -> Node? {
    if node.op.domain == "ai.onnx.ml" { return learningForm(of: node, versions: versions) }
    guard node.op.domain.isEmpty else { return node }
    guard var result = specialForm(of: node, in: builder) else { return nil }
    if result.op == node.op, opset < versions.first ?? 1 { return nil }
    if opset < source {
      let needed = PortableOpsets.opset(of: node, newest: versions.last ?? 1, in: builder.graph)
      if needed > PortableOpsets.floor, needed > opset { return nil }
      let types = (node.inputs + node.outputs).compactMap {
        $0.flatMap { PortableOpsets.elementType(of: builder.fact($0)) }
      }
      if types.contains(where: { Self.firstOpset(of: $0) > opset }) { return nil }
    }
    let isReduction = Self.reductions.contains(result.op.name)
    let attributes = isReduction ? Self.reductionAttributes : Self.youngAttributes[result.op.name] ?? []
    for young in attributes where opset < young.since {
      guard let value = result.attributes.remove(young.name) else { continue }
      if !Self.says(value, young.value) { return nil }
    }
    let inputs = isReduction ? Self.reductionInputs : Self.youngInputs[result.op.name] ?? []
    for young in inputs where opset < young.since && young.position < result.inputs.count {
      guard let value = result.inputs[young.position] else { continue }
      guard let attribute = young.attribute, let tensor = builder.constant(value),
        let content = Self.attribute(tensor, attribute.kind)
      else { return nil }
      // An empty list of axes says what a missing one says.
      if tensor.count > 0 || attribute.name == "pads" { result.attributes[attribute.name] = content }
      result.inputs[young.position] = nil
    }
    while result.inputs.last == .some(nil) { result.inputs.removeLast() }
    return result
  }

  /// The first operator set that has an element type; what is younger than `PortableOpsets.floor` is for that to know.
  private static func firstOpset(of type: DataType) -> Int {
    switch type {
    case .bfloat16: 13
    case .float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz: 19
    case .uint4, .int4, .float4e2m1, .float8e8m0, .uint2, .int2, .float6e2m3, .float6e3m2: PortableOpsets.floor
    default: 1
    }
  }

  private static func says(_ value: AttributeValue, _ wanted: YoungAttribute.Value) -> Bool {
    switch (value, wanted) {
    case (.int(let a), .int(let b)): a == b
    case (.string(let a), .string(let b)): a == b
    case (.ints(let values), .ones): values.allSatisfy { $0 == 1 }
    default: false
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

  // MARK: Operators that changed in other ways

  private func specialForm(of node: Node, in builder: GraphBuilder) -> Node? {
    switch node.op.name {
    case "CastLike": return opset < 15 ? castForm(of: node, in: builder.graph) : node
    case "Gemm": return opset >= 11 || (node.inputs.count > 2 && node.inputs[2] != nil) ? node : nil
    case "DFT": return opset >= 20 || (node.inputs.count > 2 && node.inputs[2] != nil) ? node : nil
    case "GridSample": return opset < 20 ? gridSampleForm(of: node) : node
    case "GroupNormalization": return opset < 21 ? nil : node
    case "OptionalHasElement": return opset >= 18 || node.inputs.first ?? nil != nil ? node : nil
    case "Pad": return opset >= 19 || node.attributes.string("mode") != "wrap" ? node : nil
    case "Reshape": return opset < 14 ? reshapeForm(of: node, in: builder.graph) : node
    case "Resize": return ResizeForms(opset: opset).form(of: node, in: builder)
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
    case "Split": return opset < 18 ? splitForm(of: node, in: builder.graph) : node
    default: return node
    }
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

extension Node {
  /// The same node without an attribute.
  func without(_ attribute: String) -> Node {
    var copy = self
    copy.attributes[attribute] = nil
    return copy
  }
}
