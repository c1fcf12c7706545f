// Operators of ONNX that work element by element, as operators of TensorFlow Lite.

import ApusGraph
import ApusTensor

extension TFLiteLowerings {
  static let elementwise: [String: TFLiteLowering] = [
    "Abs": plain("ABS", [.float32, .int32]), "Neg": plain("NEG", numbers), "Exp": plain("EXP"), "Log": plain("LOG"),
    "Sqrt": plain("SQRT"), "Floor": plain("FLOOR"), "Ceil": plain("CEIL"), "Round": plain("ROUND"),
    "Sin": plain("SIN"), "Cos": plain("COS"), "Sign": plain("SIGN", [.float32, .int32]), "Elu": plain("ELU"),
    "HardSwish": plain("HARD_SWISH", integers: .computes), "Relu": plain("RELU", integers: .computes),
    "Sigmoid": plain("LOGISTIC", integers: .fixed(scale: 1.0 / 256, zeroPoint: -128)),
    "Tanh": plain("TANH", integers: .fixed(scale: 1.0 / 128, zeroPoint: 0)),
    "PRelu": plain("PRELU"),
    "Identity": TFLiteLowering(moved, integers: .keeps) { (node) throws(OperatorError) in
      try node.forward(node.operand(0))
    },
    "LeakyRelu": TFLiteLowering(floats, integers: .computes) { (node) throws(OperatorError) in
      try node.emit("LEAKY_RELU", [node.operand(0)], [(0, .real(node.float("alpha")))])
    },
    "Gelu": TFLiteLowering(floats) { (node) throws(OperatorError) in
      try node.emit("GELU", [node.operand(0)], [(0, .flag(node.string("approximate") == "tanh"))])
    },
    "Clip": TFLiteLowering(floats, clip),
    "Add": fused("ADD", numbers, place: 0, integers: .computes),
    "Sub": fused("SUB", numbers, place: 0, integers: .computes),
    "Mul": fused("MUL", numbers, place: 0, integers: .computes), "Div": fused("DIV", [.float32, .int32], place: 0),
    "Max": pair("MAXIMUM", numbers), "Min": pair("MINIMUM", numbers), "Mod": pair("FLOOR_MOD", numbers),
    "Pow": TFLiteLowering([.float32, .int32], power),
    "Atan": TFLiteLowering(floats) { (node) throws(OperatorError) in
      try node.emit("ATAN2", [node.operand(0), node.filled(1)])
    },
    "Asin": TFLiteLowering(floats) { (node) throws(OperatorError) in
      try node.emit("ATAN2", [node.operand(0), node.otherLeg()])
    },
    "Acos": TFLiteLowering(floats) { (node) throws(OperatorError) in
      try node.emit("ATAN2", [node.otherLeg(), node.operand(0)])
    },
    "Cast": TFLiteLowering(castable, cast),
  ]

  static let logic: [String: TFLiteLowering] = [
    "BitwiseXor": pair("BITWISE_XOR", [.int8, .uint8, .int16, .uint16, .int32, .uint32]),
    "And": pair("LOGICAL_AND", [.bool]), "Or": pair("LOGICAL_OR", [.bool]), "Not": plain("LOGICAL_NOT", [.bool]),
    "Equal": pair("EQUAL", numbers + [.bool]), "Greater": pair("GREATER", numbers), "Less": pair("LESS", numbers),
    "GreaterOrEqual": pair("GREATER_EQUAL", numbers), "LessOrEqual": pair("LESS_EQUAL", numbers),
    "Where": TFLiteLowering([.bool], data: 1..<3) { (node) throws(OperatorError) in
      let type = try node.type(1)
      guard moved.contains(type) else { throw .unsupported("TensorFlow Lite chooses no elements of \(type)") }
      try node.emit("SELECT_V2", [node.operand(0), node.operand(1), node.operand(2)])
    },
  ]

  static let castable: [DataType] = [
    .float32, .float16, .float64, .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .bool,
  ]

  /// Axes for which every operator of two operands broadcasts, and for which arithmetic on float32 does.
  static let (broadcastAxes, arithmeticAxes) = (4, 6)

  /// An operator of one operand that both have.
  private static func plain(
    _ kind: String, _ types: [DataType] = floats, integers: TFLiteLowering.Integers = .none
  ) -> TFLiteLowering {
    TFLiteLowering(types, integers: integers) { (node) throws(OperatorError) in
      try node.emit(kind, node.operands())
    }
  }

  /// An operator of two operands that both have.
  private static func pair(
    _ kind: String, _ types: [DataType], integers: TFLiteLowering.Integers = .none
  ) -> TFLiteLowering {
    TFLiteLowering(types, integers: integers) { (node) throws(OperatorError) in
      try node.emit(kind, node.broadcastOperands())
    }
  }

