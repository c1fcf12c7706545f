// CausalConvWithState: causal depthwise convolution over time that carries its last inputs along.
// https://onnx.ai/onnx/operators/onnx__CausalConvWithState.html
// Versions: 27.

import ApusGraph
import ApusTensor

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

struct CausalConvWithState: OperatorDefinition {
  let schema = OperatorSchema(
    "CausalConvWithState", versions: [27],
    inputs: [.required("input", "T"), .required("weight", "T"), .optional("bias", "T"), .optional("past_state", "T")],
    outputs: [.required("output", "T"), .required("present_state", "T")],
    attributes: [.string("activation", default: "none")],
    types: ["T": [.float16, .float32, .bfloat16]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    _ = try context.string("activation", oneOf: ["none", "silu", "swish"])
    let (input, weight) = (context.shape(0), context.shape(1))
    if let input, input.count != 3 {
      throw .mismatch("the input has the shape \(input); expected [batch, channels, length]")
    }
    if let weight, weight.count != 3 || (weight[1].known ?? 1) != 1 {
      throw .mismatch("the weight has the shape \(weight); expected [channels, 1, k]")
    }
    if let taps = weight?[2].known, taps < 1 { throw .mismatch("the weight has no taps") }
    if let input, let weight, input[1].isSurelyDifferent(from: weight[0]) {
      throw .mismatch("the input has \(input[1]) channels and the weight has \(weight[0])")
    }
    let batch = input?[0] ?? .unknown
    let channels = input?[1] ?? weight?[0] ?? .unknown
    let state = [batch, channels, (weight?[2] ?? .unknown) - 1]
    if let bias = context.shape(2), bias.count != 1 || bias[0].isSurelyDifferent(from: channels) {
      throw .mismatch("the bias has the shape \(bias); expected [\(channels)]")
    }
    if let past = context.shape(3),
      past.count != 3 || zip(past, state).contains(where: { $0.isSurelyDifferent(from: $1) })
    {
      throw .mismatch("past_state has the shape \(past); expected \(state)")
    }
    context.set(0, context.type(0), input)
    context.set(1, context.type(0), state)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32: try prepareFloat(context)
    case .float16, .bfloat16:
      try StagedKernel.prepare(context) { (context) throws(OperatorError) in try prepareFloat(context) }
    case let type: throw context.unsupportedType(type)
    }
  }

  private func prepareFloat(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let appliesSiLU = try context.string("activation") != "none"
    return .planned { plan in
      let shape = plan.shape(0)
      let (channels, length, taps) = (shape[1], shape[2], plan.shape(1)[2])
      let rows = shape[0] &* channels
      let partition = Partition(rows, of: .medium * length * taps)
      let (hasBias, hasPast, wantsState) = (plan.isPresent(2), plan.isPresent(3), plan.isWanted(1))
      return .parallel(parts: partition.parts) { run, part in
        for row in partition.range(part) {
          let channel = row % channels
          let past: UnsafePointer<Float>? = hasPast ? run.input(3) + row &* (taps &- 1) : nil
          let x: UnsafePointer<Float> = run.input(0) + row &* length
          causalRow(
            x, past, weight: run.input(1) + channel &* taps, bias: hasBias ? run.input(2, as: Float.self)[channel] : 0,
            run.output(0) + row &* length, length: length, taps: taps, appliesSiLU: appliesSiLU)
          if wantsState { carryState(x, past, run.output(1) + row &* (taps &- 1), length: length, count: taps &- 1) }
        }
      }.named("causal", cost: Cost(operations: 2 &* rows &* length &* taps))
    }
  }
}

/// One channel of one sequence: y[i] is the sum of weight[k] times element i + k of past and x laid end to end.
private func causalRow(
  _ x: UnsafePointer<Float>, _ past: UnsafePointer<Float>?, weight: UnsafePointer<Float>, bias: Float,
  _ y: UnsafeMutablePointer<Float>, length: Int, taps: Int, appliesSiLU: Bool
) {
  let carried = taps - 1
  y.update(repeating: bias, count: length)
  for tap in 0..<taps {
    // Element i of this tap is past[tap + i] while that lies in the past, then x[tap + i - carried].
    let factor = weight[tap]
    let split = Swift.min(carried - tap, length)
    if let past {
      for index in 0..<split { y[index] += factor * past[tap &+ index] }
    }
    let shift = tap &- carried
    for index in split..<length { y[index] += factor * x[index &+ shift] }
  }
  if appliesSiLU {
    let silu = Activation(.silu)
    for index in 0..<length { y[index] = silu.direct(y[index]) }
  }
}

/// The last `count` elements of past and x laid end to end.
private func carryState(
  _ x: UnsafePointer<Float>, _ past: UnsafePointer<Float>?, _ state: UnsafeMutablePointer<Float>, length: Int,
  count: Int
) {
  for index in 0..<count {
    let position = index &+ length
    state[index] = position >= count ? x[position &- count] : past?[position] ?? 0
  }
}
