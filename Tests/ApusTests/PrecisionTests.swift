// Weights that are kept in bfloat16 because the options say so.

import Apus
import ApusFormats
import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct PrecisionTests {
  /// Y = X · W1 + (X · W2ᵀ) by MatMul, and Gemm with a factor.
  private func model(_ precision: ModelOptions.Precision, _ weights: [Tensor]) throws -> Model {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 40])
    let first = try builder.node("MatMul", [x, builder.addConstant(weights[0])])
    let second = try builder.node(
      "Gemm", [x, builder.addConstant(weights[1])], [("transB", .int(1)), ("alpha", .float(0.5))])
    let y = try builder.node("Add", [first, second])
    builder.output(y)
    builder.graph[y].name = "y"
    var options = ModelOptions(threads: 1)
    options.precision = precision
    return try Model(ModelGraph(graph: builder.graph), options: options)
  }

  private func rounded(_ tensor: Tensor) -> Tensor {
    Tensor((tensor.elements(as: Float.self) ?? []).map { BFloat16($0).float }, shape: tensor.shape)
  }

  @Test func weightsAreRoundedWhereTheOptionSaysSo() throws {
    let weights = [sampleTensor([40, 70], seed: 1), sampleTensor([70, 40], seed: 2)]
    let x = sampleTensor([9, 40], seed: 3)
    func result(_ precision: ModelOptions.Precision, _ weights: [Tensor]) throws -> Tensor {
      try #require(try model(precision, weights).run(["x": x])["y"])
    }
    let exact = try result(.float32, weights)
    let narrow = try result(.bfloat16, weights)
    // Half a step of 8 bits for each factor of 80 terms below 1.
    let difference = largestDifference(exact, narrow)
    #expect(difference > 0 && difference < 80 * 0x1p-8)
    // Machines with products of bfloat16 round both operands.
    let same = try [x, rounded(x)].map {
      largestDifference(try #require(try model(.float32, weights.map(rounded)).run(["x": $0])["y"]), narrow)
    }
    #expect(same.contains { $0 < 1e-5 })
    #expect(ModelOptions().precision == .float32)
  }

  @Test func convolutionsAreRoundedWhereTheMachineGains() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 24, 13, 11])
    let weights = [([40, 24, 3, 3], 2), ([40, 40, 1, 1], 3), ([20, 10, 3, 3], 4)].map {
      sampleTensor(Shape($0.0), seed: $0.1)
    }
    var y = x
    for (index, weight) in weights.enumerated() {
      let attributes: [(String, AttributeValue)] =
        index == 2
        ? [("group", .int(4)), ("strides", .ints([2, 2]))] : [("pads", .ints([Int](repeating: 1 - index, count: 4)))]
      y = try builder.node("Relu", [try builder.node("Conv", [y, builder.addConstant(weight)], attributes)])
    }
    builder.output(y)
    builder.graph[y].name = "y"
    func results(_ precision: ModelOptions.Precision, threads: Int) throws -> Tensor {
      var options = ModelOptions(threads: threads)
      options.precision = precision
      let model = try Model(ModelGraph(graph: builder.graph), options: options)
      return try #require(try model.run(["x": sampleTensor([2, 24, 13, 11], seed: 5)])["y"])
    }
    let exact = try results(.float32, threads: 1)
    let narrow = try results(.bfloat16, threads: 1)
    let largest = (exact.elements(as: Float.self) ?? []).map(\.magnitude).max() ?? 0
    #expect(largestDifference(exact, narrow) < largest * 0x1p-6)
    for threads in 2...4 {
      #expect(try results(.bfloat16, threads: threads).elements(as: Float.self) == narrow.elements(as: Float.self))
    }
  }

  @Test func rowsAreTheSameAlone() throws {
    let weights = [sampleTensor([40, 70], seed: 1), sampleTensor([70, 40], seed: 2)]
    let model = try model(.bfloat16, weights)
    let x = sampleTensor([20, 40], seed: 3)
    let all = try #require(try model.run(["x": x])["y"]?.elements(as: Float.self))
    let values = try #require(x.elements(as: Float.self))
    for row in [0, 7, 19] {
      let alone = try #require(
        try model.run(["x": Tensor(Array(values[row * 40..<row * 40 + 40]), shape: [1, 40])])["y"]?.elements(
          as: Float.self)
      )
      #expect(alone == Array(all[row * 70..<row * 70 + 70]))
    }
  }
}
