// The list of the Matrix family: one line an operator.

import ApusGraph

let matrixOperators: [any OperatorDefinition] = [
  MatMul(),
  Gemm(),
  MatMulInteger(),
  QLinearMatMul(),
  Einsum(),
  Det(),
]
