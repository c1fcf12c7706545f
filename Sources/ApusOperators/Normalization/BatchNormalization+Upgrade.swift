// BatchNormalization before version 14: training was stated by is_test or by the number of outputs, and channels could
// have statistics for every position (spatial = 0). https://onnx.ai/onnx/operators/onnx__BatchNormalization.html

import ApusGraph
import ApusTensor

extension BatchNormalization {
  package func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version < 14 else { return }
    _ = node.attributes.remove("consumed_inputs")
    let isTest = node.attributes.int("is_test") ?? 0
    let isSpatial = node.attributes.int("spatial") ?? 1 != 0
    _ = node.attributes.remove("is_test")
    _ = node.attributes.remove("spatial")
    let isTraining = version < 7 ? isTest == 0 : node.outputs.dropFirst().contains { $0 != nil }
    if isTraining { node.attributes["training_mode"] = .int(1) }
    if node.outputs.count > 3 {
      let saved = Array(node.outputs[3...])
      node.outputs.removeSubrange(3...)
      try addSavedStatistics(saved, of: node, to: builder)
    }
    if !isSpatial {
      guard node.outputs.count == 1 else {
        throw .unsupported("spatial = 0 together with running statistics is not supported")
      }
      try flatten(&node, in: builder)
    }
  }

  /// The mean and variance of the batch, which versions before 14 gave as outputs 3 and 4.
  private func addSavedStatistics(
    _ saved: [ValueID?], of node: Node, to builder: GraphBuilder
  ) throws(OperatorError) {
    guard saved.contains(where: { $0 != nil }), let x = node.inputs.first ?? nil else { return }
    guard let rank = builder.shape(x)?.count else {
      throw .unsupported("saved_mean and saved_var need an input of known rank")
    }
    let axes = builder.addConstant(Tensor((0..<rank).filter { $0 != 1 }.map { Int64($0) }))
    let drop = Attributes([("keepdims", .int(0))])
    let mean = OperatorID("ReduceMean")
    if let savedMean = saved[0] {
      try builder.append(
        Node(mean, name: node.name + "/saved_mean", inputs: [x, axes], outputs: [savedMean], attributes: drop))
    }
    guard saved.count > 1, let savedVariance = saved[1] else { return }
    let center = try builder.apply(mean, name: node.name + "/center", [x, axes])
    let difference = try builder.apply(OperatorID("Sub"), name: node.name + "/difference", [x, center])
    let square = try builder.apply(OperatorID("Mul"), name: node.name + "/square", [difference, difference])
    try builder.append(
      Node(mean, name: node.name + "/saved_var", inputs: [square, axes], outputs: [savedVariance], attributes: drop))
  }

  /// Every position of an image becomes a channel of its own.
  private func flatten(_ node: inout Node, in builder: GraphBuilder) throws(OperatorError) {
    guard let x = node.inputs.first ?? nil else { return }
    var inputs: [ValueID?] = [try builder.apply(OperatorID("Flatten"), name: node.name + "/channels", [x])]
    let flat = builder.addConstant(Tensor([Int64(-1)]))
    for (index, input) in node.inputs.dropFirst().enumerated() {
      inputs.append(try builder.apply(OperatorID("Reshape"), name: "\(node.name)/parameter\(index)", [input, flat]))
    }
    let result = builder.addValue()
    try builder.append(
      Node(node.op, name: node.name + "/flat", inputs: inputs, outputs: [result], attributes: node.attributes))
    let shape = try builder.apply(OperatorID("Shape"), name: node.name + "/shape", [x])
    node.op = OperatorID("Reshape")
    node.inputs = [result, shape]
    node.attributes = Attributes([("allowzero", .int(1))])
  }
}
