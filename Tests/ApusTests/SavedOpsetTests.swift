// Models are saved for the operator set they came from, in its forms, and for a newer one only where that must be.

import Apus
import ApusFormats
import ApusGraph
import ApusOperators
import ApusOptimizer
import Testing

@Suite struct SavedOpsetTests {
  private typealias Input = (name: String, type: DataType, shape: [Int])

  private func proto(
    _ nodes: [NodeProto], inputs: [Input], initializers: [TensorProto] = [], output: String = "y", opset: Int,
    more: [OperatorSetID] = [], ir: Int = 8
  ) -> ModelProto {
    var graph = GraphProto()
    graph.nodes = nodes
    graph.inputs = inputs.map {
      ValueInfoProto(name: $0.name, type: .tensor(elementType: $0.type.rawValue, shape: $0.shape.map { .value($0) }))
    }
    graph.outputs = [ValueInfoProto(name: output, type: nil)]
    graph.initializers = initializers
    var proto = ModelProto()
    proto.irVersion = ir
    proto.opsetImport = [OperatorSetID(domain: "", version: opset)] + more
    proto.graph = graph
    return proto
  }

  private func node(
    _ op: String, _ inputs: [String], _ outputs: [String] = ["y"],
    _ attributes: [(String, AttributeProto.Content)] = [],
    domain: String = "", name: String = ""
  ) -> NodeProto {
    var node = NodeProto()
    (node.opType, node.inputs, node.outputs, node.domain, node.name) = (op, inputs, outputs, domain, name)
    node.attributes = attributes.map { AttributeProto(name: $0.0, content: $0.1) }
    return node
  }

  /// The message after reading, the portable passes, and writing.
  private func saved(_ proto: ModelProto, opset: Int? = nil) throws -> ModelProto {
    var model = try ONNXReader.load(FileBytes(copying: proto.encoded), registry: .standard).model
    let target = opset ?? model.opsets[""] ?? .max
    _ = try Optimizer(registry: .standard, passes: Optimizer.portablePasses(forOpset: target)).optimize(&model.graph)
    return try ONNXWriter.message(model, registry: .standard, opset: opset)
  }

  private func version(_ proto: ModelProto, _ domain: String = "") -> Int? {
    proto.opsetImport.first { $0.domain == domain }?.version
  }

