// Convolutions of Keras: plain, depthwise, separable and transposed, over one to three axes.

import ApusGraph
import ApusTensor

enum KerasConvolutions {
  static let rules: [String: KerasRule] = [
    "Conv1D": plain(1), "Conv2D": plain(2), "Conv3D": plain(3),
    "Convolution1D": plain(1), "Convolution2D": plain(2), "Convolution3D": plain(3),
    "DepthwiseConv1D": depthwise(1), "DepthwiseConv2D": depthwise(2),
    "SeparableConv1D": separable(1), "SeparableConv2D": separable(2),
    "Conv1DTranspose": transposed(1), "Conv2DTranspose": transposed(2), "Conv3DTranspose": transposed(3),
  ]

  /// What all convolutions over `count` axes say in the same words.
  struct Window {
    let kernel: [Int]
    let strides: [Int]
    let dilations: [Int]
    let padding: String

    init(_ config: KerasConfig, count: Int) throws(OperatorError) {
      try self.init(config, kernel: config.extents("kernel_size", count: count))
    }

    /// For operations, whose kernels are operands.
    init(_ config: KerasConfig, kernel: [Int]) throws(OperatorError) {
      self.kernel = kernel
      let count = kernel.count
      strides = try config.extents("strides", count: count, default: 1)
      dilations = try config.extents("dilation_rate", count: count, default: 1)
      padding = try config.string("padding")?.lowercased() ?? "valid"
      guard ["valid", "same", "causal"].contains(padding) else {
        throw .invalid("'padding' should be valid, same or causal; it is '\(padding)'")
      }
    }

    init(kernel: [Int], strides: [Int], padding: String) {
      (self.kernel, self.strides, self.padding) = (kernel, strides, padding)
      dilations = kernel.map { _ in 1 }
    }

    /// From the first to the last element that a kernel reads, along each axis.
    var reach: [Int] { zip(kernel, dilations).map { ($0 - 1) * $1 + 1 } }

    /// The attributes of ONNX for a value with the channels behind the batch.
    func attributes(_ value: ValueID, _ layers: LayerBuilder) throws(OperatorError) -> [(String, AttributeValue)] {
      var attributes: [(String, AttributeValue)] = [("kernel_shape", .ints(kernel)), ("strides", .ints(strides))]
      if dilations.contains(where: { $0 != 1 }) { attributes.append(("dilations", .ints(dilations))) }
      switch padding {
      case "causal": attributes.append(("pads", .ints(reach.map { $0 - 1 } + kernel.map { _ in 0 })))
      case "same":
        if let pads = try samePads(layers.shape(value)) {
          if pads.contains(where: { $0 != 0 }) { attributes.append(("pads", .ints(pads))) }
        } else {
          attributes.append(("auto_pad", .string("SAME_UPPER")))
        }
      default: break
      }
      return attributes
    }

    /// Those of ConvTranspose, whose output has as many elements as the input that a convolution would have had, and
    /// `extra` ones.
    func transposedAttributes(_ extra: [Int]?) -> [(String, AttributeValue)] {
      var (before, behind, added): ([Int], [Int], [Int]) = ([], [], [])
      for axis in kernel.indices {
        let (reach, stride) = (reach[axis], strides[axis])
        // By how much the output is shorter than (inputs − 1) · stride + reach.
        let shorter: Int
        if let extra {
          shorter = (padding == "same" ? reach - reach % 2 : 0) - extra[axis]
        } else {
          shorter = padding == "same" ? reach - stride : min(reach - stride, 0)
        }
        let total = max(shorter, 0)
        before.append(total / 2)
        behind.append(total - total / 2)
        added.append(total - shorter)
      }
      var attributes: [(String, AttributeValue)] = [
        ("kernel_shape", .ints(kernel)), ("strides", .ints(strides)), ("pads", .ints(before + behind)),
      ]
      if dilations.contains(where: { $0 != 1 }) { attributes.append(("dilations", .ints(dilations))) }
      if added.contains(where: { $0 != 0 }) { attributes.append(("output_padding", .ints(added))) }
      return attributes
    }

    /// So many elements before and behind each axis that there is an output for every stride begun; nil if that depends
    /// on an extent that is not known.
    private func samePads(_ shape: [Dim]) -> [Int]? {
      var (before, behind): ([Int], [Int]) = ([], [])
      for axis in kernel.indices {
        var total = reach[axis] - 1
        if strides[axis] != 1 {
          guard shape.indices.contains(axis + 2), let extent = shape[axis + 2].known else { return nil }
          let count = (extent + strides[axis] - 1) / strides[axis]
          total = max((count - 1) * strides[axis] + reach[axis] - extent, 0)
        }
        before.append(total / 2)
        behind.append(total - total / 2)
      }
      return before + behind
    }
  }

