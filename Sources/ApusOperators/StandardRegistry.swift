// Every operator of the engine and every import rule: the lists of all families, joined.

import ApusGraph

extension OperatorRegistry {
  /// All that Apus knows.
  package static let standard = OperatorRegistry(
    [
      mathOperators, logicOperators, castOperators, quantizationOperators, randomOperators,
      tensorOperators, indexingOperators, reductionOperators,
      convolutionOperators, poolingOperators, imageOperators,
      matrixOperators, normalizationOperators, attentionOperators, recurrentOperators, signalOperators, lossOperators,
      controlFlowOperators, sequenceOperators, textOperators, machineLearningOperators, trainingOperators,
      microsoftOperators, fusedOperators,
    ],
    importRules: [
      tensorImportRules, indexingImportRules, imageImportRules, trainingImportRules, microsoftImportRules,
      experimentalImportRules,
    ],
    opsetForms: OlderForms())
}
