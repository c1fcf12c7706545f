// The elements of a tensor of any numeric type as numbers that can be compared.

import ApusTensor

enum NumericElements {
  /// The elements as Double; two numbers for each complex element. Integers beyond 2^53 lose their last digits.
  static func doubles(of tensor: Tensor) -> [Double] {
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
      if let integers = tensor.integers { integers.map(Double.init) } else { codes(of: tensor).map(Double.init) }
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
