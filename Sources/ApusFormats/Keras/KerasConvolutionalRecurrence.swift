// ConvLSTM of Keras as a Scan over the steps: an LSTM whose products are convolutions.

import ApusGraph
import ApusTensor

enum KerasConvolutionalRecurrence {
  static let rules: [String: KerasRule] = [
    "ConvLSTM1D": convLSTM(1), "ConvLSTM2D": convLSTM(2), "ConvLSTM3D": convLSTM(3),
  ]

  private static func convLSTM(_ count: Int) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in try layer(call, count) }
  }

  private static func layer(_ call: KerasCall, _ count: Int) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let config = call.config
    let input = try call.input()
    guard try layers.rank(input.value) == count + 3 else {
      throw .mismatch("a sequence of pictures was expected; it has \(try layers.rank(input.value)) axes")
    }
    if input.mask != nil { throw .unsupported("masks of sequences of pictures") }
    if call.node.tensors.count > 1 { throw .unsupported("states that are given") }
    let filters = try config.requiredInt("filters", in: 1...1 << 20)
    let window = try KerasConvolutions.Window(config, count: count)
    let usesBias = try config.bool("use_bias", default: true)
    let scope = call.scope.child("cell", named: KerasNetwork.snakeCase("ConvLSTMCell"))
    let weights = try call.network.variables(scope, ["kernel", "recurrent_kernel"] + (usesBias ? ["bias"] : []))
    let order = [count + 1, count] + Array(0..<count)
    let kernel = try layers.transpose(weights[0], order)
    let recurrent = try layers.transpose(weights[1], order)
    let isFirst = try call.isChannelsFirst()

    // The convolutions of all steps at once, [batch, steps, 4 · filters, …] with the steps in the batch.
    let merged = try KerasRecurrence.mergingSteps(input.value, layers)
    let pictures = isFirst ? merged : try layers.channelsFirst(merged)
    let products = try layers.emit(
      "Conv", [pictures, kernel] + weights.dropFirst(2), window.attributes(pictures, layers))
    let steps = try KerasRecurrence.splittingSteps(products, like: input.value, layers)
    var sequence = try layers.transpose(steps, [1, 0] + Array(2..<count + 3))
    let isReverse = try config.bool("go_backwards", default: false)
    if isReverse {
      sequence = try layers.slice(sequence, from: [-1], to: [-Int(Int32.max)], axes: [0], steps: [-1])
    }
    let zero = try start(sequence, filters, layers)
    let body = try body(sequence, recurrent, window, filters, call)
    let outputs = try layers.emit(
      "Scan", [zero, zero, sequence], [("body", .graph(body)), ("num_scan_inputs", .int(1))], outputs: 3)

    func inSourceOrder(_ value: ValueID) throws(OperatorError) -> ValueID {
      if isFirst { return value }
      let rank = try layers.rank(value)
      let channels = rank - count - 1
      return try layers.transpose(value, Array(0..<channels) + Array(channels + 1..<rank) + [channels])
    }
    let returnsSequences = try config.bool("return_sequences", default: false)
    let all = try layers.transpose(outputs[2], [1, 0] + Array(2..<count + 3))
    var results = [KerasTensor(try inSourceOrder(returnsSequences ? all : outputs[0]))]
    if try config.bool("return_state", default: false) {
      for state in outputs.prefix(2) { results.append(KerasTensor(try inSourceOrder(state))) }
    }
    return results
  }

  /// Zeros in the shape of a state: that of a step, with `filters` channels.
  private static func start(
    _ sequence: ValueID, _ filters: Int, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let shape = try layers.shape(sequence)
    let extents = try layers.extents([shape[1], Dim(filters)] + shape.dropFirst(3), of: [sequence])
    return try layers.emit("Expand", [layers.scalar(0), extents])
  }

  /// One step: states and the products of the input, to states and the output.
  private static func body(
    _ sequence: ValueID, _ recurrent: ValueID, _ window: KerasConvolutions.Window, _ filters: Int, _ call: KerasCall
  ) throws(OperatorError) -> Subgraph {
    let inner = LayerBuilder(name: call.name + "/step", inside: call.layers)
    let shape = try call.layers.shape(sequence)
    let state = [shape[1], Dim(filters)] + shape.dropFirst(3)
    let hidden = inner.builder.addInput("hidden", fact: .tensor(.float32, Array(state)))
    let cell = inner.builder.addInput("cell", fact: .tensor(.float32, Array(state)))
    let step = inner.builder.addInput("step", fact: .tensor(.float32, Array(shape.dropFirst())))
    let kernel = inner.builder.importing(recurrent, of: call.layers.builder)
    let same = KerasConvolutions.Window(kernel: window.kernel, strides: window.kernel.map { _ in 1 }, padding: "same")
    let product = try inner.emit("Conv", [hidden, kernel], same.attributes(hidden, inner))
    let sums = try inner.emit(
      "Split", [inner.emit("Add", [step, product])], [("axis", .int(1)), ("num_outputs", .int(4))], outputs: 4)
    let network = KerasNetwork(inner, call.network.weights, version: call.network.version)
    let view = KerasCall(layer: call.layer, node: call.node, scope: call.scope, network: network, name: call.name)
    func gate(_ index: Int) throws(OperatorError) -> ValueID {
      try KerasActivations.apply("recurrent_activation", of: view, to: sums[index])
    }
    // Input, forget, cell, output.
    let kept = try inner.emit("Mul", [gate(1), cell])
    let added = try inner.emit("Mul", [gate(0), KerasActivations.apply(of: view, to: sums[2])])
    let next = try inner.emit("Add", [kept, added])
    let output = try inner.emit("Mul", [gate(3), KerasActivations.apply(of: view, to: next)])
    let copy = try inner.emit("Identity", [output])
    inner.builder.graph.outputs = [output, next, copy]
    return inner.builder.subgraph
  }
}
