// The list of the Math family: one line an operator.

import ApusGraph

let mathOperators: [any OperatorDefinition] =
  unaryMathOperators + binaryMathOperators + [
    Clip(),
    Cumulative.product,
    Cumulative.sum,
    Pow(),
    PRelu(),
    SwiGLU(),
  ]
