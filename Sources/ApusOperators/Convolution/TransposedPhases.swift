// The float32 transposed convolution as ordinary sums: outputs with the same remainder by the stride, counted from the
// first pad, are a phase, each element of which draws on the same taps, at the same distances in the input.

import ApusGraph
import ApusTensor
import CApusKernels

/// How a transposed convolution comes to the kernels.
enum TransposedForm: String, Sendable {
  /// Matrix products of channels-last images, whose rows are the taps of a phase.
  case products
  /// Sums over planes, for few outputs or channels of a group.
  case planes
}

/// Output o of an axis, counted from the first pad, is the sum over the taps of o % stride of the products with input
/// o / stride - lag.
struct TransposedAxis: Sendable {
  let stride: Int
  /// By remainder.
  let taps: [[(tap: Int, lag: Int)]]
  /// All lags, ascending.
  let lags: [Int]

  init(kernel: Int, stride: Int, dilation: Int) {
    self.stride = stride
    var taps = [[(tap: Int, lag: Int)]](repeating: [], count: stride)
    for tap in 0..<kernel { taps[tap &* dilation % stride].append((tap, tap &* dilation / stride)) }
    self.taps = taps
    lags = Set(taps.joined().map(\.lag)).sorted()
  }
}

/// The weights of a transposed convolution by the phases of all axes but the last. The phases of the last axis are
/// columns beside one another: each phase has a matrix [taps and lags of the last axis][channels] by [remainders of the
/// last axis][outputs], for every group, with zeros for taps that a remainder does not have; or several of them, of
/// some remainders each, where that leaves out most of the zeros. An object, since all plans of a node refer to it.
final class TransposedPhases: Sendable {
  /// Neighbouring remainders of the last axis, and all lags that one of them has.
  struct Strip: Sendable {
    let remainders: Range<Int>
    let lags: [Int]
  }

  /// A matrix of a phase: its strip, and where those of the groups start, in floats.
  struct Block: Sendable {
    let strip: Strip
    let start: Int
    /// From one group to the next.
    let groupCount: Int
  }

  /// Outputs with these remainders along the first two of three axes.
  struct Phase: Sendable {
    let remainders: [Int]
    /// Taps along these axes, with their lags.
    let taps: [(tap: Int, lags: (Int, Int))]
    /// One for each strip.
    let blocks: [Block]
  }

  let form: TransposedForm
  let groups: Int
  let channels: Int
  let outputs: Int
  /// Three axes; of fewer, the first ones are no axes.
  let axes: [TransposedAxis]
  private let kernel: [Int]
  let phases: [Phase]
  private let count: Int

  var last: TransposedAxis { axes[2] }
  /// Columns of a matrix.
  var columns: Int { last.stride &* outputs }
  func rows(_ phase: Phase, _ strip: Strip) -> Int { phase.taps.count &* strip.lags.count &* channels }
  func columns(_ strip: Strip) -> Int { strip.remainders.count &* outputs }

  /// The remainders of the last axis one by one if that saves a tenth of the panels, whole ones; or all together.
  private static func strips(_ axis: TransposedAxis, outputs: Int, _ form: TransposedForm) -> [Strip] {
    let all = Strip(remainders: 0..<axis.stride, lags: axis.lags)
    let kernels = GemmKernels.current
    guard form == .products, outputs % kernels.panelColumns == 0 else { return [all] }
    let single = axis.taps.enumerated().map { remainder, taps in
      Strip(remainders: remainder..<remainder + 1, lags: taps.map(\.lag))
    }
    let products = single.reduce(0) { $0 + $1.lags.count }
    return 10 * products <= 9 * axis.stride * axis.lags.count ? single : [all]
  }

  /// Weights of `facts` in a form that they can have.
  init(_ facts: TransposedFacts, _ form: TransposedForm) {
    self.form = form
    groups = facts.groups
    channels = facts.shape[0] / facts.groups
    outputs = facts.shape[1]
    let missing = 3 - facts.strides.count
    let ones = [Int](repeating: 1, count: missing)
    kernel = ones + facts.shape[2...]
    let (strides, dilations) = (ones + facts.strides, ones + facts.dilations)
    axes = (0..<3).map { [kernel] in
      TransposedAxis(kernel: kernel[$0], stride: strides[$0], dilation: dilations[$0])
    }
    let strips = TransposedPhases.strips(axes[2], outputs: outputs, form)
    var (phases, start) = ([Phase](), 0)
    for first in 0..<strides[0] {
      for second in 0..<strides[1] {
        let taps = axes[0].taps[first].flatMap { [axes, kernel] a in
          axes[1].taps[second].map { (tap: a.tap * kernel[1] + $0.tap, lags: (a.lag, $0.lag)) }
        }
        var blocks: [Block] = []
        for strip in strips {
          let (k, n) = (taps.count * strip.lags.count * channels, strip.remainders.count * outputs)
          let size = form == .planes ? k * n : GemmKernels.current.packedCount(k: k, n: n)
          blocks.append(Block(strip: strip, start: start, groupCount: size))
          start += size * groups
        }
        phases.append(Phase(remainders: [first, second], taps: taps, blocks: blocks))
      }
    }
    (self.phases, count) = (phases, start)
  }

