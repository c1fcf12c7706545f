// From the layers of a Keras model to nodes: every call of every layer once, in an order in which they can run.

import ApusGraph
import ApusTensor

/// A value of the graph with the mask that Keras sends along with it: bools over batch and time, false where a step is
/// padding.
struct KerasTensor {
  var value: ValueID
  var mask: ValueID?

  init(_ value: ValueID, mask: ValueID? = nil) { (self.value, self.mask) = (value, mask) }
}

/// What the calls of all layers of a file share.
final class KerasNetwork {
  let layers: LayerBuilder
  let weights: KerasWeights
  /// The major version of the Keras that wrote the file: 2 or 3.
  let version: Int
  /// Weights that were made, by where they are, so that layers that are called twice have them once.
  private var made: [String: [ValueID]] = [:]

  init(_ layers: LayerBuilder, _ weights: KerasWeights, version: Int) {
    (self.layers, self.weights, self.version) = (layers, weights, version)
  }

  /// The variables of a layer as constants of type float32, or of integers.
  func variables(_ scope: KerasScope, _ names: [String]) throws(OperatorError) -> [ValueID] {
    let key = ([scope.path] + scope.names + names).joined(separator: "\n")
    if let known = made[key] { return known }
    var values: [ValueID] = []
    for (tensor, name) in zip(try weights.variables(scope, names), names) {
      let leaf = name.prefix { $0 != "|" }
      var value = layers.constant(tensor, name: (scope.names + [String(leaf)]).joined(separator: "/"))
      if tensor.dataType.isFloat, tensor.dataType != .float32 {
        layers.ledger.note("weights of \(tensor.dataType) are computed with as float32")
        value = try layers.cast(value, to: .float32)
      }
      values.append(value)
    }
    made[key] = values
    return values
  }

  // MARK: - Models

  /// A call of a layer, by the positions of both.
  private struct Place: Hashable {
    let layer: Int
    let call: Int
  }

  /// The outputs of a model that is called with `inputs`. `prefix` stands before the names of its layers, `scope` is
  /// where its weights are; layers of the outermost model have scopes of their own.
  func outputs(
    of model: KerasModel, _ inputs: [KerasTensor], prefix: String, scope: KerasScope
  ) throws(LoadError) -> [KerasTensor] {
    guard inputs.count == model.inputs.count else {
      throw .malformed(
        "the model '\(model.name)' has \(model.inputs.count) inputs; it is called with \(inputs.count)")
    }
    try layers.ledger.count(model.isSequential ? "Sequential" : "Functional")
    var run = KerasRun(self, model, prefix: prefix, scope: scope)
    for (reference, tensor) in zip(model.inputs, inputs) { run.set(reference, tensor) }
    var outputs: [KerasTensor] = []
    for reference in model.outputs { outputs.append(try run.tensor(run.output(reference))) }
    return outputs
  }

  /// The outputs of one call of a layer.
  func call(
    _ layer: KerasLayer, _ node: KerasNode<KerasTensor>, prefix: String, scope: KerasScope
  ) throws(LoadError) -> [KerasTensor] {
    let name = prefix + layer.name
    if let model = layer.model {
      return try outputs(of: model, Self.inputs(of: node), prefix: name + "/", scope: scope)
    }
    if layer.className == "TimeDistributed", let value = layer.config["layer"] {
      let inner = try Self.parsed(value)
      if let model = inner.model { return try steps(of: model, inner, layer, node, name: name, scope: scope) }
    }
    let call = KerasCall(layer: layer, node: node, scope: scope, network: self, name: name)
    var results: [KerasTensor] = []
    let reading = node.tensors.map { ValueID?.some($0.value) }
    let values = try layers.layer(name, kind: layer.className, reading: reading) { () throws(OperatorError) in
      results = try call.results()
      return results.map(\.value)
    }
    // Placeholders of a layer that could not be made.
    if results.isEmpty { results = values.compactMap { $0 }.map { KerasTensor($0) } }
    return results
  }

  /// What a model is called with: tensors, and the masks of them where they are said apart.
  private static func inputs(of node: KerasNode<KerasTensor>) -> [KerasTensor] {
    var inputs = node.arguments.flatMap(\.tensors)
    if inputs.isEmpty { inputs = node.keywords["inputs"]?.tensors ?? [] }
    let masks = node.keywords["mask"]?.tensors ?? []
    if masks.count == inputs.count { for index in inputs.indices { inputs[index].mask = masks[index].value } }
    return inputs
  }

