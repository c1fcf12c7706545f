// The losses: weights, ignored targets, targets out of range, types.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct LossTests {
  private func loss(_ name: String, _ inputs: Tensor?..., reduction: String, ignoring: Int? = nil) throws -> Tensor {
    var attributes: [(String, AttributeValue)] = [("reduction", .string(reduction))]
    if let ignoring { attributes.append(("ignore_index", .int(ignoring))) }
    return try OperatorRun(name, attributes: attributes)(inputs.map { $0.map { .tensor($0) } })[0].tensor!
  }

  @Test func weightedMeans() throws {
    let x = Tensor([-1 as Float, -2, -3, -4, -5, -6], shape: [2, 3])
    let weights = Tensor([1 as Float, 2, 4])
    let targets = Tensor([2 as Int32, 0])
    let name = "NegativeLogLikelihoodLoss"
    #expect(try loss(name, x, targets, weights, reduction: "none").elements(as: Float.self) == [12, 4])
    #expect(try loss(name, x, targets, weights, reduction: "sum").elements(as: Float.self) == [16])
    #expect(try loss(name, x, targets, weights, reduction: "mean").elements(as: Float.self) == [3.2])
    #expect(try loss(name, x, targets, reduction: "mean", ignoring: 2).elements(as: Float.self) == [4])
    let far = Tensor([-7 as Int64, 0])
    #expect(try loss(name, x, far, weights, reduction: "none", ignoring: -7).elements(as: Float.self) == [0, 4])
  }

  @Test(arguments: [3, -1, Int(Int32.max)])
  func targetsThatAreNoClassAreRefused(_ target: Int) {
    let x = sampleTensor([2, 3], seed: 1)
    for name in ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"] {
      #expect(throws: (any Error).self) { try loss(name, x, Tensor([0, target]), reduction: "sum") }
    }
  }

  @Test func crossEntropyIsLossOfLogSoftmax() throws {
    let x = sampleTensor([3, 5, 70, 2], seed: 1)
    let targets = Tensor((0..<3 * 70 * 2).map { $0 % 5 }, shape: [3, 70, 2])
    let weights = Tensor([1 as Float, 0.5, 2, 3, 0.25])
    let logarithm = try OperatorRun("LogSoftmax", attributes: [("axis", .int(1))])(x)[0]
    for reduction in ["none", "sum", "mean"] {
      let whole = try OperatorRun("SoftmaxCrossEntropyLoss", attributes: [("reduction", .string(reduction))])(
        x, targets, weights, outputs: 2)
      #expect(haveSameBits(whole[1], logarithm))
      #expect(
        haveSameBits(whole[0], try loss("NegativeLogLikelihoodLoss", logarithm, targets, weights, reduction: reduction))
      )
      let half = try loss(
        "SoftmaxCrossEntropyLoss", narrowed(x, .bfloat16), targets, narrowed(weights, .bfloat16), reduction: reduction)
      #expect(half.dataType == .bfloat16)
    }
  }
}
