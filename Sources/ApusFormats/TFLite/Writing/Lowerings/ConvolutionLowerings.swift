// Convolutions as operators of TensorFlow Lite: images with the channels last, weights in the order that each has.

import ApusGraph
import ApusTensor

extension TFLiteLowerings {
  static let convolutions: [String: TFLiteLowering] = [
    "channels-last.Conv": TFLiteLowering(
      floats, integers: .product { _ in 0 }, data: 0..<1, activation: 3, convolution),
    "channels-last.ConvTranspose": TFLiteLowering(floats, activation: 3, transposed),
  ]

  private static func convolution(_ node: TFLiteNode) throws(OperatorError) {
    let weights = try node.extents(1)
    let shape = try node.shape()
    guard weights.count == shape.count, (3...5).contains(shape.count) else {
      throw .unsupported("convolutions over one to three axes are written; the weights have \(weights.count) axes")
    }
    if shape.count == 5 { return try convolution3D(node, weights) }
    let image = try node.image(node.operand(0), shape)
    let result = try node.resultShape()
    let kernel = [Int](repeating: 1, count: 4 - shape.count) + weights[2...]
    let window = try node.window(kernel, image.shape, result)
    guard let channels = image.shape[3].known, weights[1] > 0, channels >= weights[1], weights[0] > 0 else {
      throw .unsupported("the number of channels should be known")
    }
    let isDepthwise = weights[1] == 1 && channels > 1 && weights[0] % channels == 0
    let order = Array(2..<shape.count)
    let filters = try node.work.weights(
      node.value(1), isDepthwise ? [1] + order + [0] : [0] + order + [1],
      shape: isDepthwise ? [1] + kernel + [weights[0]] : [weights[0]] + kernel + [weights[1]], isCoded: node.isCoded,
      node.node.name)
    let bias =
      node.has(2) ? try node.bias(2, filters, count: weights[0]) : try node.zeros(weights[0], filters)
    let padded = try node.padded(image, window)
    var options: [(Int, TFLiteOptions.Value)] = [
      (0, window.padding), (1, .int(window.strides[1])), (2, .int(window.strides[0])),
    ]
    if isDepthwise { options.append((3, .int(weights[0] / channels))) }
    let next = isDepthwise ? 4 : 3
    options += [
      (next, .byte(node.activation)), (next + 1, .int(window.dilations[1])), (next + 2, .int(window.dilations[0])),
    ]
    try node.emitImage(
      isDepthwise ? "DEPTHWISE_CONV_2D" : "CONV_2D", [padded.tensor, filters.tensor, bias], options,
      isGrouped: !isDepthwise && channels != weights[1])
  }

  private static func convolution3D(_ node: TFLiteNode, _ weights: [Int]) throws(OperatorError) {
    if node.isCoded { throw .unsupported("TensorFlow Lite has convolutions over three axes of floats only") }
    guard try node.shape()[4].known == weights[1] else {
      throw .unsupported("TensorFlow Lite has no convolution of groups over three axes")
    }
    let image = (tensor: try node.operand(0), shape: try node.shape())
    let window = try node.window(Array(weights[2...]), image.shape, node.resultShape())
    let filters = try node.work.weights(node.value(1), [2, 3, 4, 1, 0], node.node.name)
    let padded = try node.padded(image, window)
    try node.emit(
      "CONV_3D", [padded.tensor, filters.tensor, node.bias(2, filters, count: weights[0])],
      [
        (0, window.padding), (1, .int(window.strides[0])), (2, .int(window.strides[2])), (3, .int(window.strides[1])),
        (4, .byte(node.activation)), (5, .int(window.dilations[0])), (6, .int(window.dilations[2])),
        (7, .int(window.dilations[1])),
      ])
  }

  // MARK: - Transposed

