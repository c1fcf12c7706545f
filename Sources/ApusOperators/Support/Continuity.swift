// Which operators give results that move with their operands, without jumps.

import ApusGraph

/// Remainders jump though they have a derivative.
private let jumping: Set<String> = ["Cast", "CastLike", "Mod"]

/// True if a small change of the operands is a small change of the results, but for the places where a function is not
/// defined: of products of matrices, and of what has a derivative that is not zero throughout.
package func isContinuous(_ op: OperatorID, _ schema: OperatorSchema) -> Bool {
  if schema.multiplyAdds != nil { return true }
  guard op.domain == "", !jumping.contains(op.name), let rule = derivativeRules[op.name] else { return false }
  if case .zero = rule { return false }
  return true
}
