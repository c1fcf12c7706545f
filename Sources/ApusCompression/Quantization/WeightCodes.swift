// The integers of a tensor of weights: one scale for each output, or for all.

import ApusTensor

/// Weights as integers, with a scale for each index along an axis, or one for all.
package struct WeightCodes {
  package let type: QuantizedType
  /// In the order and shape of the weights.
  package var integers: [Int32]
  package let shape: Shape
  /// As many as the extent of the axis, or one.
  package let scales: [Float]
  package let zeroPoints: [Int]
  /// nil: one scale for all.
  package let axis: Int?

  /// What a group of weights is quantized to.
  package struct Options: Sendable, Hashable {
    package var type: QuantizedType
    package var isSymmetric: Bool
    /// The magnitude of symmetric integers at most: 127 of 8 bits, 64 where sums of two products must fit 16 bits.
    package var greatest: Int?
    package init(type: QuantizedType, isSymmetric: Bool, greatest: Int? = nil) {
      (self.type, self.isSymmetric, self.greatest) = (type, isSymmetric, greatest)
    }
  }

  /// The nearest integers to the elements of `weights`.
  ///
  /// - Parameters:
  ///   - axis: the one that has scales of its own for each index; nil: one for all.
  ///   - leastScales: what each scale is at least, by index; so that a sum of products that is to be added fits.
  package init(
    _ weights: [Float], shape: Shape, axis: Int?, _ options: Options, leastScales: ((Int) -> Float)? = nil
  ) {
    let line = ChannelWalk(shape: shape, axis: axis)
    var scales: [Float] = []
    var zeroPoints: [Int] = []
    for channel in 0..<line.channels {
      var (low, high): (Float, Float) = (0, 0)
      line.forEach(channel) { index in
        low = min(low, weights[index])
        high = max(high, weights[index])
      }
      var code = WeightCodes.code(low, high, options)
      if let least = leastScales?(channel), least > code.scale {
        code = TensorCode(type: code.type, scale: least, zeroPoint: code.zeroPoint)
      }
      scales.append(code.scale)
      zeroPoints.append(code.zeroPoint)
    }
    self.init(weights, shape: shape, axis: axis, type: options.type, scales: scales, zeroPoints: zeroPoints)
  }

  /// The nearest integers for given scales.
  package init(
    _ weights: [Float], shape: Shape, axis: Int?, type: QuantizedType, scales: [Float], zeroPoints: [Int]
  ) {
    (self.type, self.shape, self.axis, self.scales, self.zeroPoints) = (type, shape, axis, scales, zeroPoints)
    let line = ChannelWalk(shape: shape, axis: axis)
    integers = [Int32](repeating: 0, count: weights.count)
    for channel in 0..<line.channels {
      let code = TensorCode(type: type, scale: scales[channel], zeroPoint: zeroPoints[channel])
      line.forEach(channel) { index in integers[index] = Int32(code.integer(weights[index])) }
    }
  }

  private static func code(_ low: Float, _ high: Float, _ options: Options) -> TensorCode {
    let code = TensorCode(type: options.type, low: low, high: high, isSymmetric: options.isSymmetric)
    guard options.isSymmetric, let greatest = options.greatest else { return code }
    let scale = max(-low, high) / Float(greatest)
    return TensorCode(
      type: code.type, scale: scale == 0 ? 1 : max(scale, TensorCode.leastScale), zeroPoint: code.zeroPoint)
  }

  /// The numbers that the integers stand for.
  package var numbers: [Float] {
    var numbers = [Float](repeating: 0, count: integers.count)
    let line = ChannelWalk(shape: shape, axis: axis)
    for channel in 0..<line.channels {
      let (scale, zero) = (scales[channel], Int32(zeroPoints[channel]))
      line.forEach(channel) { index in numbers[index] = Float(integers[index] - zero) * scale }
    }
    return numbers
  }

  package var tensor: Tensor { Tensor(integers: integers.map { Int($0) }, shape: shape, type: type) }
  package var scaleTensor: Tensor { axis == nil ? Tensor(scalar: scales[0]) : Tensor(scales) }
  /// nil where all are zero, which is what nodes take where there are none.
  package var zeroPointTensor: Tensor? {
    if zeroPoints.allSatisfy({ $0 == 0 }) { return nil }
    return Tensor(integers: zeroPoints, shape: axis == nil ? [] : [zeroPoints.count], type: type)
  }
}

/// The elements of a tensor by their index along one axis.
package struct ChannelWalk {
  package let channels: Int
  private let outer: Int
  private let inner: Int

  /// `axis` nil: all elements have the index 0.
  package init(shape: Shape, axis: Int?) {
    guard let axis else {
      (outer, channels, inner) = (1, 1, shape.elementCount)
      return
    }
    channels = shape[axis]
    outer = shape.dims[..<axis].reduce(1, *)
    inner = shape.dims[(axis + 1)...].reduce(1, *)
  }

  package func forEach(_ channel: Int, _ body: (Int) -> Void) {
    for block in 0..<outer {
      let start = (block * channels + channel) * inner
      for index in start..<start + inner { body(index) }
    }
  }
}
