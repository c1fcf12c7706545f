// Pooling, resizing and other operators of images as operators of TensorFlow Lite.

import ApusGraph
import ApusTensor

extension TFLiteLowerings {
  // MARK: - Pooling

  static let pooling: [String: TFLiteLowering] = [
    "channels-last.MaxPool": TFLiteLowering(floats, integers: .keeps, activation: 5, maxPool),
    "channels-last.AveragePool": TFLiteLowering(
      floats, integers: .keepsWhen { isPlain($0) }, activation: 5, averagePool),
  ]

  /// Without pads every window has as many elements.
  private static func isPlain(_ node: NodeFacts) -> Bool {
    (node.optionalInts("pads") ?? []).allSatisfy { $0 == 0 } && node.optionalInt("ceil_mode") ?? 0 == 0
      && ["NOTSET", "VALID"].contains(node.optionalString("auto_pad") ?? "NOTSET")
  }

  private static func pool(
    _ node: TFLiteNode, takesSame: Bool
  ) throws(OperatorError) -> (image: (tensor: Int, shape: [Dim]), window: TFLiteWindow) {
    let own = try node.shape()
    guard (3...4).contains(own.count) else {
      throw .unsupported("TensorFlow Lite pools over two axes; the images have \(own.count - 2)")
    }
    let image = try node.image(node.operand(0), own)
    let kernel = [Int](repeating: 1, count: 4 - own.count) + (try node.ints("kernel_shape"))
    let window = try node.window(kernel, image.shape, node.resultShape(), takesSame: takesSame)
    guard window.dilations.allSatisfy({ $0 == 1 }) else { throw .unsupported("dilations are not written") }
    return (image, window)
  }

  /// Images of fewer pixels along each axis, and of so many in all, have constants that are made for each of them.
  private static let largestExtent = 1 << 16
  private static let largestImage = 1 << 22

  private static func options(_ window: TFLiteWindow, _ activation: Int) -> [(Int, TFLiteOptions.Value)] {
    [
      (0, window.padding), (1, .int(window.strides[1])), (2, .int(window.strides[0])), (3, .int(window.kernel[1])),
      (4, .int(window.kernel[0])), (5, .byte(activation)),
    ]
  }

  private static func maxPool(_ node: TFLiteNode) throws(OperatorError) {
    let (image, window) = try pool(node, takesSame: true)
    let padded = try node.padded(image, window, least: true)
    try node.emitImage("MAX_POOL_2D", [padded.tensor], options(window, node.activation))
  }

  private static func averagePool(_ node: TFLiteNode) throws(OperatorError) {
    let countsPads = node.optionalInt("count_include_pad") ?? 0 != 0
    let (image, window) = try pool(node, takesSame: !countsPads)
    let padded = try node.padded(image, window)
    guard window.isPadded, let factors = try factors(node, image.shape, window, countsPads: countsPads) else {
      return try node.emitImage("AVERAGE_POOL_2D", [padded.tensor], options(window, node.activation))
    }
    // The mean over all elements of a window, pads included, times what makes it that over those that count.
    let result = try node.resultShape()
    let wide = result.count == 3 ? [result[0], Dim(1)] + result[1...] : result
    let mean = try node.step("AVERAGE_POOL_2D", [padded.tensor], wide, options(window, 0))
    try node.emitImage("MUL", [mean, node.work.constant(factors)], [(0, .byte(node.activation))])
  }

  /// For each place of the result the elements of a window over those that count; nil if all do everywhere.
  private static func factors(
    _ node: TFLiteNode, _ shape: [Dim], _ window: TFLiteWindow, countsPads: Bool
  ) throws(OperatorError) -> Tensor? {
    if countsPads, window.beyond.allSatisfy({ $0 == 0 }) { return nil }
    let extents = try TFLiteNode.numbers([shape[1], shape[2]])
    guard extents.allSatisfy({ $0 < largestExtent }), extents[0] * extents[1] <= largestImage else {
      throw .unsupported("images of this size are not written")
    }
    let counts = (0..<2).map { axis -> [Int] in
      let first = countsPads ? -window.before[axis] : 0
      let last = extents[axis] + (countsPads ? window.after[axis] - window.beyond[axis] : 0)
      let places = extents[axis] + window.before[axis] + window.after[axis] - window.kernel[axis]
      return stride(from: 0, through: max(places, 0), by: window.strides[axis]).map { place in
        let start = place - window.before[axis]
        return max(min(start + window.kernel[axis], last) - max(start, first), 1)
      }
    }
    let size = Float(window.kernel[0] * window.kernel[1])
    let factors = counts[0].flatMap { row in counts[1].map { size / Float(row * $0) } }
    return Tensor(factors, shape: [1, counts[0].count, counts[1].count, 1])
  }

  // MARK: - Blocks, normalization

