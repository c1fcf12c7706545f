// A symbolic extent: a polynomial with integer coefficients over named symbols, kept in one canonical form.

/// An extent of a tensor, or a small integer value, as far as it is known before running: a number, an expression of
/// symbols such as `2*seq + 1`, or unknown.
package struct Dim: Sendable, Hashable {
  private enum Storage: Sendable, Hashable {
    case known(Int)
    case sum([Term])
    case unknown
  }

  /// `coefficient` times the product of `factors`, which are in canonical order.
  private struct Term: Sendable, Hashable {
    var coefficient: Int
    var factors: [Atom]
  }

  private indirect enum Atom: Sendable, Hashable, CustomStringConvertible {
    case symbol(String)
    case floorDivide(Dim, Dim)
    case maximum(Dim, Dim)
    case minimum(Dim, Dim)
    /// The extent that two extents broadcast to.
    case broadcast(Dim, Dim)

    var description: String {
      switch self {
      case .symbol(let name): name
      case .floorDivide(let a, let b): "floor((\(a))/(\(b)))"
      case .maximum(let a, let b): "max(\(a), \(b))"
      case .minimum(let a, let b): "min(\(a), \(b))"
      case .broadcast(let a, let b): "broadcast(\(a), \(b))"
      }
    }
  }

  private var storage: Storage

  private init(storage: Storage) { self.storage = storage }

  package init(_ value: Int) { storage = .known(value) }
  package static let unknown = Dim(storage: .unknown)
  package static func symbol(_ name: String) -> Dim {
    Dim(storage: .sum([Term(coefficient: 1, factors: [.symbol(name)])]))
  }

  /// The number, if it is one.
  package var known: Int? {
    if case .known(let value) = storage { value } else { nil }
  }

  package var isUnknown: Bool { storage == .unknown }

  /// True if both are surely the same extent. Two unknown extents are not.
  package func isSame(as other: Dim) -> Bool { !isUnknown && self == other }

  /// True if both are numbers and differ.
  package func isSurelyDifferent(from other: Dim) -> Bool {
    guard let a = known, let b = other.known else { return false }
    return a != b
  }

  /// True if no values of the symbols, which are extents and so at least 0, can make it negative.
  package var isSurelyNonNegative: Bool {
    switch storage {
    case .unknown: false
    case .known(let value): value >= 0
    case .sum(let terms):
      terms.allSatisfy { term in
        term.coefficient >= 0
          && term.factors.allSatisfy { factor in
            switch factor {
            case .symbol: true
            case .maximum(let a, let b): a.isSurelyNonNegative || b.isSurelyNonNegative
            case .floorDivide(let a, let b), .minimum(let a, let b), .broadcast(let a, let b):
              a.isSurelyNonNegative && b.isSurelyNonNegative
            }
          }
      }
    }
  }

  /// The names of the symbols in the expression.
  package var symbols: Set<String> {
    guard case .sum(let terms) = storage else { return [] }
    var names: Set<String> = []
    for term in terms {
      for factor in term.factors {
        switch factor {
        case .symbol(let name): names.insert(name)
        case .floorDivide(let a, let b), .maximum(let a, let b), .minimum(let a, let b), .broadcast(let a, let b):
          names.formUnion(a.symbols)
          names.formUnion(b.symbols)
        }
      }
    }
    return names
  }

  /// True if the expression has an extent that others are broadcast to.
  package var hasBroadcast: Bool {
    guard case .sum(let terms) = storage else { return false }
    return terms.contains { term in
      term.factors.contains { factor in
        switch factor {
        case .symbol: false
        case .broadcast: true
        case .floorDivide(let a, let b), .maximum(let a, let b), .minimum(let a, let b): a.hasBroadcast || b.hasBroadcast
        }
      }
    }
  }

  /// The extent with every bound symbol replaced by its value.
  package func substituting(_ bindings: [String: Dim]) -> Dim {
    guard case .sum(let terms) = storage else { return self }
    var total = Dim(0)
    for term in terms {
      var product = Dim(term.coefficient)
      for factor in term.factors {
        switch factor {
        case .symbol(let name): product = product * (bindings[name] ?? .symbol(name))
        case .floorDivide(let a, let b):
          product = product * a.substituting(bindings).dividedRoundingDown(by: b.substituting(bindings))
        case .maximum(let a, let b): product = product * .max(a.substituting(bindings), b.substituting(bindings))
        case .minimum(let a, let b): product = product * .min(a.substituting(bindings), b.substituting(bindings))
        case .broadcast(let a, let b):
          product = product * .broadcast(a.substituting(bindings), b.substituting(bindings))
        }
      }
      total = total + product
    }
    return total
  }
}

