// The logarithm of a sum of exponentials: the maximum first, then the sum of exp(x - maximum).

import ApusGraph
import ApusTensor
import CApusKernels

struct LogSumExpKernel<Element: ReductionElement & Real>: Sendable where Element.Total == Double {
  private let maximum: ReductionKernel<Element>
  private let sum: ReductionKernel<Element>
  /// Exponentials, and logarithms, of a block in place.
  private let exponentials: Function
  private let logarithms: Function

  typealias Function = @Sendable (_ x: UnsafeMutablePointer<Element>, _ count: Int) -> Void

  /// Without `exponentials` and `logarithms` those of the C library.
  init(
    load: LaneLoad?, store: LaneStore?, _ table: apus_kernel_table?, exponentials: Function? = nil,
    logarithms: Function? = nil
  ) {
    maximum = ReductionKernel(fold: ElementFold(.maximum, table), load: load)
    sum = ReductionKernel(fold: ElementFold(.sum, table), load: load, store: store)
    self.exponentials = exponentials ?? { x, count in for index in 0..<count { x[index] = Element.exp(x[index]) } }
    self.logarithms = logarithms ?? { x, count in for index in 0..<count { x[index] = Element.log(x[index]) } }
  }

  func step(_ geometry: ReductionGeometry) -> Step {
    let width = ReductionKernel<Element>.tileWidth(geometry, chunks: 1, isStaged: true)
    let tiles = (geometry.columns + width - 1) / width
    let tasks = geometry.outerCount * tiles
    if tasks == 0 { return Step(phases: []) { _, _, _ in } }
    let work = geometry.reduceCount * min(geometry.columns, width)
    let partition = Partition(tasks, of: .medium * 2 * work)
    let bytes = ReductionKernel<Element>.Memory.bytes(isStaged: true)
    let shift: ReductionKernel<Element>.Shift = { x, shifts, rows, n, isByRow in
      for row in 0..<rows {
        let line = x + row &* n
        if isByRow {
          let shift = shifts[row]
          for index in 0..<n { line[index] -= shift }
        } else {
          for index in 0..<n { line[index] -= shifts[index] }
        }
      }
      exponentials(x, rows &* n)
    }
    return Step.parallel(parts: partition.parts, scratchBytes: partition.parts * bytes) { run, part in
      let memory = ReductionKernel<Element>.Memory(run.scratch + part &* bytes)
      for task in partition.range(part) {
        let (outer, first) = (task / tiles, task % tiles &* width)
        let count = min(width, geometry.columns &- first)
        let base = geometry.keptOffset(outer) &+ first &* geometry.columnStride
        let all = 0..<geometry.reduceCount
        maximum.fold(geometry, run.inputBytes(0), base, count, all, memory, shift: nil)
        for column in 0..<count {
          // An infinite maximum must not meet itself: infinity - infinity is no number.
          let largest = Element(total: memory.totals[column])
          memory.shifts[column] = largest.isInfinite ? 0 : largest
        }
        sum.fold(geometry, run.inputBytes(0), base, count, all, memory, shift: shift)
        for column in 0..<count { memory.folded[column] = Element(total: memory.totals[column]) }
        logarithms(memory.folded, count)
        for column in 0..<count {
          memory.totals[column] = memory.folded[column].total + memory.shifts[column].total
        }
        sum.write(memory, count, geometry.reduceCount, run.outputBytes(), at: outer &* geometry.columns &+ first)
      }
    }.named("log of sum of exponentials", cost: Cost(operations: tasks * work))
  }
}
