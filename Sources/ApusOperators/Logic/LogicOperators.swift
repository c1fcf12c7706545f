// The list of the Logic family: one line an operator.

import ApusGraph

let logicOperators: [any OperatorDefinition] =
  Comparison.all + BooleanLogic.all + BitwiseLogic.all + [
    BitShift(),
    BitwiseNot(),
    IsInf(),
    IsNaN(),
    Not(),
    Where(),
  ]
