// The list of the Pooling family: one line an operator.

import ApusGraph

let poolingOperators: [any OperatorDefinition] = [
]
