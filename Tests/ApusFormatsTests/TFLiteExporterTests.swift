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
    var graph = try exporter.arranged(graph, registry: registry, options: options)
    _ = try Optimizer(registry: registry, passes: Optimizer.arrangedPasses).optimize(&graph)
    return try exporter.write(ModelGraph(graph: graph), registry: registry, options: options)
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
        return try builder.node("IsInf", [joined])
      })
    #expect(found.count == 2)
    #expect(
      found.contains {
        $0.reason.contains("TensorFlow Lite has nothing that computes Det") && $0.reason.contains("'n0'")
      })
    #expect(found.contains { $0.reason.contains("IsInf") })
  }

  @Test func nodesWithAttributesBeyondItAreTold() throws {
    let graphs: [Graph] = [
      try graph { builder, x in
        let edge = builder.constant([0, 0, 1, 1, 0, 0, 1, 1] as [Int64], [8])
        return try builder.node("Pad", [x, edge], [("mode", .string("edge"))])
      },
      try graph { builder, x in
        try builder.node("MaxPool", [x], [("kernel_shape", .ints([2, 2])), ("dilations", .ints([2, 2]))])
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
    for name in exporter.operators {
      #expect(known.definition(of: OperatorID(name)) != nil, "\(name)")
    }
    #expect(ModelExporters.exporter(path: "folder.x/model.TFLITE")?.name == "tflite")
    #expect(ModelExporters.exporter(path: "model.onnx") == nil && ModelExporters.exporter(path: "tflite") == nil)
  }
}
