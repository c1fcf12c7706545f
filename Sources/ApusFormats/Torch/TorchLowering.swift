// Makes the nodes of one graph of an exported program: which value each name has, and what writing to a view changes.

import ApusContainers
import ApusGraph
import ApusTensor

/// How a tensor that shares the elements of another is read from it, and how the other looks when it was written to.
struct TorchView {
  let read: (ValueID) throws(OperatorError) -> ValueID
  /// The other tensor, given as it is and the new elements of the view; nil if that cannot be said.
  let write: ((_ base: ValueID, _ new: ValueID) throws(OperatorError) -> ValueID)?
  /// True if the result has elements of its own after all.
  var isCopy = false

  /// The same tensor under another name.
  static var same: TorchView { TorchView(read: { value in value }, write: { _, new in new }) }
}

/// The values of one graph while its nodes are made in order.
///
/// PyTorch writes in place: `x.relu_()`, `y[:, 1] = 0`. Each name is a view of another or owns its elements. Writing to
/// a view computes what its owner becomes; whoever reads another view of the same owner afterwards reads it anew.
final class TorchLowering {
  let layers: LayerBuilder
  let graph: TorchGraph
  private let archive: TorchArchive?
  /// The weights of the program by the names of their inputs.
  var weightPaths: [String: String] = [:]

  private struct Slot {
    var value: ValueID
    /// The tensor that this one is a view of.
    var parent: String?
    var view: TorchView?
    /// That of the owner when `value` was computed.
    var version = 0
  }
  private var slots: [String: Slot] = [:]
  /// How often each owner was written to.
  private var versions: [String: Int] = [:]
  /// Integers, floats and truths of nodes, as tensors of the shape [1].
  private var symbols: [String: ValueID] = [:]
  /// True if a node of the graph writes in place.
  let hasWrites: Bool
  /// Which part of complex tensors rules read; pairs if there is none.
  private var parts: [String: Int] = [:]
  private var partValues: [ValueID: [ValueID]] = [:]
  private var layerNames: Set<String> = []
  private var reordered: [ValueID: ValueID] = [:]
  /// Outputs that nothing reads are not asked for.
  let needed: Set<String>

  init(_ graph: TorchGraph, layers: LayerBuilder, archive: TorchArchive?, outputs: [String]) {
    (self.graph, self.layers, self.archive) = (graph, layers, archive)
    hasWrites = graph.nodes.contains { TorchOperator($0.target).isInPlace }
    needed = Self.needed(graph, outputs: outputs)
  }

  /// The names that outputs or writes depend on.
  private static func needed(_ graph: TorchGraph, outputs: [String]) -> Set<String> {
    var needed = Set(outputs)
    for node in graph.nodes.reversed() {
      let isNeeded =
        TorchOperator(node.target).isInPlace || node.outputs.contains { $0.names.contains { needed.contains($0) } }
      if isNeeded { for input in node.inputs { needed.formUnion(input.value.names) } }
    }
    return needed
  }

  /// False for nodes that compute nothing that is needed, and for those that only check.
  func isNeeded(_ node: TorchNode) -> Bool {
    let op = TorchOperator(node.target)
    if TorchRules.checks.contains(op.name) { return false }
    return op.isInPlace || node.outputs.contains { $0.names.contains { needed.contains($0) } }
  }

  // MARK: - Values

  func bind(_ name: String, to value: ValueID) { slots[name] = Slot(value: value) }
  func bind(symbol name: String, to value: ValueID) { symbols[name] = value }
  func hasTensor(_ name: String) -> Bool { slots[name] != nil || weightPaths[name] != nil }

  /// The value of a tensor, after all that was written to it; of complex numbers pairs, or the part that is asked for.
  func tensor(_ name: String) throws(OperatorError) -> ValueID {
    let value = try whole(name)
    guard let part = parts[name] else { return value }
    if let known = partValues[value] { return known[part] }
    let both = [try layers.part(0, ofPairs: value), try layers.part(1, ofPairs: value)]
    partValues[value] = both
    return both[part]
  }

