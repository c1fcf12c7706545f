// A planned float32 matrix product, or a batch of them, on the packed micro-kernels: the heart of MatMul, Gemm and kin.

import ApusGraph
import ApusTensor
import CApusKernels

/// What happens to a product before it is stored: y = activation((sum + bias[column]) + add[row, column]).
struct GemmEpilogue: Sendable {
  var activation = APUS_ACTIVATION_NONE
  var alpha: Float = 0
  var beta: Float = 0
}

/// Where the matrices of each product of a batch start. C is dense: product i starts at `i * m * n`.
struct GemmBatch: Sendable {
  /// In elements; B in matrices if it is packed beforehand.
  struct Offsets: Sendable {
    var a: Int
    var b: Int
  }

  /// Where the matrices lie.
  private enum Places: Sendable {
    /// At equal distances.
    case even(Offsets)
    case table([Offsets])
    /// By axis of the batch, where a table would be large.
    case axes([Axis])
  }

  private struct Axis: Sendable {
    let extent: Int
    let stride: Offsets
  }

  let count: Int
  private let places: Places

  static let single = GemmBatch(count: 1, a: 0, b: 0)

  private static let largestTable = 1 << 16

  /// Matrices at equal distances; 0 repeats one.
  init(count: Int, a: Int, b: Int) { (self.count, places) = (count, .even(Offsets(a: a, b: b))) }

  /// The products of `extents`, in row-major order, of matrices at distances by axis.
  init(extents: [Int], a: [Int], b: [Int]) {
    count = extents.reduce(1, &*)
    let axes = extents.indices.filter { extents[$0] != 1 }.map {
      Axis(extent: extents[$0], stride: Offsets(a: a[$0], b: b[$0]))
    }
    let isEven = zip(axes, axes.dropFirst()).allSatisfy { outer, inner in
      outer.stride.a == inner.stride.a &* inner.extent && outer.stride.b == inner.stride.b &* inner.extent
    }
    if isEven {
      places = .even(axes.last?.stride ?? Offsets(a: 0, b: 0))
    } else if count > GemmBatch.largestTable {
      places = .axes(axes)
    } else {
      places = .table((0..<count).map { GemmBatch.offsets($0, axes) })
    }
  }

  private static func offsets(_ index: Int, _ axes: [Axis]) -> Offsets {
    var offsets = Offsets(a: 0, b: 0)
    var rest = index
    for axis in axes.reversed() {
      let position = rest % axis.extent
      rest /= axis.extent
      offsets.a &+= position &* axis.stride.a
      offsets.b &+= position &* axis.stride.b
    }
    return offsets
  }

  /// The same with the places of B in matrices of `matrix` elements.
  func countingB(matrix: Int) -> GemmBatch {
    func counted(_ offsets: Offsets) -> Offsets { Offsets(a: offsets.a, b: matrix == 0 ? 0 : offsets.b / matrix) }
    return switch places {
    case .even(let stride): GemmBatch(count: count, places: .even(counted(stride)))
    case .table(let table): GemmBatch(count: count, places: .table(table.map(counted)))
    case .axes(let axes):
      GemmBatch(count: count, places: .axes(axes.map { Axis(extent: $0.extent, stride: counted($0.stride)) }))
    }
  }

  private init(count: Int, places: Places) { (self.count, self.places) = (count, places) }

  @inline(__always) subscript(index: Int) -> Offsets {
    switch places {
    case .even(let stride): Offsets(a: index &* stride.a, b: index &* stride.b)
    case .table(let table): table[index]
    case .axes(let axes): GemmBatch.offsets(index, axes)
    }
  }
}

/// C = epilogue(A·B) for `batch.count` products of equal extents, A [m, k], B [k, n], C [m, n] in rows.
///
/// Every element of C is one sum in ascending k, whatever the extents and parts are, so that a row has the same bits
/// alone and among others.
struct GemmPlan: Sendable {
  enum RightOperand: Sendable {
    case packed(PackedMatrix)
    /// Operand b is packed, matrices at this distance in floats (`Kernel.packedOperands`), of elements of a type.
    case packedOperand(stride: Int, element: PanelElement)
    /// Packed anew by every run; each element times `scale`.
    case unpacked(MatrixLayout, scale: Float)
  }

