// Complex numbers of the frameworks, which are pairs on a last axis here, and Fourier transforms as DFT of ONNX.

import ApusGraph
import ApusTensor

/// What the sums of a Fourier transform are multiplied with.
package enum FourierScale {
  /// 1, the root of the length, its reciprocal.
  case none, root, count

  /// The factor for a transform of `count` points.
  package func factor(_ count: Int) -> Double {
    switch self {
    case .none: 1
    case .root: 1 / Double(max(count, 1)).squareRoot()
    case .count: 1 / Double(max(count, 1))
    }
  }
}

extension LayerBuilder {
  /// Real and imaginary parts as pairs.
  package func pairs(_ real: ValueID, _ imaginary: ValueID) throws(OperatorError) -> ValueID {
    let rank = try rank(real)
    return try concatenate([unsqueeze(real, [rank]), unsqueeze(imaginary, [rank])], axis: rank)
  }

  /// Real numbers as pairs.
  package func pairs(ofReal value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try rank(value)
    let column = try unsqueeze(value, [rank])
    return try emit("Pad", [column, integers([Int](repeating: 0, count: 2 * rank + 1) + [1])])
  }

  /// The real (0) or imaginary (1) parts of pairs.
  package func part(_ index: Int, ofPairs value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try rank(value)
    guard rank > 0, try shape(value)[rank - 1].known ?? 2 == 2 else {
      throw .inconsistency("pairs of real and imaginary parts were expected")
    }
    return try emit("Gather", [value, constant(Tensor(scalar: Int64(index)))], [("axis", .int(rank - 1))])
  }

  /// (a + bi) (c + di) = (ac - bd) + (ad + bc) i.
  package func complexProduct(_ x: ValueID, _ y: ValueID) throws(OperatorError) -> ValueID {
    let (a, b) = (try part(0, ofPairs: x), try part(1, ofPairs: x))
    let (c, d) = (try part(0, ofPairs: y), try part(1, ofPairs: y))
    return try pairs(
      emit("Sub", [emit("Mul", [a, c]), emit("Mul", [b, d])]),
      emit("Add", [emit("Mul", [a, d]), emit("Mul", [b, c])]))
  }

  /// Magnitudes of pairs.
  package func magnitude(ofPairs value: ValueID) throws(OperatorError) -> ValueID {
    let last = try rank(value) - 1
    return try reduce("ReduceL2", value, axes: [last], keepsAxes: false)
  }

  /// The transform along `axis` of pairs, or of real numbers with a last axis of extent 1: of `length` points, or as
  /// many as there are; the first half of them and one more if `isHalf`. Factors other than 1 need a known length.
  package func fourier(
    _ value: ValueID, axis: Int, length: Int?, isInverse: Bool, isHalf: Bool = false, scale: FourierScale
  ) throws(OperatorError) -> ValueID {
    if let length, !(1...1 << 28).contains(length) { throw .invalid("a transform of \(length) points") }
    let result = try emit(
      "DFT",
      [
        value, length.map { constant(Tensor(scalar: Int64($0))) }, constant(Tensor(scalar: Int64(axis))),
      ],
      [("inverse", .int(isInverse ? 1 : 0)), ("onesided", .int(isHalf ? 1 : 0))])
    // DFT divides by the count where it goes back.
    switch (scale, isInverse) {
    case (.none, false), (.count, true): return result
    default: break
    }
    let count: Int
    if let length { count = length } else { count = try extent(value, axis) }
    let factor = scale.factor(count) * (isInverse ? Double(count) : 1)
    return try emit("Mul", [result, scalar(factor, like: result)])
  }

  /// Real numbers along `axis` of which the pairs are the first half of the transform: `length` of them, or twice as
  /// many as there are pairs but for the first and last one.
  package func realFromFourier(
    _ value: ValueID, axis: Int, length: Int?, scale: FourierScale
  ) throws(OperatorError) -> ValueID {
    let count = try extent(value, axis)
    guard count >= 1, count <= 1 << 28 else { throw .invalid("a transform of \(count) points") }
    let points = length ?? 2 * (count - 1)
    guard (1...1 << 28).contains(points) else { throw .invalid("a transform of \(points) points") }
    let needed = points / 2 + 1
    var half = value
    if needed < count { half = try slice(value, from: [0], to: [needed], axes: [axis]) }
    if needed > count {
      var pads = [Int](repeating: 0, count: 2 * (try rank(value)))
      pads[axis + (try rank(value))] = needed - count
      half = try emit("Pad", [value, integers(pads)])
    }
    // The other half are the conjugates, backwards.
    var whole = half
    let mirrored = points - needed
    if mirrored > 0 {
      let tail = try slice(half, from: [mirrored], to: [0], axes: [axis], steps: [-1])
      let conjugate = try emit("Mul", [tail, cast(constant(Tensor([1.0, -1.0])), to: type(tail) ?? .float32)])
      whole = try concatenate([half, conjugate], axis: axis)
    }
    return try part(0, ofPairs: fourier(whole, axis: axis, length: nil, isInverse: true, scale: scale))
  }
}

extension Tensor {
  /// Complex numbers as pairs on a last axis; all else as it is.
  var withPairs: Tensor {
    if dataType == .complex64, let numbers = elements(as: Complex64.self) {
      return Tensor(numbers.flatMap { [$0.real, $0.imaginary] }, shape: Shape(shape.dims + [2]))
    }
    if dataType == .complex128, let numbers = elements(as: Complex128.self) {
      return Tensor(numbers.flatMap { [$0.real, $0.imaginary] }, shape: Shape(shape.dims + [2]))
    }
    return self
  }
}
