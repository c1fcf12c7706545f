// The list of the Cast family: one line an operator.

import ApusGraph

let castOperators: [any OperatorDefinition] = [
  BitCast(),
  Cast(),
  CastLike(),
]
