// The floats of 8, 6 and 4 bits as numbers, for files of numbers. Not for kernels: exact and plain.

import ApusTensor

/// A float format of at most 8 bits. https://onnx.ai/onnx/technical/float8.html
struct SmallFloat {
  let bits: Int
  let exponentBits: Int
  let fractionBits: Int
  let bias: Int
  /// Which codes are no finite numbers.
  let specials: Specials

  enum Specials {
    /// Every code is a number.
    case none
    /// All ones but the sign: NaN (E4M3FN).
    case allOnesIsNaN
    /// Minus zero: NaN (the FNUZ types).
    case minusZeroIsNaN
    /// The largest exponent: infinity with fraction 0, else NaN (E5M2).
    case ieee
  }

  init?(_ type: DataType) {
    switch type {
    case .float8e4m3fn: self.init(bits: 8, exponentBits: 4, fractionBits: 3, bias: 7, specials: .allOnesIsNaN)
    case .float8e4m3fnuz: self.init(bits: 8, exponentBits: 4, fractionBits: 3, bias: 8, specials: .minusZeroIsNaN)
    case .float8e5m2: self.init(bits: 8, exponentBits: 5, fractionBits: 2, bias: 15, specials: .ieee)
    case .float8e5m2fnuz: self.init(bits: 8, exponentBits: 5, fractionBits: 2, bias: 16, specials: .minusZeroIsNaN)
    case .float6e2m3: self.init(bits: 6, exponentBits: 2, fractionBits: 3, bias: 1, specials: .none)
    case .float6e3m2: self.init(bits: 6, exponentBits: 3, fractionBits: 2, bias: 3, specials: .none)
    case .float4e2m1: self.init(bits: 4, exponentBits: 2, fractionBits: 1, bias: 1, specials: .none)
    default: return nil
    }
  }

  private init(bits: Int, exponentBits: Int, fractionBits: Int, bias: Int, specials: Specials) {
    (self.bits, self.exponentBits, self.fractionBits) = (bits, exponentBits, fractionBits)
    (self.bias, self.specials) = (bias, specials)
  }

  /// The number that a code stands for.
  func value(_ code: UInt8) -> Float {
    let code = Int(code)
    let sign: Float = code >> (bits - 1) & 1 == 1 ? -1 : 1
    let magnitude = code & ((1 << (bits - 1)) - 1)
    let exponent = magnitude >> fractionBits
    let fraction = magnitude & ((1 << fractionBits) - 1)
    switch specials {
    case .none: break
    case .allOnesIsNaN: if magnitude == (1 << (bits - 1)) - 1 { return .nan }
    case .minusZeroIsNaN: if magnitude == 0 && sign < 0 { return .nan }
    case .ieee: if exponent == (1 << exponentBits) - 1 { return fraction == 0 ? sign * .infinity : .nan }
    }
    let scale = Float(1 << fractionBits)
    if exponent == 0 { return sign * Float(sign: .plus, exponent: 1 - bias, significand: Float(fraction) / scale) }
    return sign * Float(sign: .plus, exponent: exponent - bias, significand: 1 + Float(fraction) / scale)
  }

  /// The code nearest to `number`, ties to the even code; numbers out of range become the largest finite one, as a Cast
  /// with `saturate` makes them. nil for a NaN that the format does not have.
  func code(_ number: Float) -> UInt8? {
    if number.isNaN { return (0...UInt8(truncatingIfNeeded: (1 << bits) - 1)).first { value($0).isNaN } }
    var best: (code: UInt8, distance: Double)?
    for code in 0...UInt8(truncatingIfNeeded: (1 << bits) - 1) {
      let candidate = value(code)
      guard candidate.isFinite, (candidate.sign == number.sign) else { continue }
      let distance = number.isInfinite ? -Double(candidate.magnitude) : (Double(candidate) - Double(number)).magnitude
      if let current = best, distance > current.distance || (distance == current.distance && code % 2 == 1) { continue }
      best = (code, distance)
    }
    return best?.code
  }
}

extension DataType {
  /// The numbers of a tensor of one of the types that NumPy does not have, as float32, or int8 or uint8, which hold them
  /// exactly; nil for all other types.
  static func widened(_ tensor: Tensor) -> Tensor? {
    let type = tensor.dataType
    if type == .bfloat16 {
      return Tensor((tensor.elements(as: BFloat16.self) ?? []).map(\.float), shape: tensor.shape)
    }
    guard type == .float8e8m0 || SmallFloat(type) != nil || type.isPacked else { return nil }
    let codes = tensor.codes
    if type == .float8e8m0 {
      return Tensor(codes.map { $0 == 0xFF ? .nan : Float(sign: .plus, exponent: Int($0) - 127, significand: 1) }, shape: tensor.shape)
    }
    if let format = SmallFloat(type) {
      let table = (0...UInt8.max).map { $0 >> UInt8(format.bits - 1) > 1 ? 0 : format.value($0) }
      return Tensor(codes.map { table[Int($0)] }, shape: tensor.shape)
    }
    if type.isUnsignedInteger { return Tensor(codes, shape: tensor.shape) }
    let shift = UInt8(8 - type.bits)
    return Tensor(codes.map { Int8(bitPattern: $0 << shift) >> Int8(shift) }, shape: tensor.shape)
  }
}

extension Tensor {
  /// The elements of a tensor of at most 8 bits an element, each in the low bits of a byte.
  var codes: [UInt8] {
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
  static func packing(_ codes: [UInt8], _ dataType: DataType, _ shape: Shape) -> Tensor {
    building(dataType, shape) { output in
      var pending: UInt32 = 0
      var pendingBits = 0
      for code in codes {
        pending |= (UInt32(code) & ((1 << UInt32(dataType.bits)) - 1)) << UInt32(pendingBits)
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