  /// Nodes whose newest form is another: they are written as they were read.
  @Test func oldFormsStay() throws {
    let image: Input = ("x", .float32, [1, 2, 4, 4])
    let cases: [(opset: Int, node: NodeProto, inputs: [Input], initializers: [TensorProto])] = [
      (9, node("Clip", ["x"], ["y"], [("min", .float(0)), ("max", .float(6))]), [image], []),
      (11, node("Unsqueeze", ["x"], ["y"], [("axes", .ints([0]))]), [image], []),
      (12, node("Squeeze", ["x"], ["y"], [("axes", .ints([0]))]), [image], []),
      (13, node("ReduceMean", ["x"], ["y"], [("axes", .ints([2, 3])), ("keepdims", .int(0))]), [image], []),
      (11, node("ReduceSum", ["x"], ["y"], [("axes", .ints([1]))]), [image], []),
      (9, node("Softmax", ["x"], ["y"], [("axis", .int(1))]), [image], []),
      (12, node("LogSoftmax", ["x"], ["y"], [("axis", .int(3))]), [image], []),
      (
        7, node("Slice", ["x"], ["y"], [("starts", .ints([1])), ("ends", .ints([2])), ("axes", .ints([1]))]), [image],
        []
      ),
      (8, node("Pad", ["x"], ["y"], [("pads", .ints([0, 0, 1, 1, 0, 0, 1, 1])), ("value", .float(2))]), [image], []),
      (9, node("Split", ["x"], ["y", "z"], [("axis", .int(1)), ("split", .ints([1, 1]))]), [image], []),
      (13, node("Split", ["x"], ["y", "z"], [("axis", .int(1))]), [image], []),
      (9, node("TopK", ["x"], ["y", "z"], [("k", .int(2))]), [image], []),
      (
        10, node("Resize", ["x", "s"], ["y"], [("mode", .string(Array("nearest".utf8)))]), [image],
        [TensorProto(name: "s", Tensor([1, 1, 0.5, 2] as [Float]))]
      ),
      (
        9, node("Upsample", ["x", "s"], ["y"], [("mode", .string(Array("linear".utf8)))]), [image],
        [TensorProto(name: "s", Tensor([1, 1, 2, 2] as [Float]))]
      ),
      (
        7,
        node("Upsample", ["x"], ["y"], [("mode", .string(Array("nearest".utf8))), ("scales", .floats([1, 1, 2, 2]))]),
        [image], []
      ),
      (
        16, node("GridSample", ["x", "g"], ["y"], [("mode", .string(Array("bicubic".utf8)))]),
        [image, ("g", .float32, [1, 3, 3, 2])], []
      ),
      (17, node("DFT", ["x"], ["y"], [("axis", .int(1))]), [("x", .float32, [1, 8, 1])], []),
      (
        9, node("Scatter", ["x", "i", "u"], ["y"], [("axis", .int(1))]),
        [("x", .float32, [2, 3]), ("i", .int64, [1, 2]), ("u", .float32, [1, 2])], []
      ),
      (13, node("Cast", ["x"], ["y"], [("to", .int(Int(DataType.bfloat16.rawValue)))]), [image], []),
    ]
    for (opset, node, inputs, initializers) in cases {
      let result = try saved(proto([node], inputs: inputs, initializers: initializers, opset: opset))
      #expect(version(result) == opset, "\(node.opType) of \(opset)")
      #expect(result.irVersion == 8)
      let written = try #require(result.graph?.nodes.last)
      #expect(result.graph?.nodes.map(\.opType) == [node.opType])
      #expect(Set(written.attributes.map(\.name)) == Set(node.attributes.map(\.name)), "\(node.opType) of \(opset)")
      #expect(written.inputs == node.inputs, "\(node.opType) of \(opset)")
    }
  }