  /// All that the windows reach, of which pads take something away.
  private static func transposed(_ node: TFLiteNode) throws(OperatorError) {
    let weights = try node.extents(1)
    let own = try node.shape()
    guard weights.count == own.count, (3...4).contains(own.count), node.optionalInt("group") ?? 1 == 1 else {
      throw .unsupported("transposed convolutions of one group over one or two axes are written")
    }
    let kernel = [Int](repeating: 1, count: 4 - own.count) + weights[2...]
    let image = try node.image(node.operand(0), own)
    var results = try TFLiteNode.numbers(Array(node.resultShape().dropFirst().dropLast()))
    var strides = node.optionalInts("strides") ?? [Int](repeating: 1, count: own.count - 2)
    var pads = node.optionalInts("pads") ?? [Int](repeating: 0, count: 2 * (own.count - 2))
    var extents = try TFLiteNode.numbers(Array(own.dropFirst().dropLast()))
    let dilations = node.optionalInts("dilations") ?? []
    guard dilations.allSatisfy({ $0 == 1 }), strides.count == own.count - 2, pads.count == 2 * strides.count,
      (strides + extents + results).allSatisfy({ $0 > 0 && $0 < 1 << 24 }), pads.allSatisfy({ abs($0) < 1 << 24 }),
      kernel.allSatisfy({ $0 > 0 && $0 < 1 << 24 })
    else { throw .unsupported("dilations, or extents of zero, are not written") }
    if own.count == 3 {
      (results, strides, extents) = ([1] + results, [1] + strides, [1] + extents)
      pads = [0, pads[0], 0, pads[1]]
    }
    let whole = (0..<2).map { (axis: Int) -> Int in (extents[axis] - 1) * strides[axis] + kernel[axis] }
    if let mode = node.optionalString("auto_pad"), mode != "NOTSET", mode != "VALID" || node.has("output_shape") {
      for axis in 0..<2 {
        let total = max(whole[axis] - results[axis], 0)
        pads[axis] = mode == "SAME_UPPER" ? total / 2 : total - total / 2
      }
    } else if node.has("output_shape") {
      for axis in 0..<2 {
        let total = max(whole[axis] - results[axis], 0)
        pads[axis] = total - total / 2
      }
    }
    guard pads[0] >= 0, pads[1] >= 0 else { throw .unsupported("negative pads are not written") }
    let filters = try node.work.weights(
      node.value(1), [1] + Array(2..<weights.count) + [0], shape: [weights[1]] + kernel + [weights[0]], node.node.name)
    let bias = try node.bias(2, filters, count: weights[1])
    let isSame = (0..<2).allSatisfy { axis in
      let total = whole[axis] - results[axis]
      return total >= 0 && pads[axis] == total / 2
        && (results[axis] + strides[axis] - 1) / strides[axis] == extents[axis]
    }
    let options: [(Int, TFLiteOptions.Value)] = [
      (0, .byte(isSame ? 0 : 1)), (1, .int(strides[1])), (2, .int(strides[0])), (3, .byte(node.activation)),
    ]
    var operands: [Int?] = [nil, filters.tensor, image.tensor]
    if let bias { operands.append(bias) }
    if isSame {
      operands[0] = try node.imageShape(image, results, weights[1])
      return try node.emitImage("TRANSPOSE_CONV", operands, options)
    }
    // What output_padding adds at the end has no window: those are zeros and the bias.
    let full = (0..<2).map { max(whole[$0], pads[$0] + results[$0]) }
    operands[0] = try node.imageShape(image, full, weights[1])
    let dims = [image.shape[0], Dim(full[0]), Dim(full[1]), Dim(weights[1])]
    let all = try node.step("TRANSPOSE_CONV", operands, dims, options)
    let starts = node.work.integers([0, pads[0], pads[1], 0])
    let sizes = node.work.integers([-1, results[0], results[1], -1])
    try node.emitImage("SLICE", [all, starts, sizes], [])
  }
}

extension TFLiteNode {
  /// The windows over an image with its channels last.
  func window(
    _ kernel: [Int], _ image: [Dim], _ result: [Dim], takesSame: Bool = true
  ) throws(OperatorError) -> TFLiteWindow {
    let spatial = Array(result.dropFirst().dropLast())
    guard kernel.count == image.count - 2 else {
      throw .mismatch("windows of \(image.count - 2) axes were expected; they have \(kernel.count)")
    }
    if result.count < image.count {
      // Of one axis: the other has one element.
      return try TFLiteWindow(oneAxis: self, kernel, image, spatial, takesSame)
    }
    return try TFLiteWindow(
      self, kernel: kernel, extents: Array(image.dropFirst().dropLast()), results: spatial, takesSame: takesSame)
  }

  /// Appends the operator whose result is output 0, an image, of which an axis goes again that came for the operator.
  func emitImage(
    _ kind: String, _ inputs: [Int?], _ options: [(Int, TFLiteOptions.Value)], isGrouped: Bool = false
  ) throws(OperatorError) {
    let shape = try resultShape()
    guard shape.count == 3 else { return try emit(kind, inputs, options, isGrouped: isGrouped) }
    let wide = try step(kind, inputs, [shape[0], Dim(1)] + shape[1...], options, isGrouped: isGrouped)
    try emit("SQUEEZE", [wide], [(0, .ints([1]))])
  }

