// The list of the Convolution family: one line an operator.

import ApusGraph

let convolutionOperators: [any OperatorDefinition] = [
  Conv(),
  ConvTranspose(),
  ConvInteger(),
  QLinearConv(),
  DeformConv(),
  CausalConvWithState(),
]
