// A convolution followed by a scale or shift per channel (BatchNormalization, Mul, Add, Sub) → a convolution with other
// weights.

import ApusGraph
import ApusTensor

/// Conv with constant float32 weights, then y·a + b with one a and b a channel → one Conv.
struct ConvAffineFusion: Fusion {
  let name = "conv-affine"
  let roots: Set<OperatorID> = [
    OperatorID("BatchNormalization"), OperatorID("Mul"), OperatorID("Add"), OperatorID("Sub"), OperatorID("Div"),
  ]

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let output = node.outputs[0], !node.outputs.dropFirst().contains(where: { $0 != nil }) else { return nil }
    let left = node.inputs.count > 0 ? graph.producer(of: node.inputs[0], is: "Conv") : nil
    let isLeft = left != nil
    let right =
      node.inputs.count == 2 && (node.op.name == "Mul" || node.op.name == "Add")
      ? graph.producer(of: node.inputs[1], is: "Conv") : nil
    guard let conv = left ?? right, let weight = graph.constant(conv.node.inputs[1]), weight.dataType == .float32,
      weight.rank >= 3
    else { return nil }
    let channels = weight.shape[0]
    guard channels > 0 else { return nil }
    let biasInput = conv.node.inputs.count > 2 ? conv.node.inputs[2] : nil
    var bias = [Float](repeating: 0, count: channels)
    if let biasInput {
      guard let values = graph.constant(biasInput)?.elements(as: Float.self), values.count == channels else {
        return nil
      }
      bias = values
    }
    guard let (scale, shift) = affine(node, isLeft: isLeft, channels: channels, rank: weight.rank, in: graph) else {
      return nil
    }
    for channel in 0..<channels {
      bias[channel] = bias[channel] * scale[channel] + shift[channel]
      guard bias[channel].isFinite else { return nil }
    }
    guard let weights = scaled(weight, by: scale) else { return nil }
    let fused = Node(
      conv.node.op, name: conv.node.name,
      inputs: [conv.node.inputs[0], GraphPatch.constant(0), GraphPatch.constant(1)], outputs: [output],
      attributes: conv.node.attributes)
    return GraphPatch(
      removed: [conv.position, root], added: [fused],
      constants: [weights, Tensor(bias, shape: [channels])])
  }

  /// The weights, each channel of outputs times its factor; nil if a product is beyond what float32 holds in full,
  /// where the result of the convolution may not be.
  private func scaled(_ weight: Tensor, by scale: [Float]) -> Tensor? {
    if scale.allSatisfy({ $0 == 1 }) { return weight }
    let block = weight.count / scale.count
    do throws(TensorError) {
      let result = try Tensor(uninitialized: .float32, shape: weight.shape)
      let products = result.storage.base.assumingMemoryBound(to: Float.self)
      let areExact = try weight.allPieces(of: Self.pieceBytes) { byteOffset, bytes in
        let first = byteOffset / 4
        var position = 0
        while position < bytes.count / 4 {
          let channel = (first + position) / block
          let end = min((channel + 1) * block - first, bytes.count / 4)
          // In bounds: `position..<end` lies in the piece, and the piece in the tensor.
          let isExact = multiply(
            bytes.baseAddress! + position * 4, by: scale[channel], count: end - position,
            into: products + first + position)
          if !isExact { return false }
          position = end
        }
        return true
      }
      return areExact ? result : nil
    } catch {
      return nil
    }
  }

  /// Bytes of weights that are looked at together: they stay in the cache.
  private static let pieceBytes = 1 << 18

  /// Products from here on, 2^64, are no weights: sums of them may pass what float32 holds where the sum times the
  /// factor does not.
  private static let largestExponent: UInt32 = 0x5f80_0000

  /// Multiplies floats of any alignment by one factor. False if a product is neither normal nor exactly zero, or huge.
  private func multiply(
    _ source: UnsafeRawPointer, by factor: Float, count: Int, into target: UnsafeMutablePointer<Float>
  ) -> Bool {
    // Without branches, so that several are computed at once: a large exponent, or one of zeros where there is no zero.
    let exponent: UInt32 = 0x7f80_0000
    var isInexact: UInt32 = 0
    for index in 0..<count {
      let weight = source.loadUnaligned(fromByteOffset: index &* 4, as: Float.self)
      let product = weight * factor
      let bits = product.bitPattern & exponent
      let isZero: UInt32 = product == 0 && (weight == 0 || factor == 0) ? 1 : 0
      isInexact |= (bits >= Self.largestExponent ? 1 : 0) | ((bits == 0 ? 1 : 0) & ~isZero)
      target[index] = product
    }
    return isInexact == 0
  }

  /// The factor and summand of each channel; nil if the node is no such operation.
  private func affine(
    _ node: Node, isLeft: Bool, channels: Int, rank: Int, in graph: borrowing GraphEditor
  ) -> (scale: [Float], shift: [Float])? {
    let ones = [Float](repeating: 1, count: channels)
    let zeros = [Float](repeating: 0, count: channels)
    if node.op.name == "BatchNormalization" {
      guard isLeft, node.attributes.int("training_mode") ?? 0 == 0, node.inputs.count == 5 else { return nil }
      let parameters = node.inputs.dropFirst().map { graph.constant($0)?.elements(as: Float.self) }
      guard let gamma = parameters[0], let beta = parameters[1], let mean = parameters[2], let variance = parameters[3],
        [gamma, beta, mean, variance].allSatisfy({ $0.count == channels })
      else { return nil }
      let epsilon = node.attributes.float("epsilon") ?? 1e-5
      let scale = (0..<channels).map { gamma[$0] / (variance[$0] + epsilon).squareRoot() }
      return (scale, (0..<channels).map { beta[$0] - mean[$0] * scale[$0] })
    }
    guard node.inputs.count == 2, let operand = graph.constant(node.inputs[isLeft ? 1 : 0]),
      let values = perChannel(operand, channels: channels, rank: rank)
    else { return nil }
    switch node.op.name {
    case "Mul": return (values, zeros)
    case "Div":
      let factors = values.map { 1 / $0 }
      return factors.allSatisfy(\.isNormal) ? (factors, zeros) : nil
    case "Add": return (ones, values)
    case "Sub": return (ones, values.map { -$0 })
    default: return nil
    }
  }

  /// One number a channel from a constant that broadcasts along all axes but the second.
  private func perChannel(_ tensor: Tensor, channels: Int, rank: Int) -> [Float]? {
    guard let values = tensor.elements(as: Float.self), tensor.rank <= rank else { return nil }
    if values.count == 1 { return [Float](repeating: values[0], count: channels) }
    let shape = [Int](repeating: 1, count: rank - tensor.rank) + tensor.shape.dims
    guard values.count == channels, shape[1] == channels else { return nil }
    return values
  }
}