  private static func usesBias(_ call: KerasCall) throws(OperatorError) -> Bool {
    try call.config.bool("use_bias", default: true)
  }

  /// The kernel, whose axes are those of the window, then two for channels.
  private static func check(_ kernel: ValueID, _ window: Window, _ call: KerasCall) throws(OperatorError) -> [Int] {
    let dims = try call.dims(kernel)
    guard dims.count == window.kernel.count + 2, Array(dims.dropLast(2)) == window.kernel else {
      throw .mismatch("the kernel should be of \(window.kernel) and two more axes; it is \(dims)")
    }
    return dims
  }

  // MARK: - Rules

  private static func plain(_ count: Int) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let window = try Window(call.config, count: count)
      let weights = try call.variables(usesBias(call) ? ["kernel", "bias"] : ["kernel"])
      _ = try check(weights[0], window, call)
      let groups = try call.config.int("groups", default: 1)
      let kernel = try call.layers.transpose(weights[0], [count + 1, count] + Array(0..<count))
      let result = try call.inChannelsFirst(value) { (value) throws(OperatorError) in
        var attributes = try window.attributes(value, call.layers)
        if groups != 1 { attributes.append(("group", .int(groups))) }
        return try call.layers.emit("Conv", [value, kernel] + weights.dropFirst(), attributes)
      }
      return try KerasActivations.apply(of: call, to: result)
    }
  }

  /// A kernel of [window, channels, multiplier] for a convolution of every channel with kernels of its own.
  private static func depthwiseKernel(
    _ kernel: ValueID, _ dims: [Int], _ layers: LayerBuilder
  ) throws(OperatorError) -> ValueID {
    let count = dims.count - 2
    let (outputs, overflow) = dims[count].multipliedReportingOverflow(by: dims[count + 1])
    if overflow { throw .mismatch("the kernel is too large") }
    let turned = try layers.transpose(kernel, [count, count + 1] + Array(0..<count))
    return try layers.reshape(turned, [outputs, 1] + dims.prefix(count))
  }

  private static func depthwise(_ count: Int) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let window = try Window(call.config, count: count)
      let names = try ["depthwise_kernel|kernel"] + (usesBias(call) ? ["bias"] : [])
      let weights = try call.variables(names)
      let dims = try check(weights[0], window, call)
      let kernel = try depthwiseKernel(weights[0], dims, call.layers)
      let result = try call.inChannelsFirst(value) { (value) throws(OperatorError) in
        let attributes = try window.attributes(value, call.layers) + [("group", .int(dims[count]))]
        return try call.layers.emit("Conv", [value, kernel] + weights.dropFirst(), attributes)
      }
      return try KerasActivations.apply(of: call, to: result)
    }
  }

  private static func separable(_ count: Int) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let window = try Window(call.config, count: count)
      let names = try ["depthwise_kernel", "pointwise_kernel"] + (usesBias(call) ? ["bias"] : [])
      let weights = try call.variables(names)
      let dims = try check(weights[0], window, call)
      let depthwise = try depthwiseKernel(weights[0], dims, call.layers)
      let pointwise = try call.layers.transpose(weights[1], [count + 1, count] + Array(0..<count))
      let result = try call.inChannelsFirst(value) { (value) throws(OperatorError) in
        let attributes = try window.attributes(value, call.layers) + [("group", .int(dims[count]))]
        let first = try call.layers.emit("Conv", [value, depthwise], attributes)
        return try call.layers.emit("Conv", [first, pointwise] + weights.dropFirst(2))
      }
      return try KerasActivations.apply(of: call, to: result)
    }
  }

  /// The gradient of a convolution whose input has so many elements that Keras' output is its input again.
  private static func transposed(_ count: Int) -> KerasRule {
    .one { (call, value) throws(OperatorError) in
      let window = try Window(call.config, count: count)
      let weights = try call.variables(usesBias(call) ? ["kernel", "bias"] : ["kernel"])
      _ = try check(weights[0], window, call)
      if try call.config.int("groups", default: 1) != 1 { throw .unsupported("transposed convolutions with groups") }
      let extra =
        call.config["output_padding"] == nil
        ? nil : try call.config.extents("output_padding", count: count, from: 0)
      let kernel = try call.layers.transpose(weights[0], [count + 1, count] + Array(0..<count))
      let result = try call.inChannelsFirst(value) { (value) throws(OperatorError) in
        return try call.layers.emit(
          "ConvTranspose", [value, kernel] + weights.dropFirst(), window.transposedAttributes(extra))
      }
      return try KerasActivations.apply(of: call, to: result)
    }
  }
}