  /// Constant weights in this form, packed once for all nodes that share them.
  func packed(_ tensor: Tensor, _ store: PackedWeights) throws(OperatorError) -> TensorStorage {
    let plan = axes.map { "\($0.stride)/\($0.lags)" }.joined(separator: " ")
    let strips = "\(groups) of \(phases.first?.blocks.count ?? 0)"
    let format =
      "transposed conv/\(GemmKernels.current.panelColumns) \(form.rawValue) \(strips) \(tensor.shape) \(plan)"
    let byteCount = max(count, 1) &* 4
    return try store.storage(for: tensor, format: format, byteCount: byteCount) { (source) throws(OperatorError) in
      let storage = try store.allowance.allocate(byteCount: byteCount)
      let target = storage.base.assumingMemoryBound(to: Float.self)
      let sizes = phases.flatMap { phase in phase.blocks.map { rows(phase, $0.strip) &* columns($0.strip) } }
      let matrix = try store.allowance.allocate(byteCount: max(sizes.max() ?? 0, 1) &* 4)
      let values = matrix.base.assumingMemoryBound(to: Float.self)
      let groupBytes = tensor.byteCount / groups
      for group in 0..<groups {
        try source.withBytes(group * groupBytes..<(group + 1) * groupBytes) { bytes in
          for phase in phases {
            for block in phase.blocks {
              fill(phase, block.strip, bytes, values)
              put(phase, block, values, to: target + (block.start + group * block.groupCount))
            }
          }
        }
      }
      withExtendedLifetime(matrix) {}
      return storage
    }
  }

  /// Copies or packs a matrix.
  private func put(
    _ phase: Phase, _ block: Block, _ values: UnsafeMutablePointer<Float>, to target: UnsafeMutablePointer<Float>
  ) {
    if form == .planes {
      target.update(from: values, count: block.groupCount)
    } else if block.groupCount > 0 {
      let n = columns(block.strip)
      var source = apus_gemm_source(
        b: values, stride_tap: 0, stride_k: n, stride_n: 1, taps: 1, kc: rows(phase, block.strip), n: n)
      GemmKernels.current.pack(&source, target, 0, GemmKernels.current.panelCount(n))
    }
  }

  /// The matrix of a strip of a phase for the group whose weights [channels][outputs][taps] are at `bytes`.
  private func fill(
    _ phase: Phase, _ strip: Strip, _ bytes: UnsafeRawPointer, _ matrix: UnsafeMutablePointer<Float>
  ) {
    let columns = columns(strip)
    matrix.update(repeating: 0, count: rows(phase, strip) &* columns)
    let all = kernel.reduce(1, &*)
    for (index, outer) in phase.taps.enumerated() {
      for (position, lag) in strip.lags.enumerated() {
        let block = matrix + (index &* strip.lags.count &+ position) &* channels &* columns
        for remainder in strip.remainders {
          guard let tap = last.taps[remainder].first(where: { $0.lag == lag })?.tap else { continue }
          let offset = outer.tap &* kernel[2] &+ tap
          let first = (remainder &- strip.remainders.lowerBound) &* outputs
          for channel in 0..<channels {
            for output in 0..<outputs {
              block[channel &* columns &+ first &+ output] = bytes.loadUnaligned(
                fromByteOffset: ((channel &* outputs &+ output) &* all &+ offset) &* 4, as: Float.self)
            }
          }
        }
      }
    }
  }
}

/// The outputs along one axis as the phases have them.
struct TransposedExtent: Sendable {
  private let stride: Int
  private let pad: Int
  private let output: Int
  /// The first and the last element of a phase that lies in the output, for all phases together.
  let elements: ClosedRange<Int>

  /// nil for an axis without outputs.
  init?(stride: Int, pad: Int, output: Int) {
    guard output > 0 else { return nil }
    (self.stride, self.pad, self.output) = (stride, pad, output)
    elements = Self.quotient(pad, stride)...Self.quotient(pad &+ output &- 1, stride)
  }

  /// Rounded down.
  private static func quotient(_ a: Int, _ b: Int) -> Int { a >= 0 ? a / b : -((b &- 1 &- a) / b) }

  /// The outputs of a phase: the first of them, and how many there are; they are `stride` apart.
  func outputs(_ remainder: Int) -> (first: Int, count: Int) {
    let first = remainder &- pad &- Self.quotient(remainder &- pad, stride) &* stride
    return (first, first >= output ? 0 : (output &- 1 &- first) / stride &+ 1)
  }

  /// The element of its phase that an output is.
  func element(_ output: Int) -> Int { Self.quotient(output &+ pad, stride) }

  /// The output that is element 0 of phase 0.
  var origin: Int { -pad }
}
