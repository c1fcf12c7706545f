// Products with constant weights of few bits keep the bits: every form of DequantizeLinear that MatMulNBits can say,
// and those that it cannot.

import ApusGraph
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct NBitsFusionTests {
  enum Scales: CaseIterable { case one, columns, blocks, rows, blocksOfColumns }

  /// A product of [rows, k] and a matrix of weights [k, n], or [n, k] with `isTransposed`.
  struct Product: CustomStringConvertible {
    var type = DataType.uint4
    var scales = Scales.blocks
    var isTransposed = false
    var hasZeroPoints = true
    var isGemm = false
    var k = 256
    var n = 272
    var block = 32
    /// Rows of A.
    var rows = 3
    /// An operator behind DequantizeLinear that changes nothing.
    var behind = ""

    var description: String { "\(type) \(scales) \(isTransposed) \(hasZeroPoints) \(isGemm) \(k)x\(n)/\(block)" }

    /// A tensor of `type` of the numbers that `value` gives.
    private func codes(_ shape: [Int], _ value: (Int) -> Int) throws -> Tensor {
      let numbers = Tensor((0..<shape.reduce(1, *)).map { Int32(value($0)) }, shape: Shape(shape))
      return try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(numbers)[0]
    }

    func check(_ passes: [any GraphPass] = Optimizer.allPasses) throws -> PassCheck {
      let builder = GraphBuilder()
      let x = builder.input("x", [.symbol("rows"), Dim(k)])
      let range = 1 << type.bits
      let lowest = type.isUnsignedInteger ? 0 : -range / 2
      let (depth, columns) = isTransposed ? (1, 0) : (0, 1)
      var shape = [k, n]
      if isTransposed { shape.reverse() }
      var parameters: [Int] = []
      var attributes: [(String, AttributeValue)] = []
      switch scales {
      case .one: break
      case .columns: (parameters, attributes) = ([n], [("axis", .int(columns - 2))])
      case .rows: (parameters, attributes) = ([k], [("axis", .int(depth))])
      case .blocks, .blocksOfColumns:
        let axis = scales == .blocks ? depth : columns
        parameters = shape
        parameters[axis] /= block
        attributes = [("axis", .int(axis)), ("block_size", .int(block))]
      }
      let steps = (0..<parameters.reduce(1, *)).map { Float($0 % 7 + 1) / Float(range * 40) }
      var inputs: [ValueID?] = [
        builder.addConstant(try codes(shape) { lowest + ($0 * 7919 >> 3) % range }),
        builder.constant(steps, Shape(parameters)),
      ]
      if hasZeroPoints { inputs.append(builder.addConstant(try codes(parameters) { lowest + ($0 * 5 + 1) % range })) }
      var weights = try builder.node("DequantizeLinear", inputs, attributes)
      switch behind {
      case "Identity": weights = try builder.node("Identity", [weights])
      case "Cast": weights = try builder.node("Cast", [weights], [("to", .int(Int(DataType.float32.rawValue)))])
      case "Reshape":
        let target = builder.constant(shape.map(Int64.init), [2])
        weights = try builder.node("Reshape", [weights, target])
      default: break
      }
      if isGemm {
        let bias = builder.weights([n])
        builder.output(try builder.node("Gemm", [x, weights, bias], [("transB", .int(isTransposed ? 1 : 0))]))
      } else {
        if isTransposed { weights = try builder.node("Transpose", [weights], [("perm", .ints([1, 0]))]) }
        builder.output(try builder.node("MatMul", [x, weights]))
      }
      return try PassCheck(builder.graph, [sampleTensor([rows, k], seed: 5)], passes: passes)
    }
  }

  @Test(arguments: [DataType.int2, .uint2, .int4, .uint4, .int8, .uint8]) func weightsKeepTheirBits(_ type: DataType)
    throws
  {
    for scales in [Scales.one, .columns, .blocks] {
      for bits in 0..<8 {
        let product = Product(
          type: type, scales: scales, isTransposed: bits & 1 != 0, hasZeroPoints: bits & 2 != 0, isGemm: bits & 4 != 0)
        let result = try product.check()
        #expect(result.ops == ["apus.MatMulNBits"], "\(product)")
        #expect(result.difference < 1e-4, "\(product)")
      }
    }
  }

  /// Few rows widen the weights in registers, more of them in memory.
  @Test(arguments: [1, 4, 5, 9, 24, 25, 70]) func everyNumberOfRows(_ rows: Int) throws {
    for type in [DataType.uint2, .int4, .int8] {
      let result = try Product(type: type, rows: rows).check()
      #expect(result.ops == ["apus.MatMulNBits"])
      #expect(result.difference < 1e-4, "\(type) \(rows)")
    }
  }

  @Test(arguments: ["Identity", "Cast", "Reshape"], [false, true]) func whatChangesNothingIsPassed(
    _ behind: String, isTransposed: Bool
  ) throws {
    for isGemm in [false, true] {
      let result = try Product(isTransposed: isTransposed, isGemm: isGemm, behind: behind).check()
      #expect(result.ops == ["apus.MatMulNBits"])
      #expect(result.difference < 1e-4)
    }
  }

  /// Scales of rows, blocks of columns, of other sizes than powers of two or too small ones; matrices of few elements.
  @Test(arguments: [
    Product(scales: .rows), Product(scales: .rows, isTransposed: true), Product(scales: .blocksOfColumns, block: 16),
    Product(k: 288, block: 48), Product(block: 8), Product(scales: .one, k: 264), Product(k: 64, n: 64),
  ]) func otherWeightsBecomeFloats(_ product: Product) throws {
    let result = try product.check()
    #expect(result.ops == ["apus.Gemm"], "\(product)")
    #expect(result.difference < 1e-4, "\(product)")
  }

  /// A model is not saved with floats in place of its few bits.
  @Test func portablePassesLeaveTheWeights() throws {
    #expect(try Product().check(Optimizer.portablePasses).ops == ["DequantizeLinear", "MatMul"])
    #expect(try Product(k: 64, n: 32).check(Optimizer.portablePasses).ops == ["MatMul"])
  }
}
