// The list of the Microsoft family: tables of operators that are read as standard ones, and one line a kernel.

import ApusGraph

let microsoftOperators: [any OperatorDefinition] =
  microsoftActivations + microsoftProducts + microsoftConvolutions + microsoftNormalizations + microsoftAttention
  + microsoftQuantizedProducts + microsoftQuantizedOperators + microsoftMovements + microsoftGates
  + [
    MatMulNBits(), MatMulBnb4(), GatherBlockQuantized(), GroupQueryAttention(),
    Inverse(), NGramRepeatBlock(), MurmurHash3(), CropAndResize(),
    TextGeneration(.greedy), TextGeneration(.sampling), TextGeneration(.beam), TextGeneration(.whisper),
    Tokenizer(), DynamicTimeWarping(), BifurcationDetector(), WordConvEmbedding(), DynamicQuantizeLSTM(),
    microsoftSparseAttention,
    MixtureOfExperts(isQuantized: false), MixtureOfExperts(isQuantized: true),
  ]
