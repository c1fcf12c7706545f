// Dense, embeddings, shapes and what else is neither convolution nor recurrence.

import ApusGraph
import ApusTensor

enum KerasCore {
  static let rules: [String: KerasRule] = [
    "Dense": .masked(dense), "EinsumDense": .one(einsumDense),
    "Embedding": KerasRule(embedding), "Masking": KerasRule(masking),
    "Activation": .masked { (call, value) throws(OperatorError) in try KerasActivations.apply(of: call, to: value) },
    "ReLU": activation("relu"), "LeakyReLU": activation("leaky_relu"), "ELU": activation("elu"),
    "ThresholdedReLU": activation("thresholded_relu"), "Softmax": KerasRule(softmax), "PReLU": .masked(prelu),
    "Flatten": .one(flatten), "Reshape": .one(reshape), "Permute": .one(permute), "RepeatVector": .one(repeatVector),
    "ZeroPadding1D": padding(1), "ZeroPadding2D": padding(2), "ZeroPadding3D": padding(3),
    "Cropping1D": cropping(1), "Cropping2D": cropping(2), "Cropping3D": cropping(3),
    "Identity": .identity, "Dropout": .identity, "SpatialDropout1D": .identity, "SpatialDropout2D": .identity,
    "SpatialDropout3D": .identity, "AlphaDropout": .identity, "GaussianDropout": .identity, "GaussianNoise": .identity,
    "ActivityRegularization": .identity,
    // Of keras.applications.convnext.
    "LayerScale": .one(layerScale), "StochasticDepth": .identity,
    "RandomFlip": .identity, "RandomRotation": .identity, "RandomZoom": .identity, "RandomTranslation": .identity,
    "RandomContrast": .identity, "RandomBrightness": .identity, "RandomHeight": .identity, "RandomWidth": .identity,
    "RandomSaturation": .identity, "RandomHue": .identity, "RandomSharpness": .identity, "RandomShear": .identity,
    "RandomColorJitter": .identity, "RandomColorDegeneration": .identity, "RandomGrayscale": .identity,
    "RandomPosterization": .identity, "RandomErasing": .identity, "RandomGaussianBlur": .identity,
    "RandomPerspective": .identity, "RandomElasticTransform": .identity, "RandomInvert": .identity,
    "Solarization": .identity, "Equalization": .identity, "AugMix": .identity, "CutMix": .identity,
    "MixUp": .identity, "RandAugment": .identity,
  ]

  private static func activation(_ name: String) -> KerasRule {
    .masked { (call, value) throws(OperatorError) in
      guard let make = KerasActivations.table[name] else { throw .inconsistency("the activation '\(name)' is missing") }
      return try make(call, value, call.config)
    }
  }

  // MARK: - Products

  private static func dense(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    if call.config["quantization_mode"] != nil { throw .unsupported("the layer is quantized") }
    let layers = call.layers
    let usesBias = try call.config.bool("use_bias", default: true)
    let weights = try call.variables(usesBias ? ["kernel", "bias"] : ["kernel"])
    let result: ValueID
    if try layers.rank(value) == 2 {
      result = try layers.emit("Gemm", [value] + weights)
    } else {
      let product = try layers.emit("MatMul", [value, weights[0]])
      result = usesBias ? try layers.emit("Add", [product, weights[1]]) : product
    }
    return try KerasActivations.apply(of: call, to: result)
  }

  /// A factor for each channel.
  private static func layerScale(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    // Keras gives this weight no name of its own.
    try call.layers.emit("Mul", [value, call.variables(["gamma|*"])[0]])
  }

  private static func einsumDense(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let equation = try call.config.string("equation") else { throw .invalid("'equation' is missing") }
    let usesBias = call.config["bias_axes"] != nil
    let weights = try call.variables(usesBias ? ["kernel", "bias"] : ["kernel"])
    let product = try einsum(equation.filter { $0 != " " }, value, weights[0], call.layers)
    let result = usesBias ? try call.layers.emit("Add", [product, weights[1]]) : product
    return try KerasActivations.apply(of: call, to: result)
  }

