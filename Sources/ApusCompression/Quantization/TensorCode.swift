// How integers stand for the floats of a tensor.

import ApusTensor

/// The types of integers that tensors are quantized to.
public enum QuantizedType: String, Sendable, Hashable, CaseIterable {
  case int8, uint8, int16, uint16, int4, uint4

  package var dataType: DataType {
    switch self {
    case .int8: .int8
    case .uint8: .uint8
    case .int16: .int16
    case .uint16: .uint16
    case .int4: .int4
    case .uint4: .uint4
    }
  }

  package var bits: Int { dataType.bits }
  package var isSigned: Bool { self == .int8 || self == .int16 || self == .int4 }
  package var least: Int { isSigned ? -(1 << (bits - 1)) : 0 }
  package var greatest: Int { isSigned ? (1 << (bits - 1)) - 1 : (1 << bits) - 1 }
}

/// One scale and one zero point: the integer q stands for (q - zeroPoint) * scale.
package struct TensorCode: Sendable, Hashable {
  package let type: QuantizedType
  package let scale: Float
  package let zeroPoint: Int

  /// Scales below are of no use: products of two would be subnormal.
  package static let leastScale: Float = 0x1p-60

  package init(type: QuantizedType, scale: Float, zeroPoint: Int) {
    (self.type, self.scale, self.zeroPoint) = (type, scale, zeroPoint)
  }

  /// The code that spans a range, widened to hold zero, which has an integer of its own.
  ///
  /// - Parameter isSymmetric: as wide on both sides of zero, which has the integer in the middle: 0 if there are
  ///   negative ones.
  package init(type: QuantizedType, low: Float, high: Float, isSymmetric: Bool) {
    let (low, high) = (min(low, 0), max(high, 0))
    if isSymmetric {
      let magnitude = max(-low, high)
      // As many steps on both sides: the least integer of all is not used.
      let steps = Float((type.greatest - type.least) / 2)
      self.init(
        type: type, scale: TensorCode.usable(magnitude / steps),
        zeroPoint: type.isSigned ? 0 : (type.greatest + 1) / 2)
      return
    }
    let scale = TensorCode.usable(high / Float(type.greatest - type.least) - low / Float(type.greatest - type.least))
    let zero = Float(type.least) - low / scale
    let rounded = zero.rounded(.toNearestOrEven)
    self.init(
      type: type, scale: scale, zeroPoint: Int(min(max(rounded, Float(type.least)), Float(type.greatest))))
  }

  /// A tensor that is zero everywhere gets a scale of 1.
  private static func usable(_ scale: Float) -> Float { scale == 0 ? 1 : max(scale, leastScale) }

  /// The numbers that integers of the type stand for, from the least to the greatest.
  package var span: ClosedRange<Float> {
    Float(type.least - zeroPoint) * scale...Float(type.greatest - zeroPoint) * scale
  }

  /// The integer for a number, as QuantizeLinear rounds.
  @inline(__always)
  package func integer(_ number: Float) -> Int {
    let step = (number / scale).rounded(.toNearestOrEven) + Float(zeroPoint)
    if step.isNaN { return type.least }
    return Int(min(max(step, Float(type.least)), Float(type.greatest)))
  }

  package func number(_ integer: Int) -> Float { Float(integer - zeroPoint) * scale }

  package var scaleTensor: Tensor { Tensor(scalar: scale) }
  package var zeroPointTensor: Tensor { Tensor(integers: [zeroPoint], shape: [], type: type) }
}

extension Tensor {
  /// Integers of a quantized type.
  package init(integers: [Int], shape: Shape, type: QuantizedType) {
    switch type {
    case .int8: self.init(integers.map { Int8($0) }, shape: shape)
    case .uint8: self.init(integers.map { UInt8($0) }, shape: shape)
    case .int16: self.init(integers.map { Int16($0) }, shape: shape)
    case .uint16: self.init(integers.map { UInt16($0) }, shape: shape)
    case .int4, .uint4:
      // Two in a byte, the first in the low half.
      var bytes = [UInt8](repeating: 0, count: (integers.count + 1) / 2)
      for (index, integer) in integers.enumerated() {
        bytes[index / 2] |= UInt8(truncatingIfNeeded: integer & 15) << (index % 2 == 0 ? 0 : 4)
      }
      self = Tensor(bytes).viewed(as: type.dataType, shape: shape)
    }
  }

  /// The bytes as elements of another type, which must take as many.
  fileprivate func viewed(as dataType: DataType, shape: Shape) -> Tensor {
    Tensor(dataType: dataType, shape: shape, storage: storage, byteOffset: byteOffset)
  }
}
