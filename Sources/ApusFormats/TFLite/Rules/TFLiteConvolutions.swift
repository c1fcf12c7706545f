// Convolutions and pooling of TensorFlow Lite: channels last, padding SAME or VALID, an activation at the end.
// https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2

import ApusGraph
import ApusTensor

/// Windows over spatial axes.
private struct Windows {
  var kernel: [Int]
  var strides: [Int]
  var dilations: [Int]
  var isSame: Bool

  init(kernel: [Int], strides: [Int], dilations: [Int]? = nil, padding: Int) throws(OperatorError) {
    (self.kernel, self.strides) = (kernel, strides)
    self.dilations = dilations ?? [Int](repeating: 1, count: kernel.count)
    guard padding == 0 || padding == 1 else { throw .invalid("the padding should be 0 or 1; it is \(padding)") }
    isSame = padding == 0
    guard (kernel + strides + self.dilations).allSatisfy({ $0 > 0 && $0 <= 1 << 24 }) else {
      throw .invalid(
        "sizes, strides and dilations of windows should be positive; they are \(kernel), \(strides), "
          + "\(self.dilations)")
    }
  }

  /// The extents that a window covers.
  private var reach: [Int] { zip(kernel, dilations).map { ($0 - 1) * $1 + 1 } }

  /// Attributes of ONNX for an image with the spatial extents `extents`.
  func attributes(_ extents: [Int?]) throws(OperatorError) -> [(String, AttributeValue)] {
    try check(extents.count)
    var list: [(String, AttributeValue)] = [("strides", .ints(strides)), ("kernel_shape", .ints(kernel))]
    if dilations.contains(where: { $0 != 1 }) { list.append(("dilations", .ints(dilations))) }
    if !isSame { return list }
    if extents.contains(nil) { return list + [("auto_pad", .string("SAME_UPPER"))] }
    var (begins, ends): ([Int], [Int]) = ([], [])
    for (axis, extent) in extents.enumerated() {
      let extent = extent ?? 0
      let results = (extent + strides[axis] - 1) / strides[axis]
      let total = max((results - 1) * strides[axis] + reach[axis] - extent, 0)
      begins.append(total / 2)
      ends.append(total - total / 2)
    }
    return (begins + ends).allSatisfy { $0 == 0 } ? list : list + [("pads", .ints(begins + ends))]
  }

  private func check(_ axes: Int) throws(OperatorError) {
    if axes != kernel.count {
      throw .mismatch("an image of \(kernel.count) spatial axes was expected; it has \(axes)")
    }
  }

  /// Attributes of a transposed convolution whose result has the extents `results`.
  func transposedAttributes(_ extents: [Int], _ results: [Int]) throws(OperatorError) -> [(String, AttributeValue)] {
    try check(extents.count)
    guard (extents + results).allSatisfy({ $0 > 0 && $0 < 1 << 32 }) else {
      throw .unsupported("an image from \(extents) to \(results) is not supported")
    }
    var (begins, ends, extras): ([Int], [Int], [Int]) = ([], [], [])
    for axis in extents.indices {
      let whole = (extents[axis] - 1) * strides[axis] + reach[axis]
      let total = isSame ? max(whole - results[axis], 0) : 0
      begins.append(total / 2)
      ends.append(total - total / 2)
      extras.append(results[axis] - whole + total)
    }
    // What VALID leaves out lies at the end.
    for axis in extras.indices where extras[axis] < 0 {
      ends[axis] -= extras[axis]
      extras[axis] = 0
    }
    var list: [(String, AttributeValue)] = [("strides", .ints(strides)), ("kernel_shape", .ints(kernel))]
    if dilations.contains(where: { $0 != 1 }) { list.append(("dilations", .ints(dilations))) }
    if (begins + ends).contains(where: { $0 != 0 }) { list.append(("pads", .ints(begins + ends))) }
    if extras.contains(where: { $0 != 0 }) { list.append(("output_padding", .ints(extras))) }
    return list
  }
}

extension TFLiteRules {
  static let convolutions: [String: TFLiteRule] = [
    "CONV_2D": TFLiteRule(.stored, convolution), "DEPTHWISE_CONV_2D": TFLiteRule(.stored, depthwise),
    "CONV_3D": TFLiteRule(.stored, convolution3D), "TRANSPOSE_CONV": TFLiteRule(.stored, transposed),
    "CONV_3D_TRANSPOSE": TFLiteRule(.stored, transposed3D),
    "CUSTOM Convolution2DTransposeBias": TFLiteRule(.stored, transposedWithBias),
  ]

