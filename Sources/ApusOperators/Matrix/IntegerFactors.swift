// The factors of integer products: which scale or zero point belongs to what, and their plain form, 32-bit copies less
// the zero points in scratch memory.

import ApusGraph
import ApusTensor

/// Which element of a scale or zero point belongs to a line of a matrix: a row of A, or a column of B.
struct LineIndex: Sendable {
  private enum Form: Sendable {
    case one
    /// The same for every matrix of the batch.
    case byLine
    /// Position by matrix and line.
    case table([Int])
  }

  private let form: Form
  private let lines: Int

  /// True if all lines have the same element.
  var isSingle: Bool { lineStride == 0 }

  /// Elements from one line to the next; nil if there is no such number.
  var lineStride: Int? {
    switch form {
    case .one: 0
    case .byLine: 1
    case .table: nil
    }
  }

  /// `axis` is the axis of the lines from the end: 2 for rows, 1 for columns. The parameter has one element, one for
  /// each line, or a shape that broadcasts to that of the matrices with an extent of 1 on the other of the last two
  /// axes.
  init(_ parameter: Shape?, of matrices: Shape, axis: Int, name: String) throws(OperatorError) {
    lines = matrices.rank >= axis ? matrices[matrices.rank - axis] : 1
    // Of empty matrices nothing is looked up.
    guard let parameter, parameter.elementCount != 1, matrices.elementCount > 0 else {
      form = .one
      return
    }
    if parameter.rank == 1 && parameter[0] == lines {
      form = .byLine
      return
    }
    var target = matrices
    if target.rank > 1 { target[target.rank - (3 - axis)] = 1 } else if axis == 2 { target = [1] }
    let fits = parameter.rank == target.rank && zip(parameter, target).allSatisfy { $0 == 1 || $0 == $1 }
    guard fits else {
      throw .mismatch("\(name) has the shape \(parameter); expected one element, [\(lines)], or \(target)")
    }
    let strides = parameter.strides
    var table: [Int] = []
    for index in 0..<target.elementCount {
      var (rest, position) = (index, 0)
      for dim in target.indices.reversed() {
        if parameter[dim] != 1 { position += rest % target[dim] * strides[dim] }
        rest /= target[dim]
      }
      table.append(position)
    }
    form = .table(table)
  }

  @inline(__always) func callAsFunction(matrix: Int, line: Int) -> Int {
    switch form {
    case .one: 0
    case .byLine: line
    case .table(let table): table[matrix &* lines &+ line]
    }
  }
}

extension Shape {
  /// That of a right factor as a matrix: a vector is a column.
  var asColumn: Shape { rank == 1 ? [self[0], 1] : self }

  /// That of a right factor as matrices, or of a transposed matrix as it is multiplied with.
  func asRightFactor(isTransposed: Bool) -> Shape { isTransposed ? [self[1], self[0]] : asColumn }
}

/// The number of a factor's matrix for each matrix of a product whose batch it broadcasts to.
struct BroadcastMatrices: Sendable {
  /// From the last axis on: the extent of the batch, and how far a step on it goes among the matrices of the factor.
  private let axes: [(extent: Int, step: Int)]
  private let isSame: Bool

  /// `shape` is that of the factor, `batch` the extents of the product before the last two.
  init(of shape: Shape, in batch: [Int]) {
    let own = [Int](repeating: 1, count: batch.count - (shape.rank - 2)) + shape.dims.dropLast(2)
    isSame = own == batch
    var axes: [(extent: Int, step: Int)] = []
    var step = 1
    for axis in batch.indices.reversed() {
      axes.append((batch[axis], own[axis] == 1 ? 0 : step))
      step &*= own[axis]
    }
    self.axes = axes
  }

  subscript(matrix: Int) -> Int {
    if isSame { return matrix }
    var (rest, position) = (matrix, 0)
    for axis in axes {
      position &+= rest % axis.extent &* axis.step
      rest /= axis.extent
    }
    return position
  }
}

/// Writes an 8-bit factor less its zero points as int32. Inputs: the factor, its zero point; output: int32 of its
/// shape.
struct IntegerFactor: Sendable {
  let shape: Shape
  let zeroPoints: LineIndex
  /// True for A, whose rows have zero points; false for B, whose columns have.
  let isLeft: Bool

  func step(_ type: DataType, hasZeroPoint: Bool) -> Step? {
    switch type {
    case .int8: step(Int8.self, hasZeroPoint)
    case .uint8: step(UInt8.self, hasZeroPoint)
    default: nil
    }
  }

  private func step<Element: FixedWidthInteger & BitwiseCopyable & Sendable>(
    _ element: Element.Type, _ hasZeroPoint: Bool
  ) -> Step {
    let columns = shape.last ?? 1
    // A vector on the right is a column.
    let isColumn = shape.rank == 1 && !isLeft
    let rowsPerMatrix = shape.rank > 1 ? shape[shape.rank - 2] : 1
    let rows = Partition(columns == 0 ? 0 : shape.elementCount / columns, of: .light * 2 * columns)
    return .parallel(parts: rows.parts) { run, part in
      let (source, zero) = (run.input(0, as: Element.self), run.input(1, as: Element.self))
      let target = run.output(0, as: Int32.self)
      for row in rows.range(part) {
        let (matrix, line) = row.quotientAndRemainder(dividingBy: rowsPerMatrix)
        let (from, to) = (source + row &* columns, target + row &* columns)
        if isLeft || isColumn || !hasZeroPoint {
          let point = hasZeroPoint ? Int32(zero[zeroPoints(matrix: matrix, line: isLeft ? line : 0)]) : 0
          for column in 0..<columns { to[column] = Int32(from[column]) &- point }
        } else {
          for column in 0..<columns {
            to[column] = Int32(from[column]) &- Int32(zero[zeroPoints(matrix: matrix, line: column)])
          }
        }
      }
    }
  }
}

/// Where a node has the operands of an integer product among its inputs.
struct IntegerOperandPositions: Sendable {
  let a: Int
  let aZero: Int
  let b: Int
  let bZero: Int
  /// B is a matrix [n, k].
  var isTransposed = false

  var all: [Int] { [a, aZero, b, bZero] }
}