  /// An equation of a value and a kernel; one that only contracts the last axes of the value with the first ones of the
  /// kernel is a MatMul.
  static func einsum(
    _ equation: String, _ value: ValueID, _ kernel: ValueID, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let parts = equation.replacing("->", with: ",").replacing("...", with: "").split(separator: ",").map(Array.init)
    let (shape, weights) = (try layers.shape(value), try layers.shape(kernel))
    if parts.count == 3, weights.count == parts[1].count,
      let shared = (1...3).first(where: { count in
        parts[0].count >= count && parts[1].count > count && parts[0].suffix(count) == parts[1].prefix(count)
          && parts[2] == parts[0].dropLast(count) + parts[1].dropFirst(count)
      }), let known = weights.concrete, !known.dims.contains(0), shape.count > shared
    {
      let columns = known.dims.dropFirst(shared).reduce(1, *)
      let matrix = try layers.reshape(kernel, [known.dims.prefix(shared).reduce(1, *), columns])
      let outer = Array(shape.dropLast(shared))
      let flat = try layers.reshape(value, to: outer + [Dim(known.dims.prefix(shared).reduce(1, *))])
      let product = try layers.emit("MatMul", [flat, matrix])
      return try layers.reshape(product, to: outer + known.dims.dropFirst(shared).map { Dim($0) }, symbolsOf: [value])
    }
    return try layers.emit("Einsum", [value, kernel], [("equation", .string(equation))])
  }

  private static func embedding(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let input = try call.input()
    let table = try call.variables(["embeddings"])[0]
    let places = (layers.type(input.value)?.isInteger ?? false) ? input.value : try layers.cast(input.value, to: .int32)
    let result = try layers.emit("Gather", [table, places])
    var mask: ValueID?
    if try call.config.bool("mask_zero", default: false) { mask = try isNot(0, input.value, layers) }
    return [KerasTensor(result, mask: mask)]
  }

  private static func masking(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let layers = call.layers
    let value = try call.input().value
    let differs = try isNot(call.config.double("mask_value", default: 0), value, layers)
    let any = try layers.reduce("ReduceMax", layers.cast(differs, to: .float32), axes: [-1], keepsAxes: true)
    let mask = try layers.cast(layers.squeeze(any, [-1]), to: .bool)
    return [KerasTensor(try layers.emit("Mul", [value, any]), mask: mask)]
  }

  static func isNot(_ number: Double, _ value: ValueID, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    try layers.emit("Not", [layers.emit("Equal", [value, layers.scalar(number, like: value)])])
  }

  // MARK: - Activations with more than a value

  /// Masked entries are not among those that share the sum of 1.
  private static func softmax(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    let input = try call.input()
    var value = input.value
    let second = call.node.tensors.count > 1 ? try call.input(1) : nil
    let mask = try (call.keyword("mask") ?? second).map { (mask) throws(OperatorError) in
      try call.layers.type(mask.value) == .bool
        ? mask.value : call.layers.emit("Greater", [mask.value, call.layers.scalar(0.5, like: mask.value)])
    }
    if let mask {
      value = try call.layers.emit("Where", [mask, value, call.layers.scalar(KerasAttention.hidden, like: value)])
    }
    guard let make = KerasActivations.table["softmax"] else { throw .inconsistency("there is no softmax") }
    var result = try make(call, value, call.config)
    // Keras 3 gives masked entries nothing, even where all are masked.
    if let mask, call.network.version >= 3 {
      result = try call.layers.emit("Where", [mask, result, call.layers.scalar(0, like: result)])
    }
    return [KerasTensor(result, mask: input.mask)]
  }

  private static func prelu(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    try call.layers.emit("PRelu", [value, call.variables(["alpha"])[0]])
  }

  // MARK: - Shapes

  /// The batch and the product of all other extents.
  private static func flatten(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    var value = value
    let rank = try layers.rank(value)
    if try call.isChannelsFirst(), rank > 2 { value = try layers.channelsLast(value) }
    if rank == 1 { return try layers.unsqueeze(value, [1]) }
    return try layers.emit("Flatten", [value], [("axis", .int(1))])
  }

