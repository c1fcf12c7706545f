// What outlives a run owns what it keeps: inputs that are refilled or gone, outputs beside inputs, buffers of the
// caller, constants at odd addresses.

import Apus
import ApusGraph
import ApusOperators
import ApusRuntime
import ApusTensor
import ApusTestSupport
import Glibc
import Testing

/// A page of memory that a test fills, refills and gives back.
private struct LentPage {
  let base = mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)!

  /// The bytes of `content` in this page, as the tensor of a caller who promises nothing beyond the call.
  func tensor(_ content: Tensor) -> Tensor {
    content.withUnsafeBytes { base.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    let storage = TensorStorage(base: base, byteCount: 4096, release: nil)
    return Tensor(dataType: content.dataType, shape: content.shape, storage: storage)
  }

  func unmap() { munmap(base, 4096) }
}

/// An operator with an input that decides on its plan, at `position`, and two contents for it.
struct PlannedByValues: Sendable, CustomTestStringConvertible {
  let op: String
  let inputs: [Tensor]
  let position: Int
  let other: Tensor
  var outputs = 1
  var attributes: [(String, AttributeValue)] = []
  var testDescription: String { op }

  static let data = sampleTensor([2, 3, 4], seed: 5)
  static let image = sampleTensor([1, 1, 4, 4], seed: 6)
  static let none = Tensor([] as [Int])
  private static let scales = (Tensor([1, 1, 2, 2] as [Float]), Tensor([1, 1, 3, 1] as [Float]))

  static let all = [
    PlannedByValues(op: "Reshape", inputs: [data, Tensor([6, 4])], position: 1, other: Tensor([4, 6])),
    PlannedByValues(
      op: "Slice", inputs: [data, Tensor([0]), Tensor([2]), Tensor([1])], position: 2, other: Tensor([1])),
    PlannedByValues(
      op: "Slice", inputs: [data, Tensor([0]), Tensor([2]), Tensor([1])], position: 3, other: Tensor([2])),
    PlannedByValues(
      op: "Pad", inputs: [data, Tensor([0, 1, 0, 0, 0, 2])], position: 1, other: Tensor([1, 0, 0, 0, 1, 0])),
    PlannedByValues(op: "Tile", inputs: [data, Tensor([1, 2, 1])], position: 1, other: Tensor([2, 1, 2])),
    PlannedByValues(
      op: "Expand", inputs: [Tensor([1, 2] as [Float]), Tensor([3, 2])], position: 1, other: Tensor([2, 2])),
    PlannedByValues(op: "TopK", inputs: [data, Tensor([1])], position: 1, other: Tensor([3]), outputs: 2),
    PlannedByValues(op: "ReduceSum", inputs: [data, Tensor([1])], position: 1, other: Tensor([2])),
    PlannedByValues(op: "Unsqueeze", inputs: [data, Tensor([0])], position: 1, other: Tensor([3])),
    PlannedByValues(
      op: "Split", inputs: [data, Tensor([1, 3])], position: 1, other: Tensor([2, 2]), outputs: 2,
      attributes: [("axis", .int(2))]),
    PlannedByValues(op: "ConstantOfShape", inputs: [Tensor([2, 2])], position: 0, other: Tensor([1, 3])),
    PlannedByValues(
      op: "Range", inputs: [Tensor(scalar: 0), Tensor(scalar: 6), Tensor(scalar: 1)], position: 1,
      other: Tensor(scalar: 4)),
    PlannedByValues(
      op: "OneHot", inputs: [Tensor([0, 2]), Tensor([3]), Tensor([0, 1] as [Float])], position: 1, other: Tensor([5])),
    PlannedByValues(op: "CumSum", inputs: [data, Tensor(scalar: 1)], position: 1, other: Tensor(scalar: 2)),
    PlannedByValues(op: "Resize", inputs: [image, Tensor([] as [Float]), scales.0], position: 2, other: scales.1),
    PlannedByValues(op: "Trilu", inputs: [data, Tensor(scalar: 0)], position: 1, other: Tensor(scalar: 1)),
  ]
}

