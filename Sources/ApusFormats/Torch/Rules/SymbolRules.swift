// Arithmetic on extents and other plain numbers, as tensors of the shape [1], and quantized values.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let symbolTable: [String: TorchRule] = [
    "sym_size": symbolSize, "sym_numel": symbolCount, "_operator.add": symbolArithmetic("Add"),
    "_operator.sub": symbolArithmetic("Sub"), "_operator.mul": symbolArithmetic("Mul"),
    "_operator.floordiv": symbolFloor, "_operator.mod": symbolMod, "_operator.truediv": symbolQuotient,
    "_operator.neg": symbolUnary("Neg"), "_operator.pow": symbolArithmetic("Pow"),
    "_operator.eq": symbolComparison("Equal"), "_operator.ne": symbolComparison("Equal", negated: true),
    "_operator.lt": symbolComparison("Less"), "_operator.le": symbolComparison("LessOrEqual"),
    "_operator.gt": symbolComparison("Greater"), "_operator.ge": symbolComparison("GreaterOrEqual"),
    "_operator.and_": symbolLogic("And"), "_operator.or_": symbolLogic("Or"), "_operator.not_": symbolUnary("Not"),
    "torch.sym_not": symbolUnary("Not"), "torch.sym_max": symbolArithmetic("Max"),
    "torch.sym_min": symbolArithmetic("Min"), "torch.sym_sum": symbolSum, "torch.sym_float": symbolCast(.float64),
    "torch.sym_int": symbolInteger, "math.floor": symbolFloorOf("Floor"), "math.ceil": symbolFloorOf("Ceil"),
    "math.trunc": symbolInteger, "torch._sym_sqrt": symbolUnary("Sqrt"), "math.sqrt": symbolUnary("Sqrt"),
    "item": item, "_local_scalar_dense": item, "is_nonzero": item, "torch.sym_ite": symbolChoice,
    "_operator.getitem": getItem,
  ]

  /// An argument as a tensor of the shape [1].
  private static func number(_ index: Int, _ call: TorchCall) throws(OperatorError) -> ValueID {
    switch call.argument(at: index) {
    case .size(let size): return try call.lowering.size(size)
    case .symbol(let name): return try call.lowering.symbol(name)
    case .float(let number): return call.layers.constant(Tensor([number]))
    case .bool(let truth): return try call.layers.cast(call.layers.integers([truth ? 1 : 0]), to: .bool)
    case .tensor(let name): return try call.layers.reshape(try call.lowering.tensor(name), [1])
    default: throw .invalid("a number was expected")
    }
  }

  /// Two numbers of one type.
  private static func numbers(_ call: TorchCall) throws(OperatorError) -> (ValueID, ValueID) {
    let layers = call.layers
    let (a, b) = (try number(0, call), try number(1, call))
    guard let x = layers.type(a), let y = layers.type(b) else { throw .unsupported("a number of unknown type") }
    let type = x == y ? x : TorchDataType.promoted(x, y)
    return (try layers.cast(a, to: type), try layers.cast(b, to: type))
  }

  private static func symbolSize(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.tensor("self")
    let axis = try call.axis("dim", of: try call.layers.rank(value))
    if let known = try call.layers.shape(value)[axis].known { return [call.layers.integers([known])] }
    return [try call.layers.emit("Shape", [value], [("start", .int(axis)), ("end", .int(axis + 1))])]
  }

  private static func symbolCount(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.unsqueeze(try call.layers.emit("Size", [try call.tensor("self")]), [0])]
  }

  private static func symbolArithmetic(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let (a, b) = try numbers(call)
      return [try call.layers.emit(op, [a, b])]
    }
  }

  private static func symbolSum(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    guard case .sizes(let sizes)? = call.argument(at: 0), let first = sizes.first else {
      throw .invalid("a list of numbers was expected")
    }
    var sum = try call.lowering.size(first)
    for size in sizes.dropFirst() { sum = try call.layers.emit("Add", [sum, try call.lowering.size(size)]) }
    return [sum]
  }

  private static func symbolUnary(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      var value = try number(0, call)
      if op == "Sqrt" { value = try call.layers.cast(value, to: .float64) }
      return [try call.layers.emit(op, [value])]
    }
  }

  private static func symbolFloor(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, (a, b)) = (call.layers, try numbers(call))
    if layers.type(a)?.isFloat ?? true || layers.areSurelyNonNegative([a, b]) {
      return [try layers.floorQuotient(a, b)]
    }
    // Extents are far from the ends of int64, and through these operators inference follows them.
    return [try layers.emit("Div", [layers.emit("Sub", [a, layers.emit("Mod", [a, b])]), b])]
  }

  private static func symbolMod(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (a, b) = try numbers(call)
    return [try call.layers.remainder(a, b)]
  }

  private static func symbolQuotient(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (a, b) = (try number(0, call), try number(1, call))
    return [
      try call.layers.emit("Div", [try call.layers.cast(a, to: .float64), try call.layers.cast(b, to: .float64)])
    ]
  }

  private static func symbolComparison(_ op: String, negated: Bool = false) -> TorchRule {
    { (call) throws(OperatorError) in
      let (a, b) = try numbers(call)
      let truth = try call.layers.emit(op, [a, b])
      return [negated ? try call.layers.emit("Not", [truth]) : truth]
    }
  }

  private static func symbolLogic(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      [
        try call.layers.emit(
          op,
          [try call.layers.cast(try number(0, call), to: .bool), try call.layers.cast(try number(1, call), to: .bool)])
      ]
    }
  }

  private static func symbolCast(_ type: DataType) -> TorchRule {
    { (call) throws(OperatorError) in [try call.layers.cast(try number(0, call), to: type)] }
  }

  private static func symbolInteger(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.cast(try number(0, call), to: .int64)]
  }

  private static func symbolFloorOf(_ op: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let value = try number(0, call)
      if call.layers.type(value) == .int64 { return [value] }
      return [try call.layers.cast(try call.layers.emit(op, [value]), to: .int64)]
    }
  }

  private static func symbolChoice(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let condition = try call.layers.cast(try number(0, call), to: .bool)
    return [try call.layers.emit("Where", [condition, try number(1, call), try number(2, call)])]
  }

  /// A tensor of one element as a number.
  private static func item(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let value = try call.layers.reshape(try call.tensor(at: 0), [1])
    switch call.node.outputs.first {
    case .size: return [try call.layers.cast(value, to: .int64)]
    default: return [call.op.rule == "is_nonzero" ? try call.layers.cast(value, to: .bool) : value]
    }
  }

  private static func getItem(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    guard case .tensors(let names)? = call.argument(at: 0), case .size(.number(let index))? = call.argument(at: 1),
      names.indices.contains(index), let name = names[index]
    else { throw .invalid("an element of a list of tensors was expected") }
    return [try call.lowering.tensor(name)]
  }
}
