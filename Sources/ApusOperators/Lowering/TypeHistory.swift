// When operators of ai.onnx that are older than that got element types: what `versions` alone do not tell. Made by
// comparing the type constraints of all versions of onnx 1.23.2 from operator set 7 to 20.

import ApusGraph
import ApusTensor

/// The operator sets that brought types to older operators. Types that came to all operators at once are none of these.
enum TypeHistory {
  private enum Operand { case input(Int), output(Int) }

  private struct Addition: Sendable {
    let operand: Operand
    let opset: Int
    let types: Set<DataType>

    init(_ opset: Int, _ types: [DataType], on operand: Operand = .input(0)) {
      (self.opset, self.types, self.operand) = (opset, Set(types), operand)
    }
  }

  private static let small: [DataType] = [.int8, .int16, .uint8, .uint16]
  private static let wide: [DataType] = [.int32, .int64, .uint32, .uint64]
  private static let bytes: [DataType] = [.int8, .uint8]
  private static let floats: [DataType] = [.float16, .float32, .float64]
  private static let narrow: [DataType] = [
    .float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz, .int4, .uint4,
  ]
  private static let other: [DataType] = [.bool, .string, .complex64, .complex128]

  private static let arithmetic = [Addition(14, small)]
  private static let ordered = [Addition(9, small + wide)]
  private static let extremes = [Addition(12, small + wide)]
  private static let movement = [Addition(21, narrow)]

  private static let additions: [String: [Addition]] = [
    "Add": arithmetic, "Sub": arithmetic, "Mul": arithmetic, "Div": arithmetic,
    "BatchNormalization": [Addition(14, [.bfloat16])],
    "Cast": [Addition(9, [.string]), Addition(9, [.string], on: .output(0))],
    "Clip": extremes, "Max": extremes, "Min": extremes,
    "ConstantOfShape": [Addition(20, narrow.dropLast(2) + [.bfloat16], on: .output(0))],
    "CumSum": [Addition(14, [.float16])],
    "Equal": [Addition(11, small + floats + [.uint32, .uint64]), Addition(19, [.string])],
    "Flatten": [Addition(9, small + wide + other)] + movement,
    "Gemm": [Addition(9, wide)], "MatMul": [Addition(9, wide)],
    "Greater": ordered, "Less": ordered,
    "GreaterOrEqual": [Addition(16, [.bfloat16])], "LessOrEqual": [Addition(16, [.bfloat16])],
    "If": [Addition(16, [.bfloat16], on: .output(0))], "Loop": [Addition(16, [.bfloat16], on: .output(0))],
    "IsInf": [Addition(20, [.float16, .bfloat16] + narrow)], "IsNaN": [Addition(20, narrow)],
    "LeakyRelu": [Addition(16, [.bfloat16])],
    "MaxPool": [Addition(12, bytes)],
    "OptionalGetElement": [Addition(18, small + wide + floats + other)],
    "OptionalHasElement": [Addition(18, small + wide + floats + other)],
    "PRelu": [Addition(9, wide), Addition(16, [.bfloat16])],
    "Pad": [Addition(11, small + wide), Addition(13, other)] + movement,
    "Pow": [
      Addition(12, [.int32, .int64]), Addition(12, small + wide, on: .input(1)),
      Addition(15, [.bfloat16], on: .input(1)),
    ],
    "ReduceMax": [Addition(12, bytes), Addition(20, [.bool])],
    "ReduceMin": [Addition(12, bytes), Addition(20, [.bool])],
    "Relu": [Addition(14, [.int8, .int16, .int32, .int64])],
    "Resize": [Addition(11, [.float16, .float64] + small + wide)],
    "Squeeze": movement, "Unsqueeze": movement, "Transpose": movement,
    "TopK": [Addition(11, small + wide)],
    "Where": [Addition(16, [.bfloat16], on: .input(1))],
  ]

  /// The first operator set in which the operator takes the types of the node's operands, as far as these are known.
  static func oldestOpset(of node: Node, _ type: (ValueID) -> DataType?) -> Int {
    var opset = 1
    for addition in additions[node.op.name] ?? [] {
      let value: ValueID?? =
        switch addition.operand {
        case .input(let index): node.inputs.indices.contains(index) ? node.inputs[index] : nil
        case .output(let index): node.outputs.indices.contains(index) ? node.outputs[index] : nil
        }
      guard let value = value ?? nil, let known = type(value), addition.types.contains(known) else { continue }
      opset = max(opset, addition.opset)
    }
    return opset
  }
}
