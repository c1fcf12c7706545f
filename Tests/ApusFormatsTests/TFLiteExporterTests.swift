// TensorFlow Lite as a target: which operators graphs become, what lies in the file, and what is told of graphs that
// cannot be said. What the files compute is seen to by tools/check_tflite_writer.py.

import ApusContainers
import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TFLiteExporterTests {
  private let exporter = TFLiteExporter()

  private func written(_ graph: Graph, _ options: ExportOptions = ExportOptions()) throws -> ExportedModel {
    let registry = exporter.registry(.standard)
    let ledger = ExportLedger(target: exporter.title, options: options)
    var graph = try exporter.arranged(graph, registry: registry, ledger: ledger)
    _ = try Optimizer(registry: registry, passes: Optimizer.arrangedPasses).optimize(&graph)
    return try exporter.write(ModelGraph(graph: graph), registry: registry, ledger: ledger)
  }

  private func problems(_ graph: Graph) -> [ModelProblem] {
    do {
      _ = try written(graph)
      return []
    } catch {
      return (error as? LoadError)?.problems ?? []
    }
  }

  private func read(_ model: ExportedModel) throws -> ModelGraph {
    try TFLiteImporter().load(FileBytes(copying: model.bytes), registry: .standard, options: ImportOptions()).model
  }

  /// A graph with one input, an image, and one output.
  private func graph(_ shape: [Dim] = [1, 3, 8, 8], _ build: (GraphBuilder, ValueID) throws -> ValueID) rethrows
    -> Graph
  {
    let builder = GraphBuilder()
    let x = builder.input("x", shape)
    let y = try build(builder, x)
    builder.graph[y].name = "y"
    builder.output(y)
    return builder.graph
  }

  private let pads: (String, AttributeValue) = ("pads", .ints([1, 1, 1, 1]))

  // MARK: - What is written

  @Test func imagesChangeTheirOrderAtTheEndsAlone() throws {
    let made = try written(
      graph { builder, x in
        let first = try builder.node("Conv", [x, builder.weights([4, 3, 3, 3]), builder.weights([4])], [pads])
        let second = try builder.node(
          "Conv", [try builder.node("Relu", [first]), builder.weights([4, 1, 3, 3])], [pads, ("group", .int(4))])
        return try builder.node("Add", [first, second])
      })
    #expect(made.operators == ["TRANSPOSE": 2, "CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "RELU": 1, "ADD": 1])
  }

  @Test func activationsGoIntoOperators() throws {
    let bounds: [(Float, Float)] = [(0, 6), (-1, 1)]
    for (low, high) in bounds {
      let made = try written(
        graph { builder, x in
          let y = try builder.node("Conv", [x, builder.weights([4, 3, 1, 1])])
          return try builder.node("Clip", [y, builder.constant([low], []), builder.constant([high], [])])
        })
      #expect(made.operators == ["TRANSPOSE": 2, "CONV_2D": 1])
    }
    // One that others read is an operator of its own.
    let made = try written(
      graph { builder, x in
        let y = try builder.node("Add", [x, builder.weights([1])])
        return try builder.node("Mul", [y, try builder.node("Relu", [y])])
      })
    #expect(made.operators == ["ADD": 1, "MUL": 1, "RELU": 1])
  }

  /// The interpreter computes none in these, whatever their options say.
  @Test func activationsBehindOtherOperatorsAreTheirOwn() throws {
    let joined = try written(
      graph { builder, x in
        let y = try builder.node("Concat", [x, try builder.node("Sigmoid", [x])], [("axis", .int(1))])
        return try builder.node("Relu", [y])
      })
    #expect(joined.operators == ["LOGISTIC": 1, "CONCATENATION": 1, "RELU": 1])
    let squared = try written(
      graph { builder, x in try builder.node("Relu", [try builder.node("MatMul", [x, x])]) })
    #expect(squared.operators == ["BATCH_MATMUL": 1, "RELU": 1])
  }

  @Test func operandsOfManyAxesAreBroadcast() throws {
    let sum = try written(
      graph([2, 1, 4, 5, 3]) { builder, x in try builder.node("Add", [x, builder.weights([2, 3, 1, 5, 3])]) })
    #expect(sum.operators == ["ADD": 1])
    // Here by an operator of its own.
    let compared = try written(
      graph([2, 1, 4, 5, 3]) { builder, x in
        let less = try builder.node("Less", [x, builder.weights([2, 3, 1, 5, 3])])
        return try builder.node("Cast", [less], [("to", .int(1))])
      })
    #expect(compared.operators == ["BROADCAST_TO": 2, "LESS": 1, "CAST": 1])
  }

  @Test func fillingsMayBeDecoded() throws {
    let made = try written(
      graph { builder, x in
        let filling = try builder.node(
          "DequantizeLinear",
          [
            builder.constant([-3] as [Int8], []), builder.constant([0.5] as [Float], []),
            builder.constant([1] as [Int8], []),
          ])
        return try builder.node("Pad", [x, builder.constant([0, 0, 1, 1, 0, 0, 1, 1] as [Int64], [8]), filling])
      })
    #expect(made.operators == ["PADV2": 1])
  }

  @Test func padsThatAreNotSameAreAnOperator() throws {
    // A stride of 2 over 8 pixels pads at the end only.
    let made = try written(
      graph { builder, x in
        try builder.node("Conv", [x, builder.weights([4, 3, 3, 3])], [pads, ("strides", .ints([2, 2]))])
      })
    #expect(made.operators["PAD"] == 1)
    let same = try written(
      graph { builder, x in
        let attributes: [(String, AttributeValue)] = [("pads", .ints([0, 0, 1, 1])), ("strides", .ints([2, 2]))]
        return try builder.node("Conv", [x, builder.weights([4, 3, 3, 3])], attributes)
      })
    #expect(same.operators["PAD"] == nil)
  }

  @Test func namesAndBatchesStay() throws {
    let made = try written(
      graph([.symbol("batch"), 3, 8, 8]) { builder, x in
        try builder.node("Conv", [x, builder.weights([4, 3, 3, 3])], [pads])
      })
    let model = try read(made)
    #expect(model.graph.names(model.graph.inputs) == ["x"] && model.graph.names(model.graph.outputs) == ["y"])
    #expect(model.graph.fact(model.graph.inputs[0]).description == "float32[batch, 3, 8, 8]")
    #expect(model.metadata.contains { $0.key == "tflite.min_runtime_version" && $0.value.hasPrefix("2.") })
  }

  @Test func weightsOfSixteenBits() throws {
    var options = ExportOptions()
    options.halvesWeights = true
    let plain = try graph { builder, x in try builder.node("Conv", [x, builder.weights([64, 3, 3, 3])]) }
    let (wide, narrow) = (try written(plain), try written(plain, options))
    #expect((narrow.operators["DEQUANTIZE"] ?? 0) > 0 && narrow.bytes.count < wide.bytes.count * 2 / 3)
  }

  @Test func equalConstantsLieInTheFileOnce() throws {
    let weights = sampleTensor([64, 64], seed: 3)
    let made = try written(
      graph([1, 64]) { builder, x in
        let y = try builder.node("MatMul", [x, builder.addConstant(weights)])
        return try builder.node("MatMul", [y, builder.addConstant(try weights.copied())])
      })
    #expect(made.bytes.count < weights.byteCount * 3 / 2)
  }

  // MARK: - What becomes other operators

  private func layer(
    _ op: String, _ gates: Int, state: Bool = false, batch: Dim = 2, direction: String = "forward"
  ) throws -> Graph {
    try graph([5, batch, 3]) { builder, x in
      let sides = direction == "bidirectional" ? 2 : 1
      var operands: [ValueID?] = [x, builder.weights([sides, gates * 4, 3]), builder.weights([sides, gates * 4, 4])]
      if state { operands += [nil, nil, builder.weights([sides, 2, 4])] }
      return try builder.node(op, operands, [("hidden_size", .int(4)), ("direction", .string(direction))])
    }
  }

  @Test func recurrentLayers() throws {
    let one = try written(layer("LSTM", 4))
    #expect(one.operators["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 1 && one.operators["REVERSE_V2"] == nil)
    #expect(one.notes.contains { $0.contains("States of LSTM") })
    let both = try written(layer("LSTM", 4, direction: "bidirectional"))
    #expect(both.operators["UNIDIRECTIONAL_SEQUENCE_LSTM"] == 2 && both.operators["CONCATENATION"] == 1)
    // What the interpreter lacks is written step by step: five, of which the first has no state yet.
    for graph in try [layer("LSTM", 4, state: true), layer("LSTM", 4, batch: .symbol("batch")), layer("GRU", 3)] {
      let made = try written(graph)
      #expect(made.operators["UNIDIRECTIONAL_SEQUENCE_LSTM"] == nil && (made.operators["LOGISTIC"] ?? 0) >= 5)
      #expect(made.notes.isEmpty)
    }
    let open = try graph([.symbol("time"), 2, 3]) { builder, x in
      try builder.node(
        "GRU", [x, builder.weights([1, 12, 3]), builder.weights([1, 12, 4])], [("hidden_size", .int(4))])
    }
    #expect(problems(open).map(\.nodePath) == ["n0"])
  }

  @Test func groupsAndCubes() throws {
    let groups = try written(
      graph([1, 4, 5, 5]) { builder, x in
        try builder.node("ConvTranspose", [x, builder.weights([4, 3, 3, 3])], [("group", .int(2))])
      })
    #expect(groups.operators["TRANSPOSE_CONV"] == 2)
    let cube = try written(
      graph([1, 2, 4, 4, 4]) { builder, x in try builder.node("MaxPool", [x], [("kernel_shape", .ints([2, 2, 2]))]) })
    #expect(cube.operators["MAX_POOL_2D"] == 2)
    let dilated = try written(
      graph { builder, x in
        try builder.node("MaxPool", [x], [("kernel_shape", .ints([2, 2])), ("dilations", .ints([2, 2]))])
      })
    #expect(dilated.operators["MAXIMUM"] == 3 && dilated.operators["MAX_POOL_2D"] == nil)
  }

  @Test func placesOfElements() throws {
    let updates = try written(
      graph([3, 4]) { builder, x in
        let places = builder.constant([0, -1] as [Int64], [2, 1])
        return try builder.node("ScatterND", [x, places, builder.weights([2, 4])])
      })
    #expect(updates.operators["SCATTER_ND"] == 2 && updates.operators["SELECT_V2"] == 1)
    let found = try written(
      graph([3, 4]) { builder, x in
        try builder.node(
          "GatherElements", [x, builder.constant([0, 1, 2, 0] as [Int64], [2, 2])], [("axis", .int(1))])
      })
    #expect(found.operators == ["GATHER_ND": 1])
    let refused = try graph([3, 4]) { builder, x in
      let places = builder.constant([0, 1] as [Int64], [2, 1])
      return try builder.node("ScatterND", [x, places, builder.weights([2, 4])], [("reduction", .string("mul"))])
    }
    #expect(problems(refused).count == 1)
  }

  // MARK: - Integers

  /// A convolution between DequantizeLinear and QuantizeLinear.
  private func quantized(_ type: DataType) throws -> Graph {
    try graph { builder, x in
      let zero: (Int) -> ValueID = { number in
        type == .uint8 ? builder.constant([UInt8(number + 128)], []) : builder.constant([Int8(number)], [])
      }
      func code(_ value: ValueID, _ scale: Float, _ point: Int) throws -> ValueID {
        let scale = builder.constant([scale], [])
        let codes = try builder.node("QuantizeLinear", [value, scale, zero(point)])
        return try builder.node("DequantizeLinear", [codes, scale, zero(point)])
      }
      let weights = builder.constant((0..<36).map { Int8($0 * 7 - 126) }, [4, 1, 3, 3])
      let scales = builder.constant([0.01, 0.02, 0.03, 0.04] as [Float], [4])
      let filters = try builder.node("DequantizeLinear", [weights, scales], [("axis", .int(0))])
      let single = try builder.node(
        "Slice",
        [
          x, builder.constant([0] as [Int64], [1]), builder.constant([1] as [Int64], [1]),
          builder.constant([1] as [Int64], [1]),
        ])
      let y = try builder.node("Conv", [try code(single, 0.02, -3), filters, builder.weights([4])], [pads])
      return try code(try builder.node("Relu", [y]), 0.05, -128)
    }
  }

  @Test(arguments: [DataType.int8, .uint8]) func integersStayIntegers(_ type: DataType) throws {
    let made = try written(quantized(type))
    #expect(made.operators["CONV_2D"] == 1 && made.operators["QUANTIZE"] == 1 && made.operators["DEQUANTIZE"] == 1)
    #expect(made.operators["RELU"] == nil)
    let model = try read(made)
    let codes = model.graph.values.compactMap(\.constant).filter { $0.dataType == .int8 && $0.rank == 4 }
    #expect(!codes.isEmpty)
    let biases = model.graph.values.compactMap(\.constant).filter { $0.dataType == .int32 && $0.count == 4 }
    #expect(biases.contains { $0.integers?.contains { $0 != 0 } ?? false })
  }

  // MARK: - What cannot be said

  @Test func everythingThatCannotBeSaidIsTold() throws {
    let found = problems(
      try graph([2, 3, 3]) { builder, x in
        let det = try builder.node("Det", [x])
        let again = try builder.node("Det", [try builder.node("Relu", [x])])
        let joined = try builder.node("Add", [det, again])
        return try builder.node("Bernoulli", [joined])
      })
    #expect(found.count == 2)
    #expect(
      found.contains {
        $0.reason.contains("TensorFlow Lite has nothing that computes Det") && $0.reason.contains("'n0'")
      })
    #expect(found.contains { $0.reason.contains("Bernoulli") })
  }

  /// Simpler nodes and the operators of the format are looked for one after the other.
  @Test func whatCannotBeSimplerIsToldWithTheRest() throws {
    let found = problems(
      try graph { builder, x in
        // Without a simpler form, without an operator, and an operator that lacks the mode, one behind the other.
        let pool = try builder.node(
          "AveragePool", [x],
          [("kernel_shape", .ints([2, 2])), ("dilations", .ints([2, 2])), ("pads", .ints([1, 1, 1, 1]))])
        let random = try builder.node("Bernoulli", [try builder.node("Relu", [pool])])
        let edge = builder.constant([0, 0, 1, 1, 0, 0, 1, 1] as [Int64], [8])
        let padded = try builder.node("Pad", [random, edge], [("mode", .string("edge"))])
        return try builder.node(
          "Resize", [padded, nil, builder.constant([1, 1, 2, 2] as [Float], [4])], [("mode", .string("cubic"))])
      })
    let reasons = found.map(\.reason).joined(separator: "; ")
    #expect(found.count == 4, "\(reasons)")
    for name in ["AveragePool: ", "computes Bernoulli", "Pad: ", "Resize: "] {
      #expect(reasons.contains(name), "\(name) in \(reasons)")
    }
  }

  @Test func nodesWithAttributesBeyondItAreTold() throws {
    let graphs: [Graph] = [
      try graph { builder, x in
        let edge = builder.constant([0, 0, 1, 1, 0, 0, 1, 1] as [Int64], [8])
        return try builder.node("Pad", [x, edge], [("mode", .string("edge"))])
      },
      try graph { builder, x in
        try builder.node(
          "MaxPool", [x], [("kernel_shape", .ints([2, 2])), ("dilations", .ints([2, 2])), ("ceil_mode", .int(1))])
      },
      try graph { builder, x in
        try builder.node(
          "Resize", [x, nil, builder.constant([1, 1, 2, 2] as [Float], [4])], [("mode", .string("cubic"))])
      },
    ]
    for graph in graphs {
      let found = problems(graph)
      #expect(found.map(\.nodePath) == ["n0"] && found.allSatisfy { !$0.reason.isEmpty })
    }
  }

  @Test func typesBeyondItAreTold() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", [2, 3], .float64)
    builder.output(try builder.node("Exp", [x]))
    let found = problems(builder.graph)
    #expect(found.count == 1 && found.first?.reason.contains("float64") ?? false)
  }

  @Test func tablesNameOperatorsOfONNX() {
    let known = OperatorRegistry.standard
    let names = exporter.operators(known)
    for name in names { #expect(known.definition(of: OperatorID(name)) != nil, "\(name)") }
    // As they are, by others, and by those that older operator sets have.
    for name in ["Add", "Selu", "LayerNormalization", "Einsum", "LSTM"] { #expect(names.contains(name), "\(name)") }
    #expect(ModelExporters.exporter(path: "folder.x/model.TFLITE")?.name == "tflite")
    #expect(ModelExporters.exporter(path: "model.onnx") == nil && ModelExporters.exporter(path: "tflite") == nil)
  }
}
