// The experimental operators of the first operator sets, with the numbers that ONNX Runtime gives where it has them.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ExperimentalOperatorTests {
  private func run(_ name: String, _ attributes: [(String, AttributeValue)] = []) -> OperatorRun {
    var run = OperatorRun(name, attributes: attributes)
    run.version = 1
    return run
  }

  private let x = Tensor([Float(-1), 0, 2])

  private func expect(_ found: Tensor, _ expected: [Float]) {
    let elements = found.elements(as: Float.self) ?? []
    #expect(
      elements.count == expected.count && zip(elements, expected).allSatisfy { abs($0 - $1) <= 1e-6 }, "\(elements)")
  }

  @Test func functions() throws {
    let parameters: [(String, AttributeValue)] = [("alpha", .float(2)), ("beta", .float(0.5))]
    expect(try run("Affine", parameters)(x)[0], [-1.5, 0.5, 4.5])
    expect(try run("Affine")(x)[0], [-1, 0, 2])
    expect(try run("ScaledTanh", parameters)(x)[0], [-0.9242342710, 0, 1.5231883526])
    expect(try run("ParametricSoftplus", parameters)(x)[0], [0.9481539726, 1.3862943649, 2.6265232563])
    // Where the exponential would overflow.
    let steep: [(String, AttributeValue)] = [("alpha", .float(2)), ("beta", .float(5))]
    expect(try run("ParametricSoftplus", steep)(Tensor([Float(100), -100, 300]))[0], [1000, 0, 3000])
    expect(try run("Scale", [("scale", .float(2))])(x)[0], [-2, 0, 4])
    expect(try run("ThresholdedRelu", [("alpha", .float(1.5))])(x)[0], [0, 0, 2])
    #expect(throws: (any Error).self) { try run("ScaledTanh")(x) }
  }

  private let image = Tensor((0..<120).map { Float($0) }, shape: [2, 3, 4, 5])

  @Test func imageScaler() throws {
    let scaler = run("ImageScaler", [("scale", .float(0.5)), ("bias", .floats([1, 2, 3]))])
    let y = try #require(scaler(image)[0].elements(as: Float.self))
    #expect(y.indices.allSatisfy { y[$0] == Float($0) * 0.5 + Float($0 / 20 % 3 + 1) })
    let short = run("ImageScaler", [("bias", .floats([1]))])
    #expect(throws: (any Error).self) { try short(image) }
    #expect(throws: (any Error).self) { try scaler(Tensor([Float(1)])) }
  }

  @Test func crop() throws {
    let borders = try run("Crop", [("border", .ints([1, 1, 1, 1]))])(image)[0]
    #expect(borders.shape == [2, 3, 2, 3] && borders.elements(as: Float.self)?.prefix(6) == [6, 7, 8, 11, 12, 13])
    let part = run("Crop", [("border", .ints([1, 2, 0, 0])), ("scale", .ints([2, 3]))])
    let y = try part(image)[0]
    #expect(y.shape == [2, 3, 2, 3] && y.elements(as: Float.self)?.prefix(6) == [11, 12, 13, 16, 17, 18])
    #expect(try run("Crop", [("border", .ints([3, 1, 2, 0]))])(image)[0].shape == [2, 3, 3, 0])
    let refused: [[(String, AttributeValue)]] = [
      [("border", .ints([1, 2, 0]))], [("border", .ints([-1, 0, 0, 0]))], [("border", .ints([3, 0, 3, 0]))],
      [("border", .ints([1, 2, 0, 0])), ("scale", .ints([3, 3]))],
      [("border", .ints([0, 0, 0, 0])), ("scale", .ints([3]))],
    ]
    for attributes in refused {
      #expect(throws: (any Error).self, "\(attributes)") { try run("Crop", attributes)(image) }
    }
  }

  @Test func fills() throws {
    let values: (String, AttributeValue) = ("values", .floats([1, 2, 3, 4, 5, 6]))
    let given = try run("GivenTensorFill", [values, ("shape", .ints([2, 3]))])([])
    #expect(given[0].tensor?.shape == [2, 3])
    #expect(try run("GivenTensorFill", [values, ("extra_shape", .ints([2]))])(x)[0].shape == [3, 2])
    let asShape: [(String, AttributeValue)] = [values, ("input_as_shape", .int(1)), ("extra_shape", .ints([3]))]
    #expect(try run("GivenTensorFill", asShape)(Tensor([2]))[0].shape == [2, 3])
    #expect(throws: (any Error).self) { try run("GivenTensorFill", [values, ("shape", .ints([2, 2]))])([]) }
    #expect(throws: (any Error).self) { try run("GivenTensorFill", [values])([]) }
    let constant = try run("ConstantFill", [("value", .float(7)), ("dtype", .int(7)), ("extra_shape", .ints([2]))])(x)[
      0]
    #expect(constant.shape == [3, 2] && constant.elements(as: Int.self) == [7, 7, 7, 7, 7, 7])
  }

  @Test func slicesAndMeans() throws {
    expect(try run("DynamicSlice")(x, Tensor([1]), Tensor([3]))[0], [0, 2])
    let y = Tensor([Float(1), 3, 5, 9], shape: [2, 1, 1, 2])
    expect(try run("MeanVarianceNormalization", [("normalize_variance", .int(0))])(y)[0], [-3.5, -1.5, 0.5, 4.5])
    // By channels over batch and image, or over everything.
    let channels = Tensor([Float(1), 10, 3, 30], shape: [2, 2, 1, 1])
    expect(try run("MeanVarianceNormalization")(channels)[0], [-1, -1, 1, 1])
    let whole = try run("MeanVarianceNormalization", [("across_channels", .int(1))])(channels)[0]
    expect(
      whole,
      try OperatorRun("MeanVarianceNormalization", attributes: [("axes", .ints([0, 1, 2, 3]))])(channels)[0].elements(
        as: Float.self)!)
  }
}