  /// What `make` gives while those tensors of complex numbers stand for their real (0) or imaginary (1) parts.
  func withParts<T>(_ parts: [String: Int], _ make: () throws(OperatorError) -> T) throws(OperatorError) -> T {
    let outer = self.parts
    self.parts = parts
    defer { self.parts = outer }
    return try make()
  }

  private func whole(_ name: String) throws(OperatorError) -> ValueID {
    if slots[name] == nil { try loadWeight(name) }
    guard let slot = slots[name] else { throw .mismatch("the tensor '\(name)' is not computed by any node before") }
    guard let parent = slot.parent, let view = slot.view else { return slot.value }
    let version = versions[owner(name)] ?? 0
    if version == slot.version { return slot.value }
    let value = try view.read(try whole(parent))
    slots[name]?.value = value
    slots[name]?.version = version
    return value
  }

  private func loadWeight(_ name: String) throws(OperatorError) {
    guard let path = weightPaths[name], let archive else { return }
    do throws(LoadError) {
      let tensor = try archive.tensor(path).withPairs
      bind(name, to: layers.constant(tensor, name: path))
    } catch {
      throw .invalid("the tensor '\(path)' cannot be read: \(error.message)", remedy: error.remedy)
    }
  }

  private func owner(_ name: String) -> String {
    var owner = name
    // Views are made of tensors that exist already: no circles.
    while let parent = slots[owner]?.parent { owner = parent }
    return owner
  }

  /// Says that `name` shares the elements of `parent`.
  func alias(_ name: String, of parent: String, _ view: TorchView) {
    if !hasWrites || name == parent || slots[parent] == nil { return }
    // A file may define a name twice, so that its views would lie in each other.
    var ancestor = parent
    while let next = slots[ancestor]?.parent {
      if next == name { return }
      ancestor = next
    }
    let version = versions[owner(parent)] ?? 0
    slots[name]?.parent = parent
    slots[name]?.view = view
    slots[name]?.version = version
  }

  /// Gives a tensor new elements, and all that share them.
  func write(_ value: ValueID, to name: String) throws(OperatorError) {
    var (current, new) = (name, value)
    let owner = owner(name)
    let version = (versions[owner] ?? 0) + 1
    var chain: [(String, ValueID)] = [(name, value)]
    while let parent = slots[current]?.parent, let view = slots[current]?.view {
      guard let write = view.write else {
        throw .unsupported(
          "writing into '\(current)', a view of '\(parent)', cannot be followed",
          remedy: "Change the model so that it writes into the tensor itself, or call run_decompositions() first")
      }
      new = try write(try whole(parent), new)
      current = parent
      chain.append((current, new))
    }
    versions[owner] = version
    for (name, value) in chain {
      slots[name]?.value = value
      slots[name]?.version = version
    }
  }

  /// A number that a node or an input gives, of the shape [1].
  func symbol(_ name: String) throws(OperatorError) -> ValueID {
    if let value = symbols[name] { return value }
    let dim = graph.integers[name] ?? TorchExpression.dim(name)
    if let number = dim.known {
      let value = layers.integers([number])
      symbols[name] = value
      return value
    }
    for case .tensor(let input) in graph.inputs {
      guard let slot = slots[input], let axis = graph.tensors[input]?.sizes.firstIndex(where: { $0.isSame(as: dim) })
      else { continue }
      let value = try layers.emit("Shape", [slot.value], [("start", .int(axis)), ("end", .int(axis + 1))])
      symbols[name] = value
      return value
    }
    throw .mismatch("the number '\(name)' is not computed by any node before")
  }

  func size(_ size: TorchSize) throws(OperatorError) -> ValueID {
    switch size {
    case .number(let number): layers.integers([number])
    case .name(let name): try symbol(name)
    }
  }

  /// The number, if it is known now.
  func known(_ size: TorchSize) throws(OperatorError) -> Int? {
    switch size {
    case .number(let number): number
    case .name(let name): layers.integers(try symbol(name))?.first
    }
  }

  /// A weight with its last two axes changed; one copy for all that ask.
  func swapped(_ value: ValueID) throws(OperatorError) -> ValueID {
    if let known = reordered[value] { return known }
    let rank = try layers.rank(value)
    var order = Array(0..<rank)
    order.swapAt(rank - 2, rank - 1)
    let result = try layers.transpose(value, order)
    if layers.constant(value) != nil { reordered[value] = result }
    return result
  }

