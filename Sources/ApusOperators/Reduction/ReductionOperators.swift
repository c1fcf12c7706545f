// The list of the Reduction family: one line an operator.

import ApusGraph

let reductionOperators: [any OperatorDefinition] = ArgReduction.all + Reduction.all
