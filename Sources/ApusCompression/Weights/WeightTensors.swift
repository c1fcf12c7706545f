// The constants that a matrix in few bits is kept as: those of com.microsoft, and those of DequantizeLinear.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits

import ApusTensor

/// The operands of MatMulNBits and GatherBlockQuantized.
struct PackedBlocks: Sendable {
  /// Elements that a scale of the file stands for: at least 16, a power of two.
  let block: Int
  /// [rows, blocks, block · bits / 8]; bytes behind the end of a row hold zeros of the last block.
  let codes: Tensor
  /// [rows, blocks].
  let scales: Tensor
  /// [rows, bytes], as many bits a block as a code; nil where all are half the range.
  let zeros: Tensor?

  /// The largest block that onnxruntime has kernels for.
  private static let largestBlock = 256

  init(_ matrix: QuantizedMatrix) throws(CompressionError) {
    let grid = matrix.grid
    let block = Self.block(of: grid)
    let blocks = (grid.depth - 1) / block + 1
    let (bytes, rowBytes) = (block * grid.bits / 8, blocks * block * grid.bits / 8)
    codes = try Tensor.bytes([grid.rows, blocks, bytes]) { target in
      for row in 0..<grid.rows {
        for index in 0..<blocks {
          let first = index * block
          let count = min(block, grid.depth - first)
          let zero = matrix.zeros[row * grid.blocks + first / grid.block]
          var line = Array(matrix.codes[row * grid.depth + first..<row * grid.depth + first + count])
          line += [UInt8](repeating: zero, count: block - count)
          pack(line, bits: grid.bits, target + row * rowBytes + index * bytes)
        }
      }
    }
    func parameter<Element>(_ list: [Element], _ row: Int, _ index: Int) -> Element {
      list[row * grid.blocks + index * block / grid.block]
    }
    scales = Tensor(
      (0..<grid.rows).flatMap { row in (0..<blocks).map { parameter(matrix.scales, row, $0) } },
      shape: [grid.rows, blocks])
    self.block = block
    guard grid.hasZeroPoints else {
      zeros = nil
      return
    }
    let zeroBytes = (blocks * grid.bits + 7) / 8
    zeros = try Tensor.bytes([grid.rows, zeroBytes]) { target in
      for row in 0..<grid.rows {
        pack((0..<blocks).map { parameter(matrix.zeros, row, $0) }, bits: grid.bits, target + row * zeroBytes)
      }
    }
  }

  /// A grid with one block a row has a block of the file that wastes little: scales are repeated.
  private static func block(of grid: WeightGrid) -> Int {
    if grid.block >= 16, grid.block & (grid.block - 1) == 0, grid.block <= largestBlock || grid.blocks > 1 {
      return grid.block
    }
    var size = 16
    while size < grid.depth, size < largestBlock { size *= 2 }
    // Whole blocks where they can be.
    while size > 32, grid.depth % size != 0, grid.depth > size / 2 { size /= 2 }
    return size
  }

  /// The codes as rows of a table that end with its last element, [rows, bytes].
  func tableCodes(depth: Int, bits: Int) -> Tensor {
    let (rows, bytes) = (codes.shape[0], depth * bits / 8)
    let padded = rows == 0 ? 0 : codes.byteCount / rows
    if bytes == padded { return codes.reshaped(to: [rows, bytes]) }
    return Tensor(
      codes.withUnsafeBytes { all in
        (0..<rows).flatMap { (row: Int) -> Slice<UnsafeRawBufferPointer> in
          let start: Int = row * padded
          return all[start..<start + bytes]
        }
      },
      shape: [rows, bytes])
  }
}

/// The operands of DequantizeLinear.
struct DequantizedForm: Sendable {
  let codes: Tensor
  let scales: Tensor
  let zeros: Tensor?
  let axis: Int
  /// 0: one scale for each index along the axis.
  let blockSize: Int

