// The samples of a calibration: gone through one by one, more than once if a method needs that.

public import ApusTensor

/// Samples that can be gone through as often as somebody wants. What a sample holds may go when the next one comes.
public protocol CalibrationData {
  /// Calls `body` with each sample, a value for each input of the model by name, in the same order each time.
  func forEachSample(_ body: ([String: Tensor]) throws -> Void) throws
  /// How many there are; nil if nobody knows.
  var sampleCount: Int? { get }
}

extension CalibrationData {
  public var sampleCount: Int? { nil }
}

/// Samples that are in memory.
public struct SampleList: CalibrationData, Sendable {
  public var samples: [[String: Tensor]]
  public init(_ samples: [[String: Tensor]]) { self.samples = samples }
  public func forEachSample(_ body: ([String: Tensor]) throws -> Void) throws { try samples.forEach(body) }
  public var sampleCount: Int? { samples.count }
}