  static let resizing: [String: TFLiteLowering] = [
    "channels-last.Resize": TFLiteLowering(floats, integers: .keepsWhen { isNearest($0) }, data: 0..<1, resize),
    "channels-last.DepthToSpace": TFLiteLowering(
      [.float32, .int32, .int64, .int8, .uint8], integers: .keeps, depthToSpace),
    "channels-last.SpaceToDepth": TFLiteLowering(
      [.float32, .int32, .int64, .int8, .uint8], integers: .keeps, spaceToDepth),
    "channels-last.LRN": TFLiteLowering(floats) { (node) throws(OperatorError) in
      let size = try node.int("size")
      guard size % 2 == 1, size > 0, try node.rank() == 4 else {
        throw .unsupported("an odd number of channels of images of two axes was expected; it is \(size)")
      }
      // TensorFlow Lite does not divide alpha by the number of channels that are summed.
      try node.emit(
        "LOCAL_RESPONSE_NORMALIZATION", [node.operand(0)],
        [
          (0, .int(size / 2)), (1, .real(node.float("bias"))), (2, .real(node.float("alpha") / Float(size))),
          (3, .real(node.float("beta"))),
        ])
    },
  ]

  private static func depthToSpace(_ node: TFLiteNode) throws(OperatorError) {
    let (block, shape) = (try node.int("blocksize"), try node.shape())
    guard shape.count == 4, let channels = shape[3].known, block > 0, block < 1 << 15, channels < 1 << 20,
      channels % (block * block) == 0
    else { throw .unsupported("images of a known number of channels were expected") }
    var image = try node.operand(0)
    if node.optionalString("mode") == "CRD" {
      // The channels in the order that TensorFlow Lite has, whose blocks come before them.
      let depth = channels / (block * block)
      let order = (0..<channels).map { $0 % depth * block * block + $0 / depth }
      let codes = node.isCoded ? try node.scale(0) : nil
      image = try node.step(
        "GATHER", [image, node.work.integers(order)], shape, [(0, .int(3))], quantization: codes)
    }
    try node.emit("DEPTH_TO_SPACE", [image], [(0, .int(block))])
  }

  private static func spaceToDepth(_ node: TFLiteNode) throws(OperatorError) {
    let (block, result) = (try node.int("blocksize"), try node.resultShape())
    guard result.count == 4, let channels = result[3].known, block > 0, block < 1 << 15, channels < 1 << 20 else {
      throw .unsupported("images of a known number of channels were expected")
    }
    guard node.optionalString("mode") == "CRD" else {
      return try node.emit("SPACE_TO_DEPTH", [node.operand(0)], [(0, .int(block))])
    }
    let depth = max(channels / (block * block), 1)
    let order = (0..<channels).map { $0 % (block * block) * depth + $0 / (block * block) }
    let codes = node.isCoded ? try node.scale(0) : nil
    let image = try node.step("SPACE_TO_DEPTH", [node.operand(0)], result, [(0, .int(block))], quantization: codes)
    try node.emit("GATHER", [image, node.work.integers(order)], [(0, .int(3))])
  }

  // MARK: - Resizing

  private static func isNearest(_ node: NodeFacts) -> Bool { node.optionalString("mode") ?? "nearest" == "nearest" }

  /// How TensorFlow Lite maps places of the result to those of the image: corners aligned, centers of pixels, neither.
  private static let variants: [(corners: Bool, halves: Bool)] = [(false, true), (true, false), (false, false)]

  private static func resize(_ node: TFLiteNode) throws(OperatorError) {
    let (shape, result) = (try node.shape(), try node.resultShape())
    guard shape.count == 4 else { throw .unsupported("TensorFlow Lite resizes images of two axes") }
    guard shape[3].isSame(as: result[3]), shape[0].isSame(as: result[0]) else {
      throw .unsupported("a Resize of batch or channels is not written")
    }
    guard node.optionalInt("antialias") ?? 0 == 0, node.optionalInt("exclude_outside") ?? 0 == 0 else {
      throw .unsupported("TensorFlow Lite has no antialiasing")
    }
    let (before, after) = (
      try TFLiteNode.numbers([shape[1], shape[2]]), try TFLiteNode.numbers([result[1], result[2]])
    )
    guard (before + after).allSatisfy({ $0 > 0 && $0 < 1 << 20 }) else { throw .unsupported("images without pixels") }
    let maps = try (0..<2).map { (axis) throws(OperatorError) in
      try ResizePlaces(node, axis: axis, from: before[axis], to: after[axis])
    }
    let size = node.work.integers(after)
    switch node.optionalString("mode") ?? "nearest" {
    case "nearest":
      let wanted = try maps.map { (map) throws(OperatorError) in try map.nearest(node.optionalString("nearest_mode")) }
      for (corners, halves) in variants
      where zip(maps, wanted).allSatisfy({ $0.liteNearest(corners: corners, halves: halves) == $1 }) {
        return try node.emit(
          "RESIZE_NEAREST_NEIGHBOR", [node.operand(0), size], [(0, .flag(corners)), (1, .flag(halves))])
      }
      // Any choice of rows, then of columns.
      let rows = try node.step(
        "GATHER", [node.operand(0), node.work.integers(wanted[0])], [result[0], result[1], shape[2], shape[3]],
        [(0, .int(1))])
      try node.emit("GATHER", [rows, node.work.integers(wanted[1])], [(0, .int(2))])
    case "linear":
      for (corners, halves) in variants
      where maps.allSatisfy({ $0.isLinear(corners: corners, halves: halves) }) {
        return try node.emit(
          "RESIZE_BILINEAR", [node.operand(0), size], [(2, .flag(corners)), (3, .flag(halves))])
      }
      throw .unsupported("TensorFlow Lite has no linear interpolation with these places of pixels")
    case let mode: throw .unsupported("TensorFlow Lite has no interpolation of the kind '\(mode)'")
    }
  }
}

