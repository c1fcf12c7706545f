// One call of an operator, as rules see it: arguments by name with their defaults, and what is known of the result.

import ApusGraph
import ApusTensor

/// A number that a node has as an argument.
enum TorchNumber {
  case integer(Int)
  case real(Double)
  case truth(Bool)

  var real: Double {
    switch self {
    case .integer(let number): Double(number)
    case .real(let number): number
    case .truth(let truth): truth ? 1 : 0
    }
  }
}

/// A node whose rule is asked. Arguments that equal their default are left out in the file.
struct TorchCall {
  let node: TorchNode
  let op: TorchOperator
  let lowering: TorchLowering
  var layers: LayerBuilder { lowering.layers }

  init(_ node: TorchNode, _ op: TorchOperator, _ lowering: TorchLowering) {
    (self.node, self.op, self.lowering) = (node, op, lowering)
  }

  // MARK: - Arguments

  /// nil for what is absent or None.
  func argument(_ name: String) -> TorchArgument? {
    guard let value = node.inputs.first(where: { $0.name == name })?.value else { return nil }
    if case .none = value { return nil }
    return value
  }

  func argument(at index: Int) -> TorchArgument? {
    guard node.inputs.indices.contains(index) else { return nil }
    if case .none = node.inputs[index].value { return nil }
    return node.inputs[index].value
  }

  func has(_ name: String) -> Bool { argument(name) != nil }

  private func bad(_ name: String, _ what: String) -> OperatorError {
    .invalid("the argument '\(name)' should be \(what)")
  }

  func tensor(_ name: String) throws(OperatorError) -> ValueID {
    guard let value = try optional(name) else { throw bad(name, "a tensor") }
    return value
  }

  func tensor(at index: Int) throws(OperatorError) -> ValueID {
    guard case .tensor(let name)? = argument(at: index) else { throw bad("\(index)", "a tensor") }
    return try lowering.tensor(name)
  }

  func optional(_ name: String) throws(OperatorError) -> ValueID? {
    switch argument(name) {
    case nil: return nil
    case .tensor(let tensor): return try lowering.tensor(tensor)
    default: throw bad(name, "a tensor")
    }
  }

  func tensors(_ name: String) throws(OperatorError) -> [ValueID] {
    guard case .tensors(let names)? = argument(name) else { throw bad(name, "a list of tensors") }
    var values: [ValueID] = []
    for case let tensor? in names { values.append(try lowering.tensor(tensor)) }
    return values
  }

  func int(_ name: String, _ standard: Int? = nil) throws(OperatorError) -> Int {
    switch argument(name) {
    case nil: if let standard { return standard }
    case .size(let size): if let number = try lowering.known(size) { return number }
    case .bool(let truth): return truth ? 1 : 0
    default: break
    }
    throw bad(name, "an integer that is known")
  }

  /// A list, or one number.
  func ints(_ name: String, _ standard: [Int]? = nil) throws(OperatorError) -> [Int] {
    guard let sizes = try sizes(name) else {
      if let standard { return standard }
      throw bad(name, "a list of integers")
    }
    var numbers: [Int] = []
    for size in sizes {
      guard let number = try lowering.known(size) else { throw bad(name, "a list of integers that are known") }
      numbers.append(number)
    }
    return numbers
  }

  func sizes(_ name: String) throws(OperatorError) -> [TorchSize]? {
    switch argument(name) {
    case nil: return nil
    case .sizes(let sizes): return sizes
    case .size(let size): return [size]
    case .tensors(let names) where names.isEmpty: return []
    default: throw bad(name, "a list of integers")
    }
  }

  func floats(_ name: String) throws(OperatorError) -> [Double]? {
    switch argument(name) {
    case nil: return nil
    case .floats(let floats): return floats
    case .float(let float): return [float]
    case .sizes(let sizes):
      return sizes.compactMap { if case .number(let number) = $0 { Double(number) } else { nil } }
    default: throw bad(name, "a list of numbers")
    }
  }

  func number(_ name: String) throws(OperatorError) -> TorchNumber? {
    switch argument(name) {
    case nil: return nil
    case .size(let size):
      guard let number = try lowering.known(size) else { throw bad(name, "a number that is known") }
      return .integer(number)
    case .float(let number): return .real(number)
    case .bool(let truth): return .truth(truth)
    default: throw bad(name, "a number")
    }
  }