@Suite struct OwnershipTests {
  /// The model of one node whose inputs are all inputs of the model, of unknown shapes.
  private func model(_ test: PlannedByValues) throws -> Model {
    let builder = GraphBuilder()
    let inputs = test.inputs.enumerated().map { index, input in
      builder.input("x\(index)", input.shape.indices.map { .symbol("d\(index)_\($0)") }, input.dataType)
    }
    let outputs = (0..<test.outputs).map { builder.addValue("y\($0)") }
    try builder.append(
      Node(OperatorID(test.op), name: "n", inputs: inputs, outputs: outputs, attributes: Attributes(test.attributes)))
    builder.graph.outputs = outputs
    return try Model(ModelGraph(graph: builder.graph), options: ModelOptions(threads: 1))
  }

  private func named(_ tensors: [Tensor]) -> [String: Tensor] {
    Dictionary(uniqueKeysWithValues: tensors.enumerated().map { ("x\($0.offset)", $0.element) })
  }

  /// Types, shapes and bytes as text, so that a difference can be read.
  private func text(_ outputs: [String: Tensor]) -> [String] {
    outputs.sorted { $0.key < $1.key }.map { name, tensor in
      "\(name) \(tensor.dataType)\(tensor.shape) \(tensor.withUnsafeBytes { Array($0) })"
    }
  }

  @Test(arguments: PlannedByValues.all) func refilledInputsAreReadAnew(_ test: PlannedByValues) throws {
    let model = try model(test)
    let page = LentPage()
    var lent = test.inputs
    lent[test.position] = page.tensor(test.inputs[test.position])
    #expect(try text(model.run(named(lent))) == text(model.run(named(test.inputs))))
    lent[test.position] = page.tensor(test.other)
    var other = test.inputs
    other[test.position] = test.other
    let expected = try text(self.model(test).run(named(other)))
    #expect(try text(model.run(named(lent))) == expected)
    // A plan that still looked at the page would end the process.
    page.unmap()
    #expect(try text(model.run(named(other))) == expected)
  }

