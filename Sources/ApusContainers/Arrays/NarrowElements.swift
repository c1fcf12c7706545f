// The element types that NumPy and text do not have: as wider types that hold the same numbers, and as codes.

import ApusTensor

extension Tensor {
  /// The numbers of a tensor of one of the types that NumPy does not have, as float32, int8 or uint8, which hold them
  /// exactly; nil for all other types.
  package var widened: Tensor? {
    if dataType == .bfloat16 { return Tensor((elements(as: BFloat16.self) ?? []).map(\.float), shape: shape) }
    if dataType == .float8e8m0 { return Tensor(codes.map(PowerOfTwoFloat.decode), shape: shape) }
    if let format = SmallFloat(dataType) {
      let table = (0...UInt8.max).map(format.decode)
      return Tensor(codes.map { table[Int($0)] }, shape: shape)
    }
    guard dataType.isPacked else { return nil }
    if dataType.isUnsignedInteger { return Tensor(codes, shape: shape) }
    let spare = UInt8(8 - dataType.bits)
    return Tensor(codes.map { Int8(bitPattern: $0 << spare) >> Int8(spare) }, shape: shape)
  }

  /// The elements of a tensor of at most 8 bits an element, each in the low bits of a byte.
  package var codes: [UInt8] {
    let bits = dataType.bits
    return withByteSpan { bytes in
      (0..<count).map { index in
        let bit = index * bits
        var code = UInt16(bytes[bit / 8]) >> UInt16(bit % 8)
        if bit % 8 + bits > 8 { code |= UInt16(bytes[bit / 8 + 1]) << UInt16(8 - bit % 8) }
        return UInt8(truncatingIfNeeded: code & ((1 << UInt16(bits)) - 1))
      }
    }
  }

  /// A tensor of at most 8 bits an element from codes in the low bits of bytes.
  package static func packing(_ codes: [UInt8], _ dataType: DataType, _ shape: Shape) throws(LoadError) -> Tensor {
    let mask = (UInt32(1) << UInt32(dataType.bits)) - 1
    return try building(dataType, shape) { (output) throws(LoadError) in
      var pending: UInt32 = 0
      var pendingBits = 0
      for code in codes {
        pending |= (UInt32(code) & mask) << UInt32(pendingBits)
        pendingBits += dataType.bits
        while pendingBits >= 8 {
          output.append(UInt8(truncatingIfNeeded: pending))
          pending >>= 8
          pendingBits -= 8
        }
      }
      if pendingBits > 0 { output.append(UInt8(truncatingIfNeeded: pending)) }
    }
  }
}

extension Tensor {
  /// The elements as Double; empty for strings and complex numbers. Integers beyond 2^53 lose their last digits.
  package var doubles: [Double] {
    let tensor = widened ?? self
    return switch tensor.dataType {
    case .float32: tensor.elements(as: Float.self)?.map(Double.init) ?? []
    case .float64: tensor.elements(as: Double.self) ?? []
    case .float16: tensor.elements(as: Float16.self)?.map(Double.init) ?? []
    case .uint64: tensor.elements(as: UInt64.self)?.map(Double.init) ?? []
    default: tensor.integers?.map(Double.init) ?? []
    }
  }
}
