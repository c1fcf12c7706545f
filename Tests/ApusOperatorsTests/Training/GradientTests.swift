// What the Gradient operator makes of xs, zs, y and its inputs, by hand-computed numbers.

import ApusGraph
import ApusOperators
import ApusTensor
import Foundation
import Testing

@Suite struct GradientTests {
  private func doubles(_ tensor: Tensor) -> [Double] { tensor.elements(as: Double.self) ?? [] }

  @Test func sharedUsesAreSummed() throws {
    let g = GradientGraph()
    let x = g.input("x", [3])
    let cube = try g.node("Mul", [g.node("Mul", [x, x])[0], x])[0]
    let gradients = try g.gradients(of: g.node("Add", [cube, x])[0], [x])
    let found = try g.program(gradients).values([Tensor([1.0, 2, -3])])
    #expect(doubles(found[0]) == [4, 13, 28])
  }

  @Test func otherInputsMoveThePoint() throws {
    let g = GradientGraph()
    let (w, x, at) = (g.input("w", [2]), g.input("x", [2]), g.input("at", [2]))
    let h = try g.node("Mul", [w, x])[0]
    let y = try g.node("Mul", [h, g.node("Mul", [h, x])[0]])[0]  // h²·x
    let atNamed = try g.gradients(of: y, [h, x])
    let atOther = try g.gradients(of: y, [h, x], at: [at, x])
    let found = try g.program(atNamed + atOther).values([Tensor([2.0, 3]), Tensor([1.0, 5]), Tensor([10.0, 20])])
    #expect(doubles(found[0]) == [4, 150])  // 2hx at h = w·x
    #expect(doubles(found[1]) == [4, 225])  // h is independent: h²
    #expect(doubles(found[2]) == [20, 200])
    #expect(doubles(found[3]) == [100, 400])
  }

  @Test func pathsEndAtZs() throws {
    let g = GradientGraph()
    let x = g.input("x", [2])
    let h = try g.node("Mul", [x, x])[0]
    let y = try g.node("Mul", [h, x])[0]
    let all = try g.gradients(of: y, [x])
    let some = try g.gradients(of: y, [x], zs: [h])
    let found = try g.program(all + some).values([Tensor([2.0, 3])])
    #expect(doubles(found[0]) == [12, 27])
    #expect(doubles(found[1]) == [4, 9])
  }

  @Test func independentOnesGetZeros() throws {
    let g = GradientGraph()
    let (x, z) = (g.input("x", [.symbol("n")]), g.input("z", [.symbol("m"), 2]))
    let y = try g.node("Floor", [g.node("Mul", [x, z])[0]])[0]
    let gradients = try g.gradients(of: g.node("Add", [y, x])[0], [x, z, y])
    let found = try g.program(gradients).values([Tensor([2.0, 3]), Tensor([1.0, 2, 3, 4], shape: [2, 2])])
    #expect(doubles(found[0]) == [2, 2])  // x is repeated along the rows
    #expect(found[1].shape == [2, 2] && doubles(found[1]) == [0, 0, 0, 0])
    #expect(doubles(found[2]) == [1, 1, 1, 1])
    let own = try g.gradients(of: x, [x])
    #expect(try doubles(g.program(own).values([Tensor([2.0, 3]), Tensor([1.0, 2], shape: [1, 2])])[0]) == [1, 1])
  }

  @Test func gradientsOfGradients() throws {
    let g = GradientGraph()
    let (x, w) = (g.input("x", [2]), g.input("w", [2]))
    let y = try g.node("Mul", [g.node("Mul", [w, w])[0], g.node("Mul", [x, w])[0]])[0]  // w³x
    let first = try g.gradients(of: y, [x, w])
    let second = try g.gradients(of: first[1], [x, w])
    let third = try g.gradients(of: second[1], [x, w])
    let found = try g.program(first + second + third).values([Tensor([2.0, -1]), Tensor([3.0, 0])])
    #expect(found.map(doubles) == [[27, 0], [54, 0], [27, 0], [36, 0], [18, 0], [12, -6]])
  }

  @Test func ranksMayBeUnknown() throws {
    let g = GradientGraph()
    let (x, s, b) = (g.input("x", [.symbol("n")]), g.input("s", [.symbol("k")], .int64), g.input("b", [2]))
    let shaped = try g.node("Reshape", [x, s])[0]
    let y = try g.node("Mul", [g.node("Mul", [shaped, b])[0], shaped])[0]
    #expect(g.graph.fact(y).tensor?.shape == nil)
    let gradients = try g.gradients(of: y, [x, b])
    let program = try g.program(gradients)
    for (shape, wanted) in [
      ([2], [[2.0, 8], [1, 4]]), ([2, 1], [[6, 12], [5, 5]]), ([1, 1, 2], [[2, 8], [1, 4]]),
    ] {
      let found = try program.values([Tensor([1.0, 2]), Tensor(shape), Tensor([1.0, 2])])
      #expect(found.map(doubles) == wanted)
    }
  }

