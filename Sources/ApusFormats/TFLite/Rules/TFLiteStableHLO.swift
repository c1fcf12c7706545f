// Operators of StableHLO that files of newer converters hold beside those of TensorFlow Lite.
// https://openxla.org/stablehlo/spec

import ApusGraph
import ApusTensor

extension TFLiteRules {
  static let stableHLO: [String: TFLiteRule] = [
    "STABLEHLO_LOGISTIC": unary("Sigmoid"), "STABLEHLO_ABS": unary("Abs"), "STABLEHLO_COSINE": unary("Cos"),
    "STABLEHLO_EXPONENTIAL": unary("Exp"), "STABLEHLO_FLOOR": unary("Floor"), "STABLEHLO_LOG": unary("Log"),
    "STABLEHLO_NEGATE": unary("Neg"), "STABLEHLO_TANH": unary("Tanh"), "STABLEHLO_ADD": binary("Add"),
    "STABLEHLO_SUBTRACT": binary("Sub"), "STABLEHLO_MULTIPLY": binary("Mul"), "STABLEHLO_DIVIDE": binary("Div"),
    "STABLEHLO_MAXIMUM": binary("Max"), "STABLEHLO_MINIMUM": binary("Min"), "STABLEHLO_POWER": binary("Pow"),
    "STABLEHLO_AND": logical("And", "BitwiseAnd"), "STABLEHLO_OR": logical("Or", "BitwiseOr"),
    "STABLEHLO_RSQRT": TFLiteRule(root), "STABLEHLO_REMAINDER": TFLiteRule(remainder),
    "STABLEHLO_SELECT": TFLiteRule(.stored, select), "STABLEHLO_CLAMP": TFLiteRule(clamp),
    "STABLEHLO_RESHAPE": TFLiteRule(.stored, reshape), "STABLEHLO_CONCATENATE": TFLiteRule(.stored, concatenate),
    "STABLEHLO_TRANSPOSE": TFLiteRule(.stored, transpose), "STABLEHLO_SLICE": TFLiteRule(.stored, slice),
    "STABLEHLO_BROADCAST_IN_DIM": TFLiteRule(.stored, broadcast), "STABLEHLO_CONVERT": TFLiteRule(convert),
    "STABLEHLO_IOTA": TFLiteRule(.stored, iota), "STABLEHLO_COMPARE": TFLiteRule(compare),
  ]

  /// One operator for bool, another for integers.
  private static func logical(_ bool: String, _ bits: String) -> TFLiteRule {
    TFLiteRule { (layer) throws(OperatorError) in
      let x = try layer.input(0)
      return [try layer.layers.emit(layer.layers.type(x) == .bool ? bool : bits, [x, layer.input(1)])]
    }
  }

  /// The integers of an option.
  private static func longs(_ layer: TFLiteLayer, _ field: Int) throws(OperatorError) -> [Int] {
    let numbers = try TFLiteLayer.rethrowing { () throws(LoadError) in try layer.node.options?.int64s(field) }
    return (numbers ?? []).map { Int($0) }
  }

  private static func root(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("Reciprocal", [layer.layers.emit("Sqrt", [layer.input(0)])])]
  }

  /// Of the sign of the dividend.
  private static func remainder(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("Mod", [layer.input(0), layer.input(1)], [("fmod", .int(1))])]
  }

  private static func select(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.emit("Where", [layer.stored(0), layer.stored(1), layer.stored(2)])]
  }

  /// Operands: lower bound, values, upper bound.
  private static func clamp(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let low = try layer.layers.emit("Max", [layer.input(0), layer.input(1)])
    return [try layer.layers.emit("Min", [low, layer.input(2)])]
  }

  private static func reshape(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    [try layer.layers.reshape(layer.stored(0), layer.output(0).shape)]
  }

  private static func concatenate(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let values = try (0..<layer.inputCount).map { (index) throws(OperatorError) in try layer.stored(index) }
    let field = try TFLiteLayer.rethrowing { () throws(LoadError) in try layer.node.options?.int64(0) ?? 0 }
    guard !values.isEmpty else { throw .invalid("at least one operand was expected") }
    let axis = try layer.axis(Int(field), rank: layer.layers.rank(values[0]))
    return [try layer.layers.concatenate(values, axis: axis)]
  }

  private static func transpose(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (x, order) = (try layer.stored(0), try longs(layer, 0))
    guard order.sorted() == Array(0..<(try layer.layers.rank(x))) else {
      throw .invalid("an order of the axes was expected; it is \(order)")
    }
    return [try layer.layers.transpose(x, order)]
  }

  private static func slice(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (starts, ends, steps) = (try longs(layer, 0), try longs(layer, 1), try longs(layer, 2))
    let rank = try layer.layers.rank(layer.stored(0))
    guard starts.count == rank, ends.count == rank, steps.count == rank, steps.allSatisfy({ $0 > 0 }) else {
      throw .invalid("begins, ends and strides of \(rank) axes were expected")
    }
    return [try layer.layers.slice(layer.stored(0), from: starts, to: ends, axes: Array(0..<rank), steps: steps)]
  }

  /// Axis k of the operand becomes axis `axes[k]` of the result.
  private static func broadcast(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, axes, target) = (layer.layers, try longs(layer, 0), try layer.output(0).shape)
    let extents = try layers.shape(layer.stored(0))
    guard axes.count == extents.count, axes == Array(Set(axes)).sorted(),
      axes.allSatisfy({ target.indices.contains($0) })
    else { throw .unsupported("the axes \(axes) of a broadcast should rise") }
    let placed = try layers.unsqueeze(layer.stored(0), target.indices.filter { !axes.contains($0) })
    return [try layers.emit("Expand", [placed, layers.integers(target)])]
  }

  private static func convert(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    guard let type = try layer.output(0).type else { throw .unsupported("the result should be a tensor") }
    return [try layer.layers.cast(layer.input(0), to: type)]
  }

  private static func iota(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, shape) = (layer.layers, try layer.output(0).shape)
    let field = try TFLiteLayer.rethrowing { () throws(LoadError) in try layer.node.options?.int64(0) ?? 0 }
    let axis = try layer.axis(Int(field), rank: shape.count)
    guard shape.reduce(1, { $0.multipliedReportingOverflow(by: $1).partialValue }) <= 1 << 26, shape[axis] <= 1 << 26
    else { throw .unsupported("a tensor of the shape \(shape) is too large to be counted") }
    let line = try layers.cast(layers.integers(Array(0..<shape[axis])), to: layer.output(0).type ?? .int32)
    let column = try layers.unsqueeze(line, (1..<(shape.count - axis)).map { $0 })
    return [try layers.emit("Expand", [column, layers.integers(shape)])]
  }

  /// Directions are equal, not equal, at least, greater, at most, less.
  private static func compare(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let direction = try TFLiteLayer.rethrowing { () throws(LoadError) in try layer.node.options?.uint32(0) ?? 0 }
    let operators = ["Equal", "Equal", "GreaterOrEqual", "Greater", "LessOrEqual", "Less"]
    guard direction < UInt32(operators.count) else { throw .invalid("there is no comparison \(direction)") }
    let result = try layer.layers.emit(operators[Int(direction)], [layer.input(0), layer.input(1)])
    return [direction == 1 ? try layer.layers.emit("Not", [result]) : result]
  }
}
