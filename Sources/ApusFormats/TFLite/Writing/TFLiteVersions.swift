// The versions of operators that files ask for, and the interpreters that have them: as the interpreter registers its
// kernels by operator and version, a file should ask for the lowest that computes what it says.
// https://github.com/tensorflow/tensorflow/tree/master/tensorflow/compiler/mlir/lite/tools/versioning

import ApusTensor

enum TFLiteVersions {
  /// What decides about a version.
  struct Signature {
    var types: [DataType?]
    var outputs: [DataType]
    /// The ranks of the inputs, and whether their shapes differ.
    var ranks: [Int]
    var broadcasts: Bool
    var options: TFLiteOptions
    var isGrouped = false
    var hasScalesByChannel = false

    func flag(_ place: Int) -> Bool {
      options.fields.contains {
        if $0.place == place, case .flag(true) = $0.value { true } else { false }
      }
    }
    func byte(_ place: Int) -> Int {
      for field in options.fields where field.place == place { if case .byte(let value) = field.value { return value } }
      return 0
    }
    func int(_ place: Int) -> Int {
      for field in options.fields where field.place == place { if case .int(let value) = field.value { return value } }
      return 1
    }
  }

  /// Operators whose version for int8 is 2 and for int16 is the second number, if it is another.
  private static let bytes: [String: Int] = [
    "MAX_POOL_2D": 3, "AVERAGE_POOL_2D": 3, "MAXIMUM": 4, "MINIMUM": 4, "CONCATENATION": 3, "SOFTMAX": 3, "MEAN": 3,
    "MIRROR_PAD": 3, "REDUCE_MAX": 3, "REDUCE_MIN": 3, "RELU6": 3, "RELU": 3, "TANH": 3, "LOGISTIC": 3, "GELU": 1,
    "SPACE_TO_DEPTH": 1, "SPLIT_V": 1, "SUM": 1, "LOG_SOFTMAX": 1, "GREATER": 1, "LESS_EQUAL": 1,
    "SQUARED_DIFFERENCE": 1, "DEPTH_TO_SPACE": 1, "TOPK_V2": 3, "EXP": 2, "LOG": 2, "SQRT": 2, "REDUCE_PROD": 2,
    "LESS": 3, "GREATER_EQUAL": 3, "EQUAL": 5, "NOT_EQUAL": 4, "BATCH_MATMUL": 3, "PACK": 3, "ADD": 5, "SUB": 5,
    "ARG_MAX": 1, "ARG_MIN": 1,
  ]

  static func version(_ kind: String, _ call: Signature) -> Int {
    let type = call.types.first.flatMap { $0 } ?? .float32
    let rank = call.ranks.max() ?? 0
    switch kind {
    case "CONV_2D": return call.isGrouped ? 6 : type == .int8 ? 3 : 1
    case "DEPTHWISE_CONV_2D": return type == .int8 ? 3 : call.int(5) != 1 || call.int(6) != 1 ? 2 : 1
    case "FULLY_CONNECTED": return call.types.count < 3 ? 6 : call.flag(2) ? 5 : type == .int8 ? 4 : 1
    case "TRANSPOSE_CONV":
      return call.byte(3) != 0 ? 4 : call.types.count > 3 ? 3 : call.types.dropFirst().first == .int8 ? 2 : 1
    case "GATHER":
      return call.options.fields.contains(where: { $0.place == 1 }) ? 5 : [.int16: 4, .bool: 3, .int8: 2][type] ?? 1
    case "GATHER_ND": return [.bool: 5, .int16: 3, .string: 2][type] ?? 1
    case "MUL": return [.int64: 5, .uint32: 7, .int16: 7, .int8: 3][type] ?? 1
    case "ADD" where type == .int64, "SUB" where type == .int64: return 4
    case "SUB" where call.broadcasts && rank > 4: return 3
    case "MAXIMUM" where call.broadcasts && rank > 4, "MINIMUM" where call.broadcasts && rank > 4: return 3
    case "DIV": return call.broadcasts && rank > 4 ? 2 : 1
    case "TRANSPOSE":
      return rank > 6 ? 8 : rank > 5 ? 6 : rank > 4 && type != .int16 ? 4 : [.int16: 5, .bool: 3, .int8: 2][type] ?? 1
    case "SLICE": return rank > 4 ? 5 : [.int16: 4, .string: 3, .int8: 2][type] ?? 1
    case "STRIDED_SLICE": return type == .string ? 5 : rank > 4 ? 4 : [.bool: 3, .int8: 2][type] ?? 1
    case "PAD", "PADV2": return type == .bool ? 5 : rank > 4 ? 4 : [.int16: 3, .int8: 2][type] ?? 1
    case "DEQUANTIZE": return [.int16: 3, .float16: 3][type] ?? (type == .int8 ? (call.hasScalesByChannel ? 5 : 2) : 1)
    case "QUANTIZE": return call.hasScalesByChannel ? 3 : call.outputs.first == .int16 ? 2 : 1
    case "ABS": return [.int32: 5, .int16: 4, .int8: 2, .uint8: 2][type] ?? 1
    case "SIGN": return type == .int32 ? 2 : 1
    case "RESIZE_BILINEAR": return call.flag(3) ? 3 : type == .int8 ? 2 : 1
    case "RESIZE_NEAREST_NEIGHBOR": return call.flag(0) || call.flag(1) ? 3 : type == .int8 ? 2 : 1
    case "TILE": return [.int8: 3, .string: 2][type] ?? 1
    case "FILL": return [.int8: 3, .int16: 3, .bool: 2, .string: 2][call.types.last.flatMap { $0 } ?? .float32] ?? 1
    case "RANGE": return type == .int64 ? 2 : 1
    case "FLOOR_MOD": return [.int8: 2, .int16: 2][type] ?? 1
    case "BROADCAST_TO": return [.int8: 3, .int16: 3][type] ?? 2
    case "SELECT_V2": return 1
    case "CAST":
      let both = [type] + call.outputs
      for (other, version) in [(DataType.float64, 5), (.float16, 5), (.uint16, 4), (.int8, 3), (.uint32, 2)]
      where both.contains(other) { return version }
      return 1
    case "WHERE": return type == .bool ? 1 : 2
    default:
      guard let wide = bytes[kind] else { return 1 }
      return type == .int8 ? 2 : type == .int16 ? wide : 1
    }
  }

