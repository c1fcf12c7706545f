// Derivative rules of layers against central differences: convolutions, pools, normalizations, losses.

import ApusGraph
import ApusTensor
import Testing

@Suite struct GradientLayerTests {
  private static func labels(_ values: [Int], _ shape: Shape) -> GradientCase.Operand { .constant(Tensor(values, shape: shape)) }

  @Test(arguments: [
    GradientCase("Conv", [.x([2, 2, 5]), .x([3, 2, 3]), .x([3])], [("strides", .ints([2])), ("pads", .ints([1, 2]))]),
    GradientCase("Conv", [.x([1, 2, 4, 3]), .x([2, 2, 2, 2])]),
    GradientCase("Conv", [.x([1, 2, 6, 4]), .x([1, 2, 2, 2])], [("strides", .ints([3, 1])), ("dilations", .ints([1, 2]))]),
    GradientCase("Conv", [.x([2, 4, 4]), .x([4, 2, 2])], [("group", .int(2)), ("dilations", .ints([2]))]),
    GradientCase("Conv", [.x([1, 3, 4]), .x([6, 1, 3])], [("group", .int(3)), ("pads", .ints([1, 1]))]),
    GradientCase("Conv", [.x([1, 1, 5]), .x([1, 1, 2])], [("auto_pad", .string("SAME_UPPER")), ("strides", .ints([2]))]),
    GradientCase("Conv", [.x([1, 1, 6]), .x([1, 1, 3])], [("auto_pad", .string("SAME_LOWER")), ("strides", .ints([2]))]),
    GradientCase("Conv", [.x([1, 1, 5]), .x([1, 1, 2])], [("pads", .ints([-1, 0]))]),
    GradientCase("ConvTranspose", [.x([2, 2, 3]), .x([2, 3, 2]), .x([3])], [("strides", .ints([2]))]),
    GradientCase(
      "ConvTranspose", [.x([1, 2, 2, 3]), .x([2, 1, 3, 2])],
      [("strides", .ints([2, 1])), ("pads", .ints([1, 0, 0, 1])), ("output_padding", .ints([1, 0]))]),
    GradientCase("ConvTranspose", [.x([1, 4, 3]), .x([4, 2, 2])], [("group", .int(2)), ("dilations", .ints([2]))]),
    GradientCase("ConvTranspose", [.x([1, 1, 3]), .x([1, 1, 3])], [("output_shape", .ints([6])), ("strides", .ints([2]))]),
    GradientCase(
      "ConvTranspose", [.x([1, 1, 3]), .x([1, 1, 3])], [("auto_pad", .string("SAME_UPPER")), ("strides", .ints([2]))]),
    GradientCase(
      "ConvTranspose", [.x([1, 1, 3]), .x([1, 1, 2])], [("auto_pad", .string("SAME_LOWER")), ("strides", .ints([3]))]),
  ])
  func convolutions(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    GradientCase("MaxPool", [.x([1, 2, 5])], [("kernel_shape", .ints([3])), ("pads", .ints([1, 1]))]),
    GradientCase("MaxPool", [.x([1, 1, 4, 4])], [("kernel_shape", .ints([2, 2])), ("strides", .ints([2, 2]))], outputs: 2),
    GradientCase("MaxPool", [.x([1, 2, 3, 3])], [("kernel_shape", .ints([2, 2])), ("storage_order", .int(1))], outputs: 2),
    GradientCase("MaxPool", [.x([1, 1, 6])], [("kernel_shape", .ints([2])), ("strides", .ints([4])), ("ceil_mode", .int(1))]),
    GradientCase("AveragePool", [.x([2, 2, 5])], [("kernel_shape", .ints([3])), ("pads", .ints([1, 1]))]),
    GradientCase(
      "AveragePool", [.x([1, 1, 4, 5])],
      [("kernel_shape", .ints([2, 3])), ("strides", .ints([2, 2])), ("pads", .ints([0, 1, 1, 0])), ("count_include_pad", .int(1))]),
    GradientCase("AveragePool", [.x([1, 2, 6])], [("kernel_shape", .ints([3])), ("strides", .ints([2])), ("ceil_mode", .int(1))]),
    GradientCase(
      "AveragePool", [.x([1, 1, 6])], [("kernel_shape", .ints([2])), ("dilations", .ints([2])), ("auto_pad", .string("SAME_UPPER"))]),
    GradientCase("LpPool", [.x([1, 2, 5])], [("kernel_shape", .ints([2])), ("pads", .ints([1, 0]))]),
    GradientCase("LpPool", [.x([1, 1, 5])], [("kernel_shape", .ints([2])), ("p", .int(3))]),
    GradientCase("LpPool", [.x([1, 1, 5])], [("kernel_shape", .ints([2])), ("p", .int(1))]),
    GradientCase("GlobalAveragePool", [.x([2, 2, 3])]), GradientCase("GlobalMaxPool", [.x([1, 2, 2, 2])]),
    GradientCase("GlobalLpPool", [.x([1, 2, 3])]), GradientCase("GlobalLpPool", [.x([1, 2, 3])], [("p", .int(3))]),
  ])
  func pools(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    GradientCase("BatchNormalization", [.x([2, 3, 2]), .x([3]), .x([3]), .x([3]), .x([3], 0.5...2)]),
    GradientCase("BatchNormalization", [.x([4, 2]), .x([2]), .x([2]), .x([2]), .x([2], 0.5...2)]),
    GradientCase(
      "BatchNormalization", [.x([3, 2, 2]), .x([2]), .x([2]), .x([2]), .x([2], 0.5...2)], [("training_mode", .int(1))],
      outputs: 3),
    GradientCase("InstanceNormalization", [.x([2, 2, 3]), .x([2]), .x([2])], [("epsilon", .float(0.1))]),
    GradientCase("LayerNormalization", [.x([2, 4]), .x([4]), .x([4])], [("epsilon", .float(0.1))]),
    GradientCase("LayerNormalization", [.x([2, 2, 3]), .x([2, 3])], [("axis", .int(1)), ("epsilon", .float(0.1))]),
    GradientCase("RMSNormalization", [.x([2, 4]), .x([4])], [("epsilon", .float(0.1))]),
    GradientCase("GroupNormalization", [.x([2, 4, 3]), .x([4]), .x([4])], [("num_groups", .int(2)), ("epsilon", .float(0.1))]),
    GradientCase("MeanVarianceNormalization", [.x([2, 2, 2, 2])]), GradientCase("LpNormalization", [.x([2, 3])]),
    GradientCase("LpNormalization", [.x([3, 2])], [("axis", .int(0)), ("p", .int(1))]),
    GradientCase("LRN", [.x([1, 4, 2, 2])], [("size", .int(3)), ("alpha", .float(0.5)), ("bias", .float(1.5))]),
    GradientCase("LRN", [.x([2, 5, 2])], [("size", .int(2)), ("alpha", .float(0.5))]),
  ])
  func normalizations(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: ["none", "sum", "mean"])
  func losses(_ reduction: String) throws {
    let kind: (String, AttributeValue) = ("reduction", .string(reduction))
    for op in ["SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"] {
      let outputs = op == "SoftmaxCrossEntropyLoss" ? 2 : 1
      try GradientCase(op, [.x([3, 4]), Self.labels([1, 0, 3], [3])], [kind], outputs: outputs).check()
      try GradientCase(op, [.x([2, 3, 2]), Self.labels([1, 2, 0, 2], [2, 2]), .x([3], 0.5...2)], [kind]).check()
      try GradientCase(op, [.x([3, 4]), Self.labels([1, -1, 3], [3])], [kind, ("ignore_index", .int(-1))]).check()
    }
  }
}
