// The tables by which nodes become operators of TensorFlow Lite: one line for what both have, one short function else.

import ApusGraph
import ApusTensor

/// How a node becomes operators.
struct TFLiteLowering: Sendable {
  /// What a node makes of integers that stand for floats.
  enum Integers: Sendable {
    /// It needs floats.
    case none
    /// It moves or compares elements: its result has the scale of its operands.
    case keeps
    /// The same, where the condition holds.
    case keepsWhen(@Sendable (NodeFacts) -> Bool)
    /// It is computed on them, with a scale of each operand's own, if its result is encoded at once.
    case computes
    /// The same, where the result has this scale and zero point.
    case fixed(scale: Float, zeroPoint: Int)
    /// A product of input 0 with weights, which are constant integers without a zero point and with one scale or one
    /// for each index of the axis of results that is given by their rank, and a bias, which is constant.
    case product(axis: @Sendable (NodeFacts) -> Int)
  }

  typealias Make = @Sendable (TFLiteNode) throws(OperatorError) -> Void

  /// The element types of input 0 that the interpreter has kernels for.
  let types: [DataType]
  let integers: Integers
  /// The inputs that may be integers that stand for floats; nil: all. Others must be known or stay what they are.
  let data: Range<Int>?
  /// Where a fused activation goes among the options.
  let activation: Int?
  /// Whether a constant that is added behind is its bias: one number for each index of the last axis.
  let takesBias: Bool
  let make: Make

  init(
    _ types: [DataType], integers: Integers = .none, data: Range<Int>? = nil, activation: Int? = nil,
    takesBias: Bool = false, _ make: @escaping Make
  ) {
    self.takesBias = takesBias
    (self.types, self.integers, self.data, self.activation, self.make) = (types, integers, data, activation, make)
  }
}

enum TFLiteLowerings {
  /// By operator; those on images whose channels are last have the domain before the name.
  static let all: [String: TFLiteLowering] = [
    elementwise, logic, convolutions, pooling, resizing, products, recurrent, shapes, slices,
    indexing, reductions,
  ].reduce(into: [:]) { all, table in all.merge(table) { first, _ in first } }

  /// Operators of images that are written with the channels last.
  static let images: Set<String> = Set(
    all.keys.compactMap { name in
      let prefix = ChannelsLastForm.domain + "."
      return name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : nil
    })

  static let floats: [DataType] = [.float32]
  static let numbers: [DataType] = [.float32, .int32, .int64]
  static let moved: [DataType] = [.float32, .int32, .int64, .int8, .uint8, .int16, .bool]
}

extension TFLiteQuantization {
  init(scale: Float, zeroPoint: Int) { self.init(scales: [scale], zeroPoints: [zeroPoint], axis: 0) }
}
