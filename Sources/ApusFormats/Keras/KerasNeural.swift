// Operations of keras.ops.nn and keras.ops.image that are layers without weights, and Fourier transforms.

import ApusGraph
import ApusTensor

enum KerasNeural {
  static let rules: [String: KerasRule] = [
    "Conv": convolution(depthwise: false), "DepthwiseConv": convolution(depthwise: true),
    "SeparableConv": KerasRule(separable), "ConvTranspose": KerasRule(transposed), "Moments": KerasRule(moments),
    "BatchNorm": KerasRule(batchNorm), "LayerNorm": KerasRule(layerNorm), "RMSNorm": KerasRule(rootMeanSquare),
    "MultiHot": .one(multiHot), "DepthToSpace": .one(depthToSpace), "SpaceToDepth": .one(spaceToDepth),
    "DotProductAttention": KerasRule(attention), "RGBToGrayscale": .one(grayscale), "ExtractPatches": .one(patches),
    "ExtractSequences": .one(sequences), "FFT": KerasRule(fourier), "FFT2": KerasRule(fourier),
    "IFFT2": KerasRule(fourier), "RFFT": KerasRule(halfFourier), "IRFFT": KerasRule(realFromFourier),
    "STFT": KerasRule(shortFourier),
  ]

  // MARK: - Convolutions

  private static func window(
    _ call: KerasCall, _ kernel: ValueID
  ) throws(OperatorError) -> KerasConvolutions.Window {
    let count = try call.layers.rank(kernel) - 2
    guard count >= 1 else { throw .invalid("a kernel of a window and two more axes was expected") }
    var sizes: [Int] = []
    for axis in 0..<count { sizes.append(try call.layers.extent(kernel, axis)) }
    return try KerasConvolutions.Window(call.config, kernel: sizes)
  }

