// How the elements of several inputs meet in one output: collapsed axes and strides, walked row by row.
// https://github.com/onnx/onnx/blob/main/docs/Broadcasting.md

import ApusTensor

/// The elements of inputs that broadcast to one output. Axes that can be walked as one are one; what remains is a
/// number of rows, along which every input either moves with the output (row stride 1) or stands still (row stride 0).
struct Broadcast: Sendable {
  /// Elements of the output.
  let count: Int
  /// Elements of a row, the innermost collapsed axis; at least 1.
  let rowLength: Int
  /// For every input: 1 if it moves along a row, 0 if it stands.
  let rowStrides: [Int]
  /// The extents of the collapsed axes outside the row, outermost first.
  let dims: [Int]
  /// Element strides: `strides[axis * rowStrides.count + input]`.
  let strides: [Int]

  /// Every input must broadcast to `output`, which inference has checked.
  init(output: Shape, inputs: [Shape]) {
    count = output.elementCount
    if inputs.allSatisfy({ $0 == output }) {
      rowLength = Swift.max(count, 1)
      rowStrides = [Int](repeating: 1, count: inputs.count)
      (dims, strides) = ([], [])
      return
    }
    let full = inputs.map { Broadcast.strides(of: $0, in: output) }
    // Collapsed axes, innermost first.
    var collapsedDims: [Int] = []
    var collapsedStrides: [[Int]] = []
    for axis in stride(from: output.rank - 1, through: 0, by: -1) where output[axis] != 1 {
      let here = full.map { $0[axis] }
      if let inner = collapsedStrides.last, let innerDim = collapsedDims.last,
        zip(here, inner).allSatisfy({ $0 == $1 &* innerDim })
      {
        collapsedDims[collapsedDims.count - 1] = innerDim &* output[axis]
      } else {
        collapsedDims.append(output[axis])
        collapsedStrides.append(here)
      }
    }
    rowLength = Swift.max(collapsedDims.first ?? 1, 1)
    rowStrides = collapsedStrides.first ?? inputs.map { _ in 1 }
    dims = collapsedDims.dropFirst().reversed()
    strides = collapsedStrides.dropFirst().reversed().flatMap { $0 }
  }

  /// The element strides of `input` along the axes of `output`: 0 where it is repeated.
  static func strides(of input: Shape, in output: Shape) -> [Int] {
    var result = [Int](repeating: 0, count: output.rank)
    let own = input.strides
    for (axis, dim) in input.enumerated() where dim != 1 { result[output.rank - input.rank + axis] = own[axis] }
    return result
  }

  /// Calls `body` for every row, or piece of a row, of the output elements `range`: with the element offset of every
  /// input, the first output element and the number of elements.
  @inline(__always)
  func forEachRow(in range: Range<Int>, _ body: (_ inputs: UnsafePointer<Int>, _ output: Int, _ count: Int) -> Void) {
    if range.isEmpty { return }
    let rank = dims.count
    let inputs = rowStrides.count
    withUnsafeTemporaryAllocation(of: Int.self, capacity: rank &+ inputs) { state in
      guard let coordinates = state.baseAddress else { return }
      let offsets = coordinates + rank
      locate(row: range.lowerBound / rowLength, coordinates, offsets)
      var column = range.lowerBound % rowLength
      var position = range.lowerBound
      while true {
        let length = min(rowLength &- column, range.upperBound &- position)
        if column == 0 {
          body(offsets, position, length)
        } else {
          for input in 0..<inputs { offsets[input] &+= column &* rowStrides[input] }
          body(offsets, position, length)
          for input in 0..<inputs { offsets[input] &-= column &* rowStrides[input] }
          column = 0
        }
        position &+= length
        if position >= range.upperBound { return }
        advance(coordinates, offsets)
      }
    }
  }

  /// The place of row number `row`.
  private func locate(row: Int, _ coordinates: UnsafeMutablePointer<Int>, _ offsets: UnsafeMutablePointer<Int>) {
    let inputs = rowStrides.count
    for input in 0..<inputs { offsets[input] = 0 }
    var rest = row
    for axis in stride(from: dims.count - 1, through: 0, by: -1) {
      coordinates[axis] = rest % dims[axis]
      rest /= dims[axis]
      for input in 0..<inputs { offsets[input] &+= coordinates[axis] &* strides[axis &* inputs &+ input] }
    }
  }

  /// The place of the next row.
  private func advance(_ coordinates: UnsafeMutablePointer<Int>, _ offsets: UnsafeMutablePointer<Int>) {
    let inputs = rowStrides.count
    var axis = dims.count &- 1
    while axis >= 0 {
      coordinates[axis] &+= 1
      let first = axis &* inputs
      if coordinates[axis] < dims[axis] {
        for input in 0..<inputs { offsets[input] &+= strides[first &+ input] }
        return
      }
      coordinates[axis] = 0
      for input in 0..<inputs { offsets[input] &-= (dims[axis] &- 1) &* strides[first &+ input] }
      axis &-= 1
    }
  }
}
