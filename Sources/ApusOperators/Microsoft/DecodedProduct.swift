// Products with a right-hand matrix that is kept in a compressed form and decoded some columns at a time.

import ApusGraph
import ApusTensor
import CApusKernels

/// Y = A · Bᵀ + bias with A [m, k], B [n, k] in float32, whose rows are decoded while running.
struct DecodedProduct: Sendable {
  let m: Int
  let n: Int
  let k: Int
  private let kernels = GemmKernels.current

  init(m: Int, n: Int, k: Int) { (self.m, self.n, self.k) = (m, n, k) }

  /// Writes the k numbers of one row of B.
  typealias Decoder = @Sendable (_ run: RunContext, _ row: Int, _ target: UnsafeMutablePointer<Float>) -> Void

  /// Floats of scratch memory that one part needs: decoded rows, then the same packed.
  var scratchFloats: Int { (2 * kernels.panelColumns * k + 15) & ~15 }

  /// A panel of columns: its elements are decoded and packed, then multiplied with every row.
  var panel: Cost { (.light + Cost(operations: 2) * m) * kernels.panelColumns * k }

  /// Panels of columns, in groups that are worth a part.
  var partition: Partition { Partition(kernels.panelCount(n), of: panel) }

  func step(a: Int = 0, bias: Int?, _ decode: @escaping Decoder) -> Step {
    let (partition, scratch) = (partition, scratchFloats)
    return Step.parallel(parts: m == 0 || n == 0 ? 0 : partition.parts, scratchBytes: partition.parts * scratch * 4) {
      run, part in
      multiply(
        run, partition.range(part), a: run.input(a), bias: bias.map { run.input($0) }, c: run.output(),
        scratch: run.scratch.assumingMemoryBound(to: Float.self) + part &* scratch, rows: m, decode)
    }.named("decoded gemm_f32", cost: Cost(operations: 2 &* m &* n &* k))
  }

  /// The columns of some panels for the first `rows` rows.
  func multiply(
    _ run: RunContext, _ panels: Range<Int>, a: UnsafePointer<Float>, bias: UnsafePointer<Float>?,
    c: UnsafeMutablePointer<Float>, scratch: UnsafeMutablePointer<Float>, rows: Int, _ decode: Decoder
  ) {
    let width = kernels.panelColumns
    let packed = scratch + width &* k
    for panel in panels {
      let first = panel &* width
      let columns = min(width, n &- first)
      for column in 0..<columns { decode(run, first &+ column, scratch + column &* k) }
      var source = apus_gemm_source(b: scratch, stride_tap: 0, stride_k: 1, stride_n: k, taps: 1, kc: k, n: columns)
      kernels.pack(&source, packed, 0, 1)
      var args = apus_gemm_f32_args(
        a: a, lda: k, offsets: nil, zeros: nil, taps: 1, kc: k, n: columns, b: packed, c: c + first, ldc: n,
        epilogue: apus_epilogue_f32(
          bias: bias.map { $0 + first }, add: nil, add_ld: 0, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0))
      kernels.multiply(&args, 0, rows, 0, 1)
    }
  }
}
