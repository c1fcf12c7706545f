// Normalization layers of Keras: of batches, layers, groups and units.

import ApusGraph
import ApusTensor

enum KerasNormalization {
  static let rules: [String: KerasRule] = [
    "BatchNormalization": .masked(batch), "BatchNormalizationV1": .masked(batch),
    "BatchNormalizationV2": .masked(batch),
    "SyncBatchNormalization": .masked(batch),
    "LayerNormalization": .masked(layer), "RMSNormalization": .one(rootMeanSquare),
    "GroupNormalization": .masked(group), "UnitNormalization": .masked(unit),
    "SpectralNormalization": KerasRule(spectral),
    "Normalization": .masked(standard), "Rescaling": .masked(rescaling),
  ]

  /// The axes of a member that is a number or a list.
  private static func axes(_ call: KerasCall, rank: Int) throws(OperatorError) -> [Int] {
    try call.axes(call.config.ints("axis") ?? [-1], rank: rank)
  }

  /// The names of the weights that the members `scale` and `center` ask for.
  private static func names(_ call: KerasCall) throws(OperatorError) -> (names: [String], scale: Bool, center: Bool) {
    let scale = try call.config.bool("scale", default: true)
    let center = try call.config.bool("center", default: true)
    return ((scale ? ["gamma"] : []) + (center ? ["beta"] : []), scale, center)
  }

  private static func filled(_ number: Float, _ count: Int, _ layers: LayerBuilder) throws(OperatorError) -> ValueID {
    if count > 1 << 24 { throw .unsupported("\(count) channels") }
    return layers.constant(Tensor([Float](repeating: number, count: count)))
  }

  /// What `make` gives for the value with `axis` behind the batch.
  private static func withAxisSecond(
    _ axis: Int, _ value: ValueID, _ layers: LayerBuilder, _ make: (ValueID) throws(OperatorError) -> ValueID
  ) throws(OperatorError) -> ValueID {
    let rank = try layers.rank(value)
    guard axis > 0 else { throw .unsupported("normalization along the batch") }
    let order = [0, axis] + (1..<rank).filter { $0 != axis }
    var inverse = [Int](repeating: 0, count: rank)
    for (position, source) in order.enumerated() { inverse[source] = position }
    return try layers.transpose(make(layers.transpose(value, order)), inverse)
  }

  private static func batch(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    if try call.config.bool("renorm", default: false) { throw .unsupported("batch renormalization") }
    let (names, scale, center) = try names(call)
    let weights = try call.variables(names + ["moving_mean", "moving_variance"])
    let axes = try axes(call, rank: layers.rank(value))
    guard axes.count == 1 else { throw .unsupported("batch normalization along several axes") }
    let mean = weights[weights.count - 2]
    guard let count = try call.dims(mean).first else { throw .mismatch("'moving_mean' should have one axis") }
    let gamma = scale ? weights[0] : try filled(1, count, layers)
    let beta = center ? weights[scale ? 1 : 0] : try filled(0, count, layers)
    let epsilon = Float(try call.config.double("epsilon", default: 1e-3))
    return try withAxisSecond(axes[0], value, layers) { (value) throws(OperatorError) in
      try layers.emit(
        "BatchNormalization", [value, gamma, beta, mean, weights[weights.count - 1]], [("epsilon", .float(epsilon))])
    }
  }

  private static func layer(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    let axes = try axes(call, rank: rank).sorted()
    let (names, scale, center) = try names(call)
    let epsilon = try call.config.double("epsilon", default: 1e-3)
    if try call.config.bool("rms_scaling", default: false) {
      let gamma = scale ? try broadcast(weights(["gamma"], axes, value, call)[0], axes, rank, call) : nil
      return try overVariance(value, axes, epsilon, gamma, layers)
    }
    let weights = try weights(names, axes, value, call)
    guard axes == Array((rank - axes.count)..<rank) else {
      // Other axes than the last ones: with these at the end, and back.
      let order = (0..<rank).filter { !axes.contains($0) } + axes
      var inverse = [Int](repeating: 0, count: rank)
      for (position, source) in order.enumerated() { inverse[source] = position }
      let turned = try layers.transpose(value, order)
      return try layers.transpose(
        normalized(turned, axes.count, weights, scale, center, epsilon, layers), inverse)
    }
    return try normalized(value, axes.count, weights, scale, center, epsilon, layers)
  }

