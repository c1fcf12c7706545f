// Derivative rules of layers against central differences: convolutions, pools, normalizations, losses.

import ApusGraph
import ApusTensor
import Foundation
import Testing

@Suite struct GradientLayerTests {
  private static func labels(_ values: [Int], _ shape: Shape) -> GradientCase.Operand {
    .constant(Tensor(values, shape: shape))
  }

  @Test(arguments: [
    GradientCase(
      "Conv", [.x([2, 2, 5]), .x([3, 2, 3]), .x([3])], [("strides", .ints([2])), ("pads", .ints([1, 2]))]),
    GradientCase("Conv", [.x([1, 2, 4, 3]), .x([2, 2, 2, 2])]),
    GradientCase(
      "Conv", [.x([1, 2, 6, 4]), .x([1, 2, 2, 2])],
      [("strides", .ints([3, 1])), ("dilations", .ints([1, 2]))]),
    GradientCase("Conv", [.x([2, 4, 4]), .x([4, 2, 2])], [("group", .int(2)), ("dilations", .ints([2]))]),
    GradientCase("Conv", [.x([1, 3, 4]), .x([6, 1, 3])], [("group", .int(3)), ("pads", .ints([1, 1]))]),
    GradientCase(
      "Conv", [.x([1, 1, 5]), .x([1, 1, 2])],
      [("auto_pad", .string("SAME_UPPER")), ("strides", .ints([2]))]),
    GradientCase(
      "Conv", [.x([1, 1, 6]), .x([1, 1, 3])],
      [("auto_pad", .string("SAME_LOWER")), ("strides", .ints([2]))]),
    GradientCase("Conv", [.x([1, 1, 5]), .x([1, 1, 2])], [("pads", .ints([-1, 0]))]),
    GradientCase("ConvTranspose", [.x([2, 2, 3]), .x([2, 3, 2]), .x([3])], [("strides", .ints([2]))]),
    GradientCase(
      "ConvTranspose", [.x([1, 2, 2, 3]), .x([2, 1, 3, 2])],
      [("strides", .ints([2, 1])), ("pads", .ints([1, 0, 0, 1])), ("output_padding", .ints([1, 0]))]),
    GradientCase("ConvTranspose", [.x([1, 4, 3]), .x([4, 2, 2])], [("group", .int(2)), ("dilations", .ints([2]))]),
    GradientCase(
      "ConvTranspose", [.x([1, 1, 3]), .x([1, 1, 3])],
      [("output_shape", .ints([6])), ("strides", .ints([2]))]),
    GradientCase(
      "ConvTranspose", [.x([1, 1, 3]), .x([1, 1, 3])], [("auto_pad", .string("SAME_UPPER")), ("strides", .ints([2]))]),
    GradientCase(
      "ConvTranspose", [.x([1, 1, 3]), .x([1, 1, 2])], [("auto_pad", .string("SAME_LOWER")), ("strides", .ints([3]))]),
  ])
  func convolutions(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    GradientCase("MaxPool", [.x([1, 2, 5])], [("kernel_shape", .ints([3])), ("pads", .ints([1, 1]))]),
    GradientCase(
      "MaxPool", [.x([1, 1, 4, 4])],
      [("kernel_shape", .ints([2, 2])), ("strides", .ints([2, 2]))], outputs: 2),
    GradientCase(
      "MaxPool", [.x([1, 2, 3, 3])],
      [("kernel_shape", .ints([2, 2])), ("storage_order", .int(1))], outputs: 2),
    GradientCase(
      "MaxPool", [.x([1, 1, 6])],
      [("kernel_shape", .ints([2])), ("strides", .ints([4])), ("ceil_mode", .int(1))]),
    GradientCase("AveragePool", [.x([2, 2, 5])], [("kernel_shape", .ints([3])), ("pads", .ints([1, 1]))]),
    GradientCase(
      "AveragePool", [.x([1, 1, 4, 5])],
      [
        ("kernel_shape", .ints([2, 3])), ("strides", .ints([2, 2])), ("pads", .ints([0, 1, 1, 0])),
        ("count_include_pad", .int(1)),
      ]),
    GradientCase(
      "AveragePool", [.x([1, 2, 6])],
      [("kernel_shape", .ints([3])), ("strides", .ints([2])), ("ceil_mode", .int(1))]),
    GradientCase(
      "AveragePool", [.x([1, 1, 6])],
      [("kernel_shape", .ints([2])), ("dilations", .ints([2])), ("auto_pad", .string("SAME_UPPER"))]),
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
    GradientCase(
      "GroupNormalization", [.x([2, 4, 3]), .x([4]), .x([4])],
      [("num_groups", .int(2)), ("epsilon", .float(0.1))]),
    GradientCase("MeanVarianceNormalization", [.x([2, 2, 2, 2])]), GradientCase("LpNormalization", [.x([2, 3])]),
    GradientCase("LpNormalization", [.x([3, 2])], [("axis", .int(0)), ("p", .int(1))]),
    GradientCase("LRN", [.x([1, 4, 2, 2])], [("size", .int(3)), ("alpha", .float(0.5)), ("bias", .float(1.5))]),
    GradientCase("LRN", [.x([2, 5, 2])], [("size", .int(2)), ("alpha", .float(0.5))]),
  ])
  func normalizations(_ test: GradientCase) throws { try test.check() }

  private static let half: GradientCase.Operand = .constant(Tensor([1, 1, 0.5, 2.5] as [Float]))
  private static let none: GradientCase.Operand = .constant(Tensor([] as [Float]))

  @Test(arguments: [
    GradientCase("Resize", [.x([1, 1, 4, 2]), .absent, half], [("mode", .string("linear"))]),
    GradientCase("Resize", [.x([1, 1, 4, 2]), .absent, half]),
    GradientCase("Resize", [.x([2, 5]), .absent, .absent, .constant(Tensor([2, 3]))], [("mode", .string("cubic"))]),
    GradientCase(
      "Resize", [.x([5, 2]), .absent, none, .constant(Tensor([3]))],
      [("mode", .string("linear")), ("antialias", .int(1)), ("axes", .ints([0]))]),
    GradientCase(
      "Resize",
      [.x([3, 4]), .constant(Tensor([0.1, -0.2, 0.9, 1.1] as [Float])), .absent, .constant(Tensor([2, 5]))],
      [
        ("mode", .string("linear")), ("coordinate_transformation_mode", .string("tf_crop_and_resize")),
        ("extrapolation_value", .float(3)),
      ]),
    GradientCase("CenterCropPad", [.x([5, 2]), .constant(Tensor([2, 5]))]),
    GradientCase("CenterCropPad", [.x([2, 4, 3]), .constant(Tensor([7]))], [("axes", .ints([-2]))]),
    GradientCase("AffineGrid", [.x([2, 2, 3]), .constant(Tensor([2, 1, 2, 3]))]),
    GradientCase("AffineGrid", [.x([1, 3, 4]), .constant(Tensor([1, 1, 2, 1, 2]))], [("align_corners", .int(1))]),
    GradientCase(
      "MaxUnpool", [.x([1, 1, 2]), .constant(Tensor([1, 2], shape: [1, 1, 2]))],
      [("kernel_shape", .ints([2])), ("strides", .ints([2]))]),
  ])
  func images(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    GradientCase("Attention", [.x([1, 2, 3, 2]), .x([1, 2, 4, 2]), .x([1, 2, 4, 3])]),
    GradientCase(
      "Attention", [.x([2, 4, 2, 2]), .x([2, 2, 3, 2]), .x([2, 2, 3, 1]), .x([2, 3])],
      [("softcap", .float(1.5)), ("scale", .float(0.7))]),
    GradientCase(
      "Attention", [.x([1, 3, 4]), .x([1, 3, 2]), .x([1, 3, 2])],
      [("q_num_heads", .int(2)), ("kv_num_heads", .int(1)), ("is_causal", .int(1))]),
    GradientCase(
      "Attention",
      [
        .x([1, 1, 2, 2]), .x([1, 1, 2, 2]), .x([1, 1, 2, 2]),
        .constant(Tensor([true, true, false, true, false, true, true, true], shape: [2, 4])), .x([1, 1, 2, 2]),
        .x([1, 1, 2, 2]),
      ], [("qk_matmul_output_mode", .int(3))], outputs: 4),
  ])
  func attention(_ test: GradientCase) throws { try test.check() }

  @Test func rotationsTurnBack() throws {
    let g = GradientGraph()
    let x = g.input("x", [1, 1, 2, 4], .float32)
    let angles = (0..<4).map { Double($0) * 0.4 + 0.1 }
    let cosine = g.constant(Tensor(angles.map { Float(cos($0)) }, shape: [1, 2, 2]))
    let sine = g.constant(Tensor(angles.map { Float(sin($0)) }, shape: [1, 2, 2]))
    let turned = try g.node("RotaryEmbedding", [x, cosine, sine])[0]
    let length = try g.node("ReduceSumSquare", [turned], [("keepdims", .int(0))])[0]
    // The length does not change, so its gradient is that of the sum of squares.
    let gradients = try g.gradients(of: length, [x])
    let found = try g.program(gradients).values([Tensor([1, -2, 3, 4, 5, 6, -7, 8] as [Float], shape: [1, 1, 2, 4])])
    let numbers = found[0].elements(as: Float.self) ?? []
    #expect(zip(numbers, [2, -4, 6, 8, 10, 12, -14, 16] as [Float]).allSatisfy { abs($0 - $1) < 1e-4 })
  }

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
