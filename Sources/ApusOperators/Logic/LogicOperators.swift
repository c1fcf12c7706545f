// The list of the Logic family: one line an operator.

import ApusGraph

let logicOperators: [any OperatorDefinition] = [
]
