// float16 and bfloat16: every operator gives what float32 gives, rounded once. Where steps in between were rounded,
// too, these inputs show it.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct HalfPrecisionTests {
  private func cast(_ x: Tensor, to type: DataType) throws -> Tensor {
    try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(x)[0]
  }

  /// The outputs for halves, and those for the same numbers in float32, rounded.
  private func expectOneRounding(_ run: OperatorRun, _ inputs: [Tensor?], outputs: Int = 1, _ comment: String) throws {
    for type in [DataType.float16, .bfloat16] {
      let narrow = try inputs.map { try $0.map { $0.dataType == .float32 ? try cast($0, to: type) : $0 } }
      let wide = try narrow.map { try $0.map { $0.dataType == type ? try cast($0, to: .float32) : $0 } }
      let found = try run(narrow.map { $0.map { .tensor($0) } }, outputs: outputs).compactMap(\.tensor)
      let expected = try run(wide.map { $0.map { .tensor($0) } }, outputs: outputs).compactMap(\.tensor)
      #expect(found.count == expected.count)
      for (index, pair) in zip(found, expected).enumerated() where pair.0.dataType == type {
        let rounded = try cast(pair.1, to: type)
        let isSame =
          try cast(pair.0, to: .float32).elements(as: Float.self)
          == cast(rounded, to: .float32).elements(as: Float.self)
        #expect(isSame, "\(comment), \(type), output \(index)")
      }
    }
  }

  @Test func sumsOfManyInputs() throws {
    let parts = [Float16(2048), 1, 1].map { Tensor([$0]) }
    #expect(try OperatorRun("Sum")(parts[0], parts[1], parts[2])[0].elements(as: Float16.self) == [2050])
    let four = try OperatorRun("Mean")(parts[0], parts[1], parts[2], parts[1])[0]
    #expect(four.elements(as: Float16.self) == [512.75 as Float16])
    for name in ["Sum", "Mean"] {
      let inputs = (0..<5).map { sampleTensor([3, 1, 7], seed: $0) }
      try expectOneRounding(OperatorRun(name), inputs, name)
      try expectOneRounding(
        OperatorRun(name),
        [sampleTensor([4, 1], seed: 9), sampleTensor([3], seed: 8), sampleTensor([2, 4, 3], seed: 7)],
        "\(name), broadcast")
      try expectOneRounding(OperatorRun(name), [inputs[0]], "\(name) of one")
    }
  }

  @Test func softmax() throws {
    for axis in 0..<3 {
      for name in ["Softmax", "LogSoftmax"] {
        try expectOneRounding(
          OperatorRun(name, attributes: [("axis", .int(axis))]), [sampleTensor([5, 33, 200], seed: axis)],
          "\(name), axis \(axis)")
      }
    }
  }

  @Test(arguments: 0..<4) func runningSums(_ flags: Int) throws {
    let attributes: [(String, AttributeValue)] = [("exclusive", .int(flags & 1)), ("reverse", .int(flags >> 1))]
    for name in ["CumSum", "CumProd"] {
      for axis in 0..<2 {
        try expectOneRounding(
          OperatorRun(name, attributes: attributes), [sampleTensor([40, 300], seed: flags), Tensor(scalar: axis)],
          "\(name), axis \(axis)")
      }
    }
    let many = Tensor([Float16](repeating: 1, count: 3000))
    let last = try OperatorRun("CumSum")(many, Tensor(scalar: 0))[0].elements(as: Float16.self)?.last
    #expect(last == 3000)
  }

  /// Operators that are written as others round once, too.
  @Test func compositions() throws {
    func run(_ name: String, _ attributes: [(String, AttributeValue)] = []) -> OperatorRun {
      var run = OperatorRun(name, domain: "com.microsoft", attributes: attributes)
      run.version = 1
      return run
    }
    let (x, y) = (sampleTensor([2, 9, 32], seed: 1), sampleTensor([2, 9, 32], seed: 2))
    let (row, other) = (sampleTensor([32], seed: 3), sampleTensor([32], seed: 4))
    try expectOneRounding(run("SkipLayerNormalization"), [x, y, row, other, row], outputs: 4, "SkipLayerNormalization")
    try expectOneRounding(run("SkipSimplifiedLayerNormalization"), [x, y, row], "SkipSimplifiedLayerNormalization")
    try expectOneRounding(run("BiasGelu"), [x, row], "BiasGelu")
    try expectOneRounding(run("FastGelu"), [x, row], "FastGelu")
    try expectOneRounding(run("FusedMatMul", [("alpha", .float(0.3)), ("transB", .int(1))]), [x, y], "FusedMatMul")
    try expectOneRounding(
      run("MultiHeadAttention", [("num_heads", .int(4))]), [x, y, y, sampleTensor([96], seed: 5)], "MultiHeadAttention")
  }
}
