// The list of the ControlFlow family: one line an operator.

import ApusGraph

let controlFlowOperators: [any OperatorDefinition] = [
  If(),
  Loop(),
  Scan(),
  SequenceMap(),
]
