// The list of the Loss family: one line an operator.

import ApusGraph

let lossOperators: [any OperatorDefinition] = [
  NegativeLogLikelihoodLoss(),
  SoftmaxCrossEntropyLoss(),
]
