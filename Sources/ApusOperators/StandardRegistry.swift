// Every operator of the engine: the lists of all families, joined.

import ApusGraph

extension OperatorRegistry {
  /// All operators that Apus knows.
  package static let standard = OperatorRegistry([
    mathOperators, logicOperators, castOperators, quantizationOperators, randomOperators,
    tensorOperators, indexingOperators, reductionOperators,
    convolutionOperators, poolingOperators, imageOperators,
    matrixOperators, normalizationOperators, attentionOperators, recurrentOperators, signalOperators, lossOperators,
    controlFlowOperators, sequenceOperators, textOperators, machineLearningOperators, trainingOperators,
    microsoftOperators, experimentalOperators, fusedOperators,
  ])
}