  let m: Int
  let n: Int
  let k: Int
  let left: MatrixLayout
  let right: RightOperand
  let batch: GemmBatch
  let epilogue: GemmEpilogue
  let tiling: GemmTiling
  private let kernels = GemmKernels.current
  /// The first float of B if it is packed and no operand: asked for in every run, where counting references to `right`
  /// would take longer than a small product. `nonisolated(unsafe)`: `right` keeps the floats alive, and nobody writes
  /// to them.
  private nonisolated(unsafe) let constantRight: UnsafePointer<Float>?
  /// Floats from one packed matrix to the next.
  private let constantStride: Int
  /// What they hold.
  private let element: PanelElement
  /// The product with those.
  private let multiplyConstant: GemmKernels.Multiply
  private let name: String

  init(
    m: Int, n: Int, k: Int, left: MatrixLayout, right: RightOperand, batch: GemmBatch = .single,
    epilogue: GemmEpilogue = GemmEpilogue()
  ) {
    (self.m, self.n, self.k) = (m, n, k)
    (self.left, self.right, self.batch, self.epilogue) = (left, right, batch, epilogue)
    (constantRight, constantStride, element) =
      switch right {
      case .packed(let matrix): (matrix.base(0), matrix.stride, matrix.element)
      case .packedOperand(let stride, let element): (nil, stride, element)
      case .unpacked: (nil, 0, .float32)
      }
    multiplyConstant = kernels.multiply(by: element)
    name = element.kernelName
    let tile = kernels.tile(of: element)
    tiling = GemmTiling(
      batch: batch.count, m: m, n: n, k: k, tileRows: tile.rows,
      panelColumns: GemmPlan.isDirect(right, m: m) ? GemmPlan.directColumns : kernels.panelColumns, pace: tile.pace,
      mostParts: GemmPlan.mostParts(right, element, m: m))
  }

  /// True if B is read as it lies.
  private static func isDirect(_ right: RightOperand, m: Int) -> Bool {
    guard case .unpacked(let layout, let scale) = right else { return false }
    return m <= directRows && (layout.columnStride == 1 || layout.rowStride == 1) && isExact(scale)
  }

  /// True if numbers times `scale` are not rounded, so that it is the same to multiply those of A or those of B.
  private static func isExact(_ scale: Float) -> Bool { scale.significand == 1 && abs(scale.exponent) <= 16 }

  /// What the elements of A are multiplied by: the scale of a B that is read as it lies.
  private var leftScale: Float {
    if case .unpacked(_, let scale) = right, GemmPlan.isDirect(right, m: m) { scale } else { 1 }
  }

  /// Parts that pack or widen panels on the way have memory of their own for them.
  private static func mostParts(_ right: RightOperand, _ element: PanelElement, m: Int) -> Int {
    if isDirect(right, m: m) { return GemmTiling.processors }
    if case .unpacked = right { return GemmTiling.partsWithScratch }
    return element == .float16 || element == .bfloat16 ? GemmTiling.partsWithScratch : GemmTiling.usualParts
  }

  /// Rows of A that are too few to be worth packing B.
  static let directRows = 4
  /// The fewest columns of a part then: memory gives whole runs of each row faster. For the same reason there are no
  /// more parts than processors.
  private static let directColumns = 256

  var operations: Int { batch.count &* 2 &* m &* n &* k }

  /// Positions of the operands among the inputs of a node. The result is output 0.
  struct Operands: Sendable {
    var a = 0
    var b = 1
    /// [n], or [batch, n] with a stride.
    var bias: Int?
    /// Elements from the bias of one product to that of the next.
    var biasStride = 0
    /// As C.
    var add: Int?
    /// Add what output 0 holds already.
    var addsOutput = false
    /// Elements from one row of C to the next, and of the addend, for a single product; nil: n.
    var targetRow: Int?
    var addRow: Int?
  }

  // MARK: - The step

  func step(_ operands: Operands = Operands()) -> Step { Work(self, operands).step }