  func real(_ name: String, _ standard: Double? = nil) throws(OperatorError) -> Double {
    if let number = try number(name) { return number.real }
    guard let standard else { throw bad(name, "a number") }
    return standard
  }

  func bool(_ name: String, _ standard: Bool) throws(OperatorError) -> Bool {
    switch argument(name) {
    case nil: return standard
    case .bool(let truth): return truth
    case .size(.number(let number)): return number != 0
    default: throw bad(name, "a bool")
    }
  }

  func string(_ name: String, _ standard: String) throws(OperatorError) -> String {
    switch argument(name) {
    case nil: return standard
    case .string(let text): return text
    default: throw bad(name, "a text")
    }
  }

  // MARK: - Facts

  /// What the program says of a result.
  func result(_ index: Int = 0) -> TorchMeta? {
    var place = index
    for output in node.outputs {
      let names: [String?] =
        switch output {
        case .tensors(let names): names
        default: [output.names.first]
        }
      if place < names.count { return names[place].flatMap { lowering.graph.tensors[$0] } }
      place -= names.count
    }
    return nil
  }

  func resultType(_ index: Int = 0) throws(OperatorError) -> DataType {
    // Layers of a module have no record of their results; they keep the type of their operand.
    if result(index) == nil, let type = layers.type(try tensor(at: 0)) { return type }
    guard let type = result(index)?.dataType else {
      throw .unsupported("the element type of the result is not one of ONNX")
    }
    return type.ofParts
  }

  /// True if something reads that result.
  func isUsed(_ index: Int) -> Bool {
    let names = node.outputs.flatMap { output -> [String?] in
      if case .tensors(let names) = output { return names }
      return [output.names.first]
    }
    return names.indices.contains(index) && names[index].map { lowering.needed.contains($0) } ?? false
  }

  /// What the program says of a tensor that is an argument.
  func meta(_ name: String) -> TorchMeta? {
    guard case .tensor(let tensor)? = argument(name) else { return nil }
    return lowering.graph.tensors[tensor]
  }

  func rank(_ name: String) throws(OperatorError) -> Int {
    if let meta = meta(name) { return meta.sizes.count }
    return try layers.rank(try tensor(name))
  }

  /// An axis counted from the start.
  func axis(_ name: String, of rank: Int, _ standard: Int? = nil) throws(OperatorError) -> Int {
    try Self.axis(try int(name, standard), of: rank)
  }

  static func axis(_ axis: Int, of rank: Int) throws(OperatorError) -> Int {
    let place = axis < 0 ? axis + rank : axis
    guard place >= 0, place < max(rank, 1) else { throw .invalid("there is no axis \(axis) of \(rank)") }
    return place
  }

  /// The axes of a list; all of them if it is absent or empty.
  func axes(_ name: String, of rank: Int) throws(OperatorError) -> [Int] {
    let axes = try ints(name, [])
    if axes.isEmpty { return Array(0..<rank) }
    var places: [Int] = []
    for axis in axes { places.append(try Self.axis(axis, of: rank)) }
    return places
  }

  // MARK: - Operands

  /// A tensor or number as a tensor of the type.
  func operand(_ name: String, as type: DataType) throws(OperatorError) -> ValueID {
    guard let argument = argument(name) else { throw bad(name, "a tensor or number") }
    return try operand(argument, name, as: type)
  }

  private func operand(_ argument: TorchArgument, _ name: String, as type: DataType) throws(OperatorError) -> ValueID {
    switch argument {
    case .tensor(let tensor): return try layers.cast(try lowering.tensor(tensor), to: type)
    case .size(.number(let number)): return try constant(.integer(number), type)
    case .float(let number): return try constant(.real(number), type)
    case .bool(let truth): return try constant(.truth(truth), type)
    case .size(.name(let symbol)), .symbol(let symbol):
      return try layers.cast(try layers.squeeze(try lowering.symbol(symbol), [0]), to: type)
    default: throw bad(name, "a tensor or number")
    }
  }

  /// A scalar of the type.
  func constant(_ number: TorchNumber, _ type: DataType) throws(OperatorError) -> ValueID {
    switch number {
    case .integer(let number): try layers.cast(layers.constant(Tensor(scalar: Int64(number))), to: type)
    case .real(let number): try layers.cast(layers.constant(Tensor(scalar: number)), to: type)
    case .truth(let truth): try layers.cast(layers.constant(Tensor(scalar: Int64(truth ? 1 : 0))), to: type)
    }
  }

  func constant(_ number: Double, _ type: DataType) throws(OperatorError) -> ValueID {
    try constant(.real(number), type)
  }

