// The plain convolution: every output element is a sum over channels and taps. Any rank, any element type that adds and
// multiplies; the oracle of every faster form.

import ApusGraph
import ApusTensor

/// Elements of which sums of products are made. Integers wrap.
protocol ConvolutionElement: BitwiseCopyable, Sendable, SendableMetatype {
  static var zero: Self { get }
  static func multiplyAdd(_ sum: Self, _ a: Self, _ b: Self) -> Self
  static func sum(_ a: Self, _ b: Self) -> Self
}

extension Float: ConvolutionElement {
  @inline(__always) static func multiplyAdd(_ sum: Float, _ a: Float, _ b: Float) -> Float { sum + a * b }
  @inline(__always) static func sum(_ a: Float, _ b: Float) -> Float { a + b }
}
extension Double: ConvolutionElement {
  @inline(__always) static func multiplyAdd(_ sum: Double, _ a: Double, _ b: Double) -> Double { sum + a * b }
  @inline(__always) static func sum(_ a: Double, _ b: Double) -> Double { a + b }
}
extension Int32: ConvolutionElement {
  // Sums of 32 bits may overflow by the specification.
  @inline(__always) static func multiplyAdd(_ sum: Int32, _ a: Int32, _ b: Int32) -> Int32 { sum &+ a &* b }
  @inline(__always) static func sum(_ a: Int32, _ b: Int32) -> Int32 { a &+ b }
}

struct DirectConvolution<Element: ConvolutionElement>: Sendable {
  let convolution: Convolution
  let windows: PlaneWindows

  init(_ convolution: Convolution) {
    self.convolution = convolution
    windows = PlaneWindows(
      convolution.geometry, planes: convolution.batch &* convolution.outputChannels,
      cost: .light * convolution.channelsPerGroup)
  }

  /// Computes one part of `windows.partition`. All tensors are in the specification's layout; `scratch` has
  /// `windows.scratchBytes` for all parts together.
  func run(
    part: Int, x: UnsafePointer<Element>, w: UnsafePointer<Element>, bias: UnsafePointer<Element>?,
    y: UnsafeMutablePointer<Element>, scratch: UnsafeMutableRawPointer
  ) {
    let (outputs, perGroup) = (convolution.outputChannels, convolution.channelsPerGroup)
    let outputsPerGroup = convolution.outputChannelsPerGroup
    let (area, outputArea) = (convolution.geometry.inputCount, convolution.geometry.outputCount)
    let taps = convolution.geometry.tapCount
    windows.forEach(part: part, scratch: scratch) { plane, index, window in
      let (image, output) = plane.quotientAndRemainder(dividingBy: outputs)
      let group = output / outputsPerGroup
      let firstChannel = image &* convolution.channels &+ group &* perGroup
      let source = x + (firstChannel &* area &+ window.first)
      let weights = w + (output &* perGroup &* taps &+ window.tap)
      var sum = Element.zero
      for channel in 0..<perGroup {
        for run in 0..<window.rowCount {
          let elements = source + (channel &* area &+ window.rows[run])
          let factors = weights + (channel &* taps &+ window.taps[run])
          for tap in 0..<window.count {
            sum = Element.multiplyAdd(sum, elements[tap &* window.step], factors[tap])
          }
        }
      }
      y[plane &* outputArea &+ index] = bias.map { Element.sum(sum, $0[output]) } ?? sum
    }
  }

  /// The step of a node whose inputs are X, W and, at the position `bias`, B.
  static func step(_ convolution: Convolution, bias: Int?) -> Step {
    let direct = DirectConvolution<Element>(convolution)
    return .parallel(parts: direct.windows.partition.parts, scratchBytes: direct.windows.scratchBytes) { run, part in
      direct.run(
        part: part, x: run.input(0), w: run.input(1), bias: bias.map { run.input($0) }, y: run.output(),
        scratch: run.scratch)
    }.named("direct", cost: Cost(operations: convolution.operations))
  }
}