  // MARK: - Nodes

  /// Makes all nodes that are needed.
  func run() throws(LoadError) {
    for node in graph.nodes where isNeeded(node) {
      let names = node.outputs.flatMap(Self.outputNames)
      let inputs = node.inputs.flatMap(\.value.names).compactMap { slots[$0]?.value ?? symbols[$0] }
      let results = try layers.layer(
        layerName(node), kind: node.target, reading: inputs.map { $0 }, outputs: names.count
      ) { () throws(OperatorError) in try make(node) }
      bindResults(of: node, results)
    }
  }

  /// The name of each result of an output; nil stands for one that has none.
  private static func outputNames(_ output: TorchArgument) -> [String?] {
    switch output {
    case .tensors(let names): names
    case .sizes(let sizes): sizes.map { if case .name(let name) = $0 { name } else { nil } }
    default: [output.names.first]
    }
  }

  private func layerName(_ node: TorchNode) -> String {
    if node.module.isEmpty { return node.name }
    if node.isLeaf, layerNames.insert(node.module).inserted { return node.module }
    return node.module + "/" + node.name
  }

  func bindResults(of node: TorchNode, _ results: [ValueID?]) {
    var results = results[...]
    for output in node.outputs {
      let isSymbol =
        switch output {
        case .size, .sizes, .symbol: true
        default: false
        }
      for name in Self.outputNames(output) {
        guard let result = results.popFirst() else { return }
        guard let name, let result else { continue }
        if isSymbol {
          symbols[name] = result
        } else {
          // A rule of a view has bound it already.
          if slots[name] == nil { slots[name] = Slot(value: result) }
          if layers.constant(result) == nil { layers.name(result, name) }
        }
      }
    }
  }

  /// The results of a node, one for each name among its outputs.
  func make(_ node: TorchNode) throws(OperatorError) -> [ValueID?] {
    for name in node.outputs.flatMap(\.names) where slots[name] != nil || symbols[name] != nil {
      throw .invalid("a name for its result was expected that is new; '\(name)' is taken")
    }
    let op = TorchOperator(node.target)
    let call = TorchCall(node, op, self)
    if op.isInPlace { return try makeInPlace(call) }
    if isComplex(node) { return try makeWithPairs(call) }
    if let rule = TorchRules.views[op.rule] {
      let view = try rule(call)
      let value = try checked(try view.read(try call.tensor(at: 0)), call, 0)
      try share(call, value, view)
      return [value]
    }
    guard let rule = TorchRules.rule(of: op) else { throw .unsupported("there is no rule for it") }
    let results = try rule(call)
    var checkedResults: [ValueID?] = []
    for (index, result) in results.enumerated() {
      checkedResults.append(try result.map { (value) throws(OperatorError) in try checked(value, call, index) })
    }
    if hasWrites { try shareParts(call, checkedResults) }
    return checkedResults
  }

  /// The results of a node with complex operands or results, and what they share with the first of them.
  private func makeWithPairs(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    var results: [ValueID?] = []
    for (index, result) in try makeComplex(call).enumerated() {
      results.append(try result.map { (value) throws(OperatorError) in try checked(value, call, index) })
    }
    if hasWrites, let value = results.first ?? nil {
      if let view = try complexView(call) {
        try share(call, value, view)
      } else if TorchRules.givingBack.contains(call.op.rule) {
        // A cast between real and complex numbers is a copy.
        if try value == call.tensor(at: 0) { try share(call, value, .same) }
      } else if TorchRules.parts[call.op.rule] != nil {
        throw .unsupported(
          "parts of complex numbers in a program that writes in place", remedy: "Call run_decompositions() first")
      }
    }
    return results
  }

  /// Binds the result of a view before anything else does, so that it is known what it shares.
  private func share(_ call: TorchCall, _ value: ValueID, _ view: TorchView) throws(OperatorError) {
    guard hasWrites, case .tensor(let name)? = call.node.outputs.first,
      case .tensor(let parent)? = call.node.inputs.first?.value
    else { return }
    slots[name] = Slot(value: value)
    if !view.isCopy, !call.op.isCopy { alias(name, of: parent, view) }
  }

