// MatMulInteger, QLinearMatMul and Det: zero points by row and column, float8 factors, pivots.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct QuantizedMatMulTests {
  @Test func zeroPointsOfRowsAndColumns() throws {
    let a = Tensor([1 as UInt8, 2, 3, 4], shape: [2, 2])
    let b = Tensor([5 as Int8, -6, 7, 8], shape: [2, 2])
    let y = try OperatorRun("MatMulInteger")(a, b, Tensor([1 as UInt8, 4]), Tensor([0 as Int8, 1]))
    // Rows of a: [0, 1], [-1, 0]; columns of b: [5, 7], [-7, 7].
    #expect(y[0].elements(as: Int32.self) == [7, 7, -5, 7])
    #expect(throws: (any Error).self) { try OperatorRun("MatMulInteger")(a, b, Tensor([1 as UInt8, 2, 3])) }
  }

  @Test func vectors() throws {
    let y = try OperatorRun("MatMulInteger")(
      Tensor([1 as UInt8, 255]), Tensor([200 as UInt8, 3]), Tensor(scalar: 1 as UInt8))
    #expect(y[0].shape == [] && y[0].elements(as: Int32.self) == [762])
  }

  @Test(arguments: [DataType.float8e4m3fn, .float8e4m3fnuz, .float8e5m2, .float8e5m2fnuz])
  func smallFloats(_ type: DataType) throws {
    func small(_ values: [Float], _ shape: Shape) throws -> Tensor {
      try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(Tensor(values, shape: shape))[0]
    }
    let scale = Tensor(scalar: 1 as Float)
    let zero = try small([0], [])
    let a = try small([1, 2, -4, 0.5], [2, 2])
    let b = try small([2, 1, 1, -2], [2, 2])
    let y = try OperatorRun("QLinearMatMul")(a, scale, zero, b, scale, zero, Tensor(scalar: 2 as Float), zero)[0]
    let values = try OperatorRun("Cast", attributes: [("to", .int(1))])(y)[0].elements(as: Float.self)!
    // Two bits of fraction round -3.75 to -4.
    let hasTwoBits = type == .float8e5m2 || type == .float8e5m2fnuz
    let expected: [Float] = [2, -1.5, hasTwoBits ? -4 : -3.75, -2.5]
    #expect(values == expected)
  }

  @Test func determinants() throws {
    let numbers: [Float] = [0, 2, 1, 0, 1, 2, 2, 4, 3, 1, 2, 2]
    let x = Tensor(numbers, shape: [3, 2, 2])
    #expect(try OperatorRun("Det")(x)[0].elements(as: Float.self) == [-2, 0, 4])
    #expect(try OperatorRun("Det")(Tensor([Double](), shape: [0, 0]))[0].elements(as: Double.self) == [1])
    let half = narrowed(Tensor([3 as Float, 1, 2, 2], shape: [2, 2]), .float16)
    #expect(widened(try OperatorRun("Det")(half)[0]).elements(as: Float.self) == [4])
  }
}
