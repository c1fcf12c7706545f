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
/// last axis][outputs], for every group, with zeros for taps that a remainder does not have. An object, since all plans
/// of a node refer to it.
final class TransposedPhases: Sendable {
  /// Outputs with these remainders along the first two of three axes.
  struct Phase: Sendable {
    let remainders: [Int]
    /// Taps along these axes, with their lags.
    let taps: [(tap: Int, lags: (Int, Int))]
    /// Where its matrices start, in floats.
    let start: Int
    /// From one group to the next.
    let groupCount: Int
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
  func rows(_ phase: Phase) -> Int { phase.taps.count &* last.lags.count &* channels }

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
    var (phases, start) = ([Phase](), 0)
    for first in 0..<strides[0] {
      for second in 0..<strides[1] {
        let taps = axes[0].taps[first].flatMap { [axes, kernel] a in
          axes[1].taps[second].map { (tap: a.tap * kernel[1] + $0.tap, lags: (a.lag, $0.lag)) }
        }
        let (k, n) = (taps.count * axes[2].lags.count * channels, strides[2] * outputs)
        let size = form == .planes ? k * n : GemmKernels.current.packedCount(k: k, n: n)
        phases.append(Phase(remainders: [first, second], taps: taps, start: start, groupCount: size))
        start += size * groups
      }
    }
    (self.phases, count) = (phases, start)
  }

  /// Constant weights in this form, packed once for all nodes that share them.
  func packed(_ tensor: Tensor, _ store: PackedWeights) throws(OperatorError) -> TensorStorage {
    let plan = axes.map { "\($0.stride)/\($0.lags)" }.joined(separator: " ")
    let format =
      "transposed conv/\(GemmKernels.current.panelColumns) \(form.rawValue) \(groups) \(tensor.shape) \(plan)"
    let byteCount = max(count, 1) &* 4
    return try store.storage(for: tensor, format: format, byteCount: byteCount) { (source) throws(OperatorError) in
      let storage = try store.allowance.allocate(byteCount: byteCount)
      let target = storage.base.assumingMemoryBound(to: Float.self)
      let largest = phases.map { rows($0) &* columns }.max() ?? 0
      let matrix = try store.allowance.allocate(byteCount: max(largest, 1) &* 4)
      let values = matrix.base.assumingMemoryBound(to: Float.self)
      let groupBytes = tensor.byteCount / groups
      for group in 0..<groups {
        try source.withBytes(group * groupBytes..<(group + 1) * groupBytes) { bytes in
          for phase in phases {
            fill(phase, bytes, values)
            let to = target + (phase.start + group * phase.groupCount)
            if form == .planes {
              to.update(from: values, count: phase.groupCount)
            } else if phase.groupCount > 0 {
              var block = apus_gemm_source(
                b: values, stride_tap: 0, stride_k: columns, stride_n: 1, taps: 1, kc: rows(phase), n: columns)
              GemmKernels.current.pack(&block, to, 0, GemmKernels.current.panelCount(columns))
            }
          }
        }
      }
      withExtendedLifetime(matrix) {}
      return storage
    }
  }

  /// The matrix of a phase for the group whose weights [channels][outputs][taps] are at `bytes`.
  private func fill(_ phase: Phase, _ bytes: UnsafeRawPointer, _ matrix: UnsafeMutablePointer<Float>) {
    matrix.update(repeating: 0, count: rows(phase) &* columns)
    let all = kernel.reduce(1, &*)
    for (index, outer) in phase.taps.enumerated() {
      for (position, lag) in last.lags.enumerated() {
        let block = matrix + (index &* last.lags.count &+ position) &* channels &* columns
        for remainder in 0..<last.stride {
          guard let tap = last.taps[remainder].first(where: { $0.lag == lag })?.tap else { continue }
          let offset = outer.tap &* kernel[2] &+ tap
          for channel in 0..<channels {
            for output in 0..<outputs {
              block[channel &* columns &+ remainder &* outputs &+ output] = bytes.loadUnaligned(
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
