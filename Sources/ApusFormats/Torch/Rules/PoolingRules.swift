// Pooling and resizing of PyTorch.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let poolingTable: [String: TorchRule] = [
    "max_pool1d": maxPool(1), "max_pool2d": maxPool(2), "max_pool3d": maxPool(3),
    "max_pool1d_with_indices": maxPool(1), "max_pool2d_with_indices": maxPool(2),
    "max_pool3d_with_indices": maxPool(3), "avg_pool1d": averagePool(1), "avg_pool2d": averagePool(2),
    "avg_pool3d": averagePool(3), "adaptive_avg_pool1d": adaptive(1, "Average"),
    "adaptive_avg_pool2d": adaptive(2, "Average"), "adaptive_avg_pool3d": adaptive(3, "Average"),
    "_adaptive_avg_pool2d": adaptive(2, "Average"), "_adaptive_avg_pool3d": adaptive(3, "Average"),
    "adaptive_max_pool1d": adaptive(1, "Max"), "adaptive_max_pool2d": adaptive(2, "Max"),
    "adaptive_max_pool3d": adaptive(3, "Max"),
  ]

  /// What every pooling has, with the operand as a batch.
  private struct Window {
    var value: ValueID
    var isSingle: Bool
    var attributes: [(String, AttributeValue)]
  }

  private static func window(_ axes: Int, _ call: TorchCall) throws(OperatorError) -> Window {
    var value = try call.tensor("self")
    let isSingle = try call.layers.rank(value) == axes + 1
    if isSingle { value = try call.layers.unsqueeze(value, [0]) }
    let kernel = try spatial("kernel_size", axes, 1, call)
    let padding = try spatial("padding", axes, 0, call)
    let isEmpty = try call.ints("stride", []).isEmpty
    let attributes: [(String, AttributeValue)] = [
      ("kernel_shape", .ints(kernel)), ("strides", .ints(isEmpty ? kernel : try spatial("stride", axes, 1, call))),
      ("pads", .ints(padding + padding)), ("ceil_mode", .int(try call.bool("ceil_mode", false) ? 1 : 0)),
    ]
    return Window(value: value, isSingle: isSingle, attributes: attributes)
  }

  private static func maxPool(_ axes: Int) -> TorchRule {
    { (call) throws(OperatorError) in
      let layers = call.layers
      let window = try window(axes, call)
      let attributes = window.attributes + [("dilations", .ints(try spatial("dilation", axes, 1, call)))]
      func single(_ value: ValueID) throws(OperatorError) -> ValueID {
        window.isSingle ? try layers.squeeze(value, [0]) : value
      }
      if !call.isUsed(1) { return [try single(try layers.emit("MaxPool", [window.value], attributes)), nil] }
      let results = try layers.emit("MaxPool", [window.value], attributes, outputs: 2)
      // ONNX counts places in the whole tensor, torch in one image.
      var size = 1
      for axis in 0..<axes { size *= try layers.extent(window.value, axis + 2) }
      let places = try layers.emit("Mod", [results[1], layers.constant(Tensor(scalar: Int64(size)))])
      return [try single(results[0]), try single(places)]
    }
  }

  private static func averagePool(_ axes: Int) -> TorchRule {
    { (call) throws(OperatorError) in
      let layers = call.layers
      let window = try window(axes, call)
      let divisor = try call.number("divisor_override")
      let counts = try call.bool("count_include_pad", true) || divisor != nil
      var result = try layers.emit(
        "AveragePool", [window.value], window.attributes + [("count_include_pad", .int(counts ? 1 : 0))])
      if let divisor {
        guard try !call.bool("ceil_mode", false), divisor.real != 0 else {
          throw .unsupported("divisor_override together with ceil_mode")
        }
        let size = try spatial("kernel_size", axes, 1, call).reduce(1) { $0 * Double($1) }
        result = try layers.emit("Mul", [result, try layers.scalar(size / divisor.real, like: result)])
      }
      return [window.isSingle ? try layers.squeeze(result, [0]) : result]
    }
  }

  /// Output extents instead of windows: one window, windows of one size, or windows that differ.
  private static func adaptive(_ axes: Int, _ kind: String) -> TorchRule {
    { (call) throws(OperatorError) in
      let layers = call.layers
      var value = try call.tensor("self")
      if call.isUsed(1), kind == "Max" { throw .unsupported("the places of adaptive_max_pool") }
      let isSingle = try layers.rank(value) == axes + 1
      if isSingle { value = try layers.unsqueeze(value, [0]) }
      // None keeps an extent.
      var wanted = try call.ints("output_size")
      if wanted.count == 1 { wanted = [Int](repeating: wanted[0], count: axes) }
      guard wanted.count == axes else { throw .invalid("output_size should have \(axes) numbers") }
      let spatialAxes = Array(2..<(axes + 2))
      let reduction = kind == "Max" ? "ReduceMax" : "ReduceMean"
      if wanted.allSatisfy({ $0 == 1 }) {
        let op = kind == "Max" ? "GlobalMaxPool" : "GlobalAveragePool"
        let result = try layers.emit(op, [value])
        return [isSingle ? try layers.squeeze(result, [0]) : result, nil]
      }
      var extents: [Int] = []
      for axis in spatialAxes { extents.append(try layers.extent(value, axis)) }
      if zip(extents, wanted).allSatisfy({ $1 > 0 && $0 % $1 == 0 }) {
        let kernel = zip(extents, wanted).map { $0 / $1 }
        if kernel.contains(where: { $0 != 1 }) {
          value = try layers.emit(
            kind + "Pool", [value], [("kernel_shape", .ints(kernel)), ("strides", .ints(kernel))])
        }
      } else {
        for (axis, count) in zip(spatialAxes, wanted) {
          value = try adapted(value, axis, count, reduction, call)
        }
      }
      return [isSingle ? try layers.squeeze(value, [0]) : value, nil]
    }
  }

  /// Windows of an axis from floor(i · n / m) to ceil((i + 1) · n / m).
  private static func adapted(
    _ value: ValueID, _ axis: Int, _ count: Int, _ reduction: String, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    let layers = call.layers
    let extent = try layers.extent(value, axis)
    guard count > 0, count <= 4096, extent > 0, extent <= 1 << 16 else {
      throw .unsupported("\(count) windows of \(extent) elements")
    }
    if count == extent { return value }
    let windows = (0..<count).map { (start: $0 * extent / count, end: (($0 + 1) * extent + count - 1) / count) }
    if reduction == "ReduceMean" {
      var weights = [Float](repeating: 0, count: extent * count)
      for (column, window) in windows.enumerated() {
        let share = 1 / Float(window.end - window.start)
        for row in window.start..<window.end { weights[row * count + column] = share }
      }
      let matrix = try layers.cast(
        layers.constant(Tensor(weights, shape: [extent, count])), to: layers.type(value) ?? .float32)
      var order = Array(0..<(try layers.rank(value)))
      order.swapAt(axis, order.count - 1)
      let product = try layers.emit("MatMul", [try layers.transpose(value, order), matrix])
      return try layers.transpose(product, order)
    }
    var parts: [ValueID] = []
    for window in windows {
      let part = try layers.slice(value, from: [window.start], to: [window.end], axes: [axis])
      parts.append(try layers.reduce(reduction, part, axes: [axis], keepsAxes: true))
    }
    return try layers.concatenate(parts, axis: axis)
  }

  // MARK: - Resizing

  static let resizingTable: [String: TorchRule] = [
    "upsample_nearest1d": resize(1, "nearest"), "upsample_nearest2d": resize(2, "nearest"),
    "upsample_nearest3d": resize(3, "nearest"), "_upsample_nearest_exact1d": resize(1, "nearest", isExact: true),
    "_upsample_nearest_exact2d": resize(2, "nearest", isExact: true),
    "_upsample_nearest_exact3d": resize(3, "nearest", isExact: true), "upsample_linear1d": resize(1, "linear"),
    "upsample_bilinear2d": resize(2, "linear"), "upsample_trilinear3d": resize(3, "linear"),
    "upsample_bicubic2d": resize(2, "cubic"), "_upsample_bilinear2d_aa": resize(2, "linear", isSmooth: true),
    "_upsample_bicubic2d_aa": resize(2, "cubic", isSmooth: true), "grid_sampler": gridSample,
    "grid_sampler_2d": gridSample, "grid_sampler_3d": gridSample, "affine_grid_generator": affineGrid,
  ]

  /// The scale of each axis, where the node has some: what torch then computes coordinates with.
  private static func scales(_ axes: Int, _ call: TorchCall) throws(OperatorError) -> [Double]? {
    if let factors = try call.floats("scale_factors"), factors.count == axes { return factors }
    let names = axes == 1 ? ["scales"] : axes == 2 ? ["scales_h", "scales_w"] : ["scales_d", "scales_h", "scales_w"]
    var found: [Double] = []
    for name in names {
      guard let scale = try call.number(name)?.real else { return nil }
      found.append(scale)
    }
    return found
  }

  private static func resize(
    _ axes: Int, _ mode: String, isExact: Bool = false, isSmooth: Bool = false
  ) -> TorchRule {
    { (call) throws(OperatorError) in
      let layers = call.layers
      let value = try call.tensor(call.has("self") ? "self" : "input")
      let corners = try call.bool("align_corners", false)
      let transformation =
        mode == "nearest" && !isExact ? "asymmetric" : corners ? "align_corners" : "half_pixel"
      var attributes: [(String, AttributeValue)] = [
        ("mode", .string(mode)), ("coordinate_transformation_mode", .string(transformation)),
        ("axes", .ints(Array(2..<(axes + 2)))),
      ]
      if mode == "nearest" { attributes.append(("nearest_mode", .string(isExact ? "round_prefer_ceil" : "floor"))) }
      if mode == "cubic" { attributes.append(("cubic_coeff_a", .float(isSmooth ? -0.5 : -0.75))) }
      if isSmooth { attributes += [("antialias", .int(1)), ("exclude_outside", .int(1))] }
      let scales = try scales(axes, call)
      let nearest = mode == "nearest" ? try nearestElements(value, axes, scales, isExact: isExact, call) : []
      let result = try layers.resizedToNearest(value, nearest, from: 2) { () throws(OperatorError) in
        if let scales, !corners {
          let factors = layers.constant(Tensor(scales.map { Float($0) }))
          return try layers.emit("Resize", [value, nil, factors], attributes)
        }
        guard let sizes = try sizes(of: value, axes, scales, call) else {
          throw .invalid("output_size or scales were expected")
        }
        return try layers.emit("Resize", [value, nil, nil, try call.shapeTensor(sizes)], attributes)
      }
      return [result]
    }
  }

  /// The sizes that are asked for, or that the scales give where the extents are known.
  private static func sizes(
    of value: ValueID, _ axes: Int, _ scales: [Double]?, _ call: TorchCall
  ) throws(OperatorError) -> [TorchSize]? {
    if let sizes = try call.sizes("output_size"), !sizes.isEmpty { return sizes.count == axes ? sizes : nil }
    guard let scales else { return nil }
    var sizes: [TorchSize] = []
    for (axis, scale) in scales.enumerated() {
      let size = (Double(try call.layers.extent(value, axis + 2)) * scale).rounded(.down)
      guard (0..<Double(1 << 31)).contains(size) else { throw .invalid("an extent times \(scale) is too large") }
      sizes.append(.number(Int(size)))
    }
    return sizes
  }

  /// None where neither an extent nor a scale is known.
  private static func nearestElements(
    _ value: ValueID, _ axes: Int, _ scales: [Double]?, isExact: Bool, _ call: TorchCall
  ) throws(OperatorError) -> [NearestElements] {
    let shape = try call.layers.shape(value)
    if let scales, shape.count == axes + 2, shape.suffix(axes).contains(where: { $0.known == nil }) {
      guard scales.allSatisfy({ (1e-4...1e4).contains($0) }) else { return [] }
      return scales.map { NearestElements(factor: $0, isCentred: isExact) }
    }
    guard shape.count == axes + 2, shape.suffix(axes).allSatisfy({ ($0.known ?? 0) > 0 }),
      let sizes = try sizes(of: value, axes, scales, call)
    else { return [] }
    var found: [NearestElements] = []
    for (axis, size) in sizes.enumerated() {
      guard case .number(let count) = size, count > 0, let extent = shape[axis + 2].known else { return [] }
      found.append(NearestElements(extent: extent, count: count, factor: scales?[axis], isCentred: isExact))
    }
    return found
  }

  private static func gridSample(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let modes = ["linear", "nearest", "cubic"]
    let paddings = ["zeros", "border", "reflection"]
    let (mode, padding) = (try call.int("interpolation_mode"), try call.int("padding_mode"))
    guard modes.indices.contains(mode), paddings.indices.contains(padding) else { throw .invalid("an unknown mode") }
    return [
      try call.layers.emit(
        "GridSample", [try call.tensor("input"), try call.tensor("grid")],
        [
          ("mode", .string(modes[mode])), ("padding_mode", .string(paddings[padding])),
          ("align_corners", .int(try call.bool("align_corners", false) ? 1 : 0)),
        ])
    ]
  }

  private static func affineGrid(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [
      try call.layers.emit(
        "AffineGrid", [try call.tensor("theta"), try call.shapeTensor(try call.sizes("size") ?? [])],
        [("align_corners", .int(try call.bool("align_corners", false) ? 1 : 0))])
    ]
  }
}
