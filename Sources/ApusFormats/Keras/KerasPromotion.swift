// The types that the operations of Keras compute in, where their operands are integers or of several types.
// https://keras.io/api/ops/: integers meet floats as floats, numbers of Python take the type of the tensors.

import ApusGraph
import ApusTensor

/// What an operand says of the type of the result.
enum KerasOperandType {
  case tensor(DataType)
  /// Numbers of Python, which yield to tensors of their kind.
  case integer, float

  var isFloat: Bool {
    switch self {
    case .tensor(let type): type.isFloat
    case .integer: false
    case .float: true
    }
  }
}

enum KerasPromotion {
  /// The type in which operands meet.
  static func join(_ operands: [KerasOperandType]) -> DataType? {
    var type: DataType?
    var (hasInteger, hasFloat) = (false, false)
    for operand in operands {
      switch operand {
      case .tensor(let next): type = type.map { join($0, next) } ?? next
      case .integer: hasInteger = true
      case .float: hasFloat = true
      }
    }
    if hasFloat { return type.map { $0.isFloat ? $0 : .float32 } ?? .float32 }
    if hasInteger { return type.map { $0 == .bool ? .int32 : $0 } ?? .int32 }
    return type
  }

  /// The type in which tensors of two types meet.
  static func join(_ first: DataType, _ second: DataType) -> DataType {
    if first == second { return first }
    if first == .bool { return second }
    if second == .bool { return first }
    if first.isFloat, second.isFloat {
      for type in [DataType.float64, .float32] where first == type || second == type { return type }
      return .float32
    }
    if first.isFloat { return first }
    if second.isFloat { return second }
    let signed: [DataType] = [.int8, .int16, .int32, .int64]
    let unsigned: [DataType] = [.uint8, .uint16, .uint32, .uint64]
    for family in [signed, unsigned] {
      if let a = family.firstIndex(of: first), let b = family.firstIndex(of: second) { return family[max(a, b)] }
    }
    guard let width = signed.firstIndex(of: first) ?? signed.firstIndex(of: second),
      let other = unsigned.firstIndex(of: first) ?? unsigned.firstIndex(of: second)
    else { return first }
    // A type with a sign that holds both; there is none for uint64.
    let holding = max(width, other + 1)
    return signed.indices.contains(holding) ? signed[holding] : .float32
  }

  /// The type of sums and products of many elements.
  static func sum(_ type: DataType) -> DataType {
    switch type {
    case .bool, .int8, .int16: .int32
    case .uint8, .uint16: .uint32
    default: type
    }
  }

  /// The value as floats: functions such as exp make float32 of integers. Functions of TensorFlow take none.
  static func floats(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let type = call.layers.type(value), !type.isFloat else { return value }
    return try call.layers.cast(value, to: .float32)
  }

  /// What is a float by nature, such as a mean, for Keras 3; TensorFlow stays with integers there.
  static func means(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    call.network.version >= 3 ? try floats(call, value) : value
  }

  /// An extreme of elements along axes, in their type. ONNX has it for some types only.
  static func extreme(
    _ op: String, _ value: ValueID, axes: [Int], keepsAxes: Bool, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let type = layers.type(value)
    let isSmall = [DataType.bool, .int8, .int16, .uint8, .uint16].contains { $0 == type }
    guard isSmall, let type else { return try layers.reduce(op, value, axes: axes, keepsAxes: keepsAxes) }
    let wide = try layers.cast(value, to: .int32)
    return try layers.cast(layers.reduce(op, wide, axes: axes, keepsAxes: keepsAxes), to: type)
  }

  /// Quotients rounded down.
  static func floorDivided(_ x: ValueID, _ y: ValueID, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    guard let type = layers.type(x) else { throw .unsupported("the type of an operand is not known") }
    // TensorFlow rounds the quotient of floats as it is.
    if type.isFloat { return try layers.emit("Floor", [layers.emit("Div", [x, y])]) }
    return try layers.floorQuotient(x, y)
  }

  /// True where `value` is the place along a new axis of `count` places: nowhere if it is less than 0 or too large.
  static func hot(
    _ value: ValueID, count: Int, axis: Int, type: DataType, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let rank = try layers.rank(value) + 1
    let position = axis < 0 ? axis + rank : axis
    guard (0..<rank).contains(position) else { throw .invalid("axis \(axis) of \(rank) axes does not exist") }
    guard (1...1 << 24).contains(count) else {
      throw .invalid("the number of classes should be from 1 to \(1 << 24); it is \(count)")
    }
    var shape = [Int](repeating: 1, count: rank)
    shape[position] = count
    let places = layers.constant(Tensor((0..<count).map { Int64($0) }, shape: Shape(shape)))
    let given = try layers.unsqueeze(layers.cast(value, to: .int64), [position])
    return try layers.cast(layers.emit("Equal", [given, places]), to: type)
  }
}

extension KerasCall {
  /// What an argument says of the type of a result.
  func type(of argument: KerasArgument<KerasTensor>) throws(OperatorError) -> KerasOperandType {
    switch argument {
    case .tensor(let tensor):
      guard let type = layers.type(tensor.value) else { throw .unsupported("the type of an operand is not known") }
      return .tensor(type)
    case .constant(let value): return Self.type(of: value)
    case .list(let elements):
      for element in elements where try type(of: element).isFloat { return .float }
      return .integer
    }
  }

  private static func type(of value: JSONValue, depth: Int = 0) -> KerasOperandType {
    switch value {
    case .number(let text): return text.allSatisfy { $0.isNumber || $0 == "-" } ? .integer : .float
    case .bool: return .tensor(.bool)
    case .object:
      // An array of NumPy or a tensor, with its type.
      let content = KerasConfig(value).object("config")
      if let type = content["dtype"]?.text.flatMap({ KerasTypes.table[$0] }) { return .tensor(type) }
      return content["value"].map { depth < 16 ? type(of: $0, depth: depth + 1) : .float } ?? .float
    default:
      guard let elements = value.elements, depth < 16 else { return .float }
      return elements.contains { type(of: $0, depth: depth + 1).isFloat } ? .float : .integer
    }
  }

  /// Operands of an operation in the type in which they meet, or in `type`. One of them should be a tensor.
  func promoted(
    _ arguments: [KerasArgument<KerasTensor>?], with other: KerasOperandType? = nil, to type: DataType? = nil
  ) throws(OperatorError) -> [ValueID] {
    var types: [KerasOperandType] = []
    var operands: [KerasArgument<KerasTensor>] = []
    for argument in arguments {
      guard let argument else { throw .invalid("an argument is missing") }
      types.append(try self.type(of: argument))
      operands.append(argument)
    }
    if let other { types.append(other) }
    guard let common = type ?? KerasPromotion.join(types) else { throw .invalid("an argument is missing") }
    var values: [ValueID] = []
    for operand in operands {
      if case .tensor(let tensor) = operand {
        values.append(try layers.cast(tensor.value, to: common))
      } else {
        let like = layers.constant(Tensor(zeros: common, shape: []))
        values.append(try layers.cast(self.operand(operand, like: like), to: common))
      }
    }
    return values
  }
}