  static func parsed(_ value: JSONValue) throws(LoadError) -> KerasLayer {
    do throws(OperatorError) {
      return try KerasModelParser.layer(value)
    } catch {
      throw LoadError(.malformed, error.message, remedy: error.remedy)
    }
  }

  /// A model that is applied to every step of a sequence.
  private func steps(
    of model: KerasModel, _ inner: KerasLayer, _ layer: KerasLayer, _ node: KerasNode<KerasTensor>, name: String,
    scope: KerasScope
  ) throws(LoadError) -> [KerasTensor] {
    guard let input = node.tensors.first else { throw .malformed("the layer '\(name)' is called without a tensor") }
    let merged = try layers.layer(name, kind: layer.className, reading: [input.value]) { () throws(OperatorError) in
      [try KerasRecurrence.mergingSteps(input.value, layers)]
    }
    guard let first = merged.first, let first else { return [] }
    let outputs = try outputs(
      of: model, [KerasTensor(first)], prefix: "\(name)/\(inner.name)/",
      scope: scope.child("layer", named: inner.name))
    guard outputs.count == 1 else { throw .malformed("the model inside of '\(name)' should have one output") }
    let split = try layers.layer("\(name)/steps", kind: layer.className, reading: [input.value, outputs[0].value]) {
      () throws(OperatorError) in
      [try KerasRecurrence.splittingSteps(outputs[0].value, like: input.value, layers)]
    }
    return split.compactMap { $0 }.map { KerasTensor($0, mask: input.mask) }
  }

  /// The names of classes in Python where configurations say others.
  private static let pythonNames = ["GroupQueryAttention": "GroupedQueryAttention"]

  /// Where the weights of the layers of a model are. Keras 3 names groups by the class and a counter, Keras 2 too.
  static func scopes(of model: KerasModel, in scope: KerasScope) -> [KerasScope] {
    var counts: [String: Int] = [:]
    return model.layers.map { layer in
      // The layers of a Sequential model are counted without its input; operations hold nothing.
      if layer.isOperation || (model.isSequential && layer.className == "InputLayer") { return scope }
      let name = snakeCase(pythonNames[layer.className] ?? layer.className)
      let count = counts[name, default: 0]
      counts[name] = count + 1
      return scope.child("layers/" + (count == 0 ? name : "\(name)_\(count)"), named: layer.name)
    }
  }

  /// `Conv2DTranspose` as `conv2d_transpose`.
  static func snakeCase(_ name: String) -> String {
    let letters = Array(
      name.unicodeScalars.filter { $0 == "_" || $0.properties.isAlphabetic || $0.properties.numericType != nil })
    func isUpper(_ index: Int) -> Bool { letters.indices.contains(index) && ("A"..."Z").contains(letters[index]) }
    func isLower(_ index: Int) -> Bool { letters.indices.contains(index) && ("a"..."z").contains(letters[index]) }
    var text = ""
    for index in letters.indices {
      // A word begins at a capital before a small letter, and at a capital behind one.
      let begins = isUpper(index) && index > 0 && (isLower(index + 1) || isLower(index - 1))
      if begins { text += "_" }
      text += String(Character(letters[index])).lowercased()
    }
    return text
  }
}

/// One run through the layers of a model.
private struct KerasRun {
  let network: KerasNetwork
  let model: KerasModel
  let prefix: String
  private let scopes: [KerasScope]
  private var positions: [String: Int] = [:]
  /// By how much the calls of models inside are counted too high: Keras 2 counts the making of a model as a call.
  private var shifts: [Int: Int] = [:]
  /// The same for references of the outputs, where they are counted otherwise.
  private var outputShifts: [Int: Int] = [:]
  /// The outputs of the calls that were made.
  private var done: [Int: [Int: [KerasTensor]]] = [:]