  private static func convolution(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let kernel = try [layer.layers.extent(layer.stored(1), 1), layer.layers.extent(layer.stored(1), 2)]
    let windows = try Windows(
      kernel: kernel, strides: [layer.option(2), layer.option(1)],
      dilations: [layer.option(5, default: 1), layer.option(4, default: 1)], padding: layer.choice(0))
    return [try convolve(layer, windows, weights: [0, 3, 1, 2], activation: 3)]
  }

  /// Weights are [1, height, width, results]; each channel has results of its own.
  private static func depthwise(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let kernel = try [layer.layers.extent(layer.stored(1), 1), layer.layers.extent(layer.stored(1), 2)]
    let windows = try Windows(
      kernel: kernel, strides: [layer.option(2), layer.option(1)],
      dilations: [layer.option(6, default: 1), layer.option(5, default: 1)], padding: layer.choice(0))
    return [try convolve(layer, windows, weights: [3, 0, 1, 2], activation: 4)]
  }

  /// Weights are [depth, height, width, channels, results].
  private static func convolution3D(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let weights = try layer.stored(1)
    let kernel = try [
      layer.layers.extent(weights, 0), layer.layers.extent(weights, 1), layer.layers.extent(weights, 2),
    ]
    let windows = try Windows(
      kernel: kernel, strides: [layer.option(1), layer.option(3), layer.option(2)],
      dilations: [layer.option(5, default: 1), layer.option(7, default: 1), layer.option(6, default: 1)],
      padding: layer.choice(0))
    return [try convolve(layer, windows, weights: [4, 3, 0, 1, 2], activation: 4)]
  }

  /// A convolution of operand 0 with the weights of operand 1, whose axes in the order `weights` are those of ONNX.
  /// Groups are as many as channels of an image hold those of the weights.
  private static func convolve(
    _ layer: TFLiteLayer, _ windows: Windows, weights order: [Int], activation: Int
  ) throws(OperatorError) -> ValueID {
    let layers = layer.layers
    let weights = try layer.number(1, transposed: order)
    let image = try layer.image()
    let (channels, depth) = (try layers.extent(image, 1), try layers.extent(weights, 1))
    guard depth > 0, channels % depth == 0, try layers.rank(image) == order.count else {
      throw .mismatch("an image of \(channels) channels does not fit weights of \(depth)")
    }
    noteActivations(layer, 0, weights: 1)
    var attributes = try windows.attributes(layers.shape(image).dropFirst(2).map(\.known))
    if channels > depth { attributes.append(("group", .int(channels / depth))) }
    let bias = try bias(layer, 2, of: (0, 1))
    let result = try layers.emit("Conv", [image, weights, bias], attributes)
    return try layers.channelsLast(layer.activated(result, layer.choice(activation)))
  }

  /// The bias of a product of two operands; its integers count in steps of the product of their scales.
  static func bias(
    _ layer: TFLiteLayer, _ index: Int, of factors: (Int, Int)
  ) throws(OperatorError) -> ValueID? {
    guard layer.has(index) else { return nil }
    let tensor = try layer.tensor(index)
    guard let type = tensor.type, type.isInteger, tensor.quantization == nil,
      let first = try layer.tensor(factors.0).quantization, let second = try layer.tensor(factors.1).quantization,
      first.isWhole
    else { return try layer.number(index) }
    // Files of old converters do not say it.
    var own = tensor
    own.quantization = TFLiteQuantization(
      scales: second.scales.map { $0 * first.scales[0] },
      zeroPoints: [Int](repeating: 0, count: second.scales.count), axis: 0)
    return try layer.scope.number(layer.stored(index), of: own)
  }

  /// Tells that floats meet integer weights.
  static func noteActivations(_ layer: TFLiteLayer, _ index: Int, weights: Int) {
    guard let values = try? layer.tensor(index), let matrix = try? layer.tensor(weights),
      values.type == .float32, matrix.quantization != nil
    else { return }
    layer.layers.ledger.note(
      "Integer weights are decoded and meet float activations; TensorFlow Lite rounds those to 8 bits as well, so that "
        + "its results differ by about as much as its steps are wide.")
  }

  // MARK: - Transposed

  /// Operands: shape of the result, weights [results, height, width, channels], image, bias.
  private static func transposed(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let weights = try layer.stored(1)
    let windows = try Windows(
      kernel: [layer.layers.extent(weights, 1), layer.layers.extent(weights, 2)],
      strides: [layer.option(2), layer.option(1)], padding: layer.choice(0))
    return [
      try convolveTransposed(layer, windows, (image: 2, weights: 1, bias: 3), [3, 0, 1, 2], activation: 3)
    ]
  }