  /// A product with its operands. An object, so that steps refer to it and do not copy the plan.
  ///
  /// Scratch memory: A in rows where it is not, then packed B.
  private final class Work: Sendable {
    private let plan: GemmPlan
    private let operands: Operands
    private let form: RightForm
    private let copiesLeft: Bool
    private let leftBytes: Int
    private let leftRows: Partition
    private let panelGroup: Partition

    init(_ plan: GemmPlan, _ operands: Operands) {
      (self.plan, self.operands, form) = (plan, operands, plan.rightForm)
      copiesLeft = (plan.left.columnStride != 1 && plan.k > 1 || plan.leftScale != 1) && plan.k > 0 && plan.m > 0
      leftBytes = copiesLeft ? aligned(plan.batch.count * plan.m * plan.k * 4) : 0
      let column = Cost.copying(bytes: 4) * plan.k
      leftRows = Partition(plan.m, of: column)
      panelGroup = Partition(plan.tiling.panels, of: column * plan.kernels.panelColumns)
    }

    var step: Step {
      var phases: [Int] = []
      if copiesLeft { phases.append(plan.batch.count * leftRows.parts) }
      if form == .packedFirst { phases.append(plan.batch.count * panelGroup.parts) }
      phases.append(plan.tiling.parts)
      let last = phases.count - 1
      var step = Step(phases: phases, scratchBytes: leftBytes + plan.rightBytes(form)) { [self] run, phase, part in
        if phase == last { multiply(run, part) } else { prepare(run, phase, part) }
      }
      if form == .constant || form == .widenedOnTheWay { step.unreadInputs = [operands.b] }
      return step.named(plan.name, cost: Cost(operations: plan.operations))
    }

    private func multiply(_ run: RunContext, _ part: Int) {
      let a = copiesLeft ? UnsafePointer(run.scratch.assumingMemoryBound(to: Float.self)) : run.input(operands.a)
      let packed = (run.scratch + leftBytes).assumingMemoryBound(to: Float.self)
      let c: UnsafeMutablePointer<Float> = run.output()
      let bias: UnsafePointer<Float>? = operands.bias.map { run.input($0) }
      let add: UnsafePointer<Float>? = operands.addsOutput ? UnsafePointer(c) : operands.add.map { run.input($0) }
      let lda = copiesLeft ? plan.k : plan.left.rowStride
      var args = plan.arguments(a: a, lda: lda, b: UnsafePointer(packed), c: c, bias: bias, add: add, operands)
      plan.multiply(
        part, form, &args, biasStride: operands.biasStride, b: plan.constantRight ?? run.input(operands.b),
        packed: packed, leftIsCopied: copiesLeft)
    }

    /// A part of a phase before the last: rows of A, or panels of B.
    private func prepare(_ run: RunContext, _ phase: Int, _ part: Int) {
      let scratch = run.scratch.assumingMemoryBound(to: Float.self)
      if phase == 0 && copiesLeft {
        let (index, rows) = part.quotientAndRemainder(dividingBy: leftRows.parts)
        let source: UnsafePointer<Float> = run.input(operands.a) + plan.batch[index].a
        plan.copyLeft(leftRows.range(rows), from: source, to: scratch + index * plan.m * plan.k)
      } else {
        let (index, group) = part.quotientAndRemainder(dividingBy: panelGroup.parts)
        let source: UnsafePointer<Float> = run.input(operands.b) + plan.batch[index].b
        let packed = (run.scratch + leftBytes).assumingMemoryBound(to: Float.self)
        plan.pack(
          panelGroup.range(group), from: source, to: packed + index * plan.kernels.packedCount(k: plan.k, n: plan.n))
      }
    }
  }

  /// How B comes into packed form.
  private enum RightForm {
    case constant
    /// Read as it lies.
    case direct
    /// In 16 bits: some panels at a time are widened by the part that multiplies many rows with them.
    case widenedOnTheWay
    /// All of B, in a phase of its own.
    case packedFirst
    /// Some panels at a time, by the part that multiplies with them.
    case packedOnTheWay
  }

