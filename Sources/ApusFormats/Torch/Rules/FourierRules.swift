// Fourier transforms of PyTorch, of real numbers and of complex ones, which are pairs on a last axis here.

import ApusGraph
import ApusTensor

extension TorchRules {
  /// Rules that have complex operands or results; their values are pairs.
  static let fourierTable: [String: TorchRule] = [
    "fft_fft": transform(isInverse: false), "fft_fft2": transform(isInverse: false),
    "fft_fftn": transform(isInverse: false), "fft_ifft": transform(isInverse: true),
    "fft_ifft2": transform(isInverse: true), "fft_ifftn": transform(isInverse: true), "fft_rfft": halfTransform,
    "fft_rfft2": halfTransform, "fft_rfftn": halfTransform, "fft_irfft": backTransform, "fft_irfft2": backTransform,
    "fft_irfftn": backTransform, "_fft_r2c": realTransform, "_fft_c2c": complexTransform, "_fft_c2r": backTransform,
    "fft_fftshift": shifted(forward: true), "fft_ifftshift": shifted(forward: false), "stft": shortTime,
  ]

  /// The axes of a transform, and of how many points it is along each; nil: as many as there are.
  private struct Axes {
    var axes: [Int]
    var lengths: [Int?]
  }

  private static func axes(_ call: TorchCall, _ rank: Int) throws(OperatorError) -> Axes {
    let isOne = !call.op.rule.hasSuffix("2") && !call.op.rule.hasSuffix("n")
    if isOne {
      return Axes(
        axes: [try call.axis("dim", of: rank, -1)],
        lengths: [try call.has("n") ? call.int("n") : nil])
    }
    let sizes: [Int]? = try call.has("s") ? call.ints("s") : nil
    var axes = call.op.rule.hasSuffix("2") ? [-2, -1] : []
    if call.has("dim") { axes = try call.ints("dim") }
    if axes.isEmpty { axes = Array((rank - (sizes?.count ?? rank))..<rank) }
    var places: [Int] = []
    for axis in axes { places.append(try TorchCall.axis(axis, of: rank)) }
    if let sizes, sizes.count != axes.count { throw .invalid("as many lengths as axes were expected") }
    return Axes(axes: places, lengths: sizes.map { $0.map { $0 == -1 ? nil : $0 } } ?? places.map { _ in nil })
  }

  private static func scale(_ call: TorchCall, isInverse: Bool) throws(OperatorError) -> FourierScale {
    switch try call.string("norm", "backward") {
    case "backward": isInverse ? .count : .none
    case "forward": isInverse ? .none : .count
    case "ortho": .root
    default: throw .invalid("the argument 'norm' should be forward, backward or ortho")
    }
  }

  /// The scale of operators after their decomposition, which have a number for it.
  private static func numberedScale(_ call: TorchCall) throws(OperatorError) -> FourierScale {
    switch try call.int("normalization") {
    case 0: .none
    case 1: .root
    case 2: .count
    default: throw .invalid("the argument 'normalization' should be 0, 1 or 2")
    }
  }

  /// The operand as pairs, or with a last axis of one where it is real and `isPair` is not asked for.
  private static func operand(_ call: TorchCall, isPair: Bool = false) throws(OperatorError) -> ValueID {
    let value = try call.tensor("self")
    if call.isComplex("self") { return value }
    let type = call.layers.type(value) ?? .float32
    let real = type.isFloat ? value : try call.layers.cast(value, to: .float32)
    return isPair ? try call.layers.pairs(ofReal: real) : try call.layers.unsqueeze(real, [try call.layers.rank(real)])
  }

  private static func rank(_ call: TorchCall) throws(OperatorError) -> Int {
    let rank = try call.layers.rank(try call.tensor("self")) - (call.isComplex("self") ? 1 : 0)
    guard rank > 0 else { throw .invalid("a transform of a scalar") }
    return rank
  }

  /// DFT reads pairs on its last axis, and an operand of one number there as real.
  private static func transform(isInverse: Bool) -> TorchRule {
    { (call) throws(OperatorError) in
      let axes = try axes(call, try rank(call))
      let scale = try scale(call, isInverse: isInverse)
      var value = try operand(call)
      for (axis, length) in zip(axes.axes, axes.lengths).reversed() {
        value = try call.layers.fourier(value, axis: axis, length: length, isInverse: isInverse, scale: scale)
      }
      return [axes.axes.isEmpty ? try operand(call, isPair: true) : value]
    }
  }

  private static func halfTransform(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    if call.isComplex("self") { throw .invalid("real numbers were expected") }
    let axes = try axes(call, try rank(call))
    let scale = try scale(call, isInverse: false)
    return [try half(try operand(call), axes, scale, call)]
  }