  /// Operands: shape of the result, weights [depth, height, width, results, channels], volume, bias.
  private static func transposed3D(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (layers, weights) = (layer.layers, try layer.stored(1))
    let windows = try Windows(
      kernel: [layers.extent(weights, 0), layers.extent(weights, 1), layers.extent(weights, 2)],
      strides: [layer.option(1), layer.option(3), layer.option(2)],
      dilations: [layer.option(5, default: 1), layer.option(7, default: 1), layer.option(6, default: 1)],
      padding: layer.choice(0))
    return [
      try convolveTransposed(layer, windows, (image: 2, weights: 1, bias: 3), [4, 3, 0, 1, 2], activation: 4)
    ]
  }

  /// MediaPipe's: image, weights, bias; the options are those of the C structure: padding (1 same), width, height.
  private static func transposedWithBias(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    guard let bytes = layer.node.customOptions else { throw .invalid("options were expected; there are none") }
    let fields = try TFLiteLayer.rethrowing { () throws(LoadError) in
      try [bytes.i32(0, "the padding"), bytes.i32(4, "a stride"), bytes.i32(8, "a stride")].map { Int($0) }
    }
    let weights = try layer.stored(1)
    // In the structure 1 is SAME and 2 VALID.
    let windows = try Windows(
      kernel: [layer.layers.extent(weights, 1), layer.layers.extent(weights, 2)], strides: [fields[2], fields[1]],
      padding: fields[0] - 1)
    return [
      try convolveTransposed(layer, windows, (image: 0, weights: 1, bias: 2), [3, 0, 1, 2], activation: nil)
    ]
  }

  private static func convolveTransposed(
    _ layer: TFLiteLayer, _ windows: Windows, _ operands: (image: Int, weights: Int, bias: Int), _ order: [Int],
    activation: Int?
  ) throws(OperatorError) -> ValueID {
    let layers = layer.layers
    let image = try layer.image(operands.image)
    let rank = try layers.rank(image)
    let extents = try (2..<rank).map { (axis) throws(OperatorError) in try layers.extent(image, axis) }
    // The shape that operand 0 gives, else that of the file.
    let known = operands.image == 2 ? layers.fact(try layer.stored(0)).tensor?.values?.map(\.known) : nil
    let declared = try layer.output(0).shape
    let results = try (1..<(rank - 1)).map { (axis) throws(OperatorError) in
      let extent = (known?.count == rank ? known?[axis] : nil) ?? (declared.count == rank ? declared[axis] : nil)
      guard let extent, extent > 0 else { throw .unsupported("the size of the result is not known") }
      return extent
    }
    let result = try layers.emit(
      "ConvTranspose",
      [
        image, layer.number(operands.weights, transposed: order),
        bias(layer, operands.bias, of: (operands.image, operands.weights)),
      ], windows.transposedAttributes(extents, results))
    let code = try activation.map { (field) throws(OperatorError) in try layer.choice(field) } ?? 0
    return try layers.channelsLast(layer.activated(result, code))
  }

  // MARK: - Pooling

  static let pooling: [String: TFLiteRule] = [
    "AVERAGE_POOL_2D": TFLiteRule(.stored, averagePool), "MAX_POOL_2D": TFLiteRule(.stored, maxPool),
    "L2_POOL_2D": TFLiteRule(.stored, rootPool),
  ]

  private static func windows(_ layer: TFLiteLayer) throws(OperatorError) -> Windows {
    try Windows(
      kernel: [layer.option(4), layer.option(3)], strides: [layer.option(2), layer.option(1)],
      padding: layer.choice(0))
  }

  private static func pool(
    _ layer: TFLiteLayer, _ op: String, _ image: ValueID
  ) throws(OperatorError) -> ValueID {
    try layer.layers.emit(
      op, [image], windows(layer).attributes(layer.layers.shape(image).dropFirst(2).map(\.known)))
  }

  private static func averagePool(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let result = try pool(layer, "AveragePool", layer.image())
    return [try layer.layers.channelsLast(layer.activated(result, layer.choice(5)))]
  }

  /// The largest of bytes is a byte; ONNX has no windows over other integers.
  private static func maxPool(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let (input, output) = (try layer.tensor(0), try layer.output(0))
    guard let type = input.type, type.bits == 8, input.quantization == output.quantization, try layer.choice(5) == 0
    else {
      let result = try pool(layer, "MaxPool", layer.image())
      return [try layer.layers.channelsLast(layer.activated(result, layer.choice(5)))]
    }
    return [try layer.layers.channelsLast(pool(layer, "MaxPool", layer.storedImage()))]
  }

  /// The root of the mean square.
  private static func rootPool(_ layer: TFLiteLayer) throws(OperatorError) -> [ValueID?] {
    let image = try layer.image()
    let square = try layer.layers.emit("Mul", [image, image])
    let result = try layer.layers.emit("Sqrt", [pool(layer, "AveragePool", square)])
    return [try layer.layers.channelsLast(layer.activated(result, layer.choice(5)))]
  }
}
