// What pools choose their kernel by, and candidates as they have them.

import ApusGraph
import ApusTensor

/// A pool that is being planned.
struct PoolFacts: KernelFacts {
  let elementType: DataType?
  var layout = ImageLayout.planar
  let geometry: WindowGeometry
  /// Planes of the input; images where channels are last.
  let planes: Int
  var channels = 1
  var countsPads = false
  var wantsIndices = false
  var isColumnMajor = false
  /// Where channels are last: how far pixels lie apart; nil: as far as they are long.
  var pixels: (input: Int, output: Int)?
  /// The operands that lie so.
  var spread: [Int] = []

  /// Elements of windows.
  fileprivate var taps: Double { Double(planes) * Double(channels) * Double(geometry.outputCount) * perWindow }
  var perWindow: Double { geometry.kernel.reduce(1) { $0 * Double($1) } }
}

typealias PoolCandidate = KernelCandidate<PoolFacts, Step>

extension PoolCandidate {
  /// Window by window, element by element.
  static func plain(_ step: @escaping @Sendable (PoolFacts) -> Step?) -> PoolCandidate {
    PoolCandidate("plain") {
      .cost(.loops(operations: $0.taps))
    } make: {
      step($0)
    }
  }

  /// Whole rows of outputs at a time. `refusal`: why not, if so.
  static func rows(
    _ name: String = "rows", types: [DataType], _ step: @escaping @Sendable (PoolFacts) -> Step,
    unless refusal: @escaping @Sendable (PoolFacts) -> String?
  ) -> PoolCandidate {
    PoolCandidate(name, types: types, layouts: [.planar]) { pool in
      refusal(pool).map { .refused($0) } ?? .cost(.vectors(operations: pool.taps))
    } make: {
      step($0)
    }
  }

  /// Whole planes at a time. `refusal`: why not, if so.
  static func planes(
    _ step: @escaping @Sendable (PoolFacts) -> Step?, unless refusal: @escaping @Sendable (PoolFacts) -> String?
  ) -> PoolCandidate {
    PoolCandidate("planes", types: [.float32], layouts: [.planar]) { pool in
      refusal(pool).map { .refused($0) } ?? .cost(.vectors(operations: pool.taps / 2))
    } make: {
      step($0)
    }
  }

  /// Rows of outputs out of planes as they are, whose windows are small and lie whole in them. `refusal`: why not, if
  /// so.
  static func wholeWindows(
    isAverage: Bool, unless refusal: @escaping @Sendable (PoolFacts) -> String?
  ) -> PoolCandidate {
    PoolCandidate("whole windows", types: [.float32], layouts: [.planar]) { pool in
      if let refusal = refusal(pool) ?? WholeWindowPool.refusal(pool) { return .refused(refusal) }
      return .cost(.vectors(operations: pool.taps / 4))
    } make: {
      WholeWindowPool($0, isAverage: isAverage).step
    }
  }

  /// All channels of a pixel at a time. `refusal`: why not, if so.
  static func channels(
    _ step: @escaping @Sendable (PoolFacts) -> Step, unless refusal: @escaping @Sendable (PoolFacts) -> String?
  ) -> PoolCandidate {
    PoolCandidate("channels", types: [.float32], layouts: [.channelsLast]) { pool in
      refusal(pool).map { .refused($0) } ?? .cost(.vectors(operations: pool.taps))
    } make: {
      step($0)
    }
  }
}

extension [PoolCandidate] {
  /// The step of the one that is to be taken.
  func chosen(_ point: ChoicePoint, _ pool: PoolFacts) throws(OperatorError) -> Step {
    try PoolCandidate.choose(point, for: pool, self)
  }
}
