// Attention in float32 on the packed micro-kernels, block of queries by block of queries.

import ApusGraph
import ApusTensor
import CApusKernels

/// How attention divides into blocks of rows that share a head of keys, and the memory of a part.
///
/// A block computes the scores of some queries for all keys that any of them sees, the probabilities row by row, and
/// their product with the values. Keys and values are read as they lie by few rows. Otherwise they are packed:
/// beforehand where several blocks share them, as far as memory allows, or some panels at a time by each block.
struct PackedAttention: Sendable {
  let problem: AttentionProblem
  private let kernels = GemmKernels.current
  private let vectors = VectorKernels.current
  /// Heads of queries whose rows lie at equal distances, so that they can be one matrix: a whole group, or one.
  private let headsPerMatrix: Int
  private let matrices: Int
  private let rowsPerMatrix: Int
  private let rowsPerBlock: Int
  private let blocksPerMatrix: Int
  /// Floats from one row of scores to the next.
  private let scoreStride: Int
  private let keyPanels: Int
  private let valueRows: Int
  private let partition: Partition
  private let form: Form
  /// Of the phase that packs: the floats of the keys of a head, and of its values, and the heads.
  private let packedKeys: Int
  private let packedValues: Int
  private let heads: Partition

  /// How the products read keys and values.
  private enum Form { case direct, packedBefore, packedOnTheWay }

  /// Floats of the scores of a block, which stay near between the steps that they take; more of them where there would
  /// be too few rows to read keys and values for. Floats that are packed at once on the way.
  private static let scoreFloats = 24 << 10
  private static let mostScoreFloats = 256 << 10
  private static let fewestRows = 32
  private static let packedFloats = 32 << 10
  /// The most floats that all keys and values are packed into.
  private static let packedLimit = 16 << 20

  init(_ problem: AttentionProblem) {
    self.problem = problem
    let geometry = problem.geometry
    let isEven =
      geometry.group == 1 || geometry.queries == 1 || geometry.query.head == geometry.queries * geometry.query.row
    headsPerMatrix = isEven ? geometry.group : 1
    matrices = geometry.batch * (geometry.queryHeads / max(headsPerMatrix, 1))
    rowsPerMatrix = headsPerMatrix * geometry.queries
    let columns = kernels.panelColumns
    scoreStride = PackedAttention.scoreStride(kernels.panelCount(geometry.keys) * columns)
    // Blocks high enough to be worth the packing, low enough that many cores have some.
    let fewest = min(PackedAttention.fewestRows, max(1, PackedAttention.mostScoreFloats / max(scoreStride, 1)))
    let fair = max((matrices * rowsPerMatrix + 31) / 32, PackedAttention.fewestRows)
    let high = min(fair, max(fewest, PackedAttention.scoreFloats / max(scoreStride, 1)))
    let blocks = max(1, (rowsPerMatrix + high - 1) / high)
    rowsPerBlock = max(1, (rowsPerMatrix + blocks - 1) / blocks)
    blocksPerMatrix = (rowsPerMatrix + rowsPerBlock - 1) / rowsPerBlock
    keyPanels = max(1, PackedAttention.packedFloats / max(geometry.size * columns, 1))
    let valueWidth = kernels.panelCount(geometry.valueSize) * columns
    valueRows = max(64, PackedAttention.packedFloats / max(valueWidth, 1))
    packedKeys = kernels.packedCount(k: geometry.size, n: geometry.keys)
    packedValues = kernels.packedCount(k: geometry.keys, n: geometry.valueSize)
    let keyHeads = geometry.batch * geometry.keyHeads
    heads = Partition(keyHeads, of: .copying(bytes: 4) * (packedKeys + packedValues))
    let fits = packedKeys + packedValues <= PackedAttention.packedLimit / max(keyHeads, 1)
    form =
      rowsPerMatrix <= GemmPlan.directRows
      ? .direct : fits && matrices * blocksPerMatrix > keyHeads ? .packedBefore : .packedOnTheWay
    // The products, and as much again for packing keys and values and for the softmax.
    let block = Cost(operations: 4) * rowsPerBlock * geometry.keys * (geometry.size + geometry.valueSize)
    partition = Partition(matrices * blocksPerMatrix, of: block)
  }

