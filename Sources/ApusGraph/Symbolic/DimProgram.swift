// Expressions over symbols as one list of operations, for many sets of numbers.

/// Computes expressions for numbers in place of their symbols. What they have in common is computed once.
package struct DimProgram: Sendable {
  private enum Operation: Sendable {
    case number(Int)
    /// The symbol at a position.
    case symbol(Int)
    // Of the results of two earlier operations.
    case sum(Int, Int)
    case product(Int, Int)
    case combination(Dim.Combination, Int, Int)
    /// No numbers make a number of it.
    case undefined
  }

  private let symbols: [String]
  private var operations: [Operation] = []
  /// By expression: the operation that gives it.
  private var results: [Int] = []
  private var known: [Dim: Int] = [:]

  /// For expressions in these symbols.
  package init(_ expressions: [Dim], symbols: [String]) {
    self.symbols = symbols
    for expression in expressions { results.append(place(of: expression)) }
    known = [:]
  }

  private mutating func append(_ operation: Operation) -> Int {
    operations.append(operation)
    return operations.count - 1
  }

  /// The operation that gives an expression.
  private mutating func place(of expression: Dim) -> Int {
    if let place = known[expression] { return place }
    let place = append(expression)
    known[expression] = place
    return place
  }

  private mutating func append(_ expression: Dim) -> Int {
    if let number = expression.known { return append(.number(number)) }
    if let name = expression.symbol { return append(symbols.firstIndex(of: name).map { .symbol($0) } ?? .undefined) }
    guard let products = expression.products else { return append(.undefined) }
    var sum: Int?
    for (coefficient, factors) in products {
      var product: Int?
      for factor in factors {
        let place =
          switch factor {
          case .symbol(let name): place(of: .symbol(name))
          case .combined(let kind, let a, let b): self.place(of: kind, a, b)
          }
        product = if let product { append(.product(product, place)) } else { place }
      }
      let place: Int
      if let product {
        place = coefficient == 1 ? product : append(.product(self.place(of: Dim(coefficient)), product))
      } else {
        place = self.place(of: Dim(coefficient))
      }
      sum = if let sum { append(.sum(sum, place)) } else { place }
    }
    return sum ?? append(.number(0))
  }

  private mutating func place(of kind: Dim.Combination, _ a: Dim, _ b: Dim) -> Int {
    let whole = Dim(.combined(kind, a, b))
    if let place = known[whole] { return place }
    let (x, y) = (place(of: a), place(of: b))
    let place = append(.combination(kind, x, y))
    // What has no form of its own is the same as nothing else.
    if !whole.isUnknown { known[whole] = place }
    return place
  }

  /// By expression: its number where the symbols, by position, have these numbers; nil if one of them is unknown, not
  /// defined for the numbers, or does not fit.
  package func numbers(_ symbols: [Int]) -> [Int]? {
    let values = Array<Int>(unsafeUninitializedCapacity: operations.count) { values, count in
      for operation in operations {
        guard let value = DimProgram.value(of: operation, symbols, values) else { return }
        values.initializeElement(at: count, to: value)
        count += 1
      }
    }
    return values.count == operations.count ? results.map { values[$0] } : nil
  }

  private static func value(
    of operation: Operation, _ symbols: [Int], _ values: UnsafeMutableBufferPointer<Int>
  ) -> Int? {
    func exact(_ result: (partialValue: Int, overflow: Bool)) -> Int? { result.overflow ? nil : result.partialValue }
    switch operation {
    case .number(let number): return number
    case .symbol(let position): return position < symbols.count ? symbols[position] : nil
    case .sum(let a, let b): return exact(values[a].addingReportingOverflow(values[b]))
    case .product(let a, let b): return exact(values[a].multipliedReportingOverflow(by: values[b]))
    case .combination(let kind, let a, let b):
      let (x, y) = (values[a], values[b])
      switch kind {
      case .floorDivide: return Dim(x).dividedRoundingDown(by: Dim(y)).known
      case .maximum: return max(x, y)
      case .minimum: return min(x, y)
      case .broadcast: return Dim.broadcast(Dim(x), Dim(y)).known
      }
    case .undefined: return nil
    }
  }
}
