// The inner loops of GPTQ for a few rows of a matrix: memory for these rows, and the updates behind each column.

/// Some rows while their columns are rounded one after the other.
///
/// The unsafe pointers are into arrays that the caller holds for the time of the call; every index is below the depth
/// or the number of blocks.
struct ErrorSpreading {
  /// Columns whose errors are spread to the columns far behind at once.
  private static let lazyColumns = 128

  private let grid: WeightGrid
  private let rows: Range<Int>
  private let upper: UnsafePointer<Float>
  /// The diagonal of H.
  private let importance: UnsafePointer<Float>
  private let order: [Int]
  private let isStatic: Bool
  /// Whether a code may only be one of the two beside the original weight.
  private let keepsNeighbours: Bool
  /// The weights in the order of the columns, as they are moved.
  private var work: [Float] = []
  private var originals: [Float] = []
  /// [rows, lazyColumns].
  private var errors: [Float]

  init(
    _ grid: WeightGrid, rows: Range<Int>, upper: UnsafePointer<Float>,
    importance: UnsafePointer<Float>, order: [Int], isStatic: Bool, original: Bool
  ) {
    self.importance = importance
    (self.grid, self.rows, self.upper, self.order) = (grid, rows, upper, order)
    (self.isStatic, keepsNeighbours) = (isStatic, original)
    errors = [Float](repeating: 0, count: rows.count * Self.lazyColumns)
  }

  /// Takes the rows out of [rows, depth].
  mutating func load(_ weights: [Float]) {
    work.reserveCapacity(rows.count * grid.depth)
    for row in rows {
      for column in order { work.append(weights[row * grid.depth + column]) }
    }
    if keepsNeighbours { originals = work }
  }

  mutating func run(
    _ codes: UnsafeMutablePointer<UInt8>, _ scales: UnsafeMutablePointer<Float>, _ zeros: UnsafeMutablePointer<UInt8>,
    isPlain: Bool
  ) {
    let fit = BlockFit(grid)
    let depth = grid.depth
    for start in stride(from: 0, to: depth, by: Self.lazyColumns) {
      let end = min(start + Self.lazyColumns, depth)
      for position in start..<end {
        let column = order[position]
        let block = column / grid.block
        let diagonal = upper[position * depth + position]
        for local in 0..<rows.count {
          let row = rows.lowerBound + local
          let parameter = row * grid.blocks + block
          if !isStatic, isPlain, column % grid.block == 0 {
            let count = min(grid.block, depth - column)
            let found = work.withUnsafeBufferPointer {
              fit.parameters(
                $0.baseAddress! + local * depth + position, count: count, importance: importance + column)
            }
            scales[parameter] = found.scale
            zeros[parameter] = UInt8(found.zero)
          }
          let (scale, zero) = (scales[parameter], Float(zeros[parameter]))
          let weight = work[local * depth + position]
          let code = self.code(weight, scale, zero, at: local * depth + position)
          codes[row * depth + column] = code
          let error = (weight - (Float(code) - zero) * scale) / diagonal
          errors[local * Self.lazyColumns + position - start] = error
          spread(error, local, position, to: end)
        }
      }
      spreadFar(start..<end)
    }
  }

  @inline(__always)
  private func code(_ weight: Float, _ scale: Float, _ zero: Float, at index: Int) -> UInt8 {
    let inverse = CodeRounding.inverse(of: scale)
    let maximum = Float(grid.maximum)
    let code = CodeRounding.code(weight, inverse: inverse, zero: zero, maximum: maximum)
    if !keepsNeighbours { return code }
    let below = min(max((originals[index] * inverse).rounded(.down) + zero, 0), maximum)
    return UInt8(min(max(Float(code), below), min(below + 1, maximum)))
  }

  /// The columns of the same lazy block behind one.
  @inline(__always)
  private mutating func spread(_ error: Float, _ local: Int, _ position: Int, to end: Int) {
    let factors = upper + position * grid.depth
    work.withUnsafeMutableBufferPointer { work in
      guard let target = work.baseAddress.map({ $0 + local * grid.depth }) else { return }
      for index in position + 1..<max(end, position + 1) { target[index] -= error * factors[index] }
    }
  }

  /// All columns behind a lazy block: sixteen at a time stay in registers while its errors are spread.
  private mutating func spreadFar(_ range: Range<Int>) {
    let depth = grid.depth
    let (rows, lazy, upper) = (rows.count, Self.lazyColumns, upper)
    work.withUnsafeMutableBufferPointer { work in
      errors.withUnsafeBufferPointer { errors in
        guard let work = work.baseAddress, let errors = errors.baseAddress else { return }
        var column = range.upperBound
        while column + 16 <= depth {
          for local in 0..<rows {
            let target = UnsafeMutableRawPointer(work + local * depth + column)
            var sums = target.loadUnaligned(as: SIMD16<Float>.self)
            for index in 0..<range.count {
              let factors = UnsafeRawPointer(upper + ((range.lowerBound &+ index) &* depth &+ column))
              sums -= errors[local &* lazy &+ index] * factors.loadUnaligned(as: SIMD16<Float>.self)
            }
            target.storeBytes(of: sums, as: SIMD16<Float>.self)
          }
          column += 16
        }
        for column in column..<depth {
          for local in 0..<rows {
            for index in 0..<range.count {
              work[local * depth + column] -=
                errors[local * lazy + index] * upper[(range.lowerBound + index) * depth + column]
            }
          }
        }
      }
    }
  }
}
