// Derivatives of matrix products and of Einsum.

import ApusGraph
import ApusTensor

let productDerivatives: DerivativeTable = [
  "MatMul": .gradients(matMulGradients),
  "Gemm": .gradients(gemmGradients),
  "Einsum": .gradients(einsumGradients),
]

/// dA = g·Bᵀ and dB = Aᵀ·g, summed over the axes along which the stacks of matrices were repeated.
private func matMulGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let (a, b) = (try node.required(0), try node.required(1))
  let (rankA, rankB) = (try w.rank(a), try w.rank(b))
  // A vector is a row on the left and a column on the right.
  let left = rankA == 1 ? try w.unsqueeze(a, [0]) : a
  let right = rankB == 1 ? try w.unsqueeze(b, [1]) : b
  var g = try node.gradient()
  if rankB == 1 { g = try w.unsqueeze(g, [-1]) }
  if rankA == 1 { g = try w.unsqueeze(g, [-2]) }
  var gradients: [ValueID?] = [nil, nil]
  if node.isWanted(0) {
    let full = try w.apply("MatMul", [g, w.matrixTransposed(right)])
    let own = try w.unbroadcast(full, to: left)
    gradients[0] = rankA == 1 ? try w.reshape(own, like: a) : own
  }
  if node.isWanted(1) {
    var full: ValueID
    if rankB <= 2, rankA > 2 {
      // One matrix for the whole stack: the rows of all are those of one product.
      let rows = try w.apply("Flatten", [left], [("axis", .int(rankA - 1))])
      let sums = try w.apply("Flatten", [g], [("axis", .int(w.rank(g) - 1))])
      full = try w.apply("Gemm", [rows, sums], [("transA", .int(1))])
    } else {
      full = try w.apply("MatMul", [w.matrixTransposed(left), g])
    }
    full = try w.unbroadcast(full, to: right)
    gradients[1] = rankB == 1 ? try w.reshape(full, like: b) : full
  }
  return gradients
}

extension DerivativeWriter {
  fileprivate mutating func matrixTransposed(_ value: ValueID) throws(OperatorError) -> ValueID {
    let rank = try rank(value)
    return try transpose(value, Array(0..<(rank - 2)) + [rank - 1, rank - 2])
  }
}

/// Y = alpha·A'·B' + beta·C, where A' and B' may be transposes.
private func gemmGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let g = try node.gradient()
  let (a, b) = (try node.required(0), try node.required(1))
  let (isATransposed, isBTransposed) = (try node.bool("transA"), try node.bool("transB"))
  let alpha = try node.float("alpha")
  func product(
    _ w: inout DerivativeWriter, _ x: ValueID, _ isXTransposed: Bool, _ y: ValueID, _ isYTransposed: Bool
  ) throws(OperatorError) -> ValueID {
    try w.apply(
      "Gemm", [x, y],
      [("alpha", .float(alpha)), ("transA", .int(isXTransposed ? 1 : 0)), ("transB", .int(isYTransposed ? 1 : 0))])
  }
  var gradients = [ValueID?](repeating: nil, count: 3)
  if node.isWanted(0) {
    gradients[0] =
      isATransposed
      ? try product(&w, b, isBTransposed, g, true) : try product(&w, g, false, b, !isBTransposed)
  }
  if node.isWanted(1) {
    gradients[1] =
      isBTransposed
      ? try product(&w, g, true, a, isATransposed) : try product(&w, a, !isATransposed, g, false)
  }
  if node.isWanted(2), let c = node.input(2) {
    gradients[2] = try w.unbroadcast(w.scale(g, Double(node.float("beta"))), to: c)
  }
  return gradients
}

/// The gradient takes the place of the operand, and their labels change places too. A label that only the operand has
/// was summed over: its gradient is the same all along.
private func einsumGradients(_ w: inout DerivativeWriter, _ node: Application) throws(OperatorError) -> [ValueID?] {
  let g = try node.gradient()
  var ranks: [Int?] = []
  for index in node.node.inputs.indices { ranks.append(try w.rank(node.required(index))) }
  let equation = try EinsumEquation(node.string("equation"), ranks: ranks)
  let letters = try letters(of: equation)
  func text(_ term: [EinsumEquation.Label]) -> String { term.compactMap { letters[$0] }.joined() }
  var gradients: [ValueID?] = []
  for (index, term) in equation.terms.enumerated() {
    guard node.isWanted(index) else {
      gradients.append(nil)
      continue
    }
    guard Set(term).count == term.count else {
      throw .unsupported("there is no derivative rule for Einsum where a label stands twice in one term")
    }
    let others = equation.terms.indices.filter { $0 != index }
    let known = Set(equation.output).union(others.flatMap { equation.terms[$0] })
    let terms = [text(equation.output)] + others.map { text(equation.terms[$0]) }
    let formula = terms.joined(separator: ",") + "->" + text(term.filter(known.contains))
    var operands: [ValueID] = [g]
    for other in others { operands.append(try node.required(other)) }
    let x = try node.required(index)
    let sums = try w.apply("Einsum", operands, [("equation", .string(formula))])
    let missing = term.indices.filter { !known.contains(term[$0]) }
    gradients.append(try w.unbroadcast(w.expand(w.unsqueeze(sums, missing), like: x), to: x))
  }
  return gradients
}

/// A letter for every label, those of ellipses included.
private func letters(of equation: EinsumEquation) throws(OperatorError) -> [EinsumEquation.Label: String] {
  let alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ".map(String.init)
  let labels = Set(equation.terms.joined()).sorted()
  guard labels.count <= alphabet.count else {
    throw .unsupported("Einsum with \(labels.count) axes has no derivative rule; expected at most \(alphabet.count)")
  }
  return Dictionary(uniqueKeysWithValues: zip(labels, alphabet))
}
