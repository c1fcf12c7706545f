// The list of the Tensor family: one line an operator.

import ApusGraph

let tensorOperators: [any OperatorDefinition] = [
  Reshape(),
]
