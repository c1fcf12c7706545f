// The elements of a tensor of any numeric type as numbers that can be compared.

import ApusTensor

package enum NumericElements {
  /// The elements as Double; two numbers for each complex element. Integers beyond 2^53 lose their last digits. Floats
  /// of a byte or less are given by their place in the order of their type, so that a difference of 1 is a step.
  package static func doubles(of tensor: Tensor) -> [Double] {
    switch tensor.dataType {
    case .float32: tensor.elements(as: Float.self)?.map(Double.init) ?? []
    case .float64: tensor.elements(as: Double.self) ?? []
    case .float16: tensor.elements(as: Float16.self)?.map(Double.init) ?? []
    case .bfloat16: tensor.elements(as: BFloat16.self)?.map { Double($0.float) } ?? []
    case .complex64: tensor.elements(as: Complex64.self)?.flatMap { [Double($0.real), Double($0.imaginary)] } ?? []
    case .complex128: tensor.elements(as: Complex128.self)?.flatMap { [$0.real, $0.imaginary] } ?? []
    case .uint64: tensor.elements(as: UInt64.self)?.map(Double.init) ?? []
    case .string: []
    default:
      if let integers = tensor.integers { integers.map(Double.init) } else { steps(of: tensor) }
    }
  }

  private static func steps(of tensor: Tensor) -> [Double] {
    let codes = codes(of: tensor)
    guard let format = SmallFloat(tensor.dataType) else {
      return codes.map { tensor.dataType == .float8e8m0 && $0 == 0xFF ? .nan : Double($0) }
    }
    let sign = Int(format.signCode)
    return codes.map { code in
      if format.decode(UInt8(code)).isNaN { return .nan }
      return Double(code >= sign ? sign - code : code)
    }
  }

  /// The bit patterns of elements of at most 8 bits.
  private static func codes(of tensor: Tensor) -> [Int] {
    let bits = tensor.dataType.bits
    return tensor.withUnsafeBytes { bytes in
      (0..<tensor.count).map { index in
        let first = index * bits
        let low = Int(bytes[first / 8]) >> (first % 8)
        let spill = first % 8 + bits > 8 ? Int(bytes[first / 8 + 1]) << (8 - first % 8) : 0
        return (low | spill) & ((1 << bits) - 1)
      }
    }
  }
}
