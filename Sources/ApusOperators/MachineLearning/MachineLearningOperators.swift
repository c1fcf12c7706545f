// The list of the MachineLearning family: one line an operator.

import ApusGraph

let machineLearningOperators: [any OperatorDefinition] = [
]