  @Test func newModelsGetAnOlderOperatorSet() throws {
    let result = try saved(proto([node("Relu", ["x"])], inputs: [("x", .float32, [2])], opset: 28, ir: 13))
    #expect(version(result) == 21)
    #expect(result.irVersion == 10)
    #expect(
      version(try saved(proto([node("Relu", ["x"])], inputs: [("x", .float32, [2])], opset: 28), opset: 13)) == 13)
  }

  /// Operators of com.microsoft that are read as standard ones may have types that the file's own operator set lacks.
  @Test func codesNeedTheOperatorSetThatHasTheirTypes() throws {
    for (type, expected) in [(DataType.uint8, 13), (.uint16, 21), (.int16, 21)] {
      let zero = TensorProto(name: "z", Tensor(zeros: type, shape: []))
      let scale = TensorProto(name: "s", Tensor(scalar: Float(0.5)))
      let result = try saved(
        proto(
          [
            node("QuantizeLinear", ["x", "s", "z"], ["q"], domain: "com.microsoft"),
            node("DequantizeLinear", ["q", "s", "z"], domain: "com.microsoft"),
          ], inputs: [("x", .float32, [3])], initializers: [zero, scale], opset: 13,
          more: [OperatorSetID(domain: "com.microsoft", version: 1)]))
      #expect(version(result) == expected, "\(type)")
    }
  }

  /// As onnxruntime's own tools write them.
  @Test func vendorOperatorsNeedNoImport() throws {
    let model = proto(
      [node("QuickGelu", ["x"], domain: "com.microsoft")], inputs: [("x", .float32, [3])], opset: 17)
    let read = try ONNXReader.load(FileBytes(copying: model.encoded), registry: .standard).model
    #expect(read.graph.notes.contains { $0.contains("com.microsoft") })
    let strange = proto([node("Scaler", ["x"], domain: "ai.onnx.ml")], inputs: [("x", .float32, [3])], opset: 17)
    #expect(throws: LoadError.self) {
      try ONNXReader.load(FileBytes(copying: strange.encoded), registry: .standard)
    }
  }

  @Test func fusionsKeepToTheOperatorSet() throws {
    let nodes = [node("Sigmoid", ["x"], ["s"]), node("Mul", ["x", "s"])]
    for (opset, ops) in [(14, ["Sigmoid", "Mul"]), (23, ["Sigmoid", "Mul"]), (24, ["Swish"])] {
      let result = try saved(proto(nodes, inputs: [("x", .float32, [2])], opset: opset))
      #expect(result.graph?.nodes.map(\.opType) == ops)
      #expect(version(result) ?? 99 <= opset)
    }
    #expect(version(try saved(proto(nodes, inputs: [("x", .float32, [2])], opset: 14), opset: 24)) == 24)
  }

  @Test func operatorSetsThatCannotHoldTheModelAreRefused() throws {
    let model = proto(
      [node("BitwiseNot", ["x"], name: "mask")], inputs: [("x", .int32, [2])], opset: 20)
    let error = #expect(throws: OperatorError.self) { try saved(model, opset: 13) }
    #expect(error?.description.contains("BitwiseNot 'mask'") == true)
  }

  @Test func youngOperatorsAreWrittenAsOlderOnes() throws {
    let model = proto([node("Gelu", ["x"], name: "activation")], inputs: [("x", .float32, [2])], opset: 20)
    let result = try saved(model, opset: 13)
    #expect(result.graph?.nodes.map(\.opType) == ["Mul", "Erf", "Add", "Mul", "Mul"])
    #expect(version(result) == 13)
  }

  /// Resize of some axes came with operator set 18: before, the others keep their extents.
  @Test func resizeNamesAllAxesWhereItMust() throws {
    let mode: (String, AttributeProto.Content) = ("mode", .string(Array("linear".utf8)))
    let axes: (String, AttributeProto.Content) = ("axes", .ints([-1, 2]))
    let initializers = [
      TensorProto(name: "sizes", Tensor([6, 5] as [Int64])), TensorProto(name: "scales", Tensor([1.5, 2] as [Float])),
    ]
    let cases: [(inputs: [String], all: [String], last: [Double]?)] = [
      (["x", "", "", "sizes"], ["Resize"], [1, 2, 5, 6]), (["x", "", "scales"], ["Resize"], [1, 1, 2, 1.5]),
      (["x", "", "", "given"], ["Concat", "Gather", "Resize"], nil),
    ]
    for (inputs, all, last) in cases {
      let model = proto(
        [node("Resize", inputs, ["y"], [mode, axes])],
        inputs: [("x", .float32, [1, 2, 4, 4]), ("given", .int64, [2])], initializers: initializers, opset: 18)
      let result = try saved(model, opset: 13)
      #expect(version(result) == 13)
      #expect(result.graph?.nodes.map(\.opType) == all)
      let resize = try #require(result.graph?.nodes.last)
      #expect(resize.attributes.map(\.name) == ["mode"])
      guard let last else { continue }
      let name = try #require(resize.inputs.last)
      let stored = try #require(result.graph?.initializers.first { $0.name == name })
      guard case .tensor(let tensor) = stored.content else {
        Issue.record("\(name) is no tensor")
        continue
      }
      let numbers = tensor.elements(as: Float.self)?.map { Double($0) } ?? tensor.integers?.map { Double($0) }
      #expect(numbers == last)
    }
  }

  /// Runtimes that move transpositions through Resize change the order of its sizes and scales, not that of its axes.
  @Test func resizeIsOfAllAxes() throws {
    let attributes: [(String, AttributeProto.Content)] = [
      ("mode", .string(Array("linear".utf8))), ("axes", .ints([3, 2])),
    ]
    let sizes = TensorProto(name: "sizes", Tensor([6, 5] as [Int64]))
    let resize = node("Resize", ["x", "", "", "sizes"], ["y"], attributes)
    var model = proto([resize], inputs: [("x", .float32, [1, 2, 4, 4])], initializers: [sizes], opset: 18)
    let result = try saved(model)
    #expect(version(result) == 18 && result.graph?.nodes.map(\.opType) == ["Resize"])
    #expect(result.graph?.nodes.last?.attributes.map(\.name) == ["mode"])
    #expect(try read(result).graph.fact(read(result).graph.outputs[0]).description == "float32[1, 2, 5, 6]")
    // The batch is known when the model runs.
    model.graph?.inputs[0].type = .tensor(
      elementType: 1, shape: [.parameter("batch"), .value(2), .value(4), .value(4)])
    let open = try saved(model)
    #expect(open.graph?.nodes.map(\.opType) == ["Shape", "Concat", "Gather", "Resize"])
    #expect(open.graph?.nodes.last?.attributes.map(\.name) == ["mode"])
    #expect(try read(open).graph.fact(read(open).graph.outputs[0]).description.hasSuffix("2, 5, 6]"))
  }

  private func read(_ proto: ModelProto) throws -> ModelGraph {
    try ONNXReader.load(FileBytes(copying: proto.encoded), registry: .standard).model
  }

  /// Upsample has no scales below 1.
  @Test func upsampleOnlyGrows() throws {
    for (scales, isRefused) in [([1, 1, 0.5, 0.6] as [Float], true), ([1, 1, 2, 1.5], false)] {
      let model = proto(
        [node("Resize", ["x", "s"], ["y"], [("mode", .string(Array("linear".utf8)))])],
        inputs: [("x", .float32, [1, 2, 4, 4])], initializers: [TensorProto(name: "s", Tensor(scales))], opset: 10)
      guard isRefused else {
        #expect(try saved(model, opset: 9).graph?.nodes.map(\.opType) == ["Upsample"])
        continue
      }
      let error = #expect(throws: OperatorError.self) { try saved(model, opset: 9) }
      #expect(error?.description.contains("Resize has no form in operator set 9") == true)
    }
  }

  /// Operator sets before 11 count the axes of most operators from the front only.
  @Test func axesAreCountedFromTheFront() throws {
    let x: Input = ("x", .float32, [2, 3, 4, 1])
    let index: Input = ("i", .int64, [2])
    let cases: [(NodeProto, name: String, axes: AttributeProto.Content)] = [
      (node("Squeeze", ["x"], ["y"], [("axes", .ints([-1]))]), "axes", .ints([3])),
      (node("Unsqueeze", ["x"], ["y"], [("axes", .ints([-1, 0]))]), "axes", .ints([5, 0])),
      (node("Flatten", ["x"], ["y"], [("axis", .int(-1))]), "axis", .int(3)),
      (node("Concat", ["x", "x"], ["y"], [("axis", .int(-2))]), "axis", .int(2)),
      (node("ReduceMax", ["x"], ["y"], [("axes", .ints([1, -2]))]), "axes", .ints([1, 2])),
      (node("ArgMax", ["x"], ["y"], [("axis", .int(-3))]), "axis", .int(1)),
      (node("Gather", ["x", "i"], ["y"], [("axis", .int(-4))]), "axis", .int(0)),
      (node("Split", ["x"], ["y", "z"], [("axis", .int(-4)), ("split", .ints([1, 1]))]), "axis", .int(0)),
      (node("Softmax", ["x"], ["y"], [("axis", .int(-3))]), "axis", .int(1)),
    ]
    for (node, name, axes) in cases {
      let inputs = node.inputs.contains("i") ? [x, index] : [x]
      var model = proto([node], inputs: inputs, opset: 11)
      let result = try saved(model, opset: 9)
      let written = try #require(result.graph?.nodes.last)
      #expect(result.graph?.nodes.map(\.opType) == [node.opType])
      #expect("\(written.attributes.first { $0.name == name }?.content ?? .int(-99))" == "\(axes)", "\(node.opType)")
      // Without a rank nobody can count.
      if ["Gather", "Softmax"].contains(node.opType) { continue }
      model.graph?.inputs[0].type = .tensor(elementType: 1, shape: nil)
      let error = #expect(throws: OperatorError.self) { try saved(model, opset: 9) }
      #expect(error?.description.contains("\(node.opType) has no form in operator set 9") == true)
    }
  }

  @Test func axesOfSlicesAreCountedFromTheFront() throws {
    let bounds = [("s", [1]), ("e", [2]), ("a", [-2])].map { name, values in
      TensorProto(name: name, Tensor(values.map { Int64($0) }))
    }
    let result = try saved(
      proto(
        [node("Slice", ["x", "s", "e", "a"])], inputs: [("x", .float32, [2, 3, 4])], initializers: bounds, opset: 11),
      opset: 10)
    let name = try #require(result.graph?.nodes.last?.inputs[3])
    let stored = try #require(result.graph?.initializers.first { $0.name == name })
    guard case .tensor(let tensor) = stored.content else {
      Issue.record("\(name) is no tensor")
      return
    }
    #expect(tensor.integers == [1])
  }

  /// It came with operator set 9.
  @Test func meanVarianceNormalizationIsTakenApart() throws {
    let model = proto(
      [node("MeanVarianceNormalization", ["x"], ["y"], [("axes", .ints([0, 2, 3]))])],
      inputs: [("x", .float32, [1, 2, 4, 4])], opset: 9)
    #expect(try saved(model, opset: 9).graph?.nodes.map(\.opType) == ["MeanVarianceNormalization"])
    for opset in 7...8 {
      let operators = try saved(model, opset: opset).graph?.nodes.map(\.opType) ?? []
      #expect(operators.contains("ReduceMean") && !operators.contains("MeanVarianceNormalization"))
    }
  }

  /// The upper bound counts; runtimes refuse such attributes.
  @Test func crossedBoundsOfClipAreTwoOperators() throws {
    let bounds = [
      TensorProto(name: "low", Tensor(scalar: Float(2))), TensorProto(name: "high", Tensor(scalar: Float(1))),
    ]
    let model = proto(
      [node("Clip", ["x", "low", "high"])], inputs: [("x", .float32, [3])], initializers: bounds, opset: 11)
    #expect(try saved(model, opset: 10).graph?.nodes.map(\.opType) == ["Max", "Min"])
    #expect(try saved(model).graph?.nodes.map(\.opType) == ["Clip"])
  }

  @Test func whatAnOperatorSetLacksIsNamed() throws {
    let sizes = TensorProto(name: "sizes", Tensor([2, 2] as [Int64]))
    for (name, value) in [
      ("antialias", AttributeProto.Content.int(1)),
      ("keep_aspect_ratio_policy", .string(Array("not_larger".utf8))),
    ] {
      let attributes: [(String, AttributeProto.Content)] = [
        ("mode", .string(Array("linear".utf8))), ("axes", .ints([2, 3])), (name, value),
      ]
      let model = proto(
        [node("Resize", ["x", "", "", "sizes"], ["y"], attributes, name: "smaller")],
        inputs: [("x", .float32, [1, 2, 4, 4])], initializers: [sizes], opset: 18)
      let error = #expect(throws: OperatorError.self) { try saved(model, opset: 17) }
      let text = error?.description ?? ""
      #expect(text.contains("smaller") && text.contains("attribute \(name) came with operator set 18"), "\(text)")
    }
  }

  @Test func treesStayBelowTheVersionThatDeprecatesThem() throws {
    let attributes: [(String, AttributeProto.Content)] = [
      ("n_targets", .int(1)), ("nodes_treeids", .ints([0, 0, 0])), ("nodes_nodeids", .ints([0, 1, 2])),
      ("nodes_featureids", .ints([0, 0, 0])), ("nodes_values", .floats([0.5, 0, 0])),
      ("nodes_modes", .strings([Array("BRANCH_LEQ".utf8), Array("LEAF".utf8), Array("LEAF".utf8)])),
      ("nodes_truenodeids", .ints([1, 0, 0])), ("nodes_falsenodeids", .ints([2, 0, 0])),
      ("target_treeids", .ints([0, 0])),
      ("target_nodeids", .ints([1, 2])), ("target_ids", .ints([0, 0])), ("target_weights", .floats([1, 2])),
    ]
    let trees = node("TreeEnsembleRegressor", ["x"], ["y"], attributes, domain: "ai.onnx.ml")
    for ml in [1, 3] {
      let result = try saved(
        proto(
          [trees], inputs: [("x", .float32, [2, 1])], opset: 9, more: [OperatorSetID(domain: "ai.onnx.ml", version: ml)]
        ))
      #expect(version(result, "ai.onnx.ml") == ml)
      #expect(version(result) == 9)
    }
  }

  /// Other runtimes do not broadcast a mask of one row to all queries, nor positions of one row to a batch.
  @Test func operandsOfAttentionHaveAllTheirRows() throws {
    let query: Input = ("q", .float32, [2, 4, 5, 8])
    let others: [Input] = [("k", .float32, [2, 4, 6, 8]), ("v", .float32, [2, 4, 6, 8])]
    for (mask, isWidened) in [([2, 1, 1, 6], true), ([2, 1, 5, 6], false), ([1, 6], true)] {
      let attention = node("Attention", ["q", "k", "v", "m"])
      let result = try saved(
        proto([attention], inputs: [query] + others + [("m", .bool, mask)], opset: 23, ir: 11))
      #expect((result.graph?.nodes.map(\.opType) ?? []) == (isWidened ? ["Expand", "Attention"] : ["Attention"]))
    }
    let rotary = node("RotaryEmbedding", ["x", "c", "s", "p"], ["y"], [("num_heads", .int(2))])
    for (batch, isWidened) in [(3, true), (1, false)] {
      let inputs: [Input] = [
        ("x", .float32, [batch, 5, 16]), ("c", .float32, [9, 4]), ("s", .float32, [9, 4]), ("p", .int64, [1, 5]),
      ]
      let result = try saved(proto([rotary], inputs: inputs, opset: 23, ir: 11))
      #expect(result.graph?.nodes.map(\.opType).contains("Expand") == isWidened)
    }
  }

  @Test func outputsOfSubgraphsHaveNamesOfTheirOwn() throws {
    var branch = GraphProto()
    branch.nodes = [node("Relu", ["x"], ["r"]), node("Identity", ["r"], ["s"])]
    branch.outputs = [ValueInfoProto(name: "r", type: nil), ValueInfoProto(name: "s", type: nil)]
    let choice = node("If", ["c"], ["y", "z"], [("then_branch", .graph(branch)), ("else_branch", .graph(branch))])
    let result = try saved(proto([choice], inputs: [("x", .float32, [2]), ("c", .bool, [])], opset: 13))
    guard case .graph(let written)? = result.graph?.nodes.first?.attributes.first?.content else {
      Issue.record("there is no branch")
      return
    }
    #expect(Set(written.outputs.map(\.name)).count == 2)
  }

  @Test func nodesHaveNamesOfTheirOwn() throws {
    let nodes = [
      node("Relu", ["x"], ["r"], name: "same"), node("Neg", ["r"], ["s"], name: "same"),
      node("Abs", ["s"], ["y"], name: "same"),
    ]
    let names = try saved(proto(nodes, inputs: [("x", .float32, [2])], opset: 13)).graph?.nodes.map(\.name) ?? []
    #expect(names.count == 3 && Set(names).count == 3)
  }
}
