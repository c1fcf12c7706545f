// The list of the Attention family: one line an operator.

import ApusGraph

let attentionOperators: [any OperatorDefinition] = [
  Attention(),
  RotaryEmbedding(),
  LinearAttention(),
  FlexAttention(),
]
