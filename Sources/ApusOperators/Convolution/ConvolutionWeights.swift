// The weights of a float32 convolution in the form that the kernels read, and the choice between those forms.

import ApusGraph
import ApusTensor
import CApusKernels

/// How a float32 convolution comes to the kernels.
enum ConvolutionForm: String, Sendable {
  /// A matrix multiply a group, whose rows are the taps of a window, found through offsets.
  case taps
  /// The same for images of few channels: of a padded copy, a whole row of a window is one tap.
  case rows
  /// One channel in and out for each group.
  case depthwise
  /// Sums over planes, for few channels and outputs of a group: [groups][channels and taps][outputs].
  case planes
  /// The matrix multiply the other way round, for planar images: windows are columns, weights rows, `rowStride` apart,
  /// of taps and channels.
  case columns
  /// One group of 3×3 windows at stride 1, by Winograd's minimal filtering in tiles of 2×2 outputs.
  case winograd2
  /// The same in tiles of 4×4.
  case winograd4

  /// True of sums over planar images.
  var isPlanar: Bool { self == .planes || self == .columns }
}

/// The form of the weights of a convolution, which are packed beforehand or while running. An object, since all plans
/// of a node refer to it.
final class ConvolutionWeights: Sendable {
  let form: ConvolutionForm
  let groups: Int
  let channelsPerGroup: Int
  let outputsPerGroup: Int
  let kernel: [Int]
  /// What the panels hold, for products of matrices.
  let element: PanelElement
  private let zeroElements: TensorStorage
  /// nil: not by minimal filtering.
  private let winograd: WinogradKernels?

  /// The weights of `facts` in a form that they can have; nil if there is no memory for the padding.
  init?(_ facts: ConvolutionFacts, form: ConvolutionForm) {
    self.form = form
    element = facts.isNarrow && (form == .taps || form == .rows) ? .bfloat16Pairs : .float32
    winograd = WinogradKernels(form)
    groups = facts.groups
    channelsPerGroup = facts.shape[1]
    outputsPerGroup = facts.shape[0] / facts.groups
    kernel = Array(facts.shape[2...])
    let depth = channelsPerGroup &* (form == .rows ? kernel.last ?? 1 : 1)
    guard let zeros = try? TensorStorage(byteCount: depth &* 4) else { return nil }
    zeros.base.initializeMemory(as: UInt8.self, repeating: 0, count: zeros.byteCount)
    zeroElements = zeros
  }

  /// As many zeros as a tap has elements: what lies outside of the images.
  var zeros: UnsafePointer<Float> { UnsafePointer(zeroElements.base.assumingMemoryBound(to: Float.self)) }

  /// Taps of the matrix multiply, and elements of each.
  var taps: Int { kernel.reduce(1, &*) / (form == .rows ? kernel.last ?? 1 : 1) }
  var depth: Int { form == .rows ? channelsPerGroup &* (kernel.last ?? 1) : channelsPerGroup }

  /// Elements from one row of weights to the next in the form `columns`: an odd number of lines of the cache, so that
  /// the rows of a register tile do not fall on the same places of it.
  var rowStride: Int { (taps &* channelsPerGroup &+ 15) / 16 &* 16 | 16 }

  private var panels: Int { GemmKernels.current.panelCount(outputsPerGroup) }

  /// Packed floats of one group; of all channels together for depthwise.
  var groupCount: Int {
    if form == .planes { return taps &* channelsPerGroup &* outputsPerGroup }
    if form == .depthwise { return taps &* groups }
    if form == .columns { return rowStride &* outputsPerGroup }
    if let winograd {
      return apus_winograd_packed(winograd.m, channelsPerGroup, outputsPerGroup, GemmKernels.current.panelColumns)
    }
    return panels &* panelCount
  }
  /// Floats of the memory of a packed panel of a matrix product.
  private var panelCount: Int { GemmKernels.current.panelBytes(element, taps: taps, k: depth) / 4 }
  var packedCount: Int { form == .depthwise ? groupCount : groupCount &* groups }

  /// Parts that `pack` divides into.
  var packingParts: Int { form == .depthwise ? 1 : form == .planes ? groups : groups &* panels }

  /// The outputs of one group that a part has, and the group.
  private func outputs(ofPart part: Int) -> (group: Int, outputs: Range<Int>) {
    let (group, panel) = part.quotientAndRemainder(dividingBy: panels)
    let first = panel &* GemmKernels.current.panelColumns
    return (group, first..<min(first &+ GemmKernels.current.panelColumns, outputsPerGroup))
  }

  /// The bytes of the weights, as they are, that a part is packed from.
  func sourceBytes(part: Int) -> Range<Int> {
    let bytesOfOutput = channelsPerGroup &* kernel.reduce(1, &*) &* 4
    if form == .depthwise { return 0..<groups &* bytesOfOutput }
    if form == .planes {
      return part &* outputsPerGroup &* bytesOfOutput..<(part &+ 1) &* outputsPerGroup &* bytesOfOutput
    }
    let (group, outputs) = outputs(ofPart: part)
    let first = group &* outputsPerGroup
    return (first &+ outputs.lowerBound) &* bytesOfOutput..<(first &+ outputs.upperBound) &* bytesOfOutput
  }

