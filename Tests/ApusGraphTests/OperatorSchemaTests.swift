// Schemas, which are made when they are asked for, and the registry that finds operators.

import ApusGraph
import ApusTensor
import Dispatch
import Synchronization
import Testing

@Suite struct OperatorSchemaTests {
  /// How often something was made.
  private final class Count: Sendable {
    private let value = Atomic<Int>(0)

    var number: Int { value.load(ordering: .relaxed) }

    func noting<Result>(_ result: Result) -> Result {
      value.add(1, ordering: .relaxed)
      return result
    }
  }

  private func schema(_ count: Count) -> OperatorSchema {
    OperatorSchema(
      "Sample", domain: "test", versions: [1, 3, 7], inputs: count.noting([.required("X", "T"), .variadic("Y", "U")]),
      outputs: [.required("Z", "T")], attributes: [.int("axis", default: -1)], types: ["T": .floats, "U": .indices],
      traits: .commutative, layout: .broadcasting, portable: .moreTypes(than: [.float32]))
  }

  @Test func namesAndTraitsMakeNothing() {
    let count = Count()
    let schema = schema(count)
    #expect(schema.id == OperatorID("Sample", domain: "test") && schema.traits.contains(.commutative))
    #expect(count.number == 0)
  }

  @Test func restIsMadeOnce() {
    let count = Count()
    let schema = schema(count)
    for _ in 0..<3 {
      #expect(schema.versions == [1, 3, 7] && schema.inputs.map(\.name) == ["X", "Y"])
      #expect(schema.outputs.map(\.name) == ["Z"] && schema.attributes.map(\.name) == ["axis"])
      #expect(schema.types["T"]?.tensors == TypeSet.floats.tensors && schema.types["U"]?.tensors == [.int32, .int64])
      #expect(schema.portable?.types == [.float32])
      if case .broadcasting = schema.layout {} else { Issue.record("the layout is \(schema.layout)") }
    }
    #expect(schema.version(atOpset: 6) == 3 && schema.input(at: 5)?.name == "Y" && schema.output(at: 1) == nil)
    #expect(count.number == 1)
  }

  /// Inputs of one type variable agree, whichever of them are there; variadic ones need not.
  @Test func typesOfInputs() throws {
    let schema = OperatorSchema(
      "Sample", domain: "test", versions: [1],
      inputs: [
        .required("A", "T"), .optional("B", "T"), .optional("C", "U"), .optional("D", "T"), .variadic("E", "T"),
      ], outputs: [.required("Z", "T")], types: ["T": .ieeeFloats, "U": .indices])
    let node = Node(schema.id, inputs: [], outputs: [])
    func check(_ types: [DataType?]) throws(OperatorError) {
      try node.validateTypes(types.map { $0.map { .tensor($0, nil) } }, against: schema)
    }
    for types: [DataType?] in [
      [.float32, .float32, .int64, .float32, .float16, .float64], [nil, .float16, nil, .float16], [.float64], [],
    ] { try check(types) }
    for (types, message): ([DataType?], String) in [
      ([.float32, nil, .int32, .float16], "inputs A and D must have the same type; found float32 and float16"),
      ([.float32, .float32, nil, .float16], "inputs B and D must have the same type; found float32 and float16"),
      ([.int32], "input 0 (A) is int32[…]; expected float16, float32, float64"),
      ([.float32, nil, .float32], "input 2 (C) is float32[…]; expected int32, int64"),
      ([.float32, nil, nil, nil, .float32, .bool], "input 5 (E) is bool[…]; expected float16, float32, float64"),
    ] {
      let error = #expect(throws: OperatorError.self) { try check(types) }
      #expect(error?.message == message)
    }
    #expect(throws: OperatorError.self) {
      try node.validateTypes([.sequence(.tensor(.float32, nil))], against: schema)
    }
    try node.validateTypes([.unknown], against: schema)
    #expect(throws: OperatorError.self) { try node.validateOutputTypes([.tensor(.int8, nil)], against: schema) }
    try node.validateOutputTypes([.tensor(.float16, nil)], against: schema)
  }

  /// Threads that ask at once may all make it, and all get the same.
  @Test func threadsAgree() {
    for _ in 0..<50 {
      let count = Count()
      let schema = schema(count)
      let wrong = Atomic<Int>(0)
      DispatchQueue.concurrentPerform(iterations: 8) { _ in
        for _ in 0..<4 where schema.inputs.map(\.name) != ["X", "Y"] || schema.versions.count != 3 {
          wrong.add(1, ordering: .relaxed)
        }
      }
      #expect(wrong.load(ordering: .relaxed) == 0)
      let made = count.number
      #expect((1...8).contains(made))
      #expect(schema.inputs.count == 2 && count.number == made, "what was made stays")
    }
  }

  /// Names alone make the hash; domains still tell operators apart.
  @Test func domainsTellOperatorsApart() {
    let ids: Set<OperatorID> = [OperatorID("Gelu"), OperatorID("Gelu", domain: "com.microsoft"), OperatorID("Relu")]
    #expect(ids.count == 3 && ids.contains(OperatorID("Gelu", domain: "ai.onnx")))
    #expect(!ids.contains(OperatorID("Gelu", domain: "apus")) && !ids.contains(OperatorID("Relu", domain: "apus")))
  }
}