  /// torch.result_type of arguments: tensors with axes before scalars before plain numbers, within and across the
  /// categories of bool, integers and floats.
  func common(_ names: [String]) throws(OperatorError) -> DataType {
    var (tensors, scalars, numbers): (DataType?, DataType?, DataType?) = (nil, nil, nil)
    func add(_ type: DataType, to group: inout DataType?) {
      group = group.map { TorchDataType.promoted($0, type) } ?? type
    }
    for name in names {
      switch argument(name) {
      case .tensor(let tensor):
        let meta = lowering.graph.tensors[tensor]
        guard let type = meta?.dataType else { throw .unsupported("the type of '\(name)' is not known") }
        if meta?.sizes.isEmpty ?? false { add(type, to: &scalars) } else { add(type, to: &tensors) }
      case .float, .symbol: add(.float32, to: &numbers)
      case .size: add(.int64, to: &numbers)
      case .bool: add(.bool, to: &numbers)
      default: continue
      }
    }
    func combined(_ higher: DataType?, _ lower: DataType?) -> DataType? {
      guard let higher, let lower else { return higher ?? lower }
      if TorchDataType.category(higher) >= 2 { return higher }
      if higher == .bool || TorchDataType.category(lower) >= 2 { return TorchDataType.promoted(higher, lower) }
      return higher
    }
    guard let type = combined(tensors, combined(scalars, numbers)) else {
      throw .invalid("operands were expected; there are none")
    }
    return type
  }

  // MARK: - Shapes

  /// The shape of a value as a tensor.
  func shapeTensor(_ value: ValueID) throws(OperatorError) -> ValueID {
    if let known = layers.builder.shape(value)?.concrete { return layers.integers(known.dims) }
    return try layers.emit("Shape", [value])
  }

  func shapeTensor(_ sizes: [TorchSize]) throws(OperatorError) -> ValueID {
    var parts: [ValueID] = []
    for size in sizes { parts.append(try lowering.size(size)) }
    return parts.isEmpty ? layers.integers([]) : try layers.concatenate(parts, axis: 0)
  }

  /// The same elements in a shape of numbers, symbols and at most one -1.
  func reshape(_ value: ValueID, _ sizes: [TorchSize]) throws(OperatorError) -> ValueID {
    var numbers: [Int?] = []
    for size in sizes { numbers.append(try lowering.known(size)) }
    let shape = try layers.shape(value)
    if !numbers.contains(0), numbers.count(where: { $0 == nil || $0 == -1 }) > 1 {
      // 0 takes the extent from the operand.
      for (index, size) in sizes.enumerated() where numbers[index] == nil && index < shape.count {
        let fact = layers.fact(try lowering.size(size)).tensor?.values?.first
        if let fact, fact.isSame(as: shape[index]) { numbers[index] = 0 }
      }
    }
    if numbers.count(where: { $0 == nil || $0 == -1 }) <= 1 {
      let target = numbers.map { $0 ?? -1 }
      let copies = zip(numbers, sizes).contains { number, size in number == 0 && size != .number(0) }
      return copies ? try layers.emit("Reshape", [value, layers.integers(target)]) : try layers.reshape(value, target)
    }
    return try layers.emit("Reshape", [value, try shapeTensor(sizes)])
  }

  /// The same elements in the shape that the program says the result has.
  func reshapeToResult(_ value: ValueID, _ index: Int = 0) throws(OperatorError) -> ValueID {
    guard let meta = result(index) else { throw .unsupported("the shape of the result is not known") }
    return try layers.reshape(value, to: meta.sizes, symbolsOf: try operandTensors())
  }

  /// The tensors that the node reads, and the inputs of the graph: where symbols come from.
  func operandTensors() throws(OperatorError) -> [ValueID] {
    var values: [ValueID] = []
    for input in node.inputs {
      if case .tensor(let name) = input.value { values.append(try lowering.tensor(name)) }
    }
    for case .tensor(let name) in lowering.graph.inputs where lowering.hasTensor(name) {
      if lowering.weightPaths[name] == nil { values.append(try lowering.tensor(name)) }
    }
    return values
  }

  /// A value with so many axes of extent 1 before the others.
  func padded(_ value: ValueID, toRank rank: Int) throws(OperatorError) -> ValueID {
    let missing = rank - (try layers.rank(value))
    return missing > 0 ? try layers.unsqueeze(value, Array(0..<missing)) : value
  }
}
