// Softmax of float16, rounded to float16 after every step as NumPy and onnx's reference evaluator do it: results in
// float32 would differ from theirs in the last place. https://onnx.ai/onnx/operators/onnx__Softmax.html

import ApusGraph
import ApusTensor
import CApusKernels

extension Softmax {
  /// The differences from the maximum, their exponentials, the sum and the quotients are each of float16.
  static func halfStep(_ rows: AxisRows) -> Step {
    let kernels = VectorKernels.current
    return rows.step(UInt16.self, cost: 32) { x, y, length in
      HalfBlock.with(kernels) { row(x, y, length, 1, $0) }
    } columns: { x, y, width, rows in
      HalfBlock.with(kernels) { block in
        for column in 0..<width { row(x + column, y + column, rows.length, rows.inner, block) }
      }
    }.named("softmax_f16")
  }

  private static func row(
    _ x: UnsafePointer<UInt16>, _ y: UnsafeMutablePointer<UInt16>, _ length: Int, _ stride: Int, _ block: HalfBlock
  ) {
    let table = block.kernels.table
    var highest = -Float.infinity
    block.forEach(length) { start, count in
      block.load(x + start &* stride, stride, count)
      highest = higher(highest, table.pointee.max_f32(count, block.values))
    }
    var sum: Float = 0
    block.forEach(length) { start, count in
      block.load(x + start &* stride, stride, count)
      for index in 0..<count { block.values[index] -= highest }
      block.round(count)
      table.pointee.exp_f32(count, block.values, block.values, nil)
      block.round(count)
      for index in 0..<count { sum += block.values[index] }
      block.store(y + start &* stride, stride, count)
    }
    block.values[0] = sum
    block.round(1)
    sum = block.values[0]
    block.forEach(length) { start, count in
      block.load(y + start &* stride, stride, count)
      for index in 0..<count { block.values[index] /= sum }
      block.store(y + start &* stride, stride, count)
    }
  }

  private static func higher(_ a: Float, _ b: Float) -> Float { a.isNaN || a > b ? a : b }
}

/// Room for a block of float16 numbers and their float32 values.
private struct HalfBlock {
  static let count = 128

  let kernels: VectorKernels
  let values: UnsafeMutablePointer<Float>
  private let bits: UnsafeMutablePointer<UInt16>

  static func with(_ kernels: VectorKernels, _ body: (HalfBlock) -> Void) {
    withUnsafeTemporaryAllocation(byteCount: count * 6, alignment: 16) { memory in
      guard let base = memory.baseAddress else { return }
      let values = base.bindMemory(to: Float.self, capacity: count)
      body(HalfBlock(kernels: kernels, values: values, bits: (base + count * 4).bindMemory(to: UInt16.self, capacity: count)))
    }
  }

  private init(kernels: VectorKernels, values: UnsafeMutablePointer<Float>, bits: UnsafeMutablePointer<UInt16>) {
    (self.kernels, self.values, self.bits) = (kernels, values, bits)
  }

  func forEach(_ length: Int, _ body: (_ start: Int, _ count: Int) -> Void) {
    var start = 0
    while start < length {
      body(start, min(HalfBlock.count, length &- start))
      start &+= HalfBlock.count
    }
  }

  func load(_ source: UnsafePointer<UInt16>, _ stride: Int, _ count: Int) {
    for index in 0..<count { bits[index] = source[index &* stride] }
    kernels.table.pointee.f16_to_f32(count, bits, values)
  }

  func store(_ target: UnsafeMutablePointer<UInt16>, _ stride: Int, _ count: Int) {
    kernels.table.pointee.f32_to_f16(count, values, bits)
    for index in 0..<count { target[index &* stride] = bits[index] }
  }

  func round(_ count: Int) {
    kernels.table.pointee.f32_to_f16(count, values, bits)
    kernels.table.pointee.f16_to_f32(count, bits, values)
  }
}
