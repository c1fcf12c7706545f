// The list of the Indexing family: one line an operator or import rule.

import ApusGraph

let indexingOperators: [any OperatorDefinition] = [
  Gather(),
  GatherElements(),
  GatherND(),
  ScatterElements(),
  ScatterND(),
]

let indexingImportRules: [any ImportRule] = [
  Scatter()
]