  @Test func integersStopGradients() throws {
    let g = GradientGraph()
    let x = g.input("x", [3])
    let whole = try g.node("Cast", [x], [("to", .int(Int(DataType.int64.rawValue)))])[0]
    let back = try g.node("Cast", [whole], [("to", .int(Int(DataType.float64.rawValue)))])[0]
    let gradients = try g.gradients(of: g.node("Mul", [back, x])[0], [x])
    #expect(try doubles(g.program(gradients).values([Tensor([1.5, 2.5, -3.5])])[0]) == [1, 2, -3])
  }

  @Test func narrowTypesKeepTheirs() throws {
    for type in [DataType.float16, .bfloat16, .float32] {
      let g = GradientGraph()
      let x = g.input("x", [2, 3])
      let cast = try g.node("Cast", [x], [("to", .int(Int(type.rawValue)))])[0]
      let scale = try g.node("Cast", [g.constant(Tensor([1.0, 2, 3]))], [("to", .int(Int(type.rawValue)))])[0]
      let y = try g.node("Softplus", [g.node("RMSNormalization", [cast, scale])[0]])[0]
      let narrow = try g.gradients(of: y, [cast])[0]
      #expect(g.graph.fact(narrow).tensor?.dataType == type)
      let wide = try g.gradients(of: y, [x])
      let found = try g.program(wide).values([Tensor([1.0, 2, 3, -1, 1, 0.5], shape: [2, 3])])
      #expect(found[0].dataType == .float64 && doubles(found[0]).allSatisfy { $0.isFinite && $0 != 0 })
    }
  }

  @Test func tiesAreShared() throws {
    let g = GradientGraph()
    let (x, z) = (g.input("x", [3]), g.input("z", [3]))
    let largest = try g.gradients(of: g.node("ReduceMax", [x])[0], [x])
    let larger = try g.gradients(of: g.node("Max", [x, z])[0], [x, z])
    let kinks = try ["Abs", "Relu", "LeakyRelu"].flatMap { try g.gradients(of: g.node($0, [z])[0], [z]) }
    let found = try g.program(largest + larger + kinks).values([Tensor([2.0, 2, 1]), Tensor([2.0, 3, 0])])
    #expect(found[..<4].map(doubles) == [[0.5, 0.5, 0], [0.5, 0, 1], [0.5, 1, 0], [1, 1, 0]])
    #expect(doubles(found[4]) == [1, 1, 0])
    #expect(abs(doubles(found[5])[2] - 0.01) < 1e-8)
  }

  /// x·w in one branch, w in the other.
  private func choice(_ g: GradientGraph, _ condition: ValueID, _ x: ValueID, _ w: ValueID) throws -> ValueID {
    func branch(_ op: String, _ captured: [ValueID]) throws -> AttributeValue {
      let inner = g.inside()
      inner.output(try inner.node(op, captured.map { inner.importing($0, of: g.builder) }))
      return .graph(inner.subgraph)
    }
    let branches = [("then_branch", try branch("Mul", [x, w])), ("else_branch", try branch("Sin", [w]))]
    return try g.node("If", [condition], branches)[0]
  }

  @Test func branchesHaveBranchesOfGradients() throws {
    for isFirst in [true, false] {
      let g = GradientGraph()
      let (x, w, condition) = (g.input("x", [2]), g.input("w", [2]), g.input("c", [], .bool))
      let y = try g.node("Mul", [choice(g, condition, x, w), x])[0]
      let first = try g.gradients(of: y, [x, w])
      let second = try g.gradients(of: first[0], [x, w])
      let found = try g.program(first + second).values([Tensor([2.0, 3]), Tensor([5.0, 0]), Tensor(scalar: isFirst)])
      let sine = sin(5.0)
      let cosine = cos(5.0)
      let expected: [[Double]] =
        isFirst ? [[20, 0], [4, 9], [10, 0], [4, 6]] : [[sine, 0], [2 * cosine, 3], [0, 0], [cosine, 1]]
      for (actual, wanted) in zip(found.map(doubles), expected) {
        #expect(zip(actual, wanted).allSatisfy { abs($0 - $1) < 1e-12 }, "\(actual) instead of \(wanted)")
      }
    }
  }

  @Test func constantsOfSubgraphsAreRefused() throws {
    let g = GradientGraph()
    let w = g.constant(Tensor([1.0, 2]))
    let inner = g.inside()
    inner.output(try inner.node("Sin", [inner.importing(w, of: g.builder)]))
    let branch = AttributeValue.graph(inner.subgraph)
    let condition = g.input("c", [], .bool)
    let y = try g.node("If", [condition], [("then_branch", branch), ("else_branch", branch)])[0]
    #expect(throws: (any Error).self) { try g.gradients(of: y, [w]) }
  }

  @Test func errorsSayWhere() throws {
    let g = GradientGraph()
    let (x, n) = (g.input("x", [2, 2]), g.input("n", [2], .int64))
    let y = try g.node("Det", [x])[0]
    #expect(throws: (any Error).self) { try g.gradients(of: n, [x]) }
    #expect(throws: (any Error).self) { try g.gradients(of: y, [n]) }
    #expect(throws: (any Error).self) { try g.gradients(of: y, [x, x], at: [x]) }
    do {
      _ = try g.gradients(of: y, [x])
      Issue.record("a gradient without a rule")
    } catch {
      let text = "\(error)"
      #expect(text.contains("Gradient 'gradient' › Det 'n0': there is no derivative rule for Det"), "\(text)")
    }
  }
}