  @Test func outputsShareNoMemoryWithInputs() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 4])
    let y = try builder.node("Reshape", [x, builder.constant([-1], [1])])
    let sequence = try builder.node("SequenceConstruct", [x, x])
    builder.output(x, y, sequence)
    var graph = builder.graph
    for (id, name) in zip(graph.outputs.dropFirst(), ["y", "s"]) { graph[id].name = name }
    let model = try Model(ModelGraph(graph: graph), options: ModelOptions(threads: 1))
    let page = LentPage()
    let input = sampleTensor([3, 4], seed: 1)
    let outputs = try model.run(values: ["x": .tensor(page.tensor(input))])
    page.unmap()
    for (name, value) in outputs {
      let tensors = (value.sequence ?? [value]).compactMap(\.tensor)
      #expect(!tensors.isEmpty)
      for tensor in tensors {
        #expect(tensor.elements(as: Float.self) == input.elements(as: Float.self), "\(name)")
      }
    }
    #expect(outputs.count == 3)
  }

  /// y = relu(x), z = y as one row, w = 2·x.
  private func threeOutputs() throws -> Model {
    let builder = GraphBuilder()
    let x = builder.input("x", [8])
    let y = try builder.node("Relu", [x])
    let z = try builder.node("Reshape", [y, builder.constant([1, -1], [2])])
    let w = try builder.node("Add", [x, x])
    builder.output(y, z, w)
    var graph = builder.graph
    for (id, name) in zip(graph.outputs, ["y", "z", "w"]) { graph[id].name = name }
    return try Model(ModelGraph(graph: graph), options: ModelOptions(threads: 1))
  }

  @Test func buffersMayLieOverInputs() throws {
    let model = try threeOutputs()
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 64)
    defer { memory.deallocate() }
    let values = (0..<8).map { Float($0) - 4 }
    memory.copyBytes(from: values.withUnsafeBytes { Array($0) })
    let input = Tensor(noCopy: UnsafeMutableRawBufferPointer(rebasing: memory[..<32]), dataType: .float32, shape: [8]) {
      _, _ in
    }
    let results = try model.run(["x": input], into: ["y": UnsafeMutableRawBufferPointer(rebasing: memory[..<32])])
    #expect(results["w"]?.elements(as: Float.self) == values.map { 2 * $0 })
    #expect(Array(memory.bindMemory(to: Float.self)[..<8]) == values.map { max($0, 0) })
  }

  @Test func viewsOfABufferAreCopies() throws {
    let model = try threeOutputs()
    let values = (0..<8).map { Float($0) - 4 }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 32, alignment: 64)
    let results = try model.run(["x": Tensor(values)], into: ["y": memory])
    memory.initializeMemory(as: UInt8.self, repeating: 0xFF)
    #expect(results["z"]?.elements(as: Float.self) == values.map { max($0, 0) })
    #expect(throws: RunError.self) { try model.run(["x": Tensor(values)], into: ["y": memory, "w": memory]) }
    memory.deallocate()
  }

  @Test func buffersAreNotThoseOfASubgraph() throws {
    // The value of the body has the number of an output of the main graph.
    let body = GraphBuilder()
    _ = body.input("i", [], .int64)
    let condition = body.input("c", [], .bool)
    let carried = body.input("s", [4])
    let next = try body.node("Add", [carried, carried])
    let scan = try body.node("Neg", [next])
    body.output(try body.node("Identity", [condition]), next, scan)
    for number in 0..<8 {
      let builder = GraphBuilder()
      for filler in 0..<number { builder.addValue("filler\(filler)") }
      let x = builder.input("x", [4])
      let count = builder.addConstant(Tensor(scalar: 3))
      let outputs = [builder.addValue("last"), builder.addValue("all")]
      try builder.append(
        Node(
          OperatorID("Loop"), name: "loop", inputs: [count, nil, x], outputs: outputs,
          attributes: Attributes([("body", .graph(body.subgraph))])))
      builder.graph.outputs = outputs
      let model = try Model(ModelGraph(graph: builder.graph), options: ModelOptions(threads: 1))
      var last = [Float](repeating: 0, count: 4)
      let results = try last.withUnsafeMutableBytes {
        try model.run(["x": Tensor([1, 2, 3, 4] as [Float])], into: ["last": $0])
      }
      #expect(last == [8, 16, 24, 32])
      #expect(results["all"]?.elements(as: Float.self) == [-2, -4, -6, -8, -4, -8, -12, -16, -8, -16, -24, -32])
    }
  }

  @Test(arguments: 0..<8) func rangesOfConstantsAtOddAddresses(_ shift: Int) throws {
    // A table of positions as in BERT: the first rows as many as the input has, from a start that the input names. Rows
    // are so long that a slice of the table is a view: values of a few elements are computed with the plan.
    let table = sampleTensor([64, 384], seed: 3)
    let storage = try TensorStorage(byteCount: table.byteCount + 8)
    table.withUnsafeBytes { (storage.base + shift).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    let builder = GraphBuilder()
    let x = builder.input("x", [.symbol("n"), 384])
    let start = builder.input("start", [1], .int64)
    let length = try builder.node("Shape", [x], [("end", .int(1))])
    let end = try builder.node("Add", [start, length])
    let zero = builder.constant([0], [1])
    let constant = builder.addConstant(
      Tensor(dataType: .float32, shape: table.shape, storage: storage, byteOffset: shift), name: "table")
    let rows = try builder.node("Slice", [constant, start, end, zero])
    builder.output(try builder.node("Add", [x, rows]))
    let model = try Model(ModelGraph(graph: builder.graph), options: ModelOptions(threads: 2))
    let numbers = table.elements(as: Float.self)!
    for (first, count) in [(0, 16), (0, 48), (3, 16), (12, 48), (0, 16), (5, 1)] {
      let x = Tensor([Float](repeating: 0, count: count * 384), shape: [count, 384])
      let found = try model.run(["x": x, "start": Tensor([first])]).values.first!
      let expected = Array(numbers[first * 384..<(first + count) * 384])
      #expect(found.elements(as: Float.self) == expected, "\(first), \(count)")
    }
  }
}