  private var rightForm: RightForm {
    switch right {
    case .packed, .packedOperand: widensPanels ? .widenedOnTheWay : .constant
    case .unpacked:
      GemmPlan.isDirect(right, m: m) ? .direct : tiling.rowBlocks > 1 ? .packedFirst : .packedOnTheWay
    }
  }

  /// Widening panels once is cheaper than in the registers of each tile of rows, if there are so many tiles.
  private static let fewTiles = 3
  private var widensPanels: Bool {
    (element == .float16 || element == .bfloat16) && min(m, tiling.rowsPerBlock) > GemmPlan.fewTiles * kernels.tileRows
  }

  /// Elements of B that are packed at once on the way: they fit the second-level cache beside the rows.
  private static let pieceFloats = 64 << 10

  private var panelsOnTheWay: Int {
    min(max(1, GemmPlan.pieceFloats / max(k * kernels.panelColumns, 1)), tiling.panelsPerBlock)
  }

  private func rightBytes(_ form: RightForm) -> Int {
    switch form {
    case .constant, .direct: 0
    case .packedFirst: batch.count * kernels.packedCount(k: k, n: n) * 4
    case .packedOnTheWay, .widenedOnTheWay: tiling.parts * panelsOnTheWay * k * kernels.panelColumns * 4
    }
  }

  // MARK: - One part

  private func arguments(
    a: UnsafePointer<Float>, lda: Int, b: UnsafePointer<Float>, c: UnsafeMutablePointer<Float>,
    bias: UnsafePointer<Float>?,
    add: UnsafePointer<Float>?, _ operands: Operands
  ) -> apus_gemm_f32_args {
    apus_gemm_f32_args(
      a: a, lda: lda, offsets: nil, zeros: nil, taps: 1, kc: k, n: n, b: b, c: c, ldc: operands.targetRow ?? n,
      epilogue: apus_epilogue_f32(
        bias: bias, add: add, add_ld: operands.addRow ?? n, activation: epilogue.activation, alpha: epilogue.alpha,
        beta: epilogue.beta))
  }

  private func multiply(
    _ part: Int, _ form: RightForm, _ args: inout apus_gemm_f32_args, biasStride: Int, b: UnsafePointer<Float>,
    packed: UnsafeMutablePointer<Float>, leftIsCopied: Bool
  ) {
    let tile = tiling.tile(part)
    let (a, c, add, bias) = (args.a, args.c, args.epilogue.add, args.epilogue.bias)
    for index in tile.batches {
      let offset = batch[index]
      args.a = a + (leftIsCopied ? index &* m &* k : offset.a)
      args.c = c + index &* m &* n
      args.epilogue.add = add.map { $0 + index &* m &* n }
      args.epilogue.bias = bias.map { $0 + index &* biasStride }
      if form == .constant {
        args.b = b + offset.b &* constantStride
        multiplyConstant(
          &args, tile.rows.lowerBound, tile.rows.upperBound, tile.panels.lowerBound, tile.panels.upperBound)
      } else if form == .direct {
        multiplyDirectly(tile, &args, b: b + offset.b)
      } else if form == .packedFirst {
        args.b = UnsafePointer(packed) + index &* kernels.packedCount(k: k, n: n)
        kernels.multiply(
          &args, tile.rows.lowerBound, tile.rows.upperBound, tile.panels.lowerBound, tile.panels.upperBound)
      } else if form == .widenedOnTheWay {
        widenAndMultiply(
          tile, args, b: b + offset.b &* constantStride,
          wide: packed + part &* panelsOnTheWay &* k &* kernels.panelColumns)
      } else {
        packAndMultiply(
          tile, args, b: b + offset.b, packed: packed + part &* panelsOnTheWay &* k &* kernels.panelColumns)
      }
    }
  }

  private func multiplyDirectly(_ tile: GemmTiling.Tile, _ args: inout apus_gemm_f32_args, b: UnsafePointer<Float>) {
    guard case .unpacked(let layout, _) = right else { return }
    args.b = b
    let multiply = layout.columnStride == 1 ? kernels.multiplyDirectly : kernels.multiplyTurned
    multiply(
      &args, layout.columnStride == 1 ? layout.rowStride : layout.columnStride, tile.rows.lowerBound,
      tile.rows.upperBound, tile.panels.lowerBound &* GemmPlan.directColumns,
      min(tile.panels.upperBound &* GemmPlan.directColumns, n))
  }