  /// From one row of scores to the next: rows that are a multiple of a page apart would meet in few lines of the
  /// first-level cache.
  private static func scoreStride(_ width: Int) -> Int { width % 128 == 0 ? width + 16 : width }

  /// Floats of all packed keys and values.
  private var sharedFloats: Int {
    form == .packedBefore ? problem.geometry.batch &* problem.geometry.keyHeads &* (packedKeys &+ packedValues) : 0
  }

  /// Scores, then keys or values that are packed on the way.
  private var floatsPerPart: Int {
    if form != .packedOnTheWay { return (rowsPerBlock * scoreStride + 15) & ~15 }
    let columns = kernels.panelColumns
    let keys = keyPanels * problem.geometry.size * columns
    let values = valueRows * kernels.panelCount(problem.geometry.valueSize) * columns
    return (rowsPerBlock * scoreStride + max(keys, values) + 15) & ~15
  }

  func step() -> Step {
    let floats = floatsPerPart
    let isEmpty = rowsPerMatrix == 0 || problem.geometry.valueSize == 0 && problem.scoreMode == nil
    let parts = isEmpty ? 0 : partition.parts
    let packing = isEmpty || form != .packedBefore ? [] : [heads.parts]
    let shared = aligned(sharedFloats * 4) / 4
    return Step(phases: packing + [parts], scratchBytes: (shared + partition.parts * floats) * 4) { run, phase, part in
      let scratch = run.scratch.assumingMemoryBound(to: Float.self)
      if phase < packing.count {
        for head in heads.range(part) { pack(run, head: head, to: scratch) }
        return
      }
      let scores = scratch + (shared &+ part &* floats)
      for block in partition.range(part) {
        let (matrix, index) = block.quotientAndRemainder(dividingBy: blocksPerMatrix)
        let first = index &* rowsPerBlock
        compute(run, matrix, first..<min(first &+ rowsPerBlock, rowsPerMatrix), scores, packed: scratch)
      }
    }.named("attention_f32", cost: Cost(operations: problem.operations))
  }

  /// True if scores are an output: they are computed for all keys.
  private var isWhole: Bool { problem.scoreMode.map { $0 < 3 } ?? false }

  /// One block of rows: where it lies, and the keys that its rows see together.
  private struct Block {
    var batch: Int
    var firstHead: Int
    var keyHead: Int
    var rows: Range<Int>
    var keys: Range<Int>
  }

  /// `packed`: the keys and values of all heads, one after the other, where they are packed before.
  private func compute(
    _ run: RunContext, _ matrix: Int, _ rows: Range<Int>, _ scores: UnsafeMutablePointer<Float>,
    packed: UnsafeMutablePointer<Float>
  ) {
    let geometry = problem.geometry
    let perBatch = geometry.queryHeads / headsPerMatrix
    let batch = matrix / perBatch
    let firstHead = (matrix &- batch &* perBatch) &* headsPerMatrix
    var block = Block(
      batch: batch, firstHead: firstHead, keyHead: firstHead / geometry.group, rows: rows, keys: 0..<0)
    var (low, high) = (geometry.keys, 0)
    for row in rows {
      let seen = problem.visible(run, batch: batch, query: row % geometry.queries)
      if seen.isEmpty { continue }
      (low, high) = (min(low, seen.lowerBound), max(high, seen.upperBound))
    }
    block.keys = isWhole ? 0..<geometry.keys : low < high ? low..<high : 0..<0
    let packed =
      form == .packedBefore
      ? packed + (batch &* geometry.keyHeads &+ block.keyHead) &* (packedKeys &+ packedValues)
      : scores + rowsPerBlock &* scoreStride
    multiplyKeys(run, block, scores, packed)
    for row in rows { finish(run, block, row, scores + (row &- rows.lowerBound) &* scoreStride) }
    multiplyValues(run, block, scores, packed)
  }

  // MARK: - Products

