// The list of the Indexing family: one line an operator.

import ApusGraph

let indexingOperators: [any OperatorDefinition] = [
  Gather(),
  GatherElements(),
  GatherND(),
  Scatter(),
  ScatterElements(),
  ScatterND(),
]
