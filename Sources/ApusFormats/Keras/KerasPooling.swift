// Pooling of Keras, over windows and whole axes, and changes of the size of pictures.

import ApusGraph
import ApusTensor

enum KerasPooling {
  static let rules: [String: KerasRule] = {
    var rules: [String: KerasRule] = [
      "UpSampling1D": .one(upSampling1D), "UpSampling2D": .one(upSampling2D), "UpSampling3D": .one(upSampling3D),
      "Resizing": .one(resizing),
    ]
    for count in 1...3 {
      rules["MaxPooling\(count)D"] = pool("MaxPool", count)
      rules["MaxPool\(count)D"] = pool("MaxPool", count)
      rules["AveragePooling\(count)D"] = pool("AveragePool", count)
      rules["AvgPool\(count)D"] = pool("AveragePool", count)
      rules["GlobalMaxPooling\(count)D"] = global("ReduceMax", count)
      rules["GlobalMaxPool\(count)D"] = global("ReduceMax", count)
      rules["GlobalAveragePooling\(count)D"] = global("ReduceMean", count)
      rules["GlobalAvgPool\(count)D"] = global("ReduceMean", count)
      rules["AdaptiveAveragePooling\(count)D"] = adaptive("ReduceMean", count)
      rules["AdaptiveMaxPooling\(count)D"] = adaptive("ReduceMax", count)
    }
    return rules
  }()

  /// Pooling between layers, which takes as many spatial axes as the picture has.
  static let operations: [String: KerasRule] = [
    "MaxPool": pool("MaxPool"), "AveragePool": pool("AveragePool"), "AdaptiveAveragePool": adaptive("ReduceMean"),
    "AdaptiveMaxPool": adaptive("ReduceMax"),
  ]

