// Sweeps over the codes and scales of one row, one change at a time.

/// Moves each code, and the scale of each block, of a row to where (w - ŵ)ᵀ · H · (w - ŵ) is least while all others
/// stay.
///
/// The unsafe pointers are into arrays that the caller holds for the time of the call; every index is below the depth
/// or the number of blocks.
struct CodeDescent {
  private let grid: WeightGrid
  private let moments: UnsafePointer<Float>
  /// What is added to the diagonal of H.
  private let added: Float
  private let keepsNeighbours: Bool
  private let keepsScales: Bool

  init(
    _ grid: WeightGrid, _ moments: UnsafePointer<Float>, _ added: Float, keepsNeighbours: Bool, keepsScales: Bool
  ) {
    (self.grid, self.moments, self.added) = (grid, moments, added)
    (self.keepsNeighbours, self.keepsScales) = (keepsNeighbours, keepsScales)
  }

  /// `start`: H · (w - ŵ).
  func run(
    _ weights: UnsafePointer<Float>, _ start: UnsafePointer<Float>, _ codes: UnsafeMutablePointer<UInt8>,
    _ scales: UnsafeMutablePointer<Float>, _ zeros: UnsafePointer<UInt8>, sweeps: Int
  ) {
    var gradient = Array(UnsafeBufferPointer(start: start, count: grid.depth))
    gradient.withUnsafeMutableBufferPointer { gradient in
      guard let gradient = gradient.baseAddress else { return }
      for column in 0..<grid.depth {
        let block = column / grid.block
        let error = weights[column] - (Float(codes[column]) - Float(zeros[block])) * scales[block]
        gradient[column] += error * added
      }
      for _ in 0..<sweeps {
        var hasChanged = false
        for block in 0..<grid.blocks {
          let columns = block * grid.block..<min((block + 1) * grid.block, grid.depth)
          if !keepsScales { moveScale(columns, codes, &scales[block], Float(zeros[block]), gradient) }
          for column in columns {
            let moved = moveCode(column, weights[column], &codes[column], scales[block], Float(zeros[block]), gradient)
            hasChanged = moved || hasChanged
          }
        }
        if !hasChanged { break }
      }
    }
  }

  /// Gives a block the scale with the least error for its codes: the change is qᵀ·g / qᵀ·H·q.
  private func moveScale(
    _ columns: Range<Int>, _ codes: UnsafePointer<UInt8>, _ scale: inout Float, _ zero: Float,
    _ gradient: UnsafeMutablePointer<Float>
  ) {
    if scale == 0 { return }
    var (slope, curvature) = (Float(0), Float(0))
    for column in columns {
      let code = Float(codes[column]) - zero
      if code == 0 { continue }
      slope += code * gradient[column]
      var sum = code * added
      for other in columns {
        sum += (Float(codes[other]) - zero) * moments[column &* grid.depth &+ other]
      }
      curvature += code * sum
    }
    let change = slope / curvature
    // Far changes are those of blocks that hardly count; none may turn the codes round.
    guard curvature > 0, change.isFinite, abs(change) < abs(scale) / 2, abs(change) > abs(scale) * 1e-4 else { return }
    scale += change
    for column in columns where codes[column] != UInt8(zero) {
      add(-change * (Float(codes[column]) - zero), column, to: gradient)
    }
  }

  @inline(__always)
  private func moveCode(
    _ column: Int, _ weight: Float, _ current: inout UInt8, _ scale: Float, _ zero: Float,
    _ gradient: UnsafeMutablePointer<Float>
  ) -> Bool {
    let diagonal = moments[column &* grid.depth &+ column] + added
    if scale == 0 || diagonal <= 0 { return false }
    let wanted = Float(current) + (gradient[column] / (diagonal * scale)).rounded(.toNearestOrEven)
    let code = bounded(wanted, weight, scale, zero)
    if code == current { return false }
    add((Float(current) - Float(code)) * scale, column, to: gradient)
    current = code
    return true
  }

  @inline(__always)
  private func bounded(_ wanted: Float, _ weight: Float, _ scale: Float, _ zero: Float) -> UInt8 {
    let maximum = Float(grid.maximum)
    let code = min(max(wanted.isNaN ? zero : wanted, 0), maximum)
    if !keepsNeighbours { return UInt8(code) }
    let below = min(max((weight / scale).rounded(.down) + zero, 0), maximum)
    return UInt8(min(max(code, below), min(below + 1, maximum)))
  }

  /// Adds `error` times a column of H, which is a row of it.
  @inline(__always)
  private func add(_ error: Float, _ column: Int, to gradient: UnsafeMutablePointer<Float>) {
    let row = moments + column * grid.depth
    for index in 0..<grid.depth { gradient[index] += error * row[index] }
    gradient[column] += error * added
  }
}