  init(_ network: KerasNetwork, _ model: KerasModel, prefix: String, scope: KerasScope) {
    (self.network, self.model, self.prefix) = (network, model, prefix)
    scopes = KerasNetwork.scopes(of: model, in: scope)
    for (index, layer) in model.layers.enumerated() { positions[layer.name] = index }
    for reference in model.outputs + model.layers.flatMap({ $0.calls.flatMap(\.tensors) }) {
      guard let index = positions[reference.layer], model.layers[index].model != nil else { continue }
      if reference.call == model.layers[index].calls.count { shifts[index] = 1 }
    }
    guard network.version >= 3 else { return }
    // Keras 3 counts so in the outputs of a model only, and only models that are functional.
    shifts = [:]
    for reference in model.layers.flatMap({ $0.calls.flatMap(\.tensors) }) {
      guard let index = positions[reference.layer], model.layers[index].model != nil else { continue }
      if reference.call == model.layers[index].calls.count { shifts[index] = 1 }
    }
    for reference in model.outputs {
      guard let index = positions[reference.layer], let inner = model.layers[index].model else { continue }
      if !inner.isSequential || reference.call == model.layers[index].calls.count { outputShifts[index] = 1 }
    }
    for reference in model.outputs where reference.call == 0 {
      if let index = positions[reference.layer] { outputShifts[index] = nil }
    }
  }

  /// Gives an input of the model its tensor.
  mutating func set(_ reference: KerasReference, _ tensor: KerasTensor) {
    guard let position = positions[reference.layer] else { return }
    done[position, default: [:]][reference.call] = [tensor]
  }

  /// The reference of an output of the model, counted as those of the calls are.
  func output(_ reference: KerasReference) -> KerasReference {
    guard network.version >= 3, let index = positions[reference.layer] else { return reference }
    let call = reference.call - (outputShifts[index] ?? 0) + (shifts[index] ?? 0)
    return KerasReference(layer: reference.layer, call: call, output: reference.output)
  }

  private func place(_ reference: KerasReference) throws(LoadError) -> (layer: Int, call: Int) {
    guard let layer = positions[reference.layer] else {
      throw .malformed("the model '\(model.name)' has no layer '\(reference.layer)', which another one reads")
    }
    let call = reference.call - (shifts[layer] ?? 0)
    if done[layer]?[call] == nil, !model.layers[layer].calls.indices.contains(call) {
      throw .malformed(
        "the layer '\(reference.layer)' is called \(model.layers[layer].calls.count) times; call \(reference.call) of "
          + "it is read")
    }
    return (layer, call)
  }

  /// The tensor of a reference, with the calls that it needs made before, none twice and without recursion.
  mutating func tensor(_ reference: KerasReference) throws(LoadError) -> KerasTensor {
    var waiting: [KerasReference] = [reference]
    var open: Set<KerasReference> = []
    while let next = waiting.last {
      let (layer, call) = try place(next)
      if done[layer]?[call] != nil {
        waiting.removeLast()
        continue
      }
      let node = model.layers[layer].calls[call]
      var missing: [KerasReference] = []
      for needed in node.tensors {
        let (layer, call) = try place(needed)
        if done[layer]?[call] == nil { missing.append(needed) }
      }
      if missing.isEmpty {
        let inputs = try node.map { (needed) throws(LoadError) in try known(needed) }
        done[layer, default: [:]][call] = try network.call(
          model.layers[layer], inputs, prefix: prefix, scope: scopes[layer])
        waiting.removeLast()
        continue
      }
      guard open.insert(KerasReference(layer: next.layer, call: call, output: 0)).inserted else {
        throw .malformed("the layers of the model '\(model.name)' wait for each other at '\(next.layer)'")
      }
      waiting += missing.reversed()
    }
    return try known(reference)
  }

  /// The tensor of a call that was made.
  private func known(_ reference: KerasReference) throws(LoadError) -> KerasTensor {
    let (layer, call) = try place(reference)
    let outputs = done[layer]?[call] ?? []
    // A layer that could not be made has one placeholder for all its outputs.
    if outputs.count == 1, !outputs.indices.contains(reference.output), network.layers.isFaulty(outputs[0].value) {
      return outputs[0]
    }
    guard outputs.indices.contains(reference.output) else {
      throw .malformed(
        "the layer '\(reference.layer)' gives \(outputs.count) tensors; number \(reference.output) of them is read")
    }
    return outputs[reference.output]
  }
}
