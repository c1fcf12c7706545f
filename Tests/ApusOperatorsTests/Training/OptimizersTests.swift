// Steps of optimizers: float64, several tensors, empty tensors, counts that do not fit.

import ApusTensor
import ApusTestSupport
import Testing

@Suite struct OptimizersTests {
  private let domain = "ai.onnx.preview.training"

  @Test func momentumByHand() throws {
    let momentum = OperatorRun(
      "Momentum", domain: domain,
      attributes: [
        ("alpha", .float(0.5)), ("beta", .float(0.25)), ("mode", .string("standard")), ("norm_coefficient", .float(0)),
      ])
    let inputs = [
      Tensor(scalar: 0.5), Tensor(scalar: Int64(3)), Tensor([1.0, 2.0]), Tensor([4.0, 8.0]), Tensor([2.0, 0.0]),
    ]
    let outputs = try momentum(inputs.map { .tensor($0) }, outputs: 2).compactMap(\.tensor)
    // v = 0.5·v + 0.25·g; x = x − 0.5·v
    #expect(outputs[1].elements(as: Double.self) == [2, 2])
    #expect(outputs[0].elements(as: Double.self) == [0, 1])
  }

  @Test func adamKeepsEmptyTensors() throws {
    let empty = Tensor([] as [Float])
    let outputs = try OperatorRun("Adam", domain: domain)(
      [Tensor(scalar: Float(0.1)), Tensor(scalar: Int64(1)), empty, empty, empty, empty].map { .tensor($0) }, outputs: 3
    )
    #expect(outputs.compactMap(\.tensor).map(\.shape) == [[0], [0], [0]])
  }

  @Test func countsMustFit() {
    let x = Tensor([1] as [Float])
    #expect(throws: (any Error).self) {
      try OperatorRun("Adagrad", domain: domain)(
        [Tensor(scalar: Float(0.1)), Tensor(scalar: Int64(1)), x, x].map { .tensor($0) }, outputs: 2)
    }
  }
}
