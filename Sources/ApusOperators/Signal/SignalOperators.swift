// The list of the Signal family: one line an operator.

import ApusGraph

let signalOperators: [any OperatorDefinition] = [
  DFT(),
  STFT(),
  MelWeightMatrix(),
  WindowFunction.hann,
  WindowFunction.hamming,
  WindowFunction.blackman,
]
