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

  // MARK: - The kernel against the plain form

  private static func bytes(_ dice: inout Dice, _ shape: [Int], isSigned: Bool) -> Tensor {
    let codes = (0..<shape.reduce(1, *)).map { _ in dice.roll(0...3) == 0 ? 255 : UInt8(dice.roll(0...255)) }
    return isSigned
      ? Tensor(codes.map { Int8(bitPattern: $0) }, shape: Shape(shape)) : Tensor(codes, shape: Shape(shape))
  }

  /// None, one, one for each line, or one for each line of each matrix: the other of the last two axes has extent 1.
  private static func zeroPoint(_ dice: inout Dice, _ shape: [Int], axis: Int, isSigned: Bool) -> Tensor? {
    switch dice.roll(0...3) {
    case 0: return nil
    case 1: return bytes(&dice, [], isSigned: isSigned)
    case 2 where shape.count >= axis: return bytes(&dice, [shape[shape.count - axis]], isSigned: isSigned)
    case 3 where shape.count > 1:
      var lines = shape
      lines[lines.count - (3 - axis)] = 1
      return bytes(&dice, lines, isSigned: isSigned)
    default: return bytes(&dice, [1], isSigned: isSigned)
    }
  }

  /// Shapes of two factors that broadcast: vectors, batches, narrow and deep matrices.
  private static func shapes(_ dice: inout Dice) -> (a: [Int], b: [Int]) {
    let (m, k, n) = (dice.roll(1...40), dice.roll(0...5) == 0 ? 0 : dice.roll(1...70), dice.roll(1...140))
    let batch = dice.rolls(dice.roll(0...2), 1...3)
    func some(_ batch: [Int]) -> [Int] {
      batch.dropFirst(dice.roll(0...batch.count)).map { dice.roll(0...1) * ($0 - 1) + 1 }
    }
    let left = dice.roll(0...5) == 0 ? [k] : some(batch) + [m, k]
    let right = dice.roll(0...5) == 0 ? [k] : some(batch) + [k, n]
    return (left, right)
  }

  @Test func kernelsGiveWhatThePlainFormGives() throws {
    var dice = Dice(11)
    for round in 0..<240 {
      let (a, b) = Self.shapes(&dice)
      let isSigned = (a: round & 1 != 0, b: round & 2 != 0)
      let left = Self.bytes(&dice, a, isSigned: isSigned.a)
      let right = Self.bytes(&dice, b, isSigned: isSigned.b)
      let rows = Self.zeroPoint(&dice, a, axis: 2, isSigned: isSigned.a)
      let columns = Self.zeroPoint(&dice, b.count == 1 ? [b[0], 1] : b, axis: 1, isSigned: isSigned.b)
      var run = OperatorRun("MatMulInteger")
      if round & 4 != 0 { run.constantInputs = [1] }
      let (fast, general) = try fastAndGeneral(run, [left, right, rows, columns])
      #expect(
        fast[0].elements(as: Int32.self) == general[0].elements(as: Int32.self), "\(a) \(b) \(isSigned), \(round)")
      // The same with the sums in 8 bits again; scales as the zero points.
      func scale(_ zero: Tensor?, _ low: Float) -> Tensor {
        let shape = zero?.shape ?? []
        return Tensor((0..<shape.elementCount).map { low * Float(1 + $0 % 5) }, shape: shape)
      }
      var quantized = OperatorRun("QLinearMatMul")
      if round & 4 != 0 { quantized.constantInputs = [3] }
      let results = try fastAndGeneral(
        quantized,
        [
          left, scale(rows, 0.01), rows ?? Self.bytes(&dice, [], isSigned: isSigned.a), right, scale(columns, 0.02),
          columns ?? Self.bytes(&dice, [], isSigned: isSigned.b), Tensor(scalar: 0.5 as Float),
          Self.bytes(&dice, [], isSigned: round & 8 != 0),
        ])
      #expect(haveSameBits(results.fast[0], results.general[0]), "QLinearMatMul \(a) \(b) \(isSigned), \(round)")
    }
  }

  /// Several blocks of rows and of panels, one row, and a column.
  @Test(arguments: [(300, 70, 600), (1, 513, 700), (600, 200, 1), (1, 300_000, 1)])
  func largeProducts(m: Int, k: Int, n: Int) throws {
    var dice = Dice(12)
    for constants: Set<Int> in [[], [1]] {
      var run = OperatorRun("MatMulInteger")
      run.constantInputs = constants
      let (fast, general) = try fastAndGeneral(
        run,
        [
          Self.bytes(&dice, [m, k], isSigned: false), Self.bytes(&dice, [k, n], isSigned: false),
          Tensor(scalar: 3 as UInt8), Self.bytes(&dice, [n], isSigned: false),
        ])
      #expect(fast[0].elements(as: Int32.self) == general[0].elements(as: Int32.self), "\(m) \(k) \(n)")
    }
  }

  @Test(arguments: [(Float(1), 0.5), (1, 1.5), (1, -0.5), (0, 1), (.infinity, 1), (.nan, 1), (1, 1e30)])
  func roundsHalfToEvenAndSaturates(scale: Float, factor: Double) throws {
    for isSigned in [false, true] {
      let zero = Tensor(scalar: 0 as Int8)
      let one = Tensor(scalar: scale)
      let y = try OperatorRun("QLinearMatMul")(
        Tensor([1 as Int8, -1, 3, 0], shape: [4, 1]), one, zero, Tensor([1 as Int8], shape: [1, 1]),
        Tensor(scalar: Float(factor)), zero, Tensor(scalar: 1 as Float),
        isSigned ? Tensor(scalar: 1 as Int8) : Tensor(scalar: 1 as UInt8))[0]
      let expected = [1.0, -1, 3, 0].map { sum -> Double in
        let value = (sum * Double(scale * Float(factor))).rounded(.toNearestOrEven) + 1
        return value.isNaN ? 0 : isSigned ? min(max(value, -128), 127) : min(max(value, 0), 255)
      }
      let found = y.elements(as: Int8.self)?.map { Double($0) } ?? y.elements(as: UInt8.self)?.map { Double($0) }
      #expect(found == expected)
    }
  }

  /// `For (x / y_scale), it rounds to the nearest even`: the zero point comes after that.
  @Test func zeroPointsAreAddedToWhatIsRounded() throws {
    let (one, zero) = (Tensor(scalar: 1 as Float), Tensor(scalar: 0 as UInt8))
    let y = try OperatorRun("QLinearMatMul")(
      Tensor([1 as UInt8], shape: [1, 1]), Tensor(scalar: 0.5 as Float), zero,
      Tensor([1, 3, 5, 7, 255] as [UInt8], shape: [1, 5]), one, zero, one, Tensor(scalar: 7 as UInt8))[0]
    #expect(y.elements(as: UInt8.self) == [7, 9, 9, 11, 135])
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
    // Beside such a factor one of bytes is read as it is, constant or not.
    let bytes = Tensor([2, 1, 1, -2] as [Int8], shape: [2, 2])
    for constants in [[], [3]] as [Set<Int>] {
      var mixed = OperatorRun("QLinearMatMul")
      mixed.constantInputs = constants
      let z = try mixed(a, scale, zero, bytes, scale, Tensor(scalar: 0 as Int8), Tensor(scalar: 2 as Float), zero)[0]
      let found = try OperatorRun("Cast", attributes: [("to", .int(1))])(z)[0].elements(as: Float.self)
      #expect(found == expected, "\(constants)")
    }
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