  /// The shape of a result as a tensor: numbers, but for the batch of the image.
  func imageShape(
    _ image: (tensor: Int, shape: [Dim]), _ spatial: [Int], _ channels: Int
  ) throws(OperatorError) -> Int {
    if let batch = image.shape[0].known { return work.integers([batch] + spatial + [channels]) }
    let shape = try step("SHAPE", [image.tensor], [4], [(0, .byte(2))], type: .int32)
    let batch = try step("SLICE", [shape, work.integers([0]), work.integers([1])], [1], type: .int32)
    return try step(
      "CONCATENATION", [batch, work.integers(spatial + [channels])], [4], [(0, .int(0)), (1, .byte(0))], type: .int32)
  }

  /// A bias that adds nothing, which convolutions must have.
  func zeros(_ count: Int, _ weights: TFLiteWeights) throws(OperatorError) -> Int {
    guard let factors = weights.quantization else {
      return work.constant(Tensor([Float](repeating: 0, count: count)), "\(node.name)/bias")
    }
    let step = try scale(0).scales[0]
    let own = TFLiteQuantization(
      scales: factors.scales.map { $0 * step }, zeroPoints: factors.zeroPoints, axis: 0)
    return work.constant(Tensor([Int32](repeating: 0, count: count)), "\(node.name)/bias", own)
  }

  /// The bias of a product: floats, or integers in steps of the product of both scales.
  func bias(_ input: Int, _ weights: TFLiteWeights, count: Int) throws(OperatorError) -> Int? {
    try has(input) ? bias(of: value(input), weights, count: count) : nil
  }

  func bias(of value: ValueID, _ weights: TFLiteWeights, count: Int) throws(OperatorError) -> Int {
    guard isCoded else { return try work.tensor(value) }
    guard let factors = weights.quantization else { throw .inconsistency("weights without a scale") }
    let step = try scale(0).scales[0]
    let scales = factors.scales.map { $0 * step }
    let own = TFLiteQuantization(
      scales: scales, zeroPoints: [Int](repeating: 0, count: scales.count), axis: 0)
    let numbers: [Double]
    if let (integers, quantization) = work.constantInteger(value), let codes = integers.integers {
      if quantization.zeroPoints.allSatisfy({ $0 == 0 }), integers.dataType == .int32,
        quantization.isSame(as: own)
      {
        return work.constant(integers, work.graph[value].name, own)
      }
      numbers = codes.enumerated().map { index, code in
        let channel = index % quantization.scales.count
        return Double(code - quantization.zeroPoints[channel]) * Double(quantization.scales[channel])
      }
    } else if let floats = work.graph.constant(value)?.elements(as: Float.self) {
      numbers = floats.map { Double($0) }
    } else {
      throw .inconsistency("a bias that is no constant")
    }
    guard numbers.count == count, numbers.allSatisfy(\.isFinite) else {
      throw .mismatch("a bias of \(count) finite numbers was expected; there are \(numbers.count)")
    }
    let codes = numbers.enumerated().map { index, number in
      let exact = (number / Double(scales[index % scales.count])).rounded()
      // Beyond 32 bits is the end of them; nothing over nothing is nothing.
      return exact.isNaN ? 0 : Int32(clamping: Int(min(max(exact, -4e9), 4e9)))
    }
    return work.constant(Tensor(codes), work.graph[value].name, own)
  }
}

extension TFLiteWindow {
  /// Windows over the last of two axes, of which the first has one element.
  init(
    oneAxis node: TFLiteNode, _ kernel: [Int], _ image: [Dim], _ results: [Dim], _ takesSame: Bool
  ) throws(OperatorError) {
    let inner = try TFLiteWindow(
      node, kernel: [kernel[1]], extents: [image[2]], results: results, takesSame: takesSame)
    (self.kernel, strides) = (kernel, [1, inner.strides[0]])
    (dilations, before, after) = ([1, inner.dilations[0]], [0, inner.before[0]], [0, inner.after[0]])
    // SAME puts nothing around an axis of one element with a window of one.
    isSame = inner.isSame
    beyond = [0] + inner.beyond
  }
}