/// Where the pixels of a result lie in an image, along one axis.
private struct ResizePlaces {
  let from: Int
  let to: Int
  let places: [Float]

  init(_ node: TFLiteNode, axis: Int, from: Int, to: Int) throws(OperatorError) {
    (self.from, self.to) = (from, to)
    var scale = Float(to) / Float(from)
    if node.has(2), let scales = node.constant(2)?.elements(as: Float.self), !scales.isEmpty {
      var position = axis + 2
      if let axes = node.optionalInts("axes") {
        guard let place = axes.firstIndex(where: { $0 == axis + 2 || $0 == axis - 2 }) else {
          guard from == to else { throw .unsupported("the scales of the axes are not known") }
          places = (0..<to).map { Float($0) }
          return
        }
        position = place
      }
      guard position < scales.count else { throw .invalid("a scale for each axis was expected") }
      scale = scales[position]
    } else if node.has(2), !node.has(3) {
      throw .unsupported("the scales should be constants")
    } else if node.optionalString("keep_aspect_ratio_policy") ?? "stretch" != "stretch" {
      throw .unsupported("sizes that keep the ratio of the sides are not written")
    }
    guard scale.isFinite, scale > 0 else { throw .invalid("a positive scale was expected; it is \(scale)") }
    let mode = node.optionalString("coordinate_transformation_mode") ?? "half_pixel"
    // As Resize computes them: exactly, and rounded to float32 at the end.
    let step = Double(scale)
    let length = node.has(2) && !node.has(3) ? Double(from) * step : Double(to)
    let place: (Double) -> Double
    switch mode {
    case "half_pixel": place = { ($0 + 0.5) / step - 0.5 }
    case "pytorch_half_pixel": place = { length > 1 ? ($0 + 0.5) / step - 0.5 : 0 }
    case "align_corners": place = { length > 1 ? $0 * Double(from - 1) / (length - 1) : 0 }
    case "asymmetric": place = { $0 / step }
    case "half_pixel_symmetric":
      let offset = Double(from) / 2 * (1 - Double(to) / length)
      place = { offset + ($0 + 0.5) / step - 0.5 }
    default: throw .unsupported("TensorFlow Lite has no places of pixels of the kind '\(mode)'")
    }
    places = (0..<to).map { Float(place(Double($0))) }
    guard places.allSatisfy(\.isFinite) else { throw .invalid("a scale of \(scale) gives no places of pixels") }
  }

  func nearest(_ mode: String?) throws(OperatorError) -> [Int] {
    let rounded: (Float) -> Float
    switch mode ?? "round_prefer_floor" {
    case "floor": rounded = { $0.rounded(.down) }
    case "ceil": rounded = { $0.rounded(.up) }
    case "round_prefer_ceil": rounded = { ($0 + 0.5).rounded(.down) }
    case "round_prefer_floor": rounded = { ($0 - 0.5).rounded(.up) }
    case let other: throw .invalid("the attribute nearest_mode is '\(other)'")
    }
    return places.map { Int(min(max(rounded($0), 0), Float(from - 1))) }
  }

  private func factor(corners: Bool) -> Float {
    corners && to > 1 ? Float(from - 1) / Float(to - 1) : Float(from) / Float(to)
  }

  func liteNearest(corners: Bool, halves: Bool) -> [Int] {
    let factor = factor(corners: corners)
    return (0..<to).map { place in
      let exact = halves ? (Float(place) + 0.5) * factor : Float(place) * factor
      return min(max(Int(corners ? exact.rounded() : exact.rounded(.down)), 0), from - 1)
    }
  }

  /// The largest difference of places that is none.
  private static let tolerance: Float = 1e-4

  func isLinear(corners: Bool, halves: Bool) -> Bool {
    let factor = factor(corners: corners)
    let last = Float(from - 1)
    return places.enumerated().allSatisfy { index, place in
      let lite = halves ? (Float(index) + 0.5) * factor - 0.5 : Float(index) * factor
      return abs(min(max(lite, 0), last) - min(max(place, 0), last)) <= Self.tolerance
    }
  }
}
