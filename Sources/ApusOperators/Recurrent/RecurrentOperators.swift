// The list of the Recurrent family: one line an operator.

import ApusGraph

let recurrentOperators: [any OperatorDefinition] = [
  RNN(),
  GRU(),
  LSTM(),
]
