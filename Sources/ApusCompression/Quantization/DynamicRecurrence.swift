// LSTMs with integers as weights, whose inputs and states become integers in each run.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicQuantizeLSTM

import ApusGraph
import ApusTensor

/// The weights of one operand of an LSTM, W or R, as DynamicQuantizeLSTM has them.
struct RecurrentCodes {
  /// [directions, inputs, gates].
  let integers: Tensor
  /// [directions, gates], or [directions] where a direction has one scale.
  let scales: Tensor
  let zeroPoints: Tensor
  let noise: SignalNoise

  /// The codes of weights of shape [directions, gates, inputs].
  init?(_ tensor: Tensor, isPerChannel: Bool, _ options: WeightCodes.Options) {
    guard let numbers = tensor.elements(as: Float.self), tensor.rank == 3, tensor.count > 0 else { return nil }
    let (directions, gates, depth) = (tensor.shape[0], tensor.shape[1], tensor.shape[2])
    var (integers, scales, zeros): ([Int], [Float], [Int]) = ([], [], [])
    var noise = SignalNoise()
    for direction in 0..<directions {
      let start = direction * gates * depth
      var turned = [Float](repeating: 0, count: gates * depth)
      for gate in 0..<gates {
        for input in 0..<depth { turned[input * gates + gate] = numbers[start + gate * depth + input] }
      }
      let codes = WeightCodes(turned, shape: [depth, gates], axis: isPerChannel ? 1 : nil, options)
      integers += codes.integers.map { Int($0) }
      scales += codes.scales
      zeros += codes.zeroPoints
      noise.add(SignalNoise(turned, codes.numbers))
    }
    let shape: Shape = isPerChannel ? [directions, gates] : [directions]
    self.integers = Tensor(integers: integers, shape: [directions, depth, gates], type: options.type)
    self.scales = Tensor(scales, shape: shape)
    zeroPoints = Tensor(integers: zeros, shape: shape, type: options.type)
    self.noise = noise
  }
}

/// The inputs of LSTM, which are the first of DynamicQuantizeLSTM too.
enum LSTMInputs {
  static let (data, weights, recurrence) = (0, 1, 2)
  static let count = 8

  static let float = OperatorID("LSTM")
  static let quantized = OperatorID("DynamicQuantizeLSTM", domain: "com.microsoft")
}
