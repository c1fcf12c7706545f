// STFT: Fourier transforms of windowed frames of a signal. https://onnx.ai/onnx/operators/onnx__STFT.html
// Versions: 17. As in NumPy, complex float32 signals are transformed in float32, real ones in float64.

import ApusGraph
import ApusTensor

package struct STFT: OperatorDefinition {
  package let schema = OperatorSchema(
    "STFT", versions: [17],
    inputs: [
      .required("signal", "T1"), .required("frame_step", "T2", readWhenPlanning: true), .optional("window", "T1"),
      .optional("frame_length", "T2", readWhenPlanning: true),
    ],
    outputs: [.required("output", "T1")], attributes: [.int("onesided", default: 1)],
    types: ["T1": .floats, "T2": .indices])

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let isOnesided = try context.bool("onesided")
    let signal = context.shape(0)
    if let signal {
      guard signal.count == 3, signal[2].known.map({ $0 == 1 || $0 == 2 }) ?? true else {
        throw .mismatch("signal is \(signal.text); expected a batch, a signal axis and a last axis of 1 or 2")
      }
      if isOnesided && signal[2].known == 2 { throw .mismatch("a complex signal has no onesided transform") }
    }
    if let window = context.shape(2), window.count != 1 {
      throw .mismatch("window is \(window.text); expected one axis")
    }
    let window = context.shape(2)?[0]
    let given = context.values(3)?.first
    if let window, let given, window.isSurelyDifferent(from: given) {
      throw .mismatch("window has \(window) elements and frame_length is \(given); they must be equal")
    }
    let length: Dim =
      context.isPresent(3)
      ? given ?? window ?? .unknown : context.isPresent(2) ? window ?? .unknown : signal?[1] ?? .unknown
    let step = context.values(1)?.first ?? .unknown
    if let step = step.known, step < 1 { throw .mismatch("frame_step is \(step); expected at least 1") }
    if let length = length.known, length < 1 { throw .mismatch("frame_length is \(length); expected at least 1") }
    let available = (signal?[1] ?? .unknown) - length
    if let available = available.known, available < 0 {
      throw .mismatch("a frame of \(length) is longer than the signal of \(signal?[1] ?? .unknown)")
    }
    let frames = available.dividedRoundingDown(by: step) + Dim(1)
    let bins = isOnesided ? length.dividedRoundingDown(by: 2) + Dim(1) : length
    context.set(0, context.type(0), [signal?[0] ?? .unknown, frames, bins, 2])
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let hasWindow = context.isPresent(2)
    switch try context.type(0) {
    case .float64: return STFT.kernel(Double.self, hasWindow)
    case .float32: return STFT.kernel(Float.self, hasWindow)
    default:
      return try StagedKernel.prepare(context) { (_) throws(OperatorError) in
        STFT.kernel(Float.self, hasWindow)
      }
    }
  }

  private static func kernel<Element: Real>(_ type: Element.Type, _ hasWindow: Bool) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      plan.shape(0)[2] == 1
        ? try step(type, Double.self, hasWindow, plan) : try step(type, type, hasWindow, plan)
    }
  }

  /// `Inner` is the type of the computation.
  private static func step<Element: Real, Inner: Real>(
    _ type: Element.Type, _ inner: Inner.Type, _ hasWindow: Bool, _ plan: PlanContext
  ) throws(OperatorError) -> Step {
    let (signal, result) = (plan.shape(0), plan.outputShape(0))
    let (length, parts, frames, bins) = (signal[1], signal[2], result[1], result[2])
    let step = plan.integers(1)?.first ?? 1
    let points = plan.integers(3)?.first ?? (hasWindow ? plan.shape(2)[0] : length)
    let transform = try FourierTransform<Inner>(length: points)
    let total = signal[0] * frames
    let partition = Partition(total, of: .medium * 2 * points)
    // A frame, then what the transform needs, 16-byte aligned.
    let dataBytes = (points * MemoryLayout<ComplexNumber<Inner>>.stride + 15) & ~15
    let perPart = dataBytes + transform.workBytes
    return .parallel(parts: total == 0 ? 0 : partition.parts, scratchBytes: partition.parts * perPart) { run, part in
      let memory = run.scratch + part &* perPart
      let data = memory.assumingMemoryBound(to: ComplexNumber<Inner>.self)
      let window = run.input(2, as: Element.self)
      for index in partition.range(part) {
        let (image, frame) = index.quotientAndRemainder(dividingBy: frames)
        let source = run.input(0, as: Element.self) + (image &* length &+ frame &* step) &* parts
        for point in 0..<points {
          let weight: Element = hasWindow ? window[point] : 1
          let imaginary: Element = parts == 2 ? source[2 &* point &+ 1] * weight : 0
          data[point] = ComplexNumber(Inner(source[parts &* point] * weight), Inner(imaginary))
        }
        let spectrum = transform(data, memory + dataBytes)
        let target = run.output(0, as: Element.self) + index &* bins &* 2
        for bin in 0..<bins {
          target[2 &* bin] = Element(spectrum[bin].x)
          target[2 &* bin &+ 1] = Element(spectrum[bin].y)
        }
      }
    }.named("fft")
  }
}
