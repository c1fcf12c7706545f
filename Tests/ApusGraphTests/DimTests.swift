// Symbolic extents: one canonical form, exact arithmetic, honest ignorance.

import ApusGraph
import Testing

@Suite struct DimTests {
  let batch = Dim.symbol("batch")
  let seq = Dim.symbol("seq")

  @Test func canonicalForm() {
    #expect(batch * seq == seq * batch)
    #expect(batch + seq - batch == seq)
    #expect((batch + 1) * (batch - 1) == batch * batch - 1)
    #expect(seq - seq == 0)
    #expect((Dim(2) * seq + 1).description == "2*seq + 1")
  }

  @Test func division() {
    #expect((Dim(4) * seq).dividedRoundingDown(by: 2) == Dim(2) * seq)
    #expect((batch * seq * 12).dividedRoundingDown(by: batch * 4) == seq * 3)
    #expect(seq.dividedRoundingDown(by: 2).substituting(["seq": 7]) == 3)
    #expect(Dim(-7).dividedRoundingDown(by: 2) == -4)
    #expect(seq.dividedRoundingDown(by: 0).isUnknown)
    #expect(Dim(7).dividedRoundingUp(by: 2) == 4)
  }

  @Test func unknownIsNeverTheSame() {
    #expect(!Dim.unknown.isSame(as: .unknown))
    #expect((Dim.unknown + 1).isUnknown)
    #expect((Dim.unknown * 0) == 0)
  }

  @Test func overflowIsUnknown() {
    #expect((Dim(Int.max) + 1).isUnknown)
    #expect((Dim(Int.max) * seq * 4).isUnknown)
  }

  @Test func broadcasting() {
    #expect(Dim.broadcast(1, seq) == seq)
    #expect(Dim.broadcast(5, seq) == 5)
    #expect(Dim.broadcast(batch, seq).substituting(["batch": 1, "seq": 9]) == 9)
    #expect(Dim.broadcast(seq, .min(seq, 512)) == seq)
    let both = Dim.broadcast(batch, seq)
    #expect(Dim.broadcast(seq, both) == both)
    #expect(throws: OperatorError.self) { try broadcast([[2, 3], [4, 3]]) }
  }

  @Test func substitution() {
    let formula = batch * (seq + 2) * 4
    #expect(formula.substituting(["batch": 2, "seq": 3]) == 40)
    #expect(formula.symbols == ["batch", "seq"])
  }

  @Test func expressionsStaySmall() {
    // n·m, squared again and again: without a bound the degree doubles each time.
    var extent = batch * seq
    for _ in 0..<100 { extent = extent * extent }
    #expect(extent.isUnknown)
    // Sums and maxima in each other.
    var nested = seq
    for index in 0..<100 { nested = Dim.max(nested + 1, Dim.symbol("s\(index)")).dividedRoundingDown(by: batch) }
    #expect(nested.isUnknown)
    var wide = Dim(0)
    for index in 0..<10 { wide = wide + Dim.symbol("s\(index)") }
    #expect((wide * wide).isUnknown)
    #expect(wide.size <= 20 && wide.description.hasPrefix("s0 + s1"))
    #expect(
      !TensorFact.keeps([Dim](repeating: wide, count: 1000)) && TensorFact.keeps([Dim](repeating: 4, count: 1000)))
  }

  @Test func orderIsThatOfTheNames() {
    #expect((seq + batch + 3).description == "batch + seq + 3")
    #expect((seq * batch + seq * 2).description == "batch*seq + 2*seq")
    #expect((Dim.max(seq, batch) + seq).description == (seq + Dim.max(seq, batch)).description)
  }

  @Test func takenApartAndPutTogether() throws {
    let expressions: [Dim] = [
      0, 7, -3, batch, Dim(2) * seq + 1, batch * seq * seq - 4, (seq + 1).dividedRoundingDown(by: 2) * batch,
      .max(seq - 3, 0), .min(seq, 512) + .broadcast(batch, seq),
      (.max(seq, batch) + 5).dividedRoundingUp(by: batch + 1),
    ]
    for expression in expressions {
      var sum = Dim(0)
      for product in try #require(expression.products) {
        sum = sum + product.factors.reduce(Dim(product.coefficient)) { $0 * Dim($1) }
      }
      #expect(sum == expression)
    }
    #expect(Dim.unknown.products == nil)
  }

  /// Symbols are extents: at least 0.
  @Test func whatIsNeverNegative() {
    // The length of a convolution with a stride.
    let strided = (seq - 1).dividedRoundingDown(by: 2) + 1
    #expect(strided.isSurelyNonNegative && !(strided - 1).isSurelyNonNegative)
    #expect((seq * batch + 3).isSurelyNonNegative && !(seq - 1).isSurelyNonNegative)
    #expect(!(seq - batch).isSurelyNonNegative && !(Dim(0) - seq).isSurelyNonNegative)
    #expect(Dim.max(seq - 5, 0).isSurelyNonNegative && !Dim.min(seq - 5, 0).isSurelyNonNegative)
    #expect(Dim.min(strided, 512).isSurelyNonNegative)
    #expect(seq.dividedRoundingDown(by: batch).isSurelyNonNegative)
    #expect(!(seq - 1).dividedRoundingDown(by: batch).isSurelyNonNegative)
    #expect(!seq.dividedRoundingDown(by: -2).isSurelyNonNegative && !Dim.unknown.isSurelyNonNegative)
    let program = DimProgram([strided], symbols: ["seq"])
    for length in 0...5 { #expect(program.numbers([length]) == [(length + 1) / 2]) }
  }

  /// Programs give the numbers that the arithmetic of the expressions does, and none where it gives none.
  @Test func programsCompute() {
    let expressions = [
      seq, 7, seq * batch * 3 - 5, (seq + 3).dividedRoundingDown(by: 2), seq.dividedRoundingDown(by: batch - 2),
      .max(seq, batch * 2), .min(seq - batch, 4), .broadcast(seq, batch), seq * seq * seq * (batch - 1),
      ((seq - 1).dividedRoundingDown(by: 2) + 1) * ((seq - 1).dividedRoundingDown(by: 2) - batch),
    ]
    let numbers = [1, 2, 3, 5, 8, 1 << 40]
    for x in numbers {
      for y in numbers {
        let bound = ["seq": Dim(x), "batch": Dim(y)]
        var all: [Int]? = []
        for expression in expressions {
          let expected = expression.substituting(bound).known
          let found = DimProgram([expression], symbols: ["batch", "seq"]).numbers([y, x])
          #expect(found == expected.map { [$0] }, "\(expression) for \(x), \(y)")
          if let expected { all?.append(expected) } else { all = nil }
        }
        #expect(DimProgram(expressions, symbols: ["batch", "seq"]).numbers([y, x]) == all)
      }
    }
    #expect(DimProgram([seq, .unknown], symbols: ["seq"]).numbers([3]) == nil)
    #expect(DimProgram([seq + batch], symbols: ["seq"]).numbers([3]) == nil)
  }
}
