// The list of the Quantization family: one line an operator.

import ApusGraph

let quantizationOperators: [any OperatorDefinition] = [
  DequantizeLinear(),
  DynamicQuantizeLinear(),
  QuantizeLinear(),
]
