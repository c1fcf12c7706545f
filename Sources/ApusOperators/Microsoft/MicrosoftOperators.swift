// The list of the Microsoft family: one line an operator, and the tables of what is read as standard operators.

import ApusGraph

let microsoftOperators: [any OperatorDefinition] = [
  MatMulNBits(), MatMulBnb4(), GatherBlockQuantized(), GroupQueryAttention(),
  Inverse(), NGramRepeatBlock(), NGramHashMapping(), MurmurHash3(), CropAndResize(),
  TextGeneration(.greedy), TextGeneration(.sampling), TextGeneration(.beam), TextGeneration(.whisper),
  Tokenizer(), DynamicTimeWarping(), BifurcationDetector(), WordConvEmbedding(), DynamicQuantizeLSTM(),
  MixtureOfExperts(isQuantized: false), MixtureOfExperts(isQuantized: true),
]

let microsoftImportRules: [any ImportRule] =
  microsoftActivations + microsoftProducts + microsoftConvolutions + microsoftNormalizations + microsoftAttention
  + microsoftQuantizedProducts + microsoftQuantizedOperators + microsoftMovements + microsoftGates
  + [microsoftSparseAttention]