  private func packAndMultiply(
    _ tile: GemmTiling.Tile, _ whole: apus_gemm_f32_args, b: UnsafePointer<Float>, packed: UnsafeMutablePointer<Float>
  ) {
    guard case .unpacked(let layout, let scale) = right else { return }
    let group = panelsOnTheWay
    var panel = tile.panels.lowerBound
    while panel < tile.panels.upperBound {
      let count = min(group, tile.panels.upperBound &- panel)
      let column = panel &* kernels.panelColumns
      var source = apus_gemm_source(
        b: b + column &* layout.columnStride, stride_tap: 0, stride_k: layout.rowStride, stride_n: layout.columnStride,
        taps: 1, kc: k, n: n &- column)
      kernels.pack(&source, packed, 0, count)
      if scale != 1 { multiplyAll(packed, count &* k &* kernels.panelColumns, by: scale) }
      multiply(tile.rows, panel..<panel &+ count, whole, packed)
      panel &+= count
    }
  }

  /// The columns of some panels, the first of which lies at `packed` in float32.
  private func multiply(
    _ rows: Range<Int>, _ panels: Range<Int>, _ whole: apus_gemm_f32_args, _ packed: UnsafePointer<Float>
  ) {
    // The same product, seen from the first column on.
    let column = panels.lowerBound &* kernels.panelColumns
    var args = whole
    args.b = packed
    args.n = n &- column
    args.c = whole.c + column
    args.epilogue.bias = whole.epilogue.bias.map { $0 + column }
    args.epilogue.add = whole.epilogue.add.map { $0 + column }
    kernels.multiply(&args, rows.lowerBound, rows.upperBound, 0, panels.count)
  }

  /// `b`: the first panel of 16-bit floats.
  private func widenAndMultiply(
    _ tile: GemmTiling.Tile, _ whole: apus_gemm_f32_args, b: UnsafePointer<Float>, wide: UnsafeMutablePointer<Float>
  ) {
    let widen = element == .float16 ? apus_kernels().pointee.f16_to_f32 : apus_kernels().pointee.bf16_to_f32
    let panelElements = k &* kernels.panelColumns
    var panel = tile.panels.lowerBound
    while panel < tile.panels.upperBound {
      let end = min(panel &+ panelsOnTheWay, tile.panels.upperBound)
      widen((end &- panel) &* panelElements, UnsafeRawPointer(b) + 2 &* panel &* panelElements, wide)
      multiply(tile.rows, panel..<end, whole, wide)
      panel = end
    }
  }

  /// Packs some panels of a whole B.
  private func pack(_ panels: Range<Int>, from b: UnsafePointer<Float>, to packed: UnsafeMutablePointer<Float>) {
    guard case .unpacked(let layout, let scale) = right else { return }
    var source = apus_gemm_source(
      b: b, stride_tap: 0, stride_k: layout.rowStride, stride_n: layout.columnStride, taps: 1, kc: k, n: n)
    kernels.pack(&source, packed, panels.lowerBound, panels.upperBound)
    if scale != 1 {
      let panelFloats = k &* kernels.panelColumns
      multiplyAll(packed + panels.lowerBound &* panelFloats, panels.count &* panelFloats, by: scale)
    }
  }

  private func copyLeft(_ rows: Range<Int>, from a: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>) {
    let scale = leftScale
    // Blocks of a few rows, so that both sides stay in the first-level cache.
    var first = rows.lowerBound
    while first < rows.upperBound {
      let end = min(first &+ 16, rows.upperBound)
      for column in 0..<k {
        let source = a + column &* left.columnStride
        for row in first..<end { target[row &* k &+ column] = source[row &* left.rowStride] * scale }
      }
      first = end
    }
  }
}

private func multiplyAll(_ values: UnsafeMutablePointer<Float>, _ count: Int, by factor: Float) {
  for index in 0..<count { values[index] *= factor }
}