  /// Windows over `count` axes; nil: over all but the batch and the channels.
  private static func pool(_ op: String, _ count: Int? = nil) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let rank = try call.layers.rank(value)
      let count = count ?? max(rank - 2, 1)
      let sizes = try call.config.extents("pool_size", count: count, default: 2)
      let strides = call.config["strides"] == nil ? sizes : try call.config.extents("strides", count: count)
      let padding = try call.config.string("padding") ?? "valid"
      let window = KerasConvolutions.Window(kernel: sizes, strides: strides, padding: padding)
      return try call.inChannelsFirst(value) { (value) throws(OperatorError) in
        try call.layers.emit(op, [value], window.attributes(value, call.layers))
      }
    }
  }

  private static func spatialAxes(_ count: Int, _ call: KerasCall) throws(OperatorError) -> [Int] {
    let first = try call.isChannelsFirst() ? 2 : 1
    return Array(first..<first + count)
  }

  private static func global(_ op: String, _ count: Int) -> KerasRule {
    KerasRule { (call) throws(OperatorError) in
      let layers = call.layers
      let input = try call.input()
      let axes = try spatialAxes(count, call)
      let keepsAxes = try call.config.bool("keepdims", default: false)
      guard op == "ReduceMean", count == 1, let mask = input.mask ?? call.keyword("mask")?.value else {
        return [KerasTensor(try layers.reduce(op, input.value, axes: axes, keepsAxes: keepsAxes))]
      }
      // The mean over the steps that are no padding.
      let isThere = try layers.unsqueeze(layers.cast(mask, to: .float32), [axes[0] == 1 ? 2 : 1])
      let sum = try layers.reduce(
        "ReduceSum", layers.emit("Mul", [input.value, isThere]), axes: axes, keepsAxes: keepsAxes)
      let number = try layers.reduce("ReduceSum", isThere, axes: axes, keepsAxes: keepsAxes)
      return [KerasTensor(try layers.emit("Div", [sum, number]))]
    }
  }

  /// Output i of n covers the elements from ⌊i · extent / n⌋ up to ⌈(i + 1) · extent / n⌉.
  private static func adaptive(_ op: String, _ count: Int? = nil) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let layers = call.layers
      let rank = try layers.rank(value)
      let count = count ?? max(rank - 2, 1)
      let sizes = try call.config.extents("output_size", count: count)
      var value = value
      for (axis, size) in zip(try spatialAxes(count, call), sizes) {
        let extent = try layers.extent(value, axis)
        guard size <= 4096, extent <= 1 << 24 else { throw .unsupported("an 'output_size' of more than 4096") }
        var parts: [ValueID] = []
        for index in 0..<size {
          let (start, end) = (index * extent / size, ((index + 1) * extent + size - 1) / size)
          let part = try layers.slice(value, from: [start], to: [end], axes: [axis])
          parts.append(try layers.reduce(op, part, axes: [axis], keepsAxes: true))
        }
        value = try layers.concatenate(parts, axis: axis)
      }
      return value
    }
  }

  // MARK: - Sizes

  /// The attributes of Resize for an interpolation of Keras.
  private static func attributes(_ interpolation: String) throws(OperatorError) -> [(String, AttributeValue)] {
    switch interpolation {
    case "nearest":
      [
        ("mode", .string("nearest")), ("coordinate_transformation_mode", .string("half_pixel")),
        ("nearest_mode", .string("round_prefer_ceil")),
      ]
    case "bilinear": [("mode", .string("linear")), ("coordinate_transformation_mode", .string("half_pixel"))]
    case "bicubic":
      [
        ("mode", .string("cubic")), ("coordinate_transformation_mode", .string("half_pixel")),
        ("cubic_coeff_a", .float(-0.5)), ("exclude_outside", .int(1)),
      ]
    default:
      throw .unsupported(
        "the interpolation '\(interpolation)'", remedy: "Use nearest, bilinear or bicubic")
    }
  }

  /// A value with the channels behind the batch, its other axes `factors` times as long.
  private static func scaled(
    _ value: ValueID, _ factors: [Int], _ interpolation: String, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let scales = Tensor(([1, 1] + factors).map { Float($0) })
    return try layers.emit("Resize", [value, nil, layers.constant(scales)], attributes(interpolation))
  }

  /// A picture with the channels behind the batch, of other extents.
  static func resized(
    _ value: ValueID, to size: [Int], _ interpolation: String, _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    var nearest: [NearestElements] = []
    let extents = try layers.shape(value).suffix(size.count).map { $0.known ?? 0 }
    if interpolation == "nearest", (extents + size).allSatisfy({ $0 > 0 }) {
      nearest = zip(extents, size).map { NearestElements(extent: $0, count: $1, isCentred: true) }
    }
    return try layers.resizedToNearest(value, nearest, from: 2) { () throws(OperatorError) in
      try layers.emit(
        "Resize", [value, nil, nil, layers.integers(size)],
        attributes(interpolation) + [("axes", .ints(Array(2..<2 + size.count)))])
    }
  }

  private static func upSampling1D(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let size = try call.config.extents("size", count: 1, default: 2)
    return try call.layers.channelsLast(scaled(call.layers.channelsFirst(value), size, "nearest", call.layers))
  }

  private static func upSampling2D(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let size = try call.config.extents("size", count: 2, default: 2)
    let interpolation = try call.config.string("interpolation") ?? "nearest"
    return try call.inChannelsFirst(value) { (value) throws(OperatorError) in
      try scaled(value, size, interpolation, call.layers)
    }
  }

  private static func upSampling3D(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let size = try call.config.extents("size", count: 3, default: 2)
    return try call.inChannelsFirst(value) { (value) throws(OperatorError) in
      try scaled(value, size, "nearest", call.layers)
    }
  }

  private static func resizing(_ call: KerasCall, _ value: ValueID) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let size = [try call.config.requiredInt("height"), try call.config.requiredInt("width")]
    if try call.config.bool("antialias", default: false) { throw .unsupported("resizing with 'antialias'") }
    if try call.config.bool("pad_to_aspect_ratio", default: false) {
      throw .unsupported("resizing with 'pad_to_aspect_ratio'")
    }
    let interpolation = (try call.config.string("interpolation") ?? "bilinear").lowercased()
    if interpolation == "bicubic" {
      call.ledger.note("bicubic resizing is exact here; TensorFlow rounds places to 1/1024 of a pixel")
    }
    let crops = try call.config.bool("crop_to_aspect_ratio", default: false)
    var picture = try layers.rank(value) == 3 ? layers.unsqueeze(value, [0]) : value
    let isSingle = picture != value
    if layers.type(picture) != .float32 { picture = try layers.cast(picture, to: .float32) }
    let result = try call.inChannelsFirst(picture) { (picture) throws(OperatorError) in
      try resized(crops ? cropped(picture, to: size, layers) : picture, to: size, interpolation, layers)
    }
    return isSingle ? try layers.squeeze(result, [0]) : result
  }

  /// The middle of a picture that has the ratio of `size`.
  private static func cropped(
    _ picture: ValueID, to size: [Int], _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let (height, width) = (try layers.extent(picture, 2), try layers.extent(picture, 3))
    let crop = [
      min(Int(Double(width * size[0]) / Double(size[1])), height),
      min(Int(Double(height * size[1]) / Double(size[0])), width),
    ]
    let start = [Int(Double(height - crop[0]) / 2), Int(Double(width - crop[1]) / 2)]
    return try layers.slice(picture, from: start, to: [start[0] + crop[0], start[1] + crop[1]], axes: [2, 3])
  }
}
