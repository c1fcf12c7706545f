// One call of a layer, as the rules see it: its configuration, what it is called with, its weights.

import ApusGraph
import ApusTensor

/// A call of a layer or operation.
struct KerasCall {
  let layer: KerasLayer
  let node: KerasNode<KerasTensor>
  let scope: KerasScope
  let network: KerasNetwork
  let name: String
  /// Notes the arguments that the rule asks for.
  var reads: KerasReads?

  var config: KerasConfig {
    var config = layer.config
    config.reads = reads
    return config
  }
  var layers: LayerBuilder { network.layers }
  var ledger: ImportLedger { network.layers.ledger }

  /// The tensors that the rule of the layer makes.
  func results() throws(OperatorError) -> [KerasTensor] {
    guard let rule = KerasRules.rule(for: layer) else { throw .unsupported("there is no rule for \(layer.className)") }
    guard layer.isOperation || layer.isFunction else { return try rule.make(self) }
    var call = self
    let reads = KerasReads()
    call.reads = reads
    let results = try rule.make(call)
    try checkArguments(reads)
    return results
  }

  /// An error for an argument of an operation that its rule does not ask for, unless it changes nothing.
  private func checkArguments(_ reads: KerasReads) throws(OperatorError) {
    var given: [(name: String, value: JSONValue)] = layer.isOperation ? config.members.map { ($0.key, $0.value) } : []
    for case (let name, .constant(let value)) in node.keywords { given.append((name, value)) }
    for (name, value) in given.sorted(by: { $0.name < $1.name }) where !reads.names.contains(name) {
      if Self.inertArguments.contains(name) || value.isNull || value.flag == false { continue }
      if value.double == 0, name != "axis" { continue }
      if name == "sorted", value.flag == true { continue }
      // The policy of a layer, which operations have none of.
      if name == "dtype", case .object = value { continue }
      throw .unsupported(
        "the argument '\(name)' of \(KerasRules.kind(of: layer))",
        remedy: "Leave it out, or build it of other operations")
    }
  }

  /// Arguments that change no value, or none where the others are as the rules take them.
  private static let inertArguments: Set<String> = [
    "name", "trainable", "data_format", "fill_mode", "num", "validate_indices", "function",
  ]

  /// The call of an object that this layer keeps, such as the layer inside of a TimeDistributed.
  func inner(
    _ layer: KerasLayer, _ attribute: String, _ node: KerasNode<KerasTensor>, named name: String? = nil
  ) -> KerasCall {
    KerasCall(
      layer: layer, node: node, scope: scope.child(attribute, named: name ?? layer.name), network: network,
      name: self.name + "/" + layer.name)
  }

  /// The layer that a member of the configuration describes.
  func innerLayer(_ key: String) throws(OperatorError) -> KerasLayer {
    guard let value = config[key] else { throw .invalid("'\(key)' is missing") }
    return try KerasModelParser.layer(value)
  }

  // MARK: - Weights

  func variables(_ names: [String]) throws(OperatorError) -> [ValueID] { try network.variables(scope, names) }

  /// The shape of a constant.
  func dims(_ value: ValueID) throws(OperatorError) -> [Int] {
    guard let tensor = layers.constant(value) else { throw .inconsistency("a weight is no constant") }
    let dims = tensor.shape.dims
    // Products of some extents cannot overflow then: that of all does not.
    if dims.contains(0) { throw .invalid("a weight should have elements; its shape is \(dims)") }
    return dims
  }

  // MARK: - Arguments

  /// The argument at a position, or under one of `names` among the keywords or in the configuration.
  func argument(_ position: Int, _ names: String...) -> KerasArgument<KerasTensor>? {
    var found: KerasArgument<KerasTensor>?
    reads?.names.formUnion(names)
    if node.arguments.indices.contains(position) {
      found = node.arguments[position]
    } else {
      for name in names where found == nil { found = node.keywords[name] }
      if found == nil, let value = config[names] { found = .constant(value) }
    }
    guard let found, !found.isNull else { return nil }
    return found
  }

  /// The first tensor.
  func input() throws(OperatorError) -> KerasTensor { try input(0) }

  func input(_ position: Int) throws(OperatorError) -> KerasTensor {
    let tensors = node.tensors
    guard tensors.indices.contains(position) else {
      throw .invalid("\(position + 1) tensors were expected; it is called with \(tensors.count)")
    }
    return tensors[position]
  }

  /// A keyword that is a tensor.
  func keyword(_ name: String) -> KerasTensor? {
    if case .tensor(let tensor)? = node.keywords[name] { tensor } else { nil }
  }

  /// A keyword that is true or false.
  func flag(_ name: String) -> Bool {
    if case .constant(let value)? = node.keywords[name] { value.flag ?? false } else { false }
  }

  /// An argument that is a tensor or a number, which becomes one of the type of `other`.
  func operand(
    _ argument: KerasArgument<KerasTensor>?, like other: ValueID? = nil
  ) throws(OperatorError) -> ValueID {
    switch argument {
    case .tensor(let tensor): return tensor.value
    case .constant(let value): return try constant(value, like: other)
    case .list(let elements):
      let numbers = elements.compactMap { element -> JSONValue? in
        if case .constant(let value) = element { value } else { nil }
      }
      guard numbers.count == elements.count else { throw .unsupported("a list of tensors stands for a tensor") }
      return try constant(.array(numbers), like: other)
    case nil: throw .invalid("an argument is missing")
    }
  }

