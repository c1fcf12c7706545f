// What the Gradient operator makes of xs, zs, y and its inputs, by hand-computed numbers.

import ApusGraph
import ApusOperators
import ApusTensor
import Testing

@Suite struct GradientTests {
  private func doubles(_ tensor: Tensor) -> [Double] { tensor.elements(as: Double.self) ?? [] }

  @Test func sharedUsesAreSummed() throws {
    var g = GradientGraph()
    let x = g.input("x", [3])
    let cube = try g.node("Mul", [g.node("Mul", [x, x])[0], x])[0]
    let gradients = try g.gradients(of: g.node("Add", [cube, x])[0], [x])
    let found = try g.program(gradients).values([Tensor([1.0, 2, -3])])
    #expect(doubles(found[0]) == [4, 13, 28])
  }

  @Test func otherInputsMoveThePoint() throws {
    var g = GradientGraph()
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
    var g = GradientGraph()
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
    var g = GradientGraph()
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
    var g = GradientGraph()
    let (x, w) = (g.input("x", [2]), g.input("w", [2]))
    let y = try g.node("Mul", [g.node("Mul", [w, w])[0], g.node("Mul", [x, w])[0]])[0]  // w³x
    let first = try g.gradients(of: y, [x, w])
    let second = try g.gradients(of: first[1], [x, w])
    let third = try g.gradients(of: second[1], [x, w])
    let found = try g.program(first + second + third).values([Tensor([2.0, -1]), Tensor([3.0, 0])])
    #expect(found.map(doubles) == [[27, 0], [54, 0], [27, 0], [36, 0], [18, 0], [12, -6]])
  }

  @Test func integersStopGradients() throws {
    var g = GradientGraph()
    let x = g.input("x", [3])
    let whole = try g.node("Cast", [x], [("to", .int(Int(DataType.int64.rawValue)))])[0]
    let back = try g.node("Cast", [whole], [("to", .int(Int(DataType.float64.rawValue)))])[0]
    let gradients = try g.gradients(of: g.node("Mul", [back, x])[0], [x])
    #expect(try doubles(g.program(gradients).values([Tensor([1.5, 2.5, -3.5])])[0]) == [1, 2, -3])
  }

  @Test func narrowTypesKeepTheirs() throws {
    for type in [DataType.float16, .bfloat16, .float32] {
      var g = GradientGraph()
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
    var g = GradientGraph()
    let (x, z) = (g.input("x", [3]), g.input("z", [3]))
    let largest = try g.gradients(of: g.node("ReduceMax", [x])[0], [x])
    let larger = try g.gradients(of: g.node("Max", [x, z])[0], [x, z])
    let kinks = try ["Abs", "Relu", "LeakyRelu"].flatMap { try g.gradients(of: g.node($0, [z])[0], [z]) }
    let found = try g.program(largest + larger + kinks).values([Tensor([2.0, 2, 1]), Tensor([2.0, 3, 0])])
    #expect(found[..<4].map(doubles) == [[0.5, 0.5, 0], [0.5, 0, 1], [0.5, 1, 0], [1, 1, 0]])
    #expect(doubles(found[4]) == [1, 1, 0])
    #expect(abs(doubles(found[5])[2] - 0.01) < 1e-8)
  }

  @Test func errorsSayWhere() throws {
    var g = GradientGraph()
    let (x, n) = (g.input("x", [2, 2]), g.input("n", [2], .int64))
    let y = try g.node("Det", [x])[0]
    #expect(throws: (any Error).self) { try g.gradients(of: n, [x]) }
    #expect(throws: (any Error).self) { try g.gradients(of: y, [n]) }
    #expect(throws: (any Error).self) { try g.gradients(of: y, [x, x], at: [x]) }
    do {
      _ = try g.gradients(of: y, [x])
      Issue.record("a gradient without a rule")
    } catch {
      #expect("\(error)".contains("there is no derivative rule for Det"))
    }
  }
}
