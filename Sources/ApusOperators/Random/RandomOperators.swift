// The list of the Random family: one line an operator.

import ApusGraph

let randomOperators: [any OperatorDefinition] =
  RandomDistribution.all + [
    Bernoulli(),
    Dropout(),
    Multinomial(),
  ]
