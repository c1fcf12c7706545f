// The list of the Pooling family: one line an operator.

import ApusGraph

let poolingOperators: [any OperatorDefinition] = [
  MaxPool(),
  AveragePool(),
  LpPool(),
  GlobalPool("GlobalMaxPool", .maximum),
  GlobalPool("GlobalAveragePool", .mean),
  GlobalPool("GlobalLpPool", .norm),
  MaxRoiPool(),
  MaxUnpool(),
]
