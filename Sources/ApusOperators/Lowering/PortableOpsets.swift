// The oldest operator set from 21 on in which a node, in its newest form, means the same: other runtimes lag behind the
// newest ones. Made by comparing the schemas of onnx 1.23.2; `OlderForms` knows what changed before.

import ApusGraph
import ApusTensor

enum PortableOpsets {
  /// The operator set that models are written for if nothing in them needs a newer one.
  static let floor = 21

  /// Operators whose newer versions only allow more element types than `classicTypes`.
  private static let moreTypesOnly: Set<String> = [
    "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "AveragePool", "Bernoulli", "Compress", "Constant",
    "ConstantOfShape", "Conv", "ConvTranspose", "Cos", "Cosh", "DeformConv", "DepthToSpace", "Det", "Dropout",
    "Einsum", "Elu", "EyeLike", "Flatten", "GRU", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool",
    "GridSample", "HardSigmoid", "HardSwish", "Identity", "If", "InstanceNormalization", "LSTM", "Loop",
    "LpNormalization", "LpPool", "MaxPool", "MaxRoiPool", "MaxUnpool", "Mish", "Mod", "Multinomial",
    "NegativeLogLikelihoodLoss", "OneHot", "Optional", "OptionalGetElement", "OptionalHasElement", "Pad", "RNN",
    "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Reshape", "ReverseSequence",
    "RoiAlign", "Round", "Scan", "Selu", "Shape", "Sin", "Sinh", "Size", "Softplus", "Softsign", "SplitToSequence",
    "Squeeze", "Tan", "ThresholdedRelu", "TopK", "Transpose", "Unique", "Unsqueeze",
  ]

  /// Operators whose newer versions allow more types than these, or have these attributes more.
  private static let more: [String: (attributes: Set<String>, types: Set<DataType>)] = [
    "BitShift": ([], [.uint8, .uint16, .uint32, .uint64]),
    "Cast": (["round_mode"], classicTypes),
    "CastLike": (["round_mode"], classicTypes),
    "Celu": ([], [.float32]),
    "DequantizeLinear": (["output_dtype"], classicTypes),
    "QuantizeLinear": (["precision"], classicTypes),
    "Range": (["stash_type"], [.float32, .float64, .int16, .int32, .int64]),
    "ReduceLogSum": ([], [.float16, .float32, .float64, .int64]),
    "ReduceLogSumExp": ([], [.float16, .float32, .float64, .int64]),
    "SpaceToDepth": (["mode"], classicTypes),
  ]

  /// The types that every version from `floor` on has where the newest has them, except as `more` says.
  private static let classicTypes: Set<DataType> = [
    .float16, .float32, .float64, .int8, .int16, .int32, .int64, .uint8, .uint16, .uint32, .uint64, .bool, .string,
  ]

  /// The operator set that `node` needs, if `newest` is the newest version of its operator.
  static func opset(of node: Node, newest: Int, in graph: Graph) -> Int {
    guard node.op.domain.isEmpty, newest > floor else { return newest }
    let types: Set<DataType>
    if moreTypesOnly.contains(node.op.name) {
      types = classicTypes
    } else if let more = more[node.op.name],
      !node.attributes.entries.contains(where: { more.attributes.contains($0.name) })
    {
      types = more.types
    } else {
      return newest
    }
    for id in node.inputs + node.outputs {
      guard let id else { continue }
      guard let type = elementType(of: graph.fact(id)), types.contains(type) else { return newest }
    }
    return floor
  }

  static func elementType(of fact: ValueFact) -> DataType? {
    switch fact {
    case .tensor(let tensor): tensor.dataType
    case .sequence(let element), .optional(let element): elementType(of: element)
    case .map, .unknown: nil
    }
  }
}
