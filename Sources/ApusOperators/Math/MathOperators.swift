// The list of the Math family: one line an operator.

import ApusGraph

let mathOperators: [any OperatorDefinition] = unaryMathOperators + [
]