  /// scores[row][key] = q · k for the keys of the block, a column for each key from key 0 on.
  private func multiplyKeys(
    _ run: RunContext, _ block: Block, _ scores: UnsafeMutablePointer<Float>, _ packed: UnsafeMutablePointer<Float>
  ) {
    let geometry = problem.geometry
    let k = run.input(1, as: Float.self) + (block.batch &* geometry.key.batch &+ block.keyHead &* geometry.key.head)
    let columns = kernels.panelColumns
    // Where heads are one matrix, a row follows the last of the head before.
    let lda = geometry.queries == 1 ? geometry.query.head : geometry.query.row
    let q =
      run.input(0, as: Float.self) + (block.batch &* geometry.query.batch &+ block.firstHead &* geometry.query.head)
    let rows = q + block.rows.lowerBound &* lda
    var panel = block.keys.lowerBound / columns
    let end = (block.keys.upperBound + columns - 1) / columns
    while panel < end {
      let count = form == .packedOnTheWay ? min(keyPanels, end &- panel) : end &- panel
      let first = panel &* columns
      var args = arguments(
        a: rows, lda: lda, depth: geometry.size, columns: geometry.keys &- first, b: packed, c: scores + first,
        ldc: scoreStride)
      switch form {
      case .direct:
        args.b = k + first &* geometry.key.row
        kernels.multiplyTurned(
          &args, geometry.key.row, 0, block.rows.count, 0, min(count &* columns, geometry.keys &- first))
      case .packedBefore:
        args.b = UnsafePointer(packed + first &* geometry.size)
        kernels.multiply(&args, 0, block.rows.count, 0, count)
      case .packedOnTheWay:
        packKeys(k + first &* geometry.key.row, geometry.keys &- first, panels: count, to: packed)
        kernels.multiply(&args, 0, block.rows.count, 0, count)
      }
      panel &+= count
    }
  }

  /// y[row] = probabilities · values, some values at a time, whichever the form is.
  private func multiplyValues(
    _ run: RunContext, _ block: Block, _ scores: UnsafeMutablePointer<Float>, _ packed: UnsafeMutablePointer<Float>
  ) {
    let geometry = problem.geometry
    let v = run.input(2, as: Float.self) + (block.batch &* geometry.value.batch &+ block.keyHead &* geometry.value.head)
    let ldc = geometry.queries == 1 ? geometry.result.head : geometry.result.row
    let y =
      run.output(0, as: Float.self)
      + (block.batch &* geometry.result.batch &+ block.firstHead &* geometry.result.head)
      + block.rows.lowerBound &* ldc
    var first = block.keys.lowerBound
    repeat {
      let depth = min(valueRows, block.keys.upperBound &- first)
      var args = arguments(
        a: scores + first, lda: scoreStride, depth: depth, columns: geometry.valueSize, b: packed, c: y, ldc: ldc)
      if first > block.keys.lowerBound {
        args.epilogue.add = UnsafePointer(y)
        args.epilogue.add_ld = ldc
      }
      switch form {
      case .direct:
        args.b = v + first &* geometry.value.row
        kernels.multiplyDirectly(&args, geometry.value.row, 0, block.rows.count, 0, geometry.valueSize)
      case .packedBefore: multiplyPanels(args, rows: block.rows.count, values: packed + packedKeys, first: first)
      case .packedOnTheWay:
        packValues(v + first &* geometry.value.row, depth: depth, to: packed)
        kernels.multiply(&args, 0, block.rows.count, 0, kernels.panelCount(geometry.valueSize))
      }
      first &+= depth
    } while first < block.keys.upperBound
  }

  /// The product with some rows, from `first` on, of the panels of all values.
  private func multiplyPanels(
    _ whole: apus_gemm_f32_args, rows: Int, values: UnsafePointer<Float>, first: Int
  ) {
    let (geometry, columns) = (problem.geometry, kernels.panelColumns)
    for panel in 0..<kernels.panelCount(geometry.valueSize) {
      let column = panel &* columns
      var args = whole
      args.b = values + (panel &* geometry.keys &+ first) &* columns
      args.n = geometry.valueSize &- column
      args.c = whole.c + column
      args.epilogue.add = whole.epilogue.add.map { $0 + column }
      kernels.multiply(&args, 0, rows, 0, 1)
    }
  }