// MARK: - Arithmetic. A result that overflows is unknown.

extension Dim {
  package static func + (a: Dim, b: Dim) -> Dim {
    if let x = a.known, let y = b.known {
      let (sum, overflow) = x.addingReportingOverflow(y)
      return overflow ? .unknown : Dim(sum)
    }
    guard let x = a.terms, let y = b.terms else { return .unknown }
    return canonical(x + y)
  }

  package static func - (a: Dim, b: Dim) -> Dim { a + b * Dim(-1) }

  package static func * (a: Dim, b: Dim) -> Dim {
    if let x = a.known, let y = b.known {
      let (product, overflow) = x.multipliedReportingOverflow(by: y)
      return overflow ? .unknown : Dim(product)
    }
    if a.known == 0 || b.known == 0 { return Dim(0) }
    guard let x = a.terms, let y = b.terms, x.count * y.count <= 64 else { return .unknown }
    var products: [Term] = []
    for p in x {
      for q in y {
        let (coefficient, overflow) = p.coefficient.multipliedReportingOverflow(by: q.coefficient)
        if overflow { return .unknown }
        products.append(Term(coefficient: coefficient, factors: p.factors + q.factors))
      }
    }
    return canonical(products)
  }

  /// Floor division, as of shapes. Exact where every coefficient divides; unknown for a divisor of 0.
  package func dividedRoundingDown(by divisor: Dim) -> Dim {
    if let y = divisor.known {
      if y == 0 { return .unknown }
      if y == 1 { return self }
      if let x = known {
        if y == -1 { return Dim(0) - self }
        let quotient = x / y
        return Dim(x % y != 0 && (x < 0) != (y < 0) ? quotient - 1 : quotient)
      }
      if let terms, y != -1, terms.allSatisfy({ $0.coefficient % y == 0 }) {
        return Dim.canonical(terms.map { Term(coefficient: $0.coefficient / y, factors: $0.factors) })
      }
    }
    if isUnknown || divisor.isUnknown { return .unknown }
    if let exact = dividedExactly(by: divisor) { return exact }
    return Dim(storage: .sum([Term(coefficient: 1, factors: [.floorDivide(self, divisor)])]))
  }

  /// The quotient, if every term of `self` is a multiple of the single term that `divisor` is.
  package func dividedExactly(by divisor: Dim) -> Dim? {
    if self == divisor, !isUnknown { return Dim(1) }
    guard let terms, let divisorTerms = divisor.terms, divisorTerms.count == 1 else { return nil }
    let d = divisorTerms[0]
    if d.coefficient == 0 || d.coefficient == -1 { return nil }
    var quotient: [Term] = []
    for var term in terms {
      if term.coefficient % d.coefficient != 0 { return nil }
      term.coefficient /= d.coefficient
      for factor in d.factors {
        guard let index = term.factors.firstIndex(of: factor) else { return nil }
        term.factors.remove(at: index)
      }
      quotient.append(term)
    }
    return Dim.canonical(quotient)
  }

  package func dividedRoundingUp(by divisor: Dim) -> Dim {
    (self + divisor - Dim(1)).dividedRoundingDown(by: divisor)
  }

  package static func max(_ a: Dim, _ b: Dim) -> Dim {
    if let x = a.known, let y = b.known { return Dim(Swift.max(x, y)) }
    if a.isUnknown || b.isUnknown { return .unknown }
    if a == b { return a }
    return Dim(storage: .sum([Term(coefficient: 1, factors: [.maximum(a, b)])]))
  }

