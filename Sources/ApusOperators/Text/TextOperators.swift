// The list of the Text family: one line an operator.

import ApusGraph

let textOperators: [any OperatorDefinition] = [
  RegexFullMatch(),
  StringConcat(),
  StringNormalizer(),
  StringSplit(),
  TfIdfVectorizer(),
]