  private static func reshape(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    guard let target = try call.config.ints("target_shape") else { throw .invalid("'target_shape' is missing") }
    let shape = try call.layers.shape(value)
    guard target.allSatisfy({ $0 >= -1 }), target.count(where: { $0 == -1 }) <= 1, let batch = shape.first else {
      throw .invalid("'target_shape' should be extents, one of which may be -1; it is \(target)")
    }
    // The batch may be anything; an extent of -1 is what is left of the others.
    guard target.contains(-1), batch.known == nil else {
      return try call.layers.reshape(value, [batch.known ?? -1] + target)
    }
    if let others = Array(shape.dropFirst()).concrete {
      guard let whole = product(others.dims), let rest = product(target.filter { $0 != -1 }), rest > 0 else {
        throw .invalid("'target_shape' should have no extent of 0 beside -1; it is \(target)")
      }
      return try call.layers.reshape(value, [-1] + target.map { $0 == -1 ? whole / rest : $0 })
    }
    let extents = try call.layers.extents([batch], of: [value])
    let whole = try call.layers.concatenate([extents, call.layers.integers(target)], axis: 0)
    return try call.layers.emit("Reshape", [value, whole])
  }

  /// nil if it cannot be counted.
  static func product(_ extents: some Sequence<Int>) -> Int? {
    var product = 1
    for extent in extents {
      let (next, overflow) = product.multipliedReportingOverflow(by: extent)
      if overflow { return nil }
      product = next
    }
    return product
  }

  private static func permute(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try call.layers.rank(value)
    guard let dims = try call.config.ints("dims"), dims.count == rank - 1, dims.sorted() == Array(1..<max(rank, 1))
    else {
      throw .invalid("'dims' should be the axes from 1 on in another order")
    }
    return try call.layers.transpose(value, [0] + dims)
  }

  private static func repeatVector(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let count = try call.config.requiredInt("n")
    return try call.layers.emit("Tile", [call.layers.unsqueeze(value, [1]), call.layers.integers([1, count, 1])])
  }

  /// Pairs of numbers along each of `count` axes: a number, a list of numbers or a list of pairs.
  private static func pairs(_ key: String, _ count: Int, _ call: KerasCall) throws(OperatorError) -> [[Int]] {
    guard let value = call.config[key] else { throw .invalid("'\(key)' is missing") }
    var pairs: [[Int]] = []
    if let number = value.smallInteger {
      pairs = [[Int]](repeating: [number, number], count: count)
    } else if count == 1, let pair = value.integers {
      pairs = [pair]
    } else {
      for element in value.elements ?? [] {
        pairs.append(element.smallInteger.map { [$0, $0] } ?? element.integers ?? [])
      }
    }
    guard pairs.count == count, pairs.allSatisfy({ $0.count == 2 && $0.allSatisfy { (0...(1 << 20)).contains($0) } })
    else { throw .invalid("'\(key)' should be \(count) pairs of integers from 0 to \(1 << 20)") }
    return pairs
  }

  private static func firstAxis(_ count: Int, _ call: KerasCall, _ value: ValueID) throws(OperatorError) -> Int {
    guard try call.layers.rank(value) == count + 2 else {
      throw .mismatch("a value of \(count + 2) axes was expected; it has \(try call.layers.rank(value))")
    }
    return try call.isChannelsFirst() ? 2 : 1
  }

  private static func padding(_ count: Int) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let pairs = try pairs("padding", count, call)
      let first = try firstAxis(count, call, value)
      let axes = call.layers.integers(Array(first..<first + count))
      return try call.layers.emit(
        "Pad", [value, call.layers.integers(pairs.map { $0[0] } + pairs.map { $0[1] }), nil, axes])
    }
  }

  private static func cropping(_ count: Int) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let pairs = try pairs("cropping", count, call)
      let first = try firstAxis(count, call, value)
      return try call.layers.slice(
        value, from: pairs.map { $0[0] }, to: pairs.map { $0[1] == 0 ? Int(Int32.max) : -$0[1] },
        axes: Array(first..<first + count))
    }
  }
}
