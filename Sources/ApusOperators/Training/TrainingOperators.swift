// The list of the Training family: one line an operator.

import ApusGraph

let trainingOperators: [any OperatorDefinition] = [
  Gradient(),
  OptimizerOperator(.adagrad),
  OptimizerOperator(.adam),
  OptimizerOperator(.momentum),
]
