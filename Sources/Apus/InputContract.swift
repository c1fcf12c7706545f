// What the inputs of a run must be, in the form that is cheapest to ask.

import ApusGraph
import ApusTensor

/// Types and extents of the inputs of a model, prepared once. It answers only for inputs that are tensors and whose
/// symbolic extents each stand in one place; what it does not accept needs the check that explains.
struct InputContract: Sendable {
  private struct Input: Sendable {
    let dataType: DataType
    /// nil for any rank; an extent of -1 for any size.
    let extents: [Int]?
  }

  /// nil where an input is no tensor, or where an extent is tied to another.
  private let inputs: [Input]?

  init(_ facts: [ValueFact]) {
    var symbols: [Dim] = []
    var inputs: [Input] = []
    for fact in facts {
      guard let tensor = fact.tensor else {
        self.inputs = nil
        return
      }
      for dim in tensor.shape ?? [] where dim.known == nil && !dim.isUnknown {
        if symbols.contains(dim) {
          self.inputs = nil
          return
        }
        symbols.append(dim)
      }
      inputs.append(Input(dataType: tensor.dataType, extents: tensor.shape?.map { $0.known ?? -1 }))
    }
    self.inputs = inputs
  }

  /// Whether the values, in the order of the model's inputs, surely fit.
  func accepts(_ values: [Value]) -> Bool {
    guard let inputs, values.count == inputs.count else { return false }
    for index in values.indices {
      guard case .tensor(let tensor) = values[index], tensor.dataType == inputs[index].dataType else { return false }
      guard let extents = inputs[index].extents else { continue }
      guard tensor.shape.rank == extents.count else { return false }
      for axis in extents.indices where extents[axis] >= 0 && extents[axis] != tensor.shape[axis] { return false }
    }
    return true
  }
}
