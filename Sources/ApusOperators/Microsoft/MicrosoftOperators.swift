// The list of the Microsoft family: one line an operator.

import ApusGraph

let microsoftOperators: [any OperatorDefinition] = [
]
