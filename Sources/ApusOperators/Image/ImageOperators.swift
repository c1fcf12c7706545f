// The list of the Image family: one line an operator.

import ApusGraph

let imageOperators: [any OperatorDefinition] = [
]