  /// Packs one part. `source` is the first of its `sourceBytes`, of any alignment.
  func pack(_ source: UnsafeRawPointer, _ target: UnsafeMutablePointer<Float>, part: Int) {
    let allTaps = kernel.reduce(1, &*)
    switch form {
    case .winograd2, .winograd4: winograd?.pack(source, channelsPerGroup, outputsPerGroup, target, part)
    case .depthwise:
      apus_kernels().pointee.transpose_4(groups, allTaps, source, allTaps, target, groups)
    case .planes:
      let depth = channelsPerGroup &* allTaps
      apus_kernels().pointee.transpose_4(
        outputsPerGroup, depth, source, depth, target + part &* groupCount, outputsPerGroup)
    case .columns:
      let (group, outputs) = outputs(ofPart: part)
      let depth = channelsPerGroup &* allTaps
      for output in outputs {
        let row = target + (group &* groupCount &+ output &* rowStride)
        let values = source + (output &- outputs.lowerBound) &* depth &* 4
        if allTaps == 1 || channelsPerGroup == 1 {
          UnsafeMutableRawPointer(row).copyMemory(from: values, byteCount: depth &* 4)
        } else {
          apus_kernels().pointee.transpose_4(channelsPerGroup, allTaps, values, allTaps, row, channelsPerGroup)
        }
        (row + depth).update(repeating: 0, count: rowStride &- depth)
      }
    case .taps, .rows:
      let start = target + part / panels &* groupCount + part % panels &* panelCount
      if element == .float32 { return packPanel(source, to: start, part: part) }
      let floats = taps &* depth &* GemmKernels.current.panelColumns
      withUnsafeTemporaryAllocation(of: Float.self, capacity: floats) { memory in
        guard let wide = memory.baseAddress else { return }
        packPanel(source, to: wide, part: part)
        start.withMemoryRebound(to: UInt16.self, capacity: 2 &* panelCount) { pairs in
          for tap in 0..<taps {
            let rows = wide + tap &* depth &* GemmKernels.current.panelColumns
            GemmKernels.current.packPairs(rows, rows: 0..<depth, k: depth, tap: tap, taps: taps, to: pairs)
          }
        }
      }
    }
  }

  /// Packs one panel of float32 for a matrix product.
  private func packPanel(_ source: UnsafeRawPointer, to panel: UnsafeMutablePointer<Float>, part: Int) {
    let columns = GemmKernels.current.panelColumns
    let count = outputs(ofPart: part).outputs.count
    if form == .taps {
      let stride = channelsPerGroup &* taps
      var block = apus_gemm_source(
        b: source, stride_tap: 1, stride_k: taps, stride_n: stride, taps: taps, kc: channelsPerGroup, n: count)
      GemmKernels.current.pack(&block, panel, 0, 1)
      return
    }
    // Column by column: element (t, w, c) of output j lies at j, c, t, w of the weights.
    let width = kernel.last ?? 1
    for column in 0..<columns {
      for tap in 0..<taps {
        for w in 0..<width {
          for c in 0..<channelsPerGroup {
            let position = ((column &* channelsPerGroup &+ c) &* taps &+ tap) &* width &+ w
            let row = tap &* depth &+ w &* channelsPerGroup &+ c
            panel[row &* columns &+ column] =
              column < count ? source.loadUnaligned(fromByteOffset: position &* 4, as: Float.self) : 0
          }
        }
      }
    }
  }

  /// The constant weights of a convolution, packed; nil if they are not constant, or for the plain form.
  static func packed(
    _ context: PrepareContext, _ operands: ConvolutionOperands
  ) throws(OperatorError) -> (form: ConvolutionWeights, storage: TensorStorage)? {
    guard let tensor = context.packable(operands.w), tensor.dataType == .float32, tensor.rank >= 3 else { return nil }
    let groups = try context.int("group")
    let window = try WindowAttributes(context, rank: tensor.rank - 2)
    let image = context.shape(operands.x)?.dropFirst(operands.channelsLast ? 1 : 2).prefix(tensor.rank - 2)
    let mayRound = context.packedWeights.precision == .bfloat16
    let facts = ConvolutionFacts(
      shape: tensor.shape.dims, groups: groups, dilations: window.dilations, layout: operands.layout,
      constant: ConvolutionFacts.Constant(strides: window.strides, image: image?.map(\.known) ?? []),
      isNarrow: mayRound && GemmKernels.current.hasPairs)
    guard groups >= 1, let form = try facts.form, let weights = ConvolutionWeights(facts, form: form) else {
      return nil
    }
    return (weights, try weights.packed(tensor, context.packedWeights))
  }

  /// Constant weights in this form, packed once for all nodes that share them.
  func packed(_ weights: Tensor, _ store: PackedWeights) throws(OperatorError) -> TensorStorage {
    let name = element == .float32 ? "" : " \(element)"
    let format = "conv/\(GemmKernels.current.panelColumns) \(form.rawValue)\(name) \(groups) \(weights.shape)"
    let byteCount = packedCount &* 4
    return try store.storage(for: weights, format: format, byteCount: byteCount) {
      (source) throws(OperatorError) in
      let storage = try store.allowance.allocate(byteCount: byteCount, isFilled: true)
      let target = storage.base.assumingMemoryBound(to: Float.self)
      var part = 0
      while part < packingParts {
        // As many parts as make a piece: they lie one after the other.
        var range = sourceBytes(part: part)
        var end = part + 1
        while end < packingParts, sourceBytes(part: end).upperBound - range.lowerBound <= PackingSource.usualPiece {
          range = range.lowerBound..<sourceBytes(part: end).upperBound
          end += 1
        }
        try source.withBytes(range) { bytes in
          for part in part..<end {
            pack(bytes + (sourceBytes(part: part).lowerBound - range.lowerBound), target, part: part)
          }
        }
        part = end
      }
      return storage
    }
  }
}
