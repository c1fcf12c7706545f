// The choices among kernels that operators make, and candidates as most of them have.

import ApusGraph
import ApusTensor
import CApusKernels

/// The places where operators choose among kernels. `KernelCandidateTests` has cases for each.
package enum ChoicePoint: String, CaseIterable, Sendable {
  case argReduction = "extremes"
  case attention
  case averagePool = "average pool"
  case byteMap = "byte map"
  case batchNormalization = "batch normalization"
  case channelsLastPool = "channels-last pool"
  case convolution
  case deformedConvolution = "deformed convolution"
  case dequantization
  case einsum
  case elementwise
  case gemm
  case globalPool = "global pool"
  case gridSample = "grid sample"
  case groupNormalization = "group normalization"
  case hardmax
  case integerConvolution = "integer convolution"
  case integerProduct = "integer product"
  case layerNormalization = "layer normalization"
  case localResponse = "local response"
  case lpNormalization = "lp normalization"
  case matMul = "matrix product"
  case maxPool = "max pool"
  case planeCopy = "copy of planes"
  case quantization
  case quantizedElementwise = "quantized elementwise"
  case quantizedProduct = "quantized product"
  case quantizedRecurrence = "quantized recurrence"
  case recurrence
  case reduction
  case regionAlignment = "region alignment"
  case resize
  case rmsNormalization = "rms normalization"
  case singleElements = "reduction of single elements"
  case softmax
  case transposedConvolution = "transposed convolution"
  case weightsOfFewBits = "weights of few bits"
}

extension MachineFeatures {
  /// What the kernels of this machine use.
  package static var current: MachineFeatures { MachineFeatures(rawValue: apus_kernels().pointee.features) }
}

extension KernelFacts {
  package var features: MachineFeatures { .current }
}

/// What most choices are made by when a node is prepared: the type of its elements.
struct ElementFacts: KernelFacts {
  let elementType: DataType?
  var layout = ImageLayout.planar
}

typealias ElementCandidate = KernelCandidate<ElementFacts, PreparedKernel>

extension KernelCandidate where Facts == ElementFacts {
  /// Loops over single elements, which take everything.
  static func plain(_ make: @escaping @Sendable () throws(OperatorError) -> Made?) -> KernelCandidate {
    KernelCandidate("plain", appraise: { _ in .cost(.loops(operations: 1)) }) { (_) throws(OperatorError) in try make()
    }
  }

  /// A kernel on vectors of elements of some types. The costs of both are those of one element.
  static func vectors(
    _ name: String, types: [DataType] = [.float32], refusal: String? = nil,
    _ make: @escaping @Sendable () throws(OperatorError) -> Made?
  ) -> KernelCandidate {
    KernelCandidate(name, types: types) { _ in
      refusal.map { .refused($0) } ?? .cost(.vectors(operations: 1))
    } make: { (_) throws(OperatorError) in
      try make()
    }
  }

  /// The choice for elements of a type.
  static func choose(
    _ point: ChoicePoint, type: DataType?, _ candidates: [KernelCandidate]
  ) throws(OperatorError) -> Made {
    try choose(candidates, at: point.rawValue, for: ElementFacts(elementType: type))
  }
}

extension KernelCandidate {
  /// The choice for facts.
  static func choose(
    _ point: ChoicePoint, for facts: Facts, _ candidates: [KernelCandidate]
  ) throws(OperatorError) -> Made {
    try choose(candidates, at: point.rawValue, for: facts)
  }
}