  /// Weights over several axes. Keras makes them for the axes in the order of their numbers, where -1 is before 1, and
  /// puts them into the shape of the axes then, element by element.
  private static func weights(
    _ names: [String], _ axes: [Int], _ value: ValueID, _ call: KerasCall
  ) throws(OperatorError) -> [ValueID] {
    let weights = try call.variables(names)
    if axes.count == 1 { return weights }
    var extents: [Int] = []
    for axis in axes { extents.append(try call.layers.extent(value, axis)) }
    return try weights.map { (weight) throws(OperatorError) in try call.layers.reshape(weight, extents) }
  }

  /// LayerNormalization over the last `count` axes.
  private static func normalized(
    _ value: ValueID, _ count: Int, _ weights: [ValueID], _ scale: Bool, _ center: Bool, _ epsilon: Double,
    _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let gamma = scale ? weights[0] : try layers.constant(ones(Array(layers.shape(value).suffix(count))))
    return try layers.emit(
      "LayerNormalization", [value, gamma, center ? weights[scale ? 1 : 0] : nil],
      [("axis", .int(-count)), ("epsilon", .float(Float(epsilon)))])
  }

  private static func ones(_ dims: [Dim]) throws(OperatorError) -> Tensor {
    guard let shape = dims.concrete, let count = KerasCore.product(shape.dims), count <= 1 << 24 else {
      throw .unsupported("the extents \(dims) of what is normalized are not known")
    }
    return Tensor([Float](repeating: 1, count: count), shape: shape)
  }

  /// A weight over `axes` in a shape that broadcasts with values of `rank`.
  private static func broadcast(
    _ weight: ValueID, _ axes: [Int], _ rank: Int, _ call: KerasCall
  ) throws(OperatorError) -> ValueID {
    var shape = [Int](repeating: 1, count: rank)
    let dims = try call.dims(weight)
    guard dims.count == axes.count else { throw .mismatch("a weight should have \(axes.count) axes; it has \(dims)") }
    for (axis, extent) in zip(axes, dims) { shape[axis] = extent }
    return try call.layers.reshape(weight, shape)
  }

  /// The value over the root of its variance, the mean not taken away: what Keras calls `rms_scaling`.
  private static func overVariance(
    _ value: ValueID, _ axes: [Int], _ epsilon: Double, _ gamma: ValueID?, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let mean = try layers.reduce("ReduceMean", value, axes: axes, keepsAxes: true)
    let centred = try layers.emit("Sub", [value, mean])
    let variance = try layers.reduce("ReduceMean", layers.emit("Mul", [centred, centred]), axes: axes, keepsAxes: true)
    let root = try layers.emit(
      "Sqrt", [layers.emit("Add", [variance, layers.scalar(epsilon, like: value)])])
    let scaled = try layers.emit("Div", [value, root])
    return try gamma.map { (gamma) throws(OperatorError) in try layers.emit("Mul", [scaled, gamma]) } ?? scaled
  }

  private static func rootMeanSquare(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let rank = try layers.rank(value)
    let axes = try axes(call, rank: rank).sorted()
    let scale = try weights(["scale"], axes, value, call)[0]
    let epsilon = try call.config.double("epsilon", default: 1e-6)
    if axes == [rank - 1] {
      return try layers.emit(
        "RMSNormalization", [value, scale], [("axis", .int(-1)), ("epsilon", .float(Float(epsilon)))])
    }
    let square = try layers.reduce("ReduceMean", layers.emit("Mul", [value, value]), axes: axes, keepsAxes: true)
    let root = try layers.emit("Sqrt", [layers.emit("Add", [square, layers.scalar(epsilon, like: value)])])
    return try layers.emit("Mul", [layers.emit("Div", [value, root]), broadcast(scale, axes, rank, call)])
  }

