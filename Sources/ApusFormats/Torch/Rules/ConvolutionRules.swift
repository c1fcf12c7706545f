// Convolutions, normalizations and recurrent layers of PyTorch.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let convolutionTable: [String: TorchRule] = [
    "conv1d": convolution, "conv2d": convolution, "conv3d": convolution, "convolution": convolution,
    "_convolution": convolution, "conv_transpose1d": convolution, "conv_transpose2d": convolution,
    "conv_transpose3d": convolution, "mkldnn_convolution": convolution, "torchvision.deform_conv2d": deformable,
    "torchvision.nms": nonMaximumSuppression, "torchvision.roi_align": regionAlign,
  ]

  /// A list of as many numbers as there are spatial axes.
  static func spatial(
    _ name: String, _ count: Int, _ standard: Int, _ call: TorchCall
  ) throws(OperatorError) -> [Int] {
    let numbers = try call.ints(name, [standard])
    if numbers.isEmpty { return [Int](repeating: standard, count: count) }
    if numbers.count == 1 { return [Int](repeating: numbers[0], count: count) }
    guard numbers.count == count else { throw .invalid("'\(name)' should have \(count) numbers; it has \(numbers)") }
    return numbers
  }

  private static func convolution(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var value = try call.tensor("input")
    let weight = try call.tensor("weight")
    let axes = try layers.rank(weight) - 2
    guard axes >= 1 else { throw .invalid("a weight with spatial axes was expected") }
    let isSingle = try layers.rank(value) == axes + 1
    if isSingle { value = try layers.unsqueeze(value, [0]) }
    let transposed = try call.bool("transposed", false)
    let isTransposed = transposed || call.op.rule.hasPrefix("conv_transpose")
    let dilations = try spatial("dilation", axes, 1, call)
    var attributes: [(String, AttributeValue)] = [
      ("dilations", .ints(dilations)), ("group", .int(try call.int("groups", 1))),
      ("strides", .ints(try spatial("stride", axes, 1, call))),
    ]
    var pads: [Int]
    if case .string(let padding)? = call.argument("padding") {
      guard ["same", "valid"].contains(padding) else { throw .invalid("the padding '\(padding)' is unknown") }
      pads = [Int](repeating: 0, count: 2 * axes)
      for axis in 0..<axes where padding == "same" {
        let total = dilations[axis] * (try layers.extent(weight, axis + 2) - 1)
        (pads[axis], pads[axis + axes]) = (total / 2, total - total / 2)
      }
    } else {
      let padding = try spatial("padding", axes, 0, call)
      pads = padding + padding
    }
    attributes.append(("pads", .ints(pads)))
    if isTransposed {
      let output = try spatial("output_padding", axes, 0, call)
      if output.contains(where: { $0 != 0 }) { attributes.append(("output_padding", .ints(output))) }
    }
    let result = try layers.emit(
      isTransposed ? "ConvTranspose" : "Conv", [value, weight, try call.optional("bias")], attributes)
    return [isSingle ? try layers.squeeze(result, [0]) : result]
  }

  private static func deformable(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    func pair(_ name: String) throws(OperatorError) -> [Int] { [try call.int(name + "_h"), try call.int(name + "_w")] }
    let padding = try pair("pad")
    let mask = try call.bool("use_mask", false) ? try call.tensor("mask") : nil
    return [
      try call.layers.emit(
        "DeformConv",
        [
          try call.tensor("input"), try call.tensor("weight"), try call.tensor("offset"), try call.tensor("bias"), mask,
        ],
        [
          ("dilations", .ints(try pair("dilation"))), ("group", .int(try call.int("groups"))),
          ("offset_group", .int(try call.int("offset_groups"))), ("pads", .ints(padding + padding)),
          ("strides", .ints(try pair("stride"))),
        ])
    ]
  }

  // MARK: - Detection

  private static func nonMaximumSuppression(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let boxes = try layers.unsqueeze(try call.tensor("dets"), [0])
    let scores = try layers.unsqueeze(try call.tensor("scores"), [0, 1])
    let bound = layers.scalar(Float(try call.real("iou_threshold")))
    let limit = layers.constant(Tensor(scalar: Int64.max))
    let chosen = try layers.emit("NonMaxSuppression", [boxes, scores, limit, bound])
    return [try layers.emit("Gather", [chosen, layers.constant(Tensor(scalar: Int64(2)))], [("axis", .int(1))])]
  }

  private static func regionAlign(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    let regions = try call.tensor("rois")
    let boxes = try layers.slice(regions, from: [1], to: [5], axes: [1])
    let images = try layers.emit(
      "Gather", [regions, layers.constant(Tensor(scalar: Int64(0)))], [("axis", .int(1))])
    let mode = try call.bool("aligned", false) ? "half_pixel" : "output_half_pixel"
    return [
      try layers.emit(
        "RoiAlign", [try call.tensor("input"), boxes, try layers.cast(images, to: .int64)],
        [
          ("coordinate_transformation_mode", .string(mode)), ("output_height", .int(try call.int("pooled_height"))),
          ("output_width", .int(try call.int("pooled_width"))),
          ("sampling_ratio", .int(max(try call.int("sampling_ratio", 0), 0))),
          ("spatial_scale", .float(Float(try call.real("spatial_scale")))),
        ])
    ]
  }
}
