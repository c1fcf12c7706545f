// What the schemas claim, held against what the operators do. An operator that claims something new is met without a
// line here, unless it needs inputs of a kind of its own.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TraitTests {
  private static let schemas = OperatorRegistry.standard.all.map(\.schema)
  private static let shape: Shape = [2, 3, 4, 5]
  private static let order = [0, 2, 3, 1]

  /// Numbers of an element type that every function is defined for, or most are.
  private func sample(_ type: DataType, _ shape: Shape, seed: Int) throws -> Tensor {
    let scaled = (sampleTensor(shape, seed: seed).elements(as: Float.self) ?? []).map { $0 * (type.isFloat ? 1 : 9) }
    return try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(Tensor(scaled, shape: shape))[0]
  }

  private func permuted(_ tensor: Tensor, _ order: [Int] = TraitTests.order) throws -> Tensor {
    try OperatorRun("Transpose", attributes: [("perm", .ints(order))])(tensor)[0]
  }

  private func bytes(_ tensor: Tensor) -> [UInt8] { tensor.withUnsafeBytes { Array($0) } }

  /// The type of the elements of an input that the tests use: float32 where it may be.
  private func type(_ schema: OperatorSchema, input: Int) -> DataType {
    let types = schema.input(at: input).flatMap { schema.types[$0.type] }?.tensors ?? []
    return types.contains(.float32) ? .float32 : types.first ?? .float32
  }

  private func attributes(_ schema: OperatorSchema) -> [(String, AttributeValue)] {
    switch schema.id.name {
    case "Cast", "BitCast": [("to", .int(Int(DataType.int32.rawValue)))]
    case "BitShift": [("direction", .string("LEFT"))]
    default: []
    }
  }

  // MARK: - Places of elements

  /// Elements that changed places give results that changed places, bit for bit.
  @Test func elementwiseOperatorsKnowNoPlaces() throws {
    var names: [String] = []
    for schema in TraitTests.schemas {
      let operands: [Tensor?]
      var constants: Set<Int> = []
      switch schema.layout {
      case .broadcasting where schema.inputs.contains { $0.name.hasSuffix("_scale") }:
        operands = try codedOperands(schema)
        constants = Set(operands.indices.filter { operands[$0]?.rank == 0 })
      case .elementwise:
        operands = [try sample(type(schema, input: 0), TraitTests.shape, seed: 1)] + (try parameters(schema))
      case .broadcasting:
        operands = try (0..<max(schema.inputs.count, 2)).map {
          try sample(type(schema, input: $0), TraitTests.shape, seed: $0 + 1)
        }
      default: continue
      }
      names.append(schema.id.name)
      if schema.id.name == "ByteMap" { constants = [1] }
      var run = OperatorRun(schema.id.name, domain: schema.id.domain, attributes: attributes(schema))
      run.constantInputs = constants
      let plain = try run(operands.map { $0.map { .tensor($0) } })[0].tensor
      let moved = try run(
        operands.map { operand in
          try operand.map { .tensor($0.shape == TraitTests.shape ? try permuted($0) : $0) }
        })[0].tensor
      let expected = try permuted(try #require(plain, "\(schema.id)"))
      let found = try #require(moved, "\(schema.id)")
      #expect(found.shape == expected.shape && bytes(found) == bytes(expected), "\(schema.id)")
    }
    #expect(names.count > 70, "\(names)")
  }

  /// Bytes, each with a scale and a zero point behind it; those of the result come last.
  private func codedOperands(_ schema: OperatorSchema) throws -> [Tensor?] {
    try schema.inputs.indices.map { index in
      if schema.inputs[index].name.hasSuffix("_scale") { return Tensor(scalar: 0.5 as Float) }
      if schema.inputs[index].name.hasSuffix("_zero_point") { return Tensor(scalar: 7 as UInt8) }
      return try OperatorRun("Cast", attributes: [("to", .int(Int(DataType.uint8.rawValue)))])(
        try sample(.int32, TraitTests.shape, seed: index))[0]
    }
  }

  /// The inputs of element-wise operators that hold for all elements.
  private func parameters(_ schema: OperatorSchema) throws -> [Tensor?] {
    switch schema.id.name {
    case "Clip": [Tensor(scalar: -0.25 as Float), Tensor(scalar: 0.5 as Float)]
    case "ByteMap": [Tensor((0..<ByteMap.size).map { UInt8(truncatingIfNeeded: $0 * 7) })]
    case "CastLike": [Tensor([1] as [Int16])]
    case "QuantizeLinear": [Tensor(scalar: 0.01 as Float), Tensor(scalar: 3 as UInt8)]
    case "DequantizeLinear": [Tensor(scalar: 0.01 as Float)]
    default: []
    }
  }

  /// Several scales are for an axis or for blocks: then places matter.
  @Test func quantizationIsElementwiseWithOneScaleOnly() throws {
    for name in ["QuantizeLinear", "DequantizeLinear"] {
      let schema = try OperatorRegistry.standard.require(OperatorID(name)).schema
      guard case .elementwise(let condition) = schema.layout else {
        Issue.record("\(name) is not element-wise")
        continue
      }
      func holds(_ scale: [Dim]?, blockSize: Int = 0) -> Bool {
        let node = Node(
          OperatorID(name), inputs: [ValueID(0), ValueID(1)], outputs: [ValueID(2)],
          attributes: Attributes([("block_size", .int(blockSize))]))
        return condition(
          NodeFacts(
            node: node, schema: schema, inputs: [.tensor(.float32, [2, 3]), .tensor(.float32, scale)],
            outputs: [.tensor(.uint8, [2, 3])], constants: [nil, nil]))
      }
      #expect(holds([]) && holds([1]))
      #expect(!holds([3]) && !holds(nil) && !holds([.symbol("n")]) && !holds([2, 1]) && !holds([1], blockSize: 2))
    }
  }

  @Test func operatorsAlongAnAxisKnowNoOthers() throws {
    var count = 0
    for schema in TraitTests.schemas {
      guard case .along(let attribute) = schema.layout else { continue }
      count += 1
      let operands = try (1...2).map { try sample(type(schema, input: 0), TraitTests.shape, seed: $0) }
      for axis in 0..<4 {
        let plain = try OperatorRun(schema.id.name, attributes: [(attribute, .int(axis))])(operands.map { .tensor($0) })
        let place = try #require(TraitTests.order.firstIndex(of: axis))
        let moved = try OperatorRun(schema.id.name, attributes: [(attribute, .int(place))])(
          operands.map { .tensor(try permuted($0)) })
        let expected = try permuted(try #require(plain[0].tensor))
        #expect(bytes(try #require(moved[0].tensor)) == bytes(expected), "\(schema.id), axis \(axis)")
      }
    }
    #expect(count >= 1)
  }

  @Test func reductionsKnowTheirAxesOnly() throws {
    var count = 0
    for schema in TraitTests.schemas {
      guard case .reducing = schema.layout else { continue }
      count += 1
      let x = try OperatorRun("Abs")(try sample(type(schema, input: 0), TraitTests.shape, seed: 1))[0]
      for axes in [[1], [2, 3], [0, 1, 3]] {
        let places = try axes.map { try #require(TraitTests.order.firstIndex(of: $0)) }
        let run = OperatorRun(schema.id.name, domain: schema.id.domain, attributes: [("keepdims", .int(1))])
        // What says how bytes stand for floats, before the mean and behind it.
        let zero = Tensor(zeros: x.dataType, shape: [])
        let all = [Tensor(scalar: 0.5 as Float), zero, Tensor(scalar: 2 as Float), zero]
        let codes = all.prefix(schema.inputs.count - 2)
        func result(_ x: Tensor, _ axes: [Int]) throws -> Tensor {
          try #require(try run(([x, Tensor(axes)] + codes).map { .tensor($0) })[0].tensor)
        }
        let expected = try permuted(try result(x, axes))
        let found = try result(try permuted(x), places)
        let isNear = codes.isEmpty ? largestDifference(found, expected) < 1e-4 : bytes(found) == bytes(expected)
        #expect(isNear, "\(schema.id), axes \(axes)")
      }
    }
    #expect(count >= 10)
  }

  @Test func reshapingKeepsTheOrderOfElements() throws {
    let shapes: [String: (input: Shape, second: Tensor?)] = [
      "Reshape": ([2, 3, 4], Tensor([4, -1])), "Flatten": ([2, 3, 4], nil), "Squeeze": ([2, 1, 4], nil),
      "Unsqueeze": ([2, 3], Tensor([0, -1])),
    ]
    for schema in TraitTests.schemas {
      guard case .reshaping = schema.layout else { continue }
      let sample = try #require(shapes[schema.id.name], "an example of \(schema.id)")
      let x = try self.sample(.float32, sample.input, seed: 1)
      let y = try OperatorRun(schema.id.name)([x] + (sample.second.map { [$0] } ?? []))
      #expect(bytes(x) == bytes(y) && x.shape != y.shape)
    }
  }

  /// The twins compute the same of images with channels last.
  @Test func twinsComputeTheSame() throws {
    var count = 0
    for schema in TraitTests.schemas {
      guard case .images(let twin, _, _, _) = schema.layout else { continue }
      count += 1
      let isQuantized = type(schema, input: 0) != .float32
      let type = isQuantized ? DataType.uint8 : .float32
      let x = try sample(type, [2, 3, 5, 4], seed: 1)
      let channels: Shape = schema.id.name == "ConvTranspose" ? [3, 4, 2, 2] : [4, 3, 2, 2]
      var others: [Tensor] = []
      if isQuantized {
        let (scale, zero) = (Tensor(scalar: 0.1 as Float), Tensor(scalar: 2 as UInt8))
        others = [scale, zero, try sample(type, channels, seed: 2), scale, zero, Tensor(scalar: 0.5 as Float), zero]
      } else if schema.id.name == "BatchNormalization" {
        others = try (2...4).map { try sample(type, [3], seed: $0) } + [Tensor([0.5, 1, 2] as [Float])]
      } else if schema.inputs.count > 1 {
        others = [try sample(type, channels, seed: 2)]
      }
      let needsWindow = schema.attributes.contains { $0.name == "kernel_shape" && $0.isRequired }
      let attributes: [(String, AttributeValue)] = needsWindow ? [("kernel_shape", .ints([2, 3]))] : []
      let plain = try OperatorRun(schema.id.name, attributes: attributes)(([x] + others).map { .tensor($0) })
      var last = OperatorRun(twin.name, domain: twin.domain, attributes: attributes)
      last.constantInputs = Set(1..<max(others.count + 1, 2))
      let found = try last(([try permuted(x, [0, 2, 3, 1])] + others).map { .tensor($0) })
      let (a, b) = (try permuted(try #require(found[0].tensor), [0, 3, 1, 2]), try #require(plain[0].tensor))
      #expect(isQuantized ? bytes(a) == bytes(b) : largestDifference(a, b) < 1e-5, "\(schema.id)")
    }
    #expect(count >= 7)
  }

  @Test func commutativeOperatorsMayExchangeTheirInputs() throws {
    var count = 0
    for schema in TraitTests.schemas where schema.traits.contains(.commutative) {
      count += 1
      let operands = try (0..<2).map { try sample(type(schema, input: $0), TraitTests.shape, seed: $0 + 1) }
      let run = OperatorRun(schema.id.name, domain: schema.id.domain)
      #expect(
        bytes(try run(operands[0], operands[1])[0]) == bytes(try run(operands[1], operands[0])[0]), "\(schema.id)")
    }
    #expect(count >= 9)
  }

  // MARK: - Identities

  /// Nodes of every operator that may be an identity: where it says so, the output is the input.
  @Test func identitiesHandTheirInputOn() throws {
    let x = try sample(.float32, [2, 3], seed: 1)
    let zeros = Tensor([Int](repeating: 0, count: 4))
    let cases: [String: [(attributes: [(String, AttributeValue)], others: [Tensor?], isIdentity: Bool)]] = [
      "Identity": [([], [], true)],
      "Dropout": [([], [], true), ([], [Tensor(scalar: 0.5 as Float)], true)],
      "Cast": [([("to", .int(1))], [], true), ([("to", .int(11))], [], false)],
      "Transpose": [
        ([("perm", .ints([0, 1]))], [], true), ([("perm", .ints([1, 0]))], [], false), ([], [], false),
      ],
      "Reshape": [([], [Tensor([2, 3])], true), ([], [Tensor([0, -1])], true), ([], [Tensor([3, 2])], false)],
      "Flatten": [([], [], true), ([("axis", .int(0))], [], false)],
      "Squeeze": [([], [], true)],
      "Unsqueeze": [([], [Tensor([0])], false)],
      "Expand": [([], [Tensor([1, 3])], true), ([], [Tensor([2, 2, 3])], false)],
      "Slice": [
        ([], [Tensor([0]), Tensor([9])], true), ([], [Tensor([1]), Tensor([9])], false),
        ([], [Tensor([-1]), Tensor([-9]), Tensor([1]), Tensor([-1])], false),
        ([], [Tensor([0]), Tensor([9]), Tensor([1]), Tensor([1])], true),
      ],
      "Concat": [([("axis", .int(0))], [], true), ([("axis", .int(0))], [x], false)],
      "Pad": [([], [zeros], true), ([], [Tensor([0, 1, 0, 0])], false)],
      "Sum": [([], [], true), ([], [x], false)], "Mean": [([], [], true), ([], [x], false)],
      "Max": [([], [], true), ([], [x], false)], "Min": [([], [], true), ([], [x], false)],
    ]
    for schema in TraitTests.schemas where schema.identity.isPossible {
      for sample in try #require(cases[schema.id.name], "examples of \(schema.id)") {
        let builder = GraphBuilder()
        let input = builder.input("x", [2, 3])
        let others = sample.others.map { $0.map { builder.addConstant($0) } }
        builder.output(try builder.apply(schema.id, name: "n", [input] + others, sample.attributes))
        let graph = builder.graph
        #expect(
          schema.identity.holds(for: graph.facts(of: graph.nodes[0], schema)) == sample.isIdentity,
          "\(schema.id) \(sample)")
        if !sample.isIdentity { continue }
        let y = try OperatorRun(schema.id.name, attributes: sample.attributes)([x] + sample.others)
        #expect(y.shape == x.shape && bytes(y) == bytes(x), "\(schema.id)")
      }
    }
  }

  // MARK: - Versions

  /// What came later came with a version; what a node said before has a default or nothing to say.
  @Test func laterAttributesAndInputsNameAVersion() {
    for schema in TraitTests.schemas {
      for attribute in schema.attributes where attribute.since > 1 {
        #expect(schema.versions.dropFirst().contains(attribute.since), "\(schema.id), \(attribute.name)")
      }
      for input in schema.inputs where input.since > 1 {
        #expect(schema.versions.dropFirst().contains(input.since), "\(schema.id), \(input.name)")
      }
      if let portable = schema.portable {
        let types = Set(schema.types.values.flatMap { $0.tensors + $0.sequences + $0.optionals })
        #expect(!portable.types.isDisjoint(with: types), "\(schema.id)")
      }
    }
  }

  /// Whatever is younger than the operator set that models are written for says what of it is older, or is all new.
  @Test func youngVersionsSayWhatIsOld() {
    let silent = TraitTests.schemas.filter { schema in
      guard schema.id.domain.isEmpty, let first = schema.versions.first, let last = schema.versions.last else {
        return false
      }
      return first <= PortableForm.floor && last > PortableForm.floor && schema.portable == nil
    }
    #expect(silent.isEmpty, "\(silent.map(\.id))")
  }
}

extension OperatorRun {
  fileprivate func callAsFunction(_ inputs: [Tensor?]) throws -> Tensor {
    let results = try self(inputs.map { $0.map { .tensor($0) } })
    return try #require(results[0].tensor)
  }
}
