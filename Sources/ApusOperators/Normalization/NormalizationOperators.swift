// The list of the Normalization family: one line an operator.

import ApusGraph

let normalizationOperators: [any OperatorDefinition] = [
  BatchNormalization(),
  InstanceNormalization(),
  LayerNormalization(),
  GroupNormalization(),
  RMSNormalization(),
  LpNormalization(),
  MeanVarianceNormalization(),
  LRN(),
  Softmax(),
  Softmax(logarithm: true),
  Hardmax(),
]
