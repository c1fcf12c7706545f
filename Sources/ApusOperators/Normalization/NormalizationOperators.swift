// The list of the Normalization family: one line an operator.

import ApusGraph

let normalizationOperators: [any OperatorDefinition] = [
]
