// Quantization: kernels against the general loops, granularities, packed results, saturation.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct QuantizationTests {
  private func integers(_ tensor: Tensor) throws -> [Int32]? {
    try OperatorRun("Cast", attributes: [("to", .int(Int(DataType.int32.rawValue)))])(tensor)[0].elements(
      as: Int32.self)
  }

  /// uint8 by the kernel equals the low byte's worth of uint16 by the general loop, within range.
  @Test func kernelsMatchGeneralLoops() throws {
    let x = Tensor((0..<5003).map { Float($0 % 511) / 7 - 20 })
    let (scale, type) = (Tensor(scalar: Float(0.37)), Int(DataType.uint16.rawValue))
    let narrow = try OperatorRun("QuantizeLinear")(x, scale, Tensor(scalar: UInt8(60)))[0]
    let wide = try OperatorRun("QuantizeLinear", attributes: [("output_dtype", .int(type))])(
      x, scale, Tensor(scalar: UInt16(60)))[0]
    #expect(try integers(narrow) == integers(wide)?.map { min($0, 255) })
    let back = try OperatorRun("DequantizeLinear")(narrow, scale, Tensor(scalar: UInt8(60)))[0]
    let expected = narrow.elements(as: UInt8.self)?.map { (Float($0) - 60) * 0.37 }
    #expect(back.elements(as: Float.self) == expected)
  }

  /// Per axis and per block of every axis, into packed int4 of odd lengths, against the definition.
  @Test func granularities() throws {
    let shape: Shape = [3, 5, 7]
    let x = (0..<105).map { Float($0 * 29 % 83) / 8 - 5 }
    for axis in 0..<3 {
      for block in [0, 2, 3] {
        var scaleShape = shape
        scaleShape[axis] = block == 0 ? shape[axis] : (shape[axis] + block - 1) / block
        if block == 0 { scaleShape = [shape[axis]] }
        let scales = (0..<scaleShape.elementCount).map { 0.25 + Float($0 % 5) / 4 }
        let zeros = (0..<scaleShape.elementCount).map { Int32($0 % 4) - 2 }
        let int4 = try OperatorRun("Cast", attributes: [("to", .int(Int(DataType.int4.rawValue)))])(
          Tensor(zeros, shape: scaleShape))[0]
        let attributes: [(String, AttributeValue)] = [("axis", .int(axis)), ("block_size", .int(block))]
        let scale = Tensor(scales, shape: scaleShape)
        let y = try OperatorRun("QuantizeLinear", attributes: attributes)(Tensor(x, shape: shape), scale, int4)[0]
        let positions = x.indices.map { index -> Int in
          let (outer, inner) = (index / shape.strides[axis] / shape[axis], index % shape.strides[axis])
          let position = index / shape.strides[axis] % shape[axis]
          return block == 0 ? position : (outer * scaleShape[axis] + position / block) * shape.strides[axis] + inner
        }
        let expected = zip(x, positions).map { value, position -> Int32 in
          let quotient: Float = (value / scales[position]).rounded(.toNearestOrEven)
          return min(7, max(-8, Int32(quotient) + zeros[position]))
        }
        #expect(y.dataType == .int4)
        #expect(try integers(y) == expected, "axis \(axis), block \(block)")
        let back = try OperatorRun("DequantizeLinear", attributes: attributes)(y, scale, int4)[0]
        let dequantized = zip(expected, positions).map { value, position -> Float in
          Float(value - zeros[position]) * scales[position]
        }
        #expect(back.elements(as: Float.self) == dequantized)
      }
    }
  }

  @Test func saturationAndTypes() throws {
    let x = Tensor([Float.infinity, -Float.infinity, Float.nan, 2.5, -2.5])
    #expect(
      try OperatorRun("QuantizeLinear")(x, Tensor(scalar: Float(1)), Tensor(scalar: Int8(3)))[0].elements(as: Int8.self)
        == [127, -128, -128, 5, 1])
    let output = Int(DataType.float8e4m3fn.rawValue)
    let y = try OperatorRun("QuantizeLinear", attributes: [("output_dtype", .int(output))])(
      x, Tensor(scalar: Float(1)))[0]
    #expect(y.dataType == .float8e4m3fn)
    #expect(Array(y.elements(as: UInt8.self, reinterpreting: true).prefix(2)) == [0x7E, 0xFE])
    let half = OperatorRun("DequantizeLinear", attributes: [("output_dtype", .int(Int(DataType.bfloat16.rawValue)))])
    #expect(try half(Tensor([UInt16(3)]), Tensor(scalar: Float16(0.5)))[0].elements(as: BFloat16.self)?[0].float == 1.5)
  }

  @Test func errors() {
    let x = Tensor([Float(1), 2, 3], shape: [3, 1])
    let two = Tensor([Float(1), 2])
    #expect(throws: (any Error).self) { try OperatorRun("QuantizeLinear", attributes: [("axis", .int(0))])(x, two) }
    #expect(throws: (any Error).self) { try OperatorRun("QuantizeLinear", attributes: [("axis", .int(5))])(x, two) }
    #expect(throws: (any Error).self) {
      try OperatorRun("QuantizeLinear", attributes: [("block_size", .int(-1))])(x, two)
    }
    #expect(throws: (any Error).self) {
      try OperatorRun("QuantizeLinear", attributes: [("output_dtype", .int(3))])(
        x, Tensor(scalar: Float(1)), Tensor(scalar: UInt8(0)))
    }
  }

  @Test func dynamic() throws {
    let x = (0..<40_000).map { Float($0 % 1001) / 100 - 3 }
    let y = try OperatorRun("DynamicQuantizeLinear")(Tensor(x), outputs: 3)
    let scale = Float(10) / 255
    #expect(y[1].elements(as: Float.self) == [scale] && y[2].elements(as: UInt8.self) == [76])
    let expected = x.map { value -> UInt8 in
      let rounded: Float = (value / scale).rounded(.toNearestOrEven) + 76
      return UInt8(min(255, max(0, rounded)))
    }
    #expect(y[0].elements(as: UInt8.self) == expected)
    #expect(
      try OperatorRun("DynamicQuantizeLinear")(Tensor(zeros: .float32, shape: [0]), outputs: 3)[2].elements(
        as: UInt8.self) == [0])
  }
}