  /// The same with an activation behind it.
  private static func fused(
    _ kind: String, _ types: [DataType], place: Int, integers: TFLiteLowering.Integers = .none
  ) -> TFLiteLowering {
    TFLiteLowering(types, integers: integers, activation: place) { (node) throws(OperatorError) in
      let type = try node.type()
      let isFloat = !node.isCoded && type == .float32
      let operands = try node.broadcastOperands(upTo: isFloat ? arithmeticAxes : broadcastAxes)
      try node.emit(kind, operands, [(place, .byte(node.activation))])
    }
  }

  private static func clip(_ node: TFLiteNode) throws(OperatorError) {
    let kinds: [(String, Float?, Float?)] = [
      ("RELU", 0, nil), ("RELU_N1_TO_1", -1, 1), ("RELU6", 0, 6), ("RELU_0_TO_1", 0, 1),
    ]
    let (low, high) = (try node.scalar(1), try node.scalar(2))
    guard let kind = kinds.first(where: { $0.1 == low && $0.2 == high })?.0 else {
      throw .unsupported("bounds of \(low.map { "\($0)" } ?? "none") and \(high.map { "\($0)" } ?? "none")")
    }
    try node.emit(kind, [node.operand(0)])
  }

  /// Both operands have the type of the result.
  private static func power(_ node: TFLiteNode) throws(OperatorError) {
    let (first, second) = (try node.type(0), try node.type(1))
    var operands = try node.broadcastOperands()
    if first != second {
      guard castable.contains(second) else { throw .unsupported("TensorFlow Lite has no Cast from \(second)") }
      let isWhole = try operands[1] != node.operand(1)
      operands[1] = try node.step("CAST", [operands[1]], isWhole ? node.resultShape() : node.shape(1), type: first)
    }
    try node.emit("POW", operands)
  }

  private static func cast(_ node: TFLiteNode) throws(OperatorError) {
    let (from, to) = (try node.type(), try node.resultType())
    guard castable.contains(to) else { throw .unsupported("TensorFlow Lite has no Cast to \(to)") }
    if from == to { return try node.forward(node.operand(0)) }
    if from == .float32 || from == .float16 || from == .float64, to == .bool {
      // What is no number that is not 0 is true.
      let zero = node.work.constant(Tensor(scalar: Float(0)), "\(node.node.name)/constant")
      if from == .float32 { return try node.emit("NOT_EQUAL", [node.operand(0), zero]) }
    }
    try node.emit("CAST", [node.operand(0)])
  }
}

extension TFLiteNode {
  /// The operands of an operator that broadcasts `axes` axes by itself; with more axes, in the shape of the result.
  func broadcastOperands(upTo axes: Int = TFLiteLowerings.broadcastAxes) throws(OperatorError) -> [Int?] {
    let operands = try operands()
    let shapes = try node.inputs.indices.map { (input) throws(OperatorError) in try shape(input) }
    let rank = shapes.map(\.count).max() ?? 0
    if rank <= axes || shapes.allSatisfy({ $0 == shapes[0] }) { return operands }
    // One element meets all others alike.
    if node.op.name != "Pow", rank <= 5, shapes.contains(where: { $0.allSatisfy { $0.known == 1 } }) { return operands }
    let result = try resultShape()
    guard rank <= 8, let extents = result.concrete?.dims else {
      throw .unsupported(
        "TensorFlow Lite broadcasts operands of \(axes) axes, and of 8 where all extents are numbers; the result is "
          + "\(result)")
    }
    let target = work.integers(extents)
    return try operands.indices.map { (input) throws(OperatorError) in
      if shapes[input] == result { return operands[input] }
      return try step(
        "BROADCAST_TO", [operands[input], target], result, type: isCoded ? nil : type(input),
        quantization: isCoded ? scale(input) : nil)
    }
  }

  /// A tensor of the shape of operand 0 with one number.
  func filled(_ number: Float) throws(OperatorError) -> Int {
    let zeros = try step("MUL", [operand(0), self.number(0)], shape(), [(0, .byte(0))])
    return try step("ADD", [zeros, self.number(number)], shape(), [(0, .byte(0))])
  }

  /// √(1 - x²).
  func otherLeg() throws(OperatorError) -> Int {
    let x = try operand(0)
    let square = try step("MUL", [x, x], shape(), [(0, .byte(0))])
    let rest = try step("SUB", [number(1), square], shape(), [(0, .byte(0))])
    return try step("SQRT", [rest], shape())
  }
}