  /// Operators that give several views, or their operand itself.
  private func shareParts(_ call: TorchCall, _ results: [ValueID?]) throws(OperatorError) {
    if TorchRules.givingBack.contains(call.op.rule), case .tensor(let parent)? = call.node.inputs.first?.value,
      case .tensor(let name)? = call.node.outputs.first, let result = results.first ?? nil,
      slots[parent]?.value == result
    {
      slots[name] = Slot(value: result)
      return alias(name, of: parent, .same)
    }
    guard let parts = TorchRules.parts[call.op.rule], case .tensors(let names)? = call.node.outputs.first,
      case .tensor(let parent)? = call.node.inputs.first?.value
    else { return }
    let views = try parts(call, names.count)
    for ((name, result), view) in zip(zip(names, results), views) {
      guard let name, let result else { continue }
      slots[name] = Slot(value: result)
      alias(name, of: parent, view)
    }
  }

  /// Computes what the operator without the underscore does, and writes that.
  private func makeInPlace(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    guard case .tensor(let target)? = call.node.inputs.first?.value else {
      throw .invalid("an operator that writes in place should have a tensor first")
    }
    if TorchRules.views[call.op.rule] != nil, !["detach", "alias"].contains(call.op.rule) {
      throw .unsupported(
        "an operator that changes the shape of its operand in place is not followed",
        remedy: "Call run_decompositions() before the model is saved")
    }
    let old = try tensor(target)
    var value = old
    if isComplex(call.node) {
      guard let result = try makeComplex(call).first ?? nil else { throw .unsupported("there is no rule for it") }
      value = result
    } else if let view = TorchRules.views[call.op.rule] {
      value = try view(call).read(old)
    } else {
      guard let rule = TorchRules.rule(of: call.op), let result = try rule(call).first ?? nil else {
        throw .unsupported("there is no rule for it")
      }
      value = result
    }
    if let type = layers.type(old) { value = try layers.cast(value, to: type) }
    if let shape = layers.builder.shape(old), let new = layers.builder.shape(value), shape != new {
      value = try layers.emit("Expand", [value, try call.shapeTensor(old)])
    }
    try write(value, to: target)
    if case .tensor(let name)? = call.node.outputs.first {
      slots[name] = Slot(value: value)
      alias(name, of: target, .same)
    }
    return [value]
  }

  /// The value, of the type that the program says; a fault of a rule is found here.
  private func checked(_ value: ValueID, _ call: TorchCall, _ index: Int) throws(OperatorError) -> ValueID {
    guard let meta = call.result(index), let type = meta.dataType else { return value }
    // PyTorch 2.6 and older write a wrong shape of the states of an LSTM.
    let isChecked = TorchRules.recurrentTable[call.op.rule] == nil
    let expected = meta.sizes.count + (type.isComplex ? 1 : 0)
    if isChecked, let rank = layers.builder.shape(value)?.count, rank != expected {
      throw .inconsistency("a result of rank \(expected) was expected; it has rank \(rank)")
    }
    return try layers.cast(value, to: type.ofParts)
  }
}

/// The name of an operator taken apart.
struct TorchOperator {
  /// As `aten.add_`, without the overload.
  let name: String
  let overload: String
  /// The name that the rules have: without the namespace of ATen, the underscore of operators that write in place and
  /// the ending of those that copy where others give a view.
  let rule: String
  let isInPlace: Bool
  /// True for operators that copy where others of the same rule give a view.
  let isCopy: Bool

  init(_ target: String) {
    var parts = target.split(separator: ".").map(String.init)
    let isAten = parts.first == "aten" || parts.first == "prims"
    overload = isAten || parts.count == 3 ? (parts.count > 2 ? parts.removeLast() : "") : ""
    name = parts.joined(separator: ".")
    var rule = isAten ? parts.dropFirst().joined(separator: ".") : name
    isInPlace = isAten && rule.hasSuffix("_") && !rule.hasSuffix("__")
    if isInPlace { rule.removeLast() }
    isCopy = rule.hasSuffix("_copy") && TorchRules.isView(String(rule.dropLast("_copy".count)))
    if isCopy { rule.removeLast("_copy".count) }
    self.rule = rule
  }
}