  // MARK: - Packing

  /// Packs the keys and values that any query of a head may see.
  private func pack(_ run: RunContext, head: Int, to packed: UnsafeMutablePointer<Float>) {
    let geometry = problem.geometry
    let (batch, keyHead) = head.quotientAndRemainder(dividingBy: geometry.keyHeads)
    var end = geometry.keys
    if !isWhole {
      if problem.range.hasValidCounts { end = min(end, max(0, run.input(4, as: Int.self)[batch])) }
      if let mask = problem.mask { end = min(end, mask.length) }
    }
    let target = packed + head &* (packedKeys &+ packedValues)
    packKeys(
      run.input(1, as: Float.self) + (batch &* geometry.key.batch &+ keyHead &* geometry.key.head), geometry.keys,
      panels: kernels.panelCount(end), to: target)
    let v = run.input(2, as: Float.self) + (batch &* geometry.value.batch &+ keyHead &* geometry.value.head)
    for panel in 0..<kernels.panelCount(geometry.valueSize) {
      let column = panel &* kernels.panelColumns
      var source = apus_gemm_source(
        b: v + column, stride_tap: 0, stride_k: geometry.value.row, stride_n: 1, taps: 1, kc: end,
        n: geometry.valueSize &- column)
      kernels.pack(&source, target + (packedKeys &+ column &* geometry.keys), 0, 1)
    }
  }

  /// Panels of keys, of which there are `count` from the first on.
  private func packKeys(_ k: UnsafePointer<Float>, _ count: Int, panels: Int, to packed: UnsafeMutablePointer<Float>) {
    let geometry = problem.geometry
    var source = apus_gemm_source(
      b: k, stride_tap: 0, stride_k: 1, stride_n: geometry.key.row, taps: 1, kc: geometry.size, n: count)
    kernels.pack(&source, packed, 0, panels)
  }

  private func packValues(_ v: UnsafePointer<Float>, depth: Int, to packed: UnsafeMutablePointer<Float>) {
    let geometry = problem.geometry
    var source = apus_gemm_source(
      b: v, stride_tap: 0, stride_k: geometry.value.row, stride_n: 1, taps: 1, kc: depth, n: geometry.valueSize)
    kernels.pack(&source, packed, 0, kernels.panelCount(geometry.valueSize))
  }

  private func arguments(
    a: UnsafePointer<Float>, lda: Int, depth: Int, columns: Int, b: UnsafePointer<Float>,
    c: UnsafeMutablePointer<Float>,
    ldc: Int
  ) -> apus_gemm_f32_args {
    apus_gemm_f32_args(
      a: a, lda: lda, offsets: nil, zeros: nil, taps: 1, kc: depth, n: columns, b: b, c: c, ldc: ldc,
      epilogue: apus_epilogue_f32(bias: nil, add: nil, add_ld: 0, activation: APUS_ACTIVATION_NONE, alpha: 0, beta: 0))
  }

  // MARK: - One row of scores

