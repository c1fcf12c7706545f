// The candidates of a float32 transposed convolution: the plain form, and those in which its weights come to the
// kernels.

import ApusGraph
import ApusTensor

/// What the form of a transposed convolution is chosen by.
struct TransposedFacts: KernelFacts {
  typealias Candidate = KernelCandidate<TransposedFacts, TransposedForm?>

  /// Of the weights, in the specification's layout.
  let shape: [Int]
  let groups: Int
  let strides: [Int]
  let dilations: [Int]

  var elementType: DataType? { .float32 }

  private var channels: Int { shape[0] / groups }
  private var columns: Int { (strides.last ?? 1) * shape[1] }

  /// The form to be taken; nil: the plain one.
  var form: TransposedForm? {
    get throws(OperatorError) { try Candidate.choose(.transposedConvolution, for: self, TransposedFacts.candidates) }
  }

  /// Why the kernels do not have it; nil: they have it.
  private var refusal: String? {
    guard (3...5).contains(shape.count) else { return "more than three spatial axes" }
    guard shape.allSatisfy({ $0 > 0 }), groups >= 1, shape[0] % groups == 0 else {
      return "the weights have no elements, or no whole groups"
    }
    // Phases without taps are outputs that are the bias and nothing else.
    guard zip(strides, shape[2...]).allSatisfy({ $0 <= TransposedFacts.emptiest * $1 }) else {
      return "most outputs draw on no input"
    }
    return nil
  }

  /// How many times as long as a window a stride may be.
  private static let emptiest = 4
  /// What finding a tap takes, in multiply-adds with all outputs.
  private static let tapCost = 0.75
  /// What a multiply-add over planes takes, of one in a matrix product.
  private static let planeCost = 1.3

  /// Costs are those of a thousand multiply-adds.
  static let candidates = [
    Candidate("plain") { _ in
      .cost(.loops(operations: 4000))
    } make: { _ in
      .some(nil)
    },
    Candidate("products", types: [.float32]) { facts in
      if let refusal = facts.refusal { return .refused(refusal) }
      return .cost(.vectors(operations: 2000 * panelWaste(facts.columns) * (1 + tapCost / Double(facts.channels))))
    } make: { _ in
      .products
    },
    Candidate("planes", types: [.float32]) { facts in
      facts.refusal.map { .refused($0) } ?? .cost(.vectors(operations: 2000 * planeCost))
    } make: { _ in
      .planes
    },
  ]
}