  // MARK: - Interpreters

  /// The first version of TensorFlow whose interpreter has a version of an operator, where that is not before 2.4.
  private static let runtimes: [String: [Int: (Int, Int)]] = [
    "ADD": [4: (2, 6), 5: (2, 13)], "MUL": [5: (2, 6), 7: (2, 13)], "CONV_2D": [6: (2, 9)],
    "TRANSPOSE_CONV": [4: (2, 13)], "GATHER": [5: (2, 5)], "GATHER_ND": [3: (2, 5), 5: (2, 16)],
    "PAD": [4: (2, 6), 5: (2, 20)], "PADV2": [4: (2, 6), 5: (2, 20)], "TILE": [3: (2, 8)],
    "TRANSPOSE": [6: (2, 12), 8: (2, 22)], "SLICE": [5: (2, 5)], "STRIDED_SLICE": [5: (2, 5)],
    "BROADCAST_TO": [2: (2, 5), 3: (2, 5)], "CAST": [2: (2, 7), 3: (2, 8), 4: (2, 9), 5: (2, 12)],
    "DEQUANTIZE": [5: (2, 7)], "QUANTIZE": [3: (2, 7)], "DEPTH_TO_SPACE": [2: (2, 5)], "RELU": [3: (2, 5)],
    "RELU6": [3: (2, 5)], "REDUCE_MAX": [3: (2, 5)], "REDUCE_MIN": [3: (2, 5)], "REDUCE_PROD": [2: (2, 6)],
    "SQUARED_DIFFERENCE": [2: (2, 5)], "RELU_0_TO_1": [1: (2, 10)], "EQUAL": [5: (2, 21)], "NOT_EQUAL": [4: (2, 21)],
    "FILL": [3: (2, 5)], "FLOOR_MOD": [2: (2, 13)], "RANGE": [2: (2, 14)], "REDUCE_ALL": [1: (2, 6)],
    "WHERE": [2: (2, 8)], "GELU": [1: (2, 9), 2: (2, 9)], "ATAN2": [1: (2, 10)], "SIGN": [1: (2, 11), 2: (2, 12)],
    "BITWISE_XOR": [1: (2, 13)], "CONV_3D": [1: (2, 5)], "ABS": [3: (2, 5), 4: (2, 6), 5: (2, 12)],
    "MIRROR_PAD": [3: (2, 12)], "TOPK_V2": [3: (2, 13)], "LESS": [3: (2, 13)], "GREATER_EQUAL": [3: (2, 13)],
    "EXP": [2: (2, 12)], "LOG": [2: (2, 15)], "SQRT": [2: (2, 21)],
  ]
  /// Every operator that is written stands in the interpreter of this version, but for those above.
  private static let oldest = (2, 4)

  /// The first version of TensorFlow whose interpreter has all of these.
  static func runtime(_ codes: [TFLiteDraft.Code]) -> String {
    let needed = codes.compactMap { runtimes[$0.kind]?[$0.version] }.reduce(oldest) { max($0, $1) }
    return "\(needed.0).\(needed.1).0"
  }

  private static func max(_ a: (Int, Int), _ b: (Int, Int)) -> (Int, Int) { a < b ? b : a }
}