  /// Scale, soft cap, mask and softmax; keys of the block that the row does not see get probability 0.
  private func finish(_ run: RunContext, _ block: Block, _ row: Int, _ scores: UnsafeMutablePointer<Float>) {
    let geometry = problem.geometry
    let (group, query) = row.quotientAndRemainder(dividingBy: geometry.queries)
    let head = block.firstHead &+ group
    let seen = problem.visible(run, batch: block.batch, query: query)
    let mask = problem.mask.map { run.input(3, as: Float.self) + $0.row(batch: block.batch, head: head, query: query) }
    var scale = Float(problem.scale)
    let table = vectors.table
    var kept: UnsafeMutablePointer<Float>?
    if problem.scoreMode != nil {
      kept =
        run.output(1, as: Float.self)
        + ((block.batch &* geometry.queryHeads &+ head) &* geometry.queries &+ query) &* geometry.keys
    }
    if problem.softcap > 0 || problem.scoreMode.map({ $0 < 3 }) ?? false {
      let keys = block.keys
      let line = scores + keys.lowerBound
      multiply(line, keys.count, by: scale)
      scale = 1
      if problem.scoreMode == 0 { kept?.update(from: scores, count: geometry.keys) }
      if problem.softcap > 0 {
        multiply(line, keys.count, by: Float(1 / problem.softcap))
        table.pointee.tanh_f32(keys.count, line, line, nil)
        multiply(line, keys.count, by: Float(problem.softcap))
      }
      if problem.scoreMode == 1 { kept?.update(from: scores, count: geometry.keys) }
      if problem.scoreMode == 2, let kept { keepBiased(kept, scores, mask, seen) }
    }
    (scores + block.keys.lowerBound).update(repeating: 0, count: max(0, seen.lowerBound &- block.keys.lowerBound))
    if seen.upperBound < block.keys.upperBound {
      (scores + seen.upperBound).update(repeating: 0, count: block.keys.upperBound &- seen.upperBound)
    }
    if problem.sink == .none || seen.isEmpty {
      softmax(run, block, row, scores, seen, scale, mask.map { $0 + seen.lowerBound })
    } else {
      let line = scores + seen.lowerBound
      multiply(line, seen.count, by: scale)
      if let mask { table.pointee.add_f32_vv(seen.count, line, mask + seen.lowerBound, line) }
      let highest = table.pointee.max_f32(seen.count, line)
      softmax(run, block, row, scores, seen, 1, nil)
      // The greatest probability is 1 over the sum of the others' shares, which the sink joins.
      let sink = problem.sink == .byHead ? run.input(5, as: Float.self)[head] : 0
      let share =
        highest == -.infinity ? 0 : Float(Double.exp(Double(sink - highest))) * table.pointee.max_f32(seen.count, line)
      multiply(line, seen.count, by: 1 / (1 + share))
    }
    guard problem.scoreMode == 3, let kept else { return }
    kept.update(repeating: 0, count: geometry.keys)
    if !seen.isEmpty { (kept + seen.lowerBound).update(from: scores + seen.lowerBound, count: seen.count) }
  }

  private func multiply(_ values: UnsafeMutablePointer<Float>, _ count: Int, by factor: Float) {
    var factor = factor
    vectors.table.pointee.mul_f32_vs(count, values, &factor, values)
  }

  private func keepBiased(
    _ kept: UnsafeMutablePointer<Float>, _ scores: UnsafePointer<Float>, _ mask: UnsafePointer<Float>?,
    _ seen: Range<Int>
  ) {
    for key in 0..<problem.geometry.keys {
      kept[key] = scores[key] + (seen.contains(key) ? mask.map { $0[key] } ?? 0 : -.infinity)
    }
  }

  private func softmax(
    _ run: RunContext, _ block: Block, _ row: Int, _ scores: UnsafeMutablePointer<Float>, _ seen: Range<Int>,
    _ scale: Float, _ mask: UnsafePointer<Float>?
  ) {
    if seen.isEmpty { return }
    let line = scores + seen.lowerBound
    let table = vectors.table
    // A row without a key is one of its own, whatever its scores are; so is one whose scores are all -infinity.
    if let mask, table.pointee.max_f32(seen.count, mask) == -.infinity {
      line.update(repeating: problem.emptyRows, count: seen.count)
      return
    }
    if let mask {
      multiply(line, seen.count, by: scale)
      table.pointee.add_f32_vv(seen.count, line, mask, line)
      if table.pointee.max_f32(seen.count, line) == -.infinity {
        line.update(repeating: problem.emptyRows, count: seen.count)
      } else {
        table.pointee.softmax_f32(seen.count, line, line, 1, nil)
      }
      return
    }
    let first = line[0]
    if first == -.infinity && scale * table.pointee.max_f32(seen.count, line) == -.infinity {
      line.update(repeating: problem.emptyRows, count: seen.count)
    } else {
      table.pointee.softmax_f32(seen.count, line, line, scale, nil)
    }
  }
}
