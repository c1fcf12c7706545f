// All operators of TensorFlow Lite that are read, by the names of the schema.

import ApusGraph
import ApusTensor

/// The rules by operator.
enum TFLiteRules {
  static let all: [String: TFLiteRule] = {
    let families = [
      elementwise, comparisons, convolutions, pooling, products, reductions, shapes, slices, joining, indexing,
      segments, normalizations, quantization, recurrent, controlFlow, detection, signals, random, stableHLO,
    ]
    return families.reduce(into: [:]) { all, family in
      all.merge(family) { _, _ in preconditionFailure("an operator has two rules") }
    }
  }()
}
