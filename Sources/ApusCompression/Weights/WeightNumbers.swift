// The elements of a weight as float32 numbers, and back.

import ApusGraph
import ApusTensor

/// A tensor of floats as numbers to compute with. float64 keeps what float32 has of it.
package enum WeightNumbers {
  package static let types: Set<DataType> = [.float32, .float64, .float16, .bfloat16]

  /// The elements in row-major order; nil for other types.
  package static func read(_ tensor: Tensor) -> [Float]? {
    switch tensor.dataType {
    case .float32: tensor.elements(as: Float.self)
    case .float64: tensor.elements(as: Double.self)?.map { Float($0) }
    case .float16: tensor.elements(as: Float16.self)?.map { Float($0) }
    case .bfloat16: tensor.elements(as: BFloat16.self)?.map(\.float)
    default: nil
    }
  }

  /// A tensor of the type and shape of `model` with other elements.
  package static func write(_ numbers: [Float], like model: Tensor) throws(TensorError) -> Tensor {
    switch model.dataType {
    case .float64: try Tensor(numbers.map { Double($0) }, validating: model.shape)
    case .float16: try Tensor(numbers.map { Float16($0) }, validating: model.shape)
    case .bfloat16: try Tensor(numbers.map { BFloat16($0) }, validating: model.shape)
    default: try Tensor(numbers, validating: model.shape)
    }
  }

  /// The tensor with zeros where `isZero` holds; all other elements keep their bits.
  package static func zeroing(_ tensor: Tensor, where isZero: [Bool]) throws(TensorError) -> Tensor {
    let copy = try tensor.copied()
    let width = tensor.dataType.byteWidth
    for (index, zero) in isZero.enumerated() where zero {
      // In bounds: as many flags as elements, all of `width` bytes.
      (copy.storage.base + index * width).initializeMemory(as: UInt8.self, repeating: 0, count: width)
    }
    return copy
  }
}

/// Walks over a tensor in row-major order along one axis: `outer` blocks of `extent` rows of `inner` elements.
package struct AxisWalk: Sendable {
  package let outer: Int
  package let extent: Int
  package let inner: Int

  package init(_ shape: Shape, axis: Int) {
    outer = shape.count(of: 0..<axis)
    extent = shape[axis]
    inner = shape.count(of: axis + 1..<shape.rank)
  }

  /// The index along the axis of an element.
  package func index(of element: Int) -> Int { element / inner % extent }
}

extension Tensor {
  /// The tensor with the indices of an axis for which `isKept` says so.
  package func keeping(_ isKept: [Bool], axis: Int) throws(TensorError) -> Tensor {
    let walk = AxisWalk(shape, axis: axis)
    var extents = shape
    extents[axis] = isKept.count { $0 }
    let result = try Tensor(uninitialized: dataType, shape: extents)
    let bytes = walk.inner * dataType.byteWidth
    var target = result.storage.base
    withUnsafeBytes { source in
      guard let base = source.baseAddress else { return }
      for block in 0..<walk.outer {
        for index in 0..<walk.extent where isKept[index] {
          // In bounds: index < extent, and the target holds the kept rows of all blocks.
          target.copyMemory(from: base + (block * walk.extent + index) * bytes, byteCount: bytes)
          target += bytes
        }
      }
    }
    return result
  }
}
