// The list of the Sequence family: one line an operator.

import ApusGraph

let sequenceOperators: [any OperatorDefinition] = [
  SequenceConstruct(),
  SequenceEmpty(),
  SequenceInsert(),
  SequenceErase(),
  SequenceAt(),
  SequenceLength(),
  SplitToSequence(),
  ConcatFromSequence(),
  OptionalOperator(),
  OptionalHasElement(),
  OptionalGetElement(),
]