  /// The first half of a transform along the last of the axes, then whole ones along the others.
  private static func half(
    _ value: ValueID, _ axes: Axes, _ scale: FourierScale, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    var value = value
    var isHalf = true
    for (axis, length) in zip(axes.axes, axes.lengths).reversed() {
      value = try call.layers.fourier(
        value, axis: axis, length: length, isInverse: false, isHalf: isHalf, scale: scale)
      isHalf = false
    }
    return value
  }

  private static func realTransform(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let places = try call.axes("dim", of: try rank(call))
    let axes = Axes(axes: places, lengths: places.map { _ in nil })
    let scale = try numberedScale(call)
    if try call.bool("onesided", true) { return [try half(try operand(call), axes, scale, call)] }
    return [try along(try operand(call), axes.axes, isInverse: false, scale, call)]
  }

  private static func complexTransform(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let axes = try call.axes("dim", of: try rank(call))
    let isInverse = try !call.bool("forward", true)
    return [try along(try operand(call), axes, isInverse: isInverse, try numberedScale(call), call)]
  }

  private static func along(
    _ value: ValueID, _ axes: [Int], isInverse: Bool, _ scale: FourierScale, _ call: TorchCall
  ) throws(OperatorError) -> ValueID {
    var value = value
    for axis in axes.reversed() {
      value = try call.layers.fourier(value, axis: axis, length: nil, isInverse: isInverse, scale: scale)
    }
    return value
  }

  /// Real numbers from half a transform: back along all axes but the last, then that.
  private static func backTransform(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (layers, rank) = (call.layers, try rank(call))
    let isPlain = call.op.rule == "_fft_c2r"
    var axes: Axes
    if isPlain {
      let places = try call.axes("dim", of: rank)
      axes = Axes(axes: places, lengths: places.map { _ in nil })
      if !axes.lengths.isEmpty { axes.lengths[axes.lengths.count - 1] = try call.int("last_dim_size") }
    } else {
      axes = try self.axes(call, rank)
    }
    let scale = try isPlain ? numberedScale(call) : scale(call, isInverse: true)
    guard let last = axes.axes.popLast(), let length = axes.lengths.popLast() else { throw .invalid("no axis") }
    var value = try operand(call, isPair: true)
    for (axis, length) in zip(axes.axes, axes.lengths).reversed() {
      value = try layers.fourier(value, axis: axis, length: length, isInverse: true, scale: scale)
    }
    return [try layers.realFromFourier(value, axis: last, length: length, scale: scale)]
  }

  /// Rolled by half of each axis.
  private static func shifted(forward: Bool) -> TorchRule {
    { (call) throws(OperatorError) in
      var value = try call.tensor("self")
      let rank = try call.layers.rank(value)
      for axis in try call.axes("dim", of: rank) {
        let extent = try call.layers.extent(value, axis)
        value = try call.layers.rolled(value, axis: axis, by: forward ? extent / 2 : (extent + 1) / 2)
      }
      return [value]
    }
  }

  /// Transforms of windows of a signal: [batch, points, windows].
  private static func shortTime(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let layers = call.layers
    var value = try call.tensor("self")
    if call.isComplex("self") { throw .unsupported("short transforms of complex numbers") }
    let count = try call.int("n_fft")
    let step = try call.has("hop_length") ? call.int("hop_length") : count / 4
    let size = try call.has("win_length") ? call.int("win_length") : count
    guard (1...1 << 20).contains(count), (1...count).contains(size) else {
      throw .invalid("a window of \(size) of \(count) points")
    }
    let rank = try layers.rank(value)
    if call.op.overload == "center", try call.bool("center", true) {
      let mode = try call.string("pad_mode", "reflect")
      guard ["reflect", "constant"].contains(mode) else { throw .unsupported("the padding '\(mode)'") }
      let pads = [Int](repeating: 0, count: rank - 1) + [count / 2]
      value = try layers.emit("Pad", [value, layers.integers(pads + pads)], [("mode", .string(mode))])
    }
    var frames = try layers.windows(value, axis: rank - 1, size: count, step: step)
    if let window = try call.optional("window") {
      let before = (count - size) / 2
      let wide =
        size == count ? window : try layers.emit("Pad", [window, layers.integers([before, count - size - before])])
      frames = try layers.emit("Mul", [frames, try layers.cast(wide, to: layers.type(frames) ?? .float32)])
    } else if size != count {
      throw .unsupported("win_length without a window")
    }
    let isHalf = try call.bool("onesided", true)
    let scale: FourierScale = try call.bool("normalized", false) ? .root : .none
    let points = try layers.fourier(
      try layers.unsqueeze(frames, [rank + 1]), axis: rank, length: nil, isInverse: false, isHalf: isHalf, scale: scale)
    var order = Array(0...(rank + 1))
    order.swapAt(rank - 1, rank)
    return [try layers.transpose(points, order)]
  }
}