  package static func min(_ a: Dim, _ b: Dim) -> Dim {
    if let x = a.known, let y = b.known { return Dim(Swift.min(x, y)) }
    if a.isUnknown || b.isUnknown { return .unknown }
    if a == b { return a }
    return Dim(storage: .sum([Term(coefficient: 1, factors: [.minimum(a, b)])]))
  }

  /// What two extents broadcast to. Unknown for two numbers that do not fit: the caller has reported them.
  package static func broadcast(_ a: Dim, _ b: Dim) -> Dim {
    if a.known == 1 { return b }
    if b.known == 1 { return a }
    if let x = a.known, let y = b.known { return x == y ? a : .unknown }
    if a == b { return a }
    // An extent above 1 can only meet itself or 1.
    if let x = a.known, x != 1 { return a }
    if let y = b.known, y != 1 { return b }
    if a.isUnknown || b.isUnknown { return .unknown }
    // min(a, c) fits a only where it is a, or 1: the result is a either way.
    if b.isMinimum(of: a) { return a }
    if a.isMinimum(of: b) { return b }
    if b.isBroadcast(of: a) { return b }
    if a.isBroadcast(of: b) { return a }
    return Dim(storage: .sum([Term(coefficient: 1, factors: [.broadcast(a, b)])]))
  }

  /// The atom, if the expression is one atom and nothing else.
  private var atom: Atom? {
    guard case .sum(let terms) = storage, terms.count == 1, terms[0].coefficient == 1, terms[0].factors.count == 1 else {
      return nil
    }
    return terms[0].factors[0]
  }

  private func isMinimum(of other: Dim) -> Bool {
    guard case .minimum(let x, let y)? = atom else { return false }
    return x == other || y == other
  }

  private func isBroadcast(of other: Dim) -> Bool {
    guard case .broadcast(let x, let y)? = atom else { return false }
    return x == other || y == other || x.isBroadcast(of: other) || y.isBroadcast(of: other)
  }

  /// The terms of a number or an expression; nil if unknown.
  private var terms: [Term]? {
    switch storage {
    case .known(let value): value == 0 ? [] : [Term(coefficient: value, factors: [])]
    case .sum(let terms): terms
    case .unknown: nil
    }
  }

  private static func canonical(_ terms: [Term]) -> Dim {
    var merged: [[Atom]: Int] = [:]
    for term in terms {
      let factors = term.factors.count < 2 ? term.factors : term.factors.sorted { "\($0)" < "\($1)" }
      let (sum, overflow) = (merged[factors] ?? 0).addingReportingOverflow(term.coefficient)
      if overflow { return .unknown }
      merged[factors] = sum
    }
    let kept = merged.filter { $0.value != 0 }
    if kept.isEmpty { return Dim(0) }
    if kept.count == 1, let constant = kept[[]] { return Dim(constant) }
    if kept.count > 64 { return .unknown }
    let sorted = kept.map { (term: Term(coefficient: $0.value, factors: $0.key), key: "\($0.key)") }
      .sorted { $0.term.factors.isEmpty == $1.term.factors.isEmpty ? $0.key < $1.key : !$0.term.factors.isEmpty }
    return Dim(storage: .sum(sorted.map(\.term)))
  }
}

extension Dim: ExpressibleByIntegerLiteral, CustomStringConvertible {
  package init(integerLiteral value: Int) { self.init(value) }

  /// `4`, `batch`, `2*seq + 1`, `?`.
  package var description: String {
    switch storage {
    case .known(let value): return "\(value)"
    case .unknown: return "?"
    case .sum(let terms):
      var text = ""
      for (index, term) in terms.enumerated() {
        let magnitude = term.coefficient.magnitude
        text += index == 0 ? (term.coefficient < 0 ? "-" : "") : (term.coefficient < 0 ? " - " : " + ")
        let product = term.factors.map { "\($0)" }.joined(separator: "*")
        text += product.isEmpty ? "\(magnitude)" : magnitude == 1 ? product : "\(magnitude)*\(product)"
      }
      return text
    }
  }
}
