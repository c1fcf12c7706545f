// A symbolic extent: a polynomial with integer coefficients over named symbols, kept in one canonical form.

/// An extent of a tensor, or a small integer value, as far as it is known before running: a number, an expression of
/// symbols such as `2*seq + 1`, or unknown. What would be a larger expression than the bounds below allow is unknown: a
/// graph can square an extent in four nodes.
package struct Dim: Sendable, Hashable {
  /// Terms of one sum.
  private static let maximumTerms = 64
  /// Factors of one term.
  private static let maximumDegree = 12
  /// Quotients, maxima and the like in each other.
  private static let maximumDepth = 12
  /// Symbols and numbers that an expression consists of in all.
  private static let maximumSize = 256

  private enum Storage: Sendable, Hashable {
    case known(Int)
    case sum([Term])
    case unknown
  }

  /// `coefficient` times the product of `factors`, which are in canonical order.
  private struct Term: Sendable, Hashable {
    var coefficient: Int
    var factors: [Atom]
    /// Symbols and numbers in it.
    var size: Int { factors.reduce(1) { $0 + $1.size } }
    var depth: Int { factors.reduce(0) { Swift.max($0, $1.depth) } }

    /// As of `Dim.lowerBound`: of a number, of one factor, or of several that are at least 0.
    var lowerBound: Int? {
      if factors.isEmpty { return coefficient }
      if coefficient < 0 { return nil }
      var product = coefficient
      for factor in factors {
        guard let bound = factor.lowerBound, bound >= 0 || factors.count == 1,
          case let (next, overflow) = product.multipliedReportingOverflow(by: bound), !overflow
        else { return nil }
        product = next
      }
      return product
    }
  }

  /// Two expressions that are one factor together, with the bounds that they keep.
  private struct Pair: Sendable, Hashable {
    let a: Dim
    let b: Dim
    let size: Int
    let depth: Int

    /// nil if the pair would be too large.
    init?(_ a: Dim, _ b: Dim) {
      size = 1 + a.size + b.size
      depth = 1 + Swift.max(a.depth, b.depth)
      if size > Dim.maximumSize || depth > Dim.maximumDepth { return nil }
      (self.a, self.b) = (a, b)
    }
  }

  private indirect enum Atom: Sendable, Hashable, CustomStringConvertible {
    case symbol(String)
    case floorDivide(Pair)
    case maximum(Pair)
    case minimum(Pair)
    /// The extent that two extents broadcast to.
    case broadcast(Pair)

    var size: Int { pair?.size ?? 1 }
    var depth: Int { pair?.depth ?? 0 }

    /// As of `Dim.lowerBound`.
    var lowerBound: Int? {
      switch self {
      case .symbol: return 0
      case .floorDivide(let pair):
        guard let bound = pair.a.lowerBound else { return nil }
        if let divisor = pair.b.known, divisor > 0 { return Dim(bound).dividedRoundingDown(by: pair.b).known }
        return bound >= 0 && pair.b.isSurelyNonNegative ? 0 : nil
      case .maximum(let pair):
        guard let a = pair.a.lowerBound else { return pair.b.lowerBound }
        return Swift.max(a, pair.b.lowerBound ?? a)
      case .minimum(let pair), .broadcast(let pair):
        guard let a = pair.a.lowerBound, let b = pair.b.lowerBound else { return nil }
        return Swift.min(a, b)
      }
    }

    private var pair: Pair? {
      switch self {
      case .symbol: nil
      case .floorDivide(let pair), .maximum(let pair), .minimum(let pair), .broadcast(let pair): pair
      }
    }

    /// The place of the kind in the canonical order.
    private var rank: Int {
      switch self {
      case .symbol: 0
      case .floorDivide: 1
      case .maximum: 2
      case .minimum: 3
      case .broadcast: 4
      }
    }

    /// The canonical order: symbols by name, then the other kinds by what they consist of.
    static func precedes(_ x: Atom, _ y: Atom) -> Bool { order(x, y) < 0 }

    /// Below 0 if `x` stands first, 0 if both are the same.
    static func order(_ x: Atom, _ y: Atom) -> Int {
      if case .symbol(let a) = x, case .symbol(let b) = y { return a == b ? 0 : a < b ? -1 : 1 }
      guard let a = x.pair, let b = y.pair, x.rank == y.rank else { return x.rank - y.rank }
      let first = Dim.order(a.a, b.a)
      return first != 0 ? first : Dim.order(a.b, b.b)
    }

    var description: String {
      switch self {
      case .symbol(let name): name
      case .floorDivide(let pair): "floor((\(pair.a))/(\(pair.b)))"
      case .maximum(let pair): "max(\(pair.a), \(pair.b))"
      case .minimum(let pair): "min(\(pair.a), \(pair.b))"
      case .broadcast(let pair): "broadcast(\(pair.a), \(pair.b))"
      }
    }
  }

  private var storage: Storage

  private init(storage: Storage) { self.storage = storage }

  /// The expression that is one factor; unknown if that would be too large.
  private init(_ a: Dim, _ b: Dim, _ atom: (Pair) -> Atom) {
    storage = Pair(a, b).map { .sum([Term(coefficient: 1, factors: [atom($0)])]) } ?? .unknown
  }

  package init(_ value: Int) { storage = .known(value) }
  package static let unknown = Dim(storage: .unknown)
  package static func symbol(_ name: String) -> Dim {
    Dim(storage: .sum([Term(coefficient: 1, factors: [.symbol(name)])]))
  }

  /// The number, if it is one.
  package var known: Int? {
    if case .known(let value) = storage { value } else { nil }
  }

  package var isUnknown: Bool {
    if case .unknown = storage { true } else { false }
  }

  /// The name, if the expression is one symbol.
  package var symbol: String? {
    if case .symbol(let name)? = atom { name } else { nil }
  }

  /// Symbols and numbers in the expression; 1 for a number.
  package var size: Int {
    if case .sum(let terms) = storage { terms.reduce(0) { $0 + $1.size } } else { 1 }
  }

  private var depth: Int {
    if case .sum(let terms) = storage { terms.reduce(0) { Swift.max($0, $1.depth) } } else { 0 }
  }

  /// True if both are surely the same extent. Two unknown extents are not.
  package func isSame(as other: Dim) -> Bool { !isUnknown && self == other }

  /// True if both are numbers and differ.
  package func isSurelyDifferent(from other: Dim) -> Bool {
    guard let a = known, let b = other.known else { return false }
    return a != b
  }

  /// True if no values of the symbols, which are extents and so at least 0, can make it negative.
  package var isSurelyNonNegative: Bool { lowerBound.map { $0 >= 0 } ?? false }

  /// A number that the expression is not below for any values of the symbols, which are at least 0; nil if none is
  /// found.
  private var lowerBound: Int? {
    switch storage {
    case .unknown: return nil
    case .known(let value): return value
    case .sum(let terms):
      var total = 0
      for term in terms {
        guard let bound = term.lowerBound, case let (sum, overflow) = total.addingReportingOverflow(bound), !overflow
        else { return nil }
        total = sum
      }
      return total
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
        case .floorDivide(let pair), .maximum(let pair), .minimum(let pair), .broadcast(let pair):
          names.formUnion(pair.a.symbols)
          names.formUnion(pair.b.symbols)
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
        case .floorDivide(let pair), .maximum(let pair), .minimum(let pair): pair.a.hasBroadcast || pair.b.hasBroadcast
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
        case .floorDivide(let pair):
          product = product * pair.a.substituting(bindings).dividedRoundingDown(by: pair.b.substituting(bindings))
        case .maximum(let pair): product = product * .max(pair.a.substituting(bindings), pair.b.substituting(bindings))
        case .minimum(let pair): product = product * .min(pair.a.substituting(bindings), pair.b.substituting(bindings))
        case .broadcast(let pair):
          product = product * .broadcast(pair.a.substituting(bindings), pair.b.substituting(bindings))
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
    guard let x = a.terms, let y = b.terms, x.count * y.count <= maximumTerms else { return .unknown }
    var products: [Term] = []
    for p in x {
      for q in y {
        let (coefficient, overflow) = p.coefficient.multipliedReportingOverflow(by: q.coefficient)
        if overflow || p.factors.count + q.factors.count > maximumDegree { return .unknown }
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
    return Dim(self, divisor) { .floorDivide($0) }
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
    return Dim(a, b) { .maximum($0) }
  }

  package static func min(_ a: Dim, _ b: Dim) -> Dim {
    if let x = a.known, let y = b.known { return Dim(Swift.min(x, y)) }
    if a.isUnknown || b.isUnknown { return .unknown }
    if a == b { return a }
    return Dim(a, b) { .minimum($0) }
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
    return Dim(a, b) { .broadcast($0) }
  }

  /// The atom, if the expression is one atom and nothing else.
  private var atom: Atom? {
    guard case .sum(let terms) = storage, terms.count == 1, terms[0].coefficient == 1, terms[0].factors.count == 1
    else {
      return nil
    }
    return terms[0].factors[0]
  }

  private func isMinimum(of other: Dim) -> Bool {
    guard case .minimum(let pair)? = atom else { return false }
    return pair.a == other || pair.b == other
  }

  private func isBroadcast(of other: Dim) -> Bool {
    guard case .broadcast(let pair)? = atom else { return false }
    return pair.a == other || pair.b == other || pair.a.isBroadcast(of: other) || pair.b.isBroadcast(of: other)
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
      let factors = term.factors.count < 2 ? term.factors : term.factors.sorted(by: Atom.precedes)
      let (sum, overflow) = (merged[factors] ?? 0).addingReportingOverflow(term.coefficient)
      if overflow { return .unknown }
      merged[factors] = sum
    }
    let kept = merged.filter { $0.value != 0 }
    if kept.isEmpty { return Dim(0) }
    if kept.count == 1, let constant = kept[[]] { return Dim(constant) }
    if kept.count > maximumTerms { return .unknown }
    let sum = kept.map { Term(coefficient: $0.value, factors: $0.key) }.sorted { order($0.factors, $1.factors) < 0 }
    return sum.reduce(0) { $0 + $1.size } > maximumSize ? .unknown : Dim(storage: .sum(sum))
  }

  /// The canonical order of products: by their factors; what has more factors first, the number last. Below 0 if `x`
  /// stands first.
  private static func order(_ x: [Atom], _ y: [Atom]) -> Int {
    for (a, b) in zip(x, y) {
      let order = Atom.order(a, b)
      if order != 0 { return order }
    }
    return y.count - x.count
  }

  /// Any fixed order of expressions. Below 0 if `x` stands first, 0 if both are the same.
  private static func order(_ x: Dim, _ y: Dim) -> Int {
    guard let a = x.terms, let b = y.terms else { return (x.isUnknown ? 1 : 0) - (y.isUnknown ? 1 : 0) }
    for (p, q) in zip(a, b) {
      let order = order(p.factors, q.factors)
      if order != 0 { return order }
      if p.coefficient != q.coefficient { return p.coefficient < q.coefficient ? -1 : 1 }
    }
    return a.count - b.count
  }
}

// MARK: - Taking expressions apart, and putting them together again

extension Dim {
  /// How two expressions become one factor.
  package enum Combination: UInt8, Sendable { case floorDivide = 1, maximum, minimum, broadcast }

  /// A factor of a product.
  package enum Factor: Sendable {
    case symbol(String)
    case combined(Combination, Dim, Dim)
  }

  /// The products whose sum the expression is, in canonical order; none for 0, nil if it is unknown.
  package var products: [(coefficient: Int, factors: [Factor])]? {
    terms?.map { term in
      let factors = term.factors.map { atom -> Factor in
        switch atom {
        case .symbol(let name): .symbol(name)
        case .floorDivide(let pair): .combined(.floorDivide, pair.a, pair.b)
        case .maximum(let pair): .combined(.maximum, pair.a, pair.b)
        case .minimum(let pair): .combined(.minimum, pair.a, pair.b)
        case .broadcast(let pair): .combined(.broadcast, pair.a, pair.b)
        }
      }
      return (term.coefficient, factors)
    }
  }

  /// The expression that a factor stands for.
  package init(_ factor: Factor) {
    self =
      switch factor {
      case .symbol(let name): .symbol(name)
      case .combined(.floorDivide, let a, let b): a.dividedRoundingDown(by: b)
      case .combined(.maximum, let a, let b): .max(a, b)
      case .combined(.minimum, let a, let b): .min(a, b)
      case .combined(.broadcast, let a, let b): .broadcast(a, b)
      }
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
