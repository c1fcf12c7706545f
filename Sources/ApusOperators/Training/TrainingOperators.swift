// The list of the Training family: one line an operator or import rule.

import ApusGraph

let trainingOperators: [any OperatorDefinition] = [
  OptimizerOperator(.adagrad),
  OptimizerOperator(.adam),
  OptimizerOperator(.momentum),
]

let trainingImportRules: [any ImportRule] = [
  Gradient()
]