  /// - Parameters:
  ///   - shape: that of the weight, whose elements `matrix` has as rows.
  ///   - depthAxis: of a matrix; of weights of a convolution 1, and rows are all but axis 0.
  init(
    _ matrix: QuantizedMatrix, shape: Shape, depthAxis: Int, type: WeightQuantizationOptions.ElementType
  ) throws(CompressionError) {
    let grid = matrix.grid
    let isTurned = depthAxis == 0
    let flip: UInt8 = type.isSigned ? grid.middle : 0
    codes = try Tensor.packed(matrix.codes, shape, grid.rows, grid.depth, isTurned: isTurned, type.dataType, flip)
    if grid.blocks == 1 {
      (axis, blockSize) = (1 - depthAxis, 0)
      scales = Tensor(matrix.scales, shape: [grid.rows])
    } else {
      (axis, blockSize) = (depthAxis, grid.block)
      scales = Tensor(
        isTurned ? transposed(matrix.scales, grid.rows, grid.blocks) : matrix.scales,
        shape: isTurned ? [grid.blocks, grid.rows] : [grid.rows, grid.blocks])
    }
    if !grid.hasZeroPoints && type.isSigned {
      zeros = nil
    } else {
      zeros = try Tensor.packed(
        matrix.zeros, scales.shape, grid.rows, grid.blocks, isTurned: isTurned, type.dataType, flip)
    }
  }
}

extension WeightQuantizationOptions.ElementType {
  package var dataType: DataType {
    switch self {
    case .int8: .int8
    case .uint8: .uint8
    case .int4: .int4
    case .uint4: .uint4
    case .int2: .int2
    case .uint2: .uint2
    }
  }
}

extension Tensor {
  /// A tensor of bytes that `fill` writes.
  fileprivate static func bytes(
    _ shape: Shape, _ fill: (UnsafeMutablePointer<UInt8>) -> Void
  ) throws(CompressionError) -> Tensor {
    do throws(TensorError) {
      let tensor = try Tensor(uninitialized: .uint8, shape: shape)
      // Memory of a tensor that nobody else has yet.
      fill(tensor.storage.base.assumingMemoryBound(to: UInt8.self))
      return tensor
    } catch {
      throw CompressionError(.limitExceeded, "codes of the shape \(shape): \(error)")
    }
  }

  /// Codes [rows, columns], one a byte, as a tensor of a type of few bits; `flip` makes signed codes of them.
  fileprivate static func packed(
    _ codes: [UInt8], _ shape: Shape, _ rows: Int, _ columns: Int, isTurned: Bool, _ type: DataType, _ flip: UInt8
  ) throws(CompressionError) -> Tensor {
    let ordered = (isTurned ? transposed(codes, rows, columns) : codes).map { $0 ^ flip }
    do throws(TensorError) {
      let tensor = try Tensor(uninitialized: type, shape: shape)
      pack(ordered, bits: type.bits, tensor.storage.base.assumingMemoryBound(to: UInt8.self))
      return tensor
    } catch {
      throw CompressionError(.limitExceeded, "codes of the shape \(shape): \(error)")
    }
  }
}

/// The matrix [rows, columns] as [columns, rows].
func transposed<Element>(_ matrix: [Element], _ rows: Int, _ columns: Int) -> [Element] {
  [Element](unsafeUninitializedCapacity: matrix.count) { buffer, count in
    count = matrix.count
    // Every element of the buffer is written once: column · rows + row takes each place.
    for row in 0..<rows {
      for column in 0..<columns {
        (buffer.baseAddress! + column * rows + row).initialize(to: matrix[row * columns + column])
      }
    }
  }
}

/// Writes codes of so many bits behind each other, the first in the lowest bits.
private func pack(_ codes: [UInt8], bits: Int, _ target: UnsafeMutablePointer<UInt8>) {
  codes.withUnsafeBufferPointer { codes in
    guard let source = codes.baseAddress else { return }
    if bits == 8 {
      target.update(from: source, count: codes.count)
    } else {
      PackedElements.pack(source, codes.count, bits: bits, UnsafeMutableRawPointer(target), at: 0)
    }
  }
}