  /// Numbers in lists, as a tensor.
  func constant(_ value: JSONValue, like other: ValueID? = nil) throws(OperatorError) -> ValueID {
    var value = value
    if case .object = value {
      // `{"class_name": "__numpy__" or "__tensor__", "config": {"value": …, "dtype": …}}`.
      let entry = KerasConfig(value)
      guard let content = entry.object("config")["value"] else {
        throw .unsupported("an argument is \(entry["class_name"]?.text ?? "an object")")
      }
      value = content
    }
    var numbers: [Double] = []
    let shape = try Self.shape(of: value, &numbers)
    let isWhole = numbers.allSatisfy { $0 == $0.rounded() && abs($0) < 0x1p53 }
    var isFloat = true
    if let other, let type = layers.type(other) { isFloat = type.isFloat }
    let tensor: Tensor
    if isWhole, !isFloat {
      tensor = Tensor(numbers.map { Int64($0) }, shape: Shape(shape))
    } else {
      tensor = Tensor(numbers.map { Float($0) }, shape: Shape(shape))
    }
    let constant = layers.constant(tensor)
    guard let other, let type = layers.type(other) else { return constant }
    if type.isInteger, !isWhole { return constant }
    return try layers.cast(constant, to: type)
  }

  private static func shape(
    of value: JSONValue, _ numbers: inout [Double], depth: Int = 0
  ) throws(OperatorError) -> [Int] {
    if let number = value.double {
      numbers.append(number)
      return []
    }
    guard let elements = value.elements, depth < 16 else { throw value.unexpected("numbers", as: "an argument") }
    var inner: [Int] = []
    for (index, element) in elements.enumerated() {
      let shape = try shape(of: element, &numbers, depth: depth + 1)
      if index > 0, shape != inner { throw .invalid("the lists of an argument should have the same lengths") }
      inner = shape
    }
    return [elements.count] + inner
  }

  /// Integers of an argument; nil if it is not there.
  func integers(_ argument: KerasArgument<KerasTensor>?) throws(OperatorError) -> [Int]? {
    switch argument {
    case nil: return nil
    case .constant(let value):
      guard let numbers = value.integers else { throw value.unexpected("integers", as: "an argument") }
      return numbers
    case .list(let elements):
      var numbers: [Int] = []
      for element in elements {
        guard let number = try integers(element), number.count == 1 else {
          throw .unsupported("an argument that should be integers holds a tensor")
        }
        numbers += number
      }
      return numbers
    case .tensor(let tensor):
      guard let numbers = layers.integers(tensor.value) else {
        throw .unsupported("an argument that should be known is computed")
      }
      return numbers
    }
  }

  func integer(_ argument: KerasArgument<KerasTensor>?) throws(OperatorError) -> Int? {
    guard let numbers = try integers(argument) else { return nil }
    guard numbers.count == 1 else { throw .invalid("one integer was expected; found \(numbers)") }
    return numbers[0]
  }

  func number(_ argument: KerasArgument<KerasTensor>?) throws(OperatorError) -> Double? {
    guard case .constant(let value)? = argument else { return nil }
    guard let number = value.double else { throw value.unexpected("a number", as: "an argument") }
    return number
  }

  func truth(_ argument: KerasArgument<KerasTensor>?) -> Bool {
    if case .constant(let value)? = argument { value.flag ?? false } else { false }
  }

  func text(_ argument: KerasArgument<KerasTensor>?) -> String? {
    if case .constant(let value)? = argument { value.text } else { nil }
  }

  // MARK: - Shapes

  /// An axis of a tensor of `rank`, counted from the end if it is negative.
  func axis(_ axis: Int, rank: Int) throws(OperatorError) -> Int {
    let position = axis < 0 ? axis + rank : axis
    guard (0..<rank).contains(position) else { throw .invalid("axis \(axis) of \(rank) axes does not exist") }
    return position
  }

  func axes(_ axes: [Int], rank: Int) throws(OperatorError) -> [Int] {
    var positions: [Int] = []
    for number in axes { positions.append(try axis(number, rank: rank)) }
    guard Set(positions).count == positions.count else { throw .invalid("the axes \(axes) are not distinct") }
    return positions
  }

  /// True if the channels stand behind the batch.
  func isChannelsFirst() throws(OperatorError) -> Bool { try config.string("data_format") == "channels_first" }

  /// What `make` gives for the value with the channels behind the batch, in the order of the source.
  func inChannelsFirst(
    _ value: ValueID, _ make: (ValueID) throws(OperatorError) -> ValueID
  ) throws(OperatorError) -> ValueID {
    if try isChannelsFirst() { return try make(value) }
    return try layers.channelsLast(make(layers.channelsFirst(value)))
  }
}

/// How the calls of a kind of layer become nodes.
struct KerasRule: Sendable {
  let make: @Sendable (KerasCall) throws(OperatorError) -> [KerasTensor]

  init(_ make: @escaping @Sendable (KerasCall) throws(OperatorError) -> [KerasTensor]) { self.make = make }

  /// One tensor becomes one; the mask ends here.
  static func one(
    _ make: @escaping @Sendable (KerasCall, ValueID) throws(OperatorError) -> ValueID
  ) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in [KerasTensor(try make(call, call.input().value))] }
  }

  /// One tensor becomes one with the same mask.
  static func masked(
    _ make: @escaping @Sendable (KerasCall, ValueID) throws(OperatorError) -> ValueID
  ) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let input = try call.input()
      return [KerasTensor(try make(call, input.value), mask: input.mask)]
    }
  }

  /// What is a layer in training only.
  static let identity = masked { (_, value) throws(OperatorError) in value }
}