  private static func convolution(depthwise: Bool) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let layers = call.layers
      let value = try call.input().value
      let given = try call.operand(call.argument(1, "kernel"), like: value)
      let window = try window(call, given)
      let count = window.kernel.count
      let kernel = try depthwise ? perChannel(given, count, layers) : turned(given, count, layers)
      return [
        KerasTensor(
          try call.inChannelsFirst(value) { (value) throws(OperatorError) in
            var attributes = try window.attributes(value, layers)
            let groups = try layers.extent(value, 1) / max(layers.extent(kernel, 1), 1)
            if groups > 1 { attributes.append(("group", .int(groups))) }
            return try layers.emit("Conv", [value, kernel], attributes)
          })
      ]
    }
  }

  /// [window, channels, outputs] with outputs and channels first.
  private static func turned(_ kernel: ValueID, _ count: Int, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    try layers.transpose(kernel, [count + 1, count] + Array(0..<count))
  }

  /// [window, channels, multiplier] for a convolution of every channel with kernels of its own.
  private static func perChannel(
    _ kernel: ValueID, _ count: Int, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let shape = try layers.shape(kernel)
    let window = shape.prefix(count).compactMap(\.known)
    guard window.count == count else { throw .unsupported("a kernel whose window is not known") }
    return try layers.reshape(layers.transpose(kernel, [count, count + 1] + Array(0..<count)), [-1, 1] + window)
  }

  private static func separable(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let given = try call.operand(call.argument(1, "depthwise_kernel"), like: value)
    let point = try call.operand(call.argument(2, "pointwise_kernel"), like: value)
    let window = try window(call, given)
    let count = window.kernel.count
    let kernel = try perChannel(given, count, layers)
    let pointwise = try turned(point, count, layers)
    return [
      KerasTensor(
        try call.inChannelsFirst(value) { (value) throws(OperatorError) in
          let groups: (String, AttributeValue) = ("group", .int(try layers.extent(value, 1)))
          let first = try layers.emit("Conv", [value, kernel], window.attributes(value, layers) + [groups])
          return try layers.emit("Conv", [first, pointwise])
        })
    ]
  }

  private static func transposed(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let given = try call.operand(call.argument(1, "kernel"), like: value)
    let window = try window(call, given)
    let count = window.kernel.count
    let extra =
      call.config["output_padding"] == nil ? nil : try call.config.extents("output_padding", count: count, from: 0)
    let kernel = try turned(given, count, layers)
    return [
      KerasTensor(
        try call.inChannelsFirst(value) { (value) throws(OperatorError) in
          try layers.emit("ConvTranspose", [value, kernel], window.transposedAttributes(extra))
        })
    ]
  }

  // MARK: - Normalization

  private static func axes(_ call: KerasCall, _ rank: Int, _ names: String) throws(OperatorError) -> [Int] {
    try call.axes(call.integers(call.argument(Int.max, names)) ?? [-1], rank: rank)
  }

  private static func moments(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try KerasPromotion.floats(call, call.input().value)
    let axes = try axes(call, layers.rank(value), "axes")
    let keeps = call.truth(call.argument(Int.max, "keepdims"))
    let (mean, variance, _) = try statistics(value, axes, layers)
    if keeps { return [KerasTensor(mean), KerasTensor(variance)] }
    return [KerasTensor(try layers.squeeze(mean, axes)), KerasTensor(try layers.squeeze(variance, axes))]
  }

  private static func statistics(
    _ value: ValueID, _ axes: [Int], _ layers: LayerBuilder
  ) throws(OperatorError) -> (mean: ValueID, variance: ValueID, centred: ValueID) {
    let mean = try layers.reduce("ReduceMean", value, axes: axes, keepsAxes: true)
    let centred = try layers.emit("Sub", [value, mean])
    let variance = try layers.reduce(
      "ReduceMean", layers.emit("Mul", [centred, centred]), axes: axes, keepsAxes: true)
    return (mean, variance, centred)
  }

  /// A parameter for `axes` in a shape that broadcasts with values of `rank`; nil if it is not given.
  private static func parameter(
    _ argument: KerasArgument<KerasTensor>?, _ axes: [Int], like value: ValueID, _ call: KerasCall
  ) throws(OperatorError) -> ValueID? {
    guard let argument else { return nil }
    let given = try call.operand(argument, like: value)
    let rank = try call.layers.rank(value)
    let own = try call.layers.rank(given)
    if own == 0 || own == rank { return given }
    guard own == axes.count else { throw .unsupported("a parameter of \(own) axes for \(axes.count)") }
    var shape = [Int](repeating: 1, count: rank)
    for (index, axis) in axes.enumerated() { shape[axis] = try call.layers.extent(given, index) }
    return try call.layers.reshape(given, shape)
  }

  /// The value over the root of what is added to its variance, times and plus what is there.
  private static func scaled(
    _ value: ValueID, over variance: ValueID, _ epsilon: Double, times scale: ValueID?, plus offset: ValueID?,
    _ layers: LayerBuilder
  ) throws(OperatorError) -> [KerasTensor] {
    let spread = try layers.emit("Sqrt", [layers.emit("Add", [variance, layers.scalar(epsilon, like: variance)])])
    var result = try layers.emit("Div", [value, spread])
    if let scale { result = try layers.emit("Mul", [result, scale]) }
    if let offset { result = try layers.emit("Add", [result, offset]) }
    return [KerasTensor(result)]
  }

  private static func epsilon(_ call: KerasCall, _ preset: Double) throws(OperatorError) -> Double {
    try call.number(call.argument(Int.max, "epsilon")) ?? preset
  }

  private static func batchNorm(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let axes = try axes(call, layers.rank(value), "axis")
    guard let mean = try parameter(call.argument(1, "mean"), axes, like: value, call),
      let variance = try parameter(call.argument(2, "variance"), axes, like: value, call)
    else { throw .invalid("a mean and a variance were expected") }
    return try scaled(
      layers.emit("Sub", [value, mean]), over: variance, epsilon(call, 1e-3),
      times: parameter(call.argument(4, "scale"), axes, like: value, call),
      plus: parameter(call.argument(3, "offset"), axes, like: value, call), layers)
  }

  private static func layerNorm(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let axes = try axes(call, layers.rank(value), "axis").sorted()
    let gamma = try parameter(call.argument(1, "gamma"), axes, like: value, call)
    let beta = try parameter(call.argument(2, "beta"), axes, like: value, call)
    let (_, variance, centred) = try statistics(value, axes, layers)
    if call.truth(call.argument(Int.max, "rms_scaling")) {
      return try scaled(value, over: variance, epsilon(call, 1e-7), times: gamma, plus: nil, layers)
    }
    return try scaled(centred, over: variance, epsilon(call, 1e-7), times: gamma, plus: beta, layers)
  }

  private static func rootMeanSquare(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let axes = try axes(call, layers.rank(value), "axis").sorted()
    let squares = try layers.reduce(
      "ReduceMean", layers.emit("Mul", [value, value]), axes: axes, keepsAxes: true)
    let scale = try parameter(call.argument(1, "scale"), axes, like: value, call)
    return try scaled(value, over: squares, epsilon(call, 1e-7), times: scale, plus: nil, layers)
  }

  // MARK: - Others

  private static func multiHot(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    guard let count = try call.integer(call.argument(1, "num_classes")) else { throw .invalid("no 'num_classes'") }
    let name = call.text(call.argument(Int.max, "dtype")) ?? "float32"
    guard let type = KerasTypes.table[name] else { throw .unsupported("the type '\(name)'") }
    let axis = try call.integer(call.argument(Int.max, "axis")) ?? -1
    let hot = try KerasPromotion.hot(value, count: count, axis: axis, type: type, layers)
    let place = try layers.rank(value) > 1 ? 1 : 0
    return try KerasPromotion.extreme("ReduceMax", hot, axes: [place], keepsAxes: false, layers)
  }

  private static func blockSize(_ call: KerasCall) throws(OperatorError) -> AttributeValue {
    guard let size = try call.integer(call.argument(1, "block_size")), size > 0 else {
      throw .invalid("'block_size' should be from 1 on")
    }
    return .int(size)
  }

  private static func depthToSpace(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let size = try blockSize(call)
    return try call.inChannelsFirst(value) { (value) throws(OperatorError) in
      try call.layers.emit("DepthToSpace", [value], [("blocksize", size), ("mode", .string("DCR"))])
    }
  }

  private static func spaceToDepth(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let size = try blockSize(call)
    return try call.inChannelsFirst(value) { (value) throws(OperatorError) in
      try call.layers.emit("SpaceToDepth", [value], [("blocksize", size)])
    }
  }

  /// Queries, keys and values are [batch, steps, heads, width].
  private static func attention(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    if call.argument(Int.max, "attn_logits_soft_cap") != nil { throw .unsupported("a cap of the scores") }
    _ = call.argument(Int.max, "flash_attention")
    var operands: [ValueID] = []
    for (index, name) in ["query", "key", "value"].enumerated() {
      let value = try call.operand(call.argument(index, name))
      guard try layers.rank(value) == 4 else { throw .invalid("four axes of '\(name)' were expected") }
      operands.append(try layers.transpose(value, [0, 2, 1, 3]))
    }
    let (heads, shared) = (try layers.extent(operands[0], 1), try layers.extent(operands[1], 1))
    if shared > 1, shared < heads { throw .unsupported("\(heads) heads that share \(shared)") }
    let width = try layers.extent(operands[1], 3)
    let scale = try call.number(call.argument(5, "scale")) ?? 1 / Double(width).squareRoot()
    let keys = try layers.transpose(operands[1], [0, 1, 3, 2])
    var scores = try layers.emit(
      "Mul", [layers.emit("MatMul", [operands[0], keys]), layers.scalar(scale, like: operands[0])])
    if let bias = call.argument(3, "bias") {
      scores = try layers.emit("Add", [scores, call.operand(bias, like: scores)])
    }
    let lowest = try layers.scalar(-0.7 * Double(Float.greatestFiniteMagnitude), like: scores)
    if let mask = call.argument(4, "mask") {
      let isShown = try layers.cast(call.operand(mask), to: .bool)
      scores = try layers.emit("Where", [isShown, scores, lowest])
    }
    if call.truth(call.argument(Int.max, "is_causal")) {
      let (rows, columns) = (try layers.extent(scores, 2), try layers.extent(scores, 3))
      guard rows <= 1 << 12, columns <= 1 << 12 else { throw .unsupported("\(rows) × \(columns) scores") }
      let truths = (0..<rows).flatMap { row in (0..<columns).map { UInt8($0 <= row ? 1 : 0) } }
      let isShown = try layers.cast(layers.constant(Tensor(truths, shape: [rows, columns])), to: .bool)
      scores = try layers.emit("Where", [isShown, scores, lowest])
    }
    let shares = try layers.emit("Softmax", [scores], [("axis", .int(-1))])
    return [KerasTensor(try layers.transpose(layers.emit("MatMul", [shares, operands[2]]), [0, 2, 1, 3]))]
  }

  private static func grayscale(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    let axis = try call.isChannelsFirst() ? rank - 3 : rank - 1
    guard rank >= 3 else { throw .mismatch("a picture was expected; the value has \(rank) axes") }
    let channels = try layers.extent(value, axis)
    if channels == 1 { return value }
    guard channels == 3, let type = layers.type(value), type.isFloat else {
      throw .unsupported("a picture of \(channels) channels, or of integers")
    }
    var shape = [Int](repeating: 1, count: rank)
    shape[axis] = 3
    let weights = try layers.cast(
      layers.constant(Tensor([Float(0.2989), 0.5870, 0.1140], shape: Shape(shape))), to: type)
    return try layers.reduce("ReduceSum", layers.emit("Mul", [value, weights]), axes: [axis], keepsAxes: true)
  }

  /// [batch, rows, columns, channels] as [batch, rows of patches, columns of patches, elements of a patch].
  private static func patches(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let size = try call.config.extents("size", count: 2)
    let steps = call.config["strides"] == nil ? size : try call.config.extents("strides", count: 2)
    guard try layers.rank(value) == 4, try !call.isChannelsFirst(),
      try call.config.string("padding")?.lowercased() ?? "valid" == "valid",
      try call.config.extents("dilation_rate", count: 2, default: 1) == [1, 1]
    else { throw .unsupported("patches other than of a batch with the channels last, not padded, not dilated") }
    let rows = try layers.windows(value, axis: 1, size: size[0], step: steps[0])
    let both = try layers.windows(rows, axis: 3, size: size[1], step: steps[1])
    let ordered = try layers.transpose(both, [0, 1, 3, 2, 4, 5])
    let (down, across) = (try layers.extent(ordered, 1), try layers.extent(ordered, 2))
    return try layers.reshape(ordered, [-1, down, across, size[0] * size[1] * (try layers.extent(ordered, 5))])
  }

  // MARK: - Fourier transforms: real and imaginary parts are two tensors

  private static func sequences(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let size = try call.integer(call.argument(1, "sequence_length")),
      let step = try call.integer(call.argument(2, "sequence_stride"))
    else { throw .invalid("a length and a stride were expected") }
    return try call.layers.windows(value, axis: call.layers.rank(value) - 1, size: size, step: step)
  }

  private static func complexInput(_ call: KerasCall) throws(OperatorError) -> ValueID {
    _ = call.argument(0, "x")
    guard call.node.tensors.count == 2 else { throw .invalid("real and imaginary parts were expected") }
    return try call.layers.pairs(call.input(0).value, call.input(1).value)
  }

  private static func apart(_ value: ValueID, _ layers: LayerBuilder) throws(OperatorError) -> [KerasTensor] {
    [KerasTensor(try layers.part(0, ofPairs: value)), KerasTensor(try layers.part(1, ofPairs: value))]
  }

  private static func fourier(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    var value = try complexInput(call)
    let last = try layers.rank(value) - 2
    let isInverse = call.layer.className == "IFFT2"
    for axis in call.layer.className == "FFT" ? [last] : [last, last - 1] {
      guard axis >= 0 else { throw .invalid("two axes were expected") }
      value = try layers.fourier(
        value, axis: axis, length: nil, isInverse: isInverse, scale: isInverse ? .count : .none)
    }
    return try apart(value, layers)
  }

  private static func halfFourier(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let rank = try layers.rank(value)
    let length = try call.integer(call.argument(1, "fft_length"))
    return try apart(
      layers.fourier(
        layers.unsqueeze(value, [rank]), axis: rank - 1, length: length, isInverse: false, isHalf: true, scale: .none),
      layers)
  }

  private static func realFromFourier(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let value = try complexInput(call)
    let axis = try call.layers.rank(value) - 2
    let length = try call.integer(call.argument(1, "fft_length"))
    return [KerasTensor(try call.layers.realFromFourier(value, axis: axis, length: length, scale: .count))]
  }

  /// Transforms of windows of a signal: [..., windows, points].
  private static func shortFourier(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    var value = try call.input().value
    let rank = try layers.rank(value)
    guard let size = try call.integer(call.argument(1, "sequence_length")),
      let step = try call.integer(call.argument(2, "sequence_stride")),
      let count = try call.integer(call.argument(3, "fft_length")), (1...1 << 20).contains(count),
      (1...count).contains(size)
    else { throw .invalid("lengths of windows and a stride were expected") }
    if call.config["center"]?.flag ?? true {
      let pads = [Int](repeating: 0, count: rank - 1) + [count / 2]
      value = try layers.emit("Pad", [value, layers.integers(pads + pads)], [("mode", .string("reflect"))])
    }
    _ = call.argument(5, "center")
    var frames = try layers.windows(value, axis: rank - 1, size: count, step: step)
    if let argument = call.argument(4, "window") {
      var window: ValueID
      if let name = call.text(argument) {
        let parts: [String: (Double, Double)] = ["hann": (0.5, 0.5), "hamming": (0.54, 0.46)]
        guard let (mean, wave) = parts[name] else { throw .unsupported("the window '\(name)'") }
        let angles = layers.constant(Tensor((0..<size).map { 2 * Double.pi * Double($0) / Double(size) }))
        let cosine = try layers.emit("Mul", [layers.emit("Cos", [angles]), layers.scalar(wave, like: angles)])
        window = try layers.cast(
          layers.emit("Sub", [layers.scalar(mean, like: cosine), cosine]), to: layers.type(frames) ?? .float32)
      } else {
        window = try call.operand(argument, like: frames)
      }
      let before = (count - size) / 2
      if size < count { window = try layers.emit("Pad", [window, layers.integers([before, count - size - before])]) }
      frames = try layers.emit("Mul", [frames, window])
    }
    let points = try layers.fourier(
      layers.unsqueeze(frames, [rank + 1]), axis: rank, length: nil, isInverse: false, isHalf: true, scale: .none)
    return try apart(points, layers)
  }
}
