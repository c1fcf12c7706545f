// The scales and zero points of an integer convolution, and the blocks of numbers that its kernels want to have of
// them.

import ApusGraph
import ApusTensor

/// Where a node has its scales and zero points, and how they are read.
struct IntegerCodes: Sendable {
  /// The first byte of an input.
  typealias Operands = (Int) -> UnsafeRawPointer

  let inputs: IntegerOperands
  /// int32, one an output channel.
  let bias: Int?
  let xIsSigned: Bool
  let wIsSigned: Bool
  let yIsSigned: Bool
  let wZeroCount: Int
  let wScaleCount: Int

  func xZero(_ operands: Operands) -> Int32 {
    inputs.xZero.map { IntegerCodes.byte(operands($0), 0, isSigned: xIsSigned) } ?? 0
  }

  func wZero(_ operands: Operands, output: Int) -> Int32 {
    inputs.wZero.map { IntegerCodes.byte(operands($0), wZeroCount > 1 ? output : 0, isSigned: wIsSigned) } ?? 0
  }

  func yZero(_ operands: Operands) -> Int32 {
    inputs.requantization.map { IntegerCodes.byte(operands($0.yZero), 0, isSigned: yIsSigned) } ?? 0
  }

  /// What a sum of an output channel is multiplied by.
  func scale(_ operands: Operands, output: Int) -> Float {
    guard let requantization = inputs.requantization else { return 1 }
    func number(_ input: Int, _ index: Int) -> Float {
      operands(input).loadUnaligned(fromByteOffset: index &* 4, as: Float.self)
    }
    return number(requantization.xScale, 0) * number(requantization.wScale, wScaleCount > 1 ? output : 0)
      / number(requantization.yScale, 0)
  }

  /// The same of the output channels from the first on.
  func fillScales(_ scales: UnsafeMutablePointer<Float>, count: Int, _ operands: Operands) {
    guard count > 0, let requantization = inputs.requantization else {
      return scales.update(repeating: 1, count: count)
    }
    let x = operands(requantization.xScale).loadUnaligned(as: Float.self)
    let y = operands(requantization.yScale).loadUnaligned(as: Float.self)
    let (w, step) = (operands(requantization.wScale), wScaleCount > 1 ? 4 : 0)
    for output in 0..<count {
      scales[output] = x * w.loadUnaligned(fromByteOffset: output &* step, as: Float.self) / y
    }
  }

  /// The zero points of the weights of the output channels from the first on.
  func fillZeros(_ zeros: UnsafeMutablePointer<Int32>, count: Int, _ operands: Operands) {
    guard let input = inputs.wZero, wZeroCount > 1 else {
      return zeros.update(repeating: count > 0 ? wZero(operands, output: 0) : 0, count: count)
    }
    let bytes = operands(input)
    for output in 0..<count { zeros[output] = IntegerCodes.byte(bytes, output, isSigned: wIsSigned) }
  }

  @inline(__always)
  static func byte(_ bytes: UnsafeRawPointer, _ index: Int, isSigned: Bool) -> Int32 {
    let byte = bytes.load(fromByteOffset: index, as: UInt8.self)
    return isSigned ? Int32(Int8(bitPattern: byte)) : Int32(byte)
  }
}

/// Numbers that a kernel reads beside its operands, one after the other in a block of memory: written by every run, or
/// once where all they come from is constant.
struct IntegerParameters: Sendable {
  let codes: IntegerCodes
  let outputs: Int
  /// Bytes of a tap in the padding.
  let padBytes: Int
  /// Of a depthwise convolution, whose weights are among the numbers; otherwise 0.
  let depthwiseTaps: Int

  // What the block holds: scales, zero points of the weights or what sums begin with, weights, padding.
  private var zerosOffset: Int { aligned(outputs &* 4) }
  private var weightsOffset: Int { zerosOffset &+ aligned(outputs &* 4) }
  private var padOffset: Int { weightsOffset &+ aligned(depthwiseTaps &* outputs &* 4) }
  var byteCount: Int { padOffset &+ aligned(padBytes) }

  func scales(_ block: UnsafeRawPointer) -> UnsafePointer<Float> { block.assumingMemoryBound(to: Float.self) }
  /// Zero points of the weights, or of a depthwise convolution what the sums begin with.
  func zeros(_ block: UnsafeRawPointer) -> UnsafePointer<Int32> {
    (block + zerosOffset).assumingMemoryBound(to: Int32.self)
  }
  /// [taps, channels], less their zero points.
  func weights(_ block: UnsafeRawPointer) -> UnsafePointer<Float> {
    (block + weightsOffset).assumingMemoryBound(to: Float.self)
  }
  func pad(_ block: UnsafeRawPointer) -> UnsafeRawPointer { block + padOffset }

  /// Inputs that the numbers come from.
  var sources: [Int] {
    let requantization = codes.inputs.requantization.map { [$0.xScale, $0.wScale, $0.yScale, $0.yZero] } ?? []
    let depthwise = depthwiseTaps > 0 ? [codes.inputs.operands.w] + (codes.bias.map { [$0] } ?? []) : []
    return [codes.inputs.xZero, codes.inputs.wZero].compactMap { $0 } + requantization + depthwise
  }

  func fill(_ block: UnsafeMutableRawPointer, _ operands: IntegerCodes.Operands) {
    let scales = block.assumingMemoryBound(to: Float.self)
    let zeros = (block + zerosOffset).assumingMemoryBound(to: Int32.self)
    codes.fillScales(scales, count: outputs, operands)
    codes.fillZeros(zeros, count: outputs, operands)
    let xZero = codes.xZero(operands)
    (block + padOffset).initializeMemory(as: UInt8.self, repeating: UInt8(truncatingIfNeeded: xZero), count: padBytes)
    if depthwiseTaps == 0 { return }
    let weights = (block + weightsOffset).assumingMemoryBound(to: Float.self)
    let (bytes, taps) = (operands(codes.inputs.operands.w), depthwiseTaps)
    let biases = codes.bias.map { operands($0) }
    for output in 0..<outputs {
      var sum: Int32 = 0
      for tap in 0..<taps {
        let weight = IntegerCodes.byte(bytes, output &* taps &+ tap, isSigned: codes.wIsSigned) &- zeros[output]
        weights[tap &* outputs &+ output] = Float(weight)
        sum &+= weight
      }
      let bias = biases?.loadUnaligned(fromByteOffset: output &* 4, as: Int32.self) ?? 0
      zeros[output] = bias &- xZero &* sum
    }
  }

  /// The block of a node whose sources are all constant; nil if one is not.
  func constantBlock(_ context: PrepareContext) throws(OperatorError) -> TensorStorage? {
    var places: [Int: Int] = [:]
    var end = 0
    for input in sources {
      guard let tensor = context.constant(input) else { return nil }
      places[input] = end
      end += aligned(tensor.byteCount)
    }
    let copies = try context.allowance.allocate(byteCount: end)
    for (input, place) in places {
      context.constant(input)?.withUnsafeBytes { bytes in
        if let base = bytes.baseAddress { (copies.base + place).copyMemory(from: base, byteCount: bytes.count) }
      }
    }
    let block = try context.allowance.allocate(byteCount: byteCount)
    // All that is asked for is among the sources.
    fill(block.base) { [places] input in UnsafeRawPointer(copies.base + (places[input] ?? 0)) }
    return block
  }
}
