// Every derivative rule against central differences, to the second order, with fixed and with symbolic extents.

import ApusGraph
import ApusTensor
import Testing

@Suite struct GradientRuleTests {
  private static func unary(_ op: String, _ range: ClosedRange<Double> = -2...2) -> GradientCase {
    GradientCase(op, [.x([2, 3], range)])
  }
  private static func ints(_ values: [Int]) -> GradientCase.Operand { .constant(Tensor(values)) }
  private static func ints(_ values: [Int], _ shape: Shape) -> GradientCase.Operand {
    .constant(Tensor(values, shape: shape))
  }
  private static func scalar(_ value: Int) -> GradientCase.Operand { .constant(Tensor(scalar: value)) }

  @Test(arguments: [
    unary("Identity"), unary("Neg"), unary("Abs"), unary("Sqrt", 0.5...3), unary("Reciprocal", 0.5...2), unary("Exp"),
    unary("Log", 0.3...3), unary("Sin"), unary("Cos"), unary("Tan", -1...1), unary("Asin", -0.8...0.8),
    unary("Acos", -0.8...0.8), unary("Atan"), unary("Sinh"), unary("Cosh"), unary("Tanh"), unary("Asinh"),
    unary("Acosh", 1.5...3), unary("Atanh", -0.8...0.8), unary("Erf"), unary("Sigmoid"), unary("Softplus"),
    unary("Softsign"), unary("Relu"), unary("Mish"), unary("HardSwish", -4...4), unary("Swish"), unary("Gelu"),
    GradientCase("Gelu", [.x([5])], [("approximate", .string("tanh"))]), unary("LeakyRelu"), unary("Elu"),
    unary("Selu"), GradientCase("Celu", [.x([7])], [("alpha", .float(1.5))]), unary("HardSigmoid", -4...4),
    unary("ThresholdedRelu"),
    GradientCase("Swish", [.x([5])], [("alpha", .float(1.5))]),
    GradientCase("Shrink", [.x([2, 4])], [("bias", .float(0.25))]), unary("Floor"), unary("Round"), unary("Sign"),
    GradientCase("Cast", [.x([3])], [("to", .int(Int(DataType.float64.rawValue)))]),
    GradientCase("Dropout", [.x([4])]),
    GradientCase(
      "Dropout", [.x([3, 4]), .constant(Tensor(scalar: 0.25)), .constant(Tensor(scalar: true))], [("seed", .int(3))]),
  ])
  func functions(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    GradientCase("Add", [.x([2, 3]), .x([3])]), GradientCase("Add", [.x([2, 1, 3]), .x([4, 1])]),
    GradientCase("Add", [.x([]), .x([2, 2])]), GradientCase("Sub", [.x([2, 3]), .x([2, 1])]),
    GradientCase("Mul", [.x([3]), .x([2, 3])]), GradientCase("Mul", [.x([2, 0, 3]), .x([1, 3])]),
    GradientCase("Div", [.x([2, 3]), .x([1, 3], 0.5...2)]), GradientCase("Sum", [.x([2]), .x([1]), .x([3, 1])]),
    GradientCase("Mean", [.x([2]), .x([3, 2]), .x([])]), GradientCase("Pow", [.x([2, 3], 0.5...2), .x([3])]),
    GradientCase("Pow", [.x([4]), .constant(Tensor(scalar: 3.0))]),
    GradientCase("Pow", [.x([4]), .constant(Tensor(scalar: 2))]),
    GradientCase("Mod", [.x([2, 3], 3...5), .x([3], 0.7...0.9)], [("fmod", .int(1))]),
    GradientCase("Max", [.x([2, 3]), .x([3]), .x([2, 1])]), GradientCase("Min", [.x([4]), .x([1])]),
    GradientCase("Max", [.x([4])]), GradientCase("Clip", [.x([6]), .x([], -1.1 ... -0.9), .x([], 0.9...1.1)]),
    GradientCase("Clip", [.x([6]), .absent, .x([], 0.1...0.3)]), GradientCase("Clip", [.x([6])]),
    GradientCase("PRelu", [.x([2, 3, 2]), .x([3, 1])]), GradientCase("SwiGLU", [.x([5]), .x([5])]),
    GradientCase("Where", [.constant(Tensor([true, false, true])), .x([2, 3]), .x([1])]),
  ])
  func arithmetic(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
    "ReduceLogSumExp", "ReduceLogSum",
  ])
  func reductions(_ op: String) throws {
    let range = op == "ReduceLogSum" ? 0.5...2 : -2.0...2.0
    try GradientCase(op, [.x([2, 3, 2], range), Self.ints([1, -1])]).check()
    try GradientCase(op, [.x([2, 3], range), Self.ints([-1])], [("keepdims", .int(0))]).check()
    try GradientCase(op, [.x([2, 3], range)], [("keepdims", .int(0))]).check()
    try GradientCase(op, [.x([3, 2], range), Self.ints([])], [("noop_with_empty_axes", .int(1))]).check()
  }

  @Test func productsWithZeros() throws {
    let values = [0.0, 2, 3, 0, 0, 5, 1, 2, 3]
    try GradientCase("ReduceProd", [.values(values, [3, 3]), Self.ints([1])], order: 1).check()
  }

  @Test(arguments: [
    GradientCase("CumSum", [.x([2, 4]), scalar(1)]),
    GradientCase("CumSum", [.x([3, 2]), scalar(-2)], [("exclusive", .int(1)), ("reverse", .int(1))]),
    GradientCase("Softmax", [.x([2, 4])]), GradientCase("Softmax", [.x([3, 2])], [("axis", .int(0))]),
    GradientCase("LogSoftmax", [.x([2, 4])]), GradientCase("LogSoftmax", [.x([2, 3, 2])], [("axis", .int(1))]),
    GradientCase("Hardmax", [.x([2, 4])]),
  ])
  func rows(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    GradientCase("Reshape", [.x([2, 3]), ints([3, -1])]), GradientCase("Flatten", [.x([2, 3, 2])]),
    GradientCase("Squeeze", [.x([2, 1, 3]), ints([1])]), GradientCase("Unsqueeze", [.x([2, 3]), ints([0, -1])]),
    GradientCase("Transpose", [.x([2, 3, 4])], [("perm", .ints([1, 2, 0]))]), GradientCase("Transpose", [.x([2, 3])]),
    GradientCase("Expand", [.x([3, 1]), ints([2, 1, 4])]), GradientCase("Tile", [.x([2, 3]), ints([2, 3])]),
    GradientCase("Concat", [.x([2, 2]), .x([2, 3]), .x([2, 1])], [("axis", .int(-1))]),
    GradientCase("Concat", [.x([2]), .x([3])], [("axis", .int(0))]),
    GradientCase("Split", [.x([2, 5]), ints([2, 3])], [("axis", .int(1))], outputs: 2),
    GradientCase("Split", [.x([4, 2])], [("num_outputs", .int(2))], outputs: 2),
    GradientCase("Slice", [.x([4, 5]), ints([1, -3]), ints([100, -1])]),
    GradientCase("Slice", [.x([4, 5]), ints([2]), ints([1]), ints([0])]),
    GradientCase("Slice", [.x([4, 5]), ints([-1]), ints([-100]), ints([-1]), ints([-2])]),
    GradientCase("Pad", [.x([2, 3]), ints([1, -1, 0, 2]), .x([])]),
    GradientCase("Pad", [.x([4]), ints([2, 1])], [("mode", .string("reflect"))]),
    GradientCase("Pad", [.x([2, 3]), ints([1, 2]), .absent, ints([1])], [("mode", .string("edge"))]),
    GradientCase("Trilu", [.x([3, 4])]), GradientCase("Trilu", [.x([3, 4]), scalar(1)], [("upper", .int(0))]),
    GradientCase("ReverseSequence", [.x([4, 3]), ints([2, 4, 1])]),
    GradientCase("DepthToSpace", [.x([1, 4, 2, 1])], [("blocksize", .int(2))]),
    GradientCase("DepthToSpace", [.x([1, 4, 1, 2])], [("blocksize", .int(2)), ("mode", .string("CRD"))]),
    GradientCase("SpaceToDepth", [.x([1, 1, 2, 4])], [("blocksize", .int(2))]),
    GradientCase("Compress", [.x([2, 3]), .constant(Tensor([true, false, true]))], [("axis", .int(1))]),
  ])
  func movement(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    GradientCase("Gather", [.x([4, 3]), ints([1, -1, 1, 0], [2, 2])]),
    GradientCase("Gather", [.x([2, 3, 2]), ints([2, 0, 2])], [("axis", .int(-2))]),
    GradientCase("Gather", [.x([3, 2]), scalar(1)]), GradientCase("Gather", [.x([3]), ints([1, 1, 2])]),
    GradientCase("GatherElements", [.x([3, 2]), ints([0, 1, 0, 1], [2, 2])]),
    GradientCase("GatherND", [.x([3, 2]), ints([0, 2, 0], [3, 1])]),
    GradientCase("GatherND", [.x([2, 2, 2]), ints([1, 0], [2, 1])], [("batch_dims", .int(1))]),
    GradientCase("ScatterElements", [.x([3, 2]), ints([2, 0], [1, 2]), .x([1, 2])]),
    GradientCase(
      "ScatterElements", [.x([3, 2]), ints([2, 0, 2, 0], [2, 2]), .x([2, 2])], [("reduction", .string("add"))]),
    GradientCase("ScatterND", [.x([3, 2]), ints([2, 0], [2, 1]), .x([2, 2])]),
    GradientCase("ScatterND", [.x([3]), ints([2, 2], [2, 1]), .x([2])], [("reduction", .string("add"))]),
    GradientCase("TopK", [.x([2, 4]), ints([2])], outputs: 2),
    GradientCase("TopK", [.x([4, 2]), ints([3])], [("axis", .int(0)), ("largest", .int(0))], outputs: 2),
  ])
  func indexing(_ test: GradientCase) throws { try test.check() }

  @Test(arguments: [
    GradientCase("MatMul", [.x([2, 3]), .x([3, 2])]), GradientCase("MatMul", [.x([3]), .x([3, 2])]),
    GradientCase("MatMul", [.x([2, 3]), .x([3])]), GradientCase("MatMul", [.x([3]), .x([3])]),
    GradientCase("MatMul", [.x([2, 2, 3]), .x([3, 2])]), GradientCase("MatMul", [.x([2, 1, 2, 3]), .x([3, 3, 1])]),
    GradientCase("MatMul", [.x([2, 2, 3]), .x([3])]), GradientCase("MatMul", [.x([3]), .x([2, 3, 2])]),
    GradientCase("Gemm", [.x([2, 3]), .x([3, 2]), .x([2])], [("alpha", .float(0.5)), ("beta", .float(2))]),
    GradientCase("Gemm", [.x([3, 2]), .x([3, 2])], [("transA", .int(1))]),
    GradientCase("Gemm", [.x([2, 3]), .x([2, 3]), .x([])], [("transB", .int(1))]),
    GradientCase("Gemm", [.x([3, 2]), .x([4, 3]), .x([2, 1])], [("transA", .int(1)), ("transB", .int(1))]),
    GradientCase("Einsum", [.x([2, 3]), .x([3, 2])], [("equation", .string("ij,jk->ik"))]),
    GradientCase("Einsum", [.x([2, 3])], [("equation", .string("ij->j"))]),
    GradientCase("Einsum", [.x([2, 3]), .x([2, 2]), .x([2])], [("equation", .string("ij,ik,k->k"))]),
    GradientCase("Einsum", [.x([2, 1, 3]), .x([2, 3])], [("equation", .string("...ij,kj->...ki"))]),
  ])
  func products(_ test: GradientCase) throws { try test.check() }
}