  private static func group(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let axes = try axes(call, rank: layers.rank(value))
    guard axes.count == 1 else { throw .unsupported("group normalization along several axes") }
    let (names, scale, center) = try names(call)
    let weights = try call.variables(names)
    let channels = try layers.extent(value, axes[0])
    let groups = try call.config.int("groups", default: 32)
    let epsilon = Float(try call.config.double("epsilon", default: 1e-3))
    let gamma = scale ? weights[0] : try filled(1, channels, layers)
    let beta = center ? weights[scale ? 1 : 0] : try filled(0, channels, layers)
    return try withAxisSecond(axes[0], value, layers) { (value) throws(OperatorError) in
      // A value of batch and channels alone is one of pictures of one point.
      let isFlat = try layers.rank(value) == 2
      let picture = isFlat ? try layers.unsqueeze(value, [2]) : value
      let result = try layers.emit(
        "GroupNormalization", [picture, gamma, beta],
        [("num_groups", .int(groups == -1 ? channels : groups)), ("epsilon", .float(epsilon))])
      return isFlat ? try layers.squeeze(result, [2]) : result
    }
  }

  /// The value over its length, which counts as at least 1e-6.
  static func unitLength(
    _ value: ValueID, _ axes: [Int], _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let square = try layers.reduce("ReduceSumSquare", value, axes: axes, keepsAxes: true)
    let length = try layers.emit("Sqrt", [layers.emit("Max", [square, layers.scalar(1e-12, like: value)])])
    return try layers.emit("Div", [value, length])
  }

  private static func unit(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    try unitLength(value, axes(call, rank: call.layers.rank(value)), call.layers)
  }

  /// The layer inside, whose kernel was normalized when it was trained.
  private static func spectral(_ call: KerasCall) throws(OperatorError) -> [KerasTensor] {
    try call.inner(call.innerLayer("layer"), "layer", call.node).results()
  }

  // MARK: - Data

  private static func rescaling(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    var value = layers.type(value)?.isFloat ?? true ? value : try layers.cast(value, to: .float32)
    if let scale = call.config["scale"] {
      value = try layers.emit("Mul", [value, factor(scale, value, call)])
    }
    guard let offset = call.config["offset"], offset.double != 0 else { return value }
    return try layers.emit("Add", [value, factor(offset, value, call)])
  }

  /// A number, or one for each channel.
  private static func factor(_ number: JSONValue, _ value: ValueID, _ call: KerasCall) throws(OperatorError) -> ValueID
  {
    try call.constant(number, like: value)
  }

  /// (x − mean) / √variance along the axes that have their own.
  private static func standard(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let value = layers.type(value)?.isFloat ?? true ? value : try layers.cast(value, to: .float32)
    let rank = try layers.rank(value)
    let axes = try call.axes(call.config["axis"] == nil ? [] : call.config.ints("axis") ?? [], rank: rank).sorted()
    let statistics: [ValueID]
    if let mean = call.config["mean"], let variance = call.config["variance"] {
      statistics = [try call.constant(mean, like: value), try call.constant(variance, like: value)]
    } else {
      statistics = try call.variables(["mean", "variance", "count"])
    }
    let mean = try spread(statistics[0], axes, rank, call)
    let root = try layers.emit("Sqrt", [spread(statistics[1], axes, rank, call)])
    let deviation = try layers.emit("Max", [root, layers.scalar(1e-7, like: value)])
    if try call.config.bool("invert", default: false) {
      return try layers.emit("Add", [mean, layers.emit("Mul", [value, deviation])])
    }
    return try layers.emit("Div", [layers.emit("Sub", [value, mean]), deviation])
  }

  /// Statistics over `axes`; given ones may have fewer axes, or be one number, or broadcast already.
  private static func spread(
    _ statistic: ValueID, _ axes: [Int], _ rank: Int, _ call: KerasCall
  ) throws(OperatorError) -> ValueID {
    let dims = try call.dims(statistic)
    if dims.reduce(1, *) == 1 { return try call.layers.reshape(statistic, []) }
    guard dims.count <= axes.count else { return statistic }
    return try broadcast(statistic, Array(axes.suffix(dims.count)), rank, call)
  }
}
