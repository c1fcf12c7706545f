// The Swift types that stand for ONNX element types of whole bytes.

/// A Swift type whose values have the memory layout of one ONNX element type.
public protocol TensorElement: Sendable, BitwiseCopyable {
  static var dataType: DataType { get }
}

extension Float: TensorElement { public static var dataType: DataType { .float32 } }
extension Double: TensorElement { public static var dataType: DataType { .float64 } }
extension Int8: TensorElement { public static var dataType: DataType { .int8 } }
extension Int16: TensorElement { public static var dataType: DataType { .int16 } }
extension Int32: TensorElement { public static var dataType: DataType { .int32 } }
extension Int64: TensorElement { public static var dataType: DataType { .int64 } }
extension Int: TensorElement { public static var dataType: DataType { .int64 } }
extension UInt8: TensorElement { public static var dataType: DataType { .uint8 } }
extension UInt16: TensorElement { public static var dataType: DataType { .uint16 } }
extension UInt32: TensorElement { public static var dataType: DataType { .uint32 } }
extension UInt64: TensorElement { public static var dataType: DataType { .uint64 } }
extension Bool: TensorElement { public static var dataType: DataType { .bool } }
extension Float16: TensorElement { public static var dataType: DataType { .float16 } }

/// The upper half of a float32: 8 bits of exponent, 7 of fraction.
public struct BFloat16: TensorElement, Hashable {
  public var bitPattern: UInt16
  public static var dataType: DataType { .bfloat16 }

  @inlinable public init(bitPattern: UInt16) { self.bitPattern = bitPattern }

  /// Rounds to nearest, ties to even. NaN stays NaN.
  @inlinable public init(_ value: Float) {
    let bits = value.bitPattern
    if value.isNaN {
      bitPattern = UInt16(truncatingIfNeeded: bits >> 16) | 0x40
    } else {
      bitPattern = UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ ((bits >> 16) & 1)) >> 16)
    }
  }

  @inlinable public var float: Float { Float(bitPattern: UInt32(bitPattern) << 16) }
}

/// A complex number of two equal parts, real first.
public struct Complex64: TensorElement, Hashable {
  public var real: Float
  public var imaginary: Float
  public static var dataType: DataType { .complex64 }
  @inlinable public init(_ real: Float, _ imaginary: Float) { (self.real, self.imaginary) = (real, imaginary) }
}

/// A complex number of two equal parts, real first.
public struct Complex128: TensorElement, Hashable {
  public var real: Double
  public var imaginary: Double
  public static var dataType: DataType { .complex128 }
  @inlinable public init(_ real: Double, _ imaginary: Double) { (self.real, self.imaginary) = (real, imaginary) }
}
