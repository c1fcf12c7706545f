// Exported programs of PyTorch: what they say wrongly is told, and nothing of it ends the process.

import Apus
import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TorchProgramTests {
  /// A program with one input x [batch, 4], a weight w [4] and some nodes.
  private struct Program {
    var nodes: [String] = []
    var values = ""
    var output = "y"
    var schema = #"{"major": 8, "minor": 20}"#
    var weightBytes = 16
    var weightSizes = #"[{"as_int": 4}]"#
    var strides = #"[{"as_int": 1}]"#

    static func meta(_ sizes: String, _ strides: String, type: Int = 7) -> String {
      #"{"dtype": \#(type), "sizes": \#(sizes), "requires_grad": false, "device": {"type": "cpu", "index": null}, "#
        + #""strides": \#(strides), "storage_offset": {"as_int": 0}, "layout": 7}"#
    }

    static let row =
      #"[{"as_expr": {"expr_str": "Symbol('s0', positive=True, integer=True)", "hint": null}}, {"as_int": 4}]"#

    static func node(_ target: String, _ inputs: String, _ output: String, module: String = "") -> String {
      #"{"target": "\#(target)", "inputs": [\#(inputs)], "outputs": [{"as_tensor": {"name": "\#(output)"}}], "#
        + #""metadata": {"nn_module_stack": "L__self__,,M;k,\#(module),torch.nn.modules.linear.Linear"}, "#
        + #""name": "\#(output)"}"#
    }

    static func tensor(_ name: String, _ value: String) -> String {
      #"{"name": "\#(name)", "arg": {"as_tensor": {"name": "\#(value)"}}, "kind": 1}"#
    }

    var json: String {
      let meta = Program.meta(Program.row, #"[{"as_int": 4}, {"as_int": 1}]"#)
      let weight = Program.meta(#"[{"as_int": 4}]"#, #"[{"as_int": 1}]"#)
      let inputs = #"[{"as_tensor": {"name": "p_w"}}, {"as_tensor": {"name": "x"}}]"#
      let graph =
        #"{"inputs": \#(inputs), "outputs": [{"as_tensor": {"name": "\#(output)"}}], "#
        + #""nodes": [\#(nodes.joined(separator: ", "))], "tensor_values": {"x": \#(meta), "p_w": \#(weight), "#
        + #""y": \#(meta), "z": \#(meta)\#(values)}, "sym_int_values": {}, "sym_bool_values": {}}"#
      let signature =
        #"{"input_specs": [{"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}}, "#
        + #"{"user_input": {"arg": {"as_tensor": {"name": "x"}}}}], "#
        + #""output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "\#(output)"}}}}]}"#
      return #"{"graph_module": {"graph": \#(graph), "signature": \#(signature), "module_call_graph": []}, "#
        + #""schema_version": \#(schema), "torch_version": "2.13.0"}"#
    }

    func write(to path: String, text: [UInt8]? = nil) throws {
      var archive = try ZipWriter(path: path, alignment: 64)
      try archive.add("m/models/model.json", text ?? Array(json.utf8))
      try archive.add("m/byteorder", Array("little".utf8))
      let meta = Program.meta(weightSizes, strides)
      let table = #"{"config": {"w": {"path_name": "weight_0", "is_param": true, "use_pickle": false, "tensor_meta": "#
      try archive.add("m/data/weights/model_weights_config.json", Array((table + meta + "}}}").utf8))
      try archive.add("m/data/weights/weight_0", (0..<weightBytes).map { $0 % 4 == 3 ? 0x3F : 0 })
      try archive.commit()
    }
  }

  private let folder = TemporaryFolder()

  private func load(_ program: Program, text: [UInt8]? = nil) throws -> ImportedModel {
    let path = folder.path("m.pt2")
    try program.write(to: path, text: text)
    let file = try FileBytes.open(path: path)
    guard let importer = ModelImporters.importer(of: file) else { throw LoadError(.wrongFormat, "no importer") }
    return try importer.load(file, registry: .standard, options: ImportOptions())
  }

  private func error(_ change: (inout Program) -> Void) -> String {
    var program = Program()
    program.nodes = [add]
    change(&program)
    do {
      _ = try load(program)
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  private var add: String {
    Program.node(
      "torch.ops.aten.add.Tensor", Program.tensor("self", "x") + ", " + Program.tensor("other", "p_w"), "y",
      module: "layer1.0")
  }

  @Test func aProgramIsAGraphWithTheNamesOfTheSource() throws {
    var program = Program()
    program.nodes = [add]
    let graph = try load(program).model.graph
    #expect(graph.inputs.map { graph[$0].name } == ["x"])
    #expect(graph.outputs.map { graph[$0].name } == ["y"])
    #expect(graph.nodes.map(\.name) == ["layer1.0"])
    #expect(graph.values.contains { $0.name == "w" && $0.constant != nil })
    #expect(graph.fact(graph.inputs[0]).tensor?.shape == [.symbol("s0"), 4])
  }

  @Test func everythingThatHasNoRuleIsToldAtOnce() {
    let text = error {
      $0.nodes = [
        Program.node("torch.ops.aten.nothing.default", Program.tensor("self", "x"), "z", module: "a.b"),
        Program.node("torch.ops.mine.own.default", Program.tensor("self", "z"), "y", module: "c"),
      ]
    }
    #expect(text.contains("torch.ops.aten.nothing.default") || text.contains("aten.nothing.default"))
    #expect(text.contains("mine.own.default") && text.contains("a.b/z") && text.contains("c/y"))
  }

  @Test func whatAFileSaysWronglyIsTold() {
    #expect(error { $0.weightBytes = 8 }.contains("takes 16 bytes"))
    #expect(error { $0.weightSizes = #"[{"as_int": -4}]"# }.contains("should be numbers"))
    #expect(error { $0.weightSizes = #"[{"as_int": 4611686018427387904}, {"as_int": 8}]"# }.contains("w"))
    #expect(error { $0.strides = #"[{"as_int": 7}]"# }.contains("last element"))
    #expect(error { $0.schema = #"{"major": 9, "minor": 0}"# }.contains("schema 9.0"))
    #expect(error { $0.schema = "3" }.contains("schema_version"))
    #expect(error { $0.output = "nobody" }.contains("nobody"))
    #expect(error { $0.nodes = ["3"] }.contains("target"))
    let unknown = error { $0.nodes[0] = $0.nodes[0].replacing("\"x\"", with: "\"q\"") }
    #expect(unknown.contains("'self' is not known") && unknown.contains("layer1.0"))
  }

  @Test func argumentsOfAnotherKindAreErrorsOfTheirLayer() {
    let text = error {
      $0.nodes = [Program.node("torch.ops.aten.softmax.int", Program.tensor("self", "x"), "y", module: "head")]
    }
    #expect(text.contains("head") && text.contains("'dim'"))
    let axis = error {
      let dim = #"{"name": "dim", "arg": {"as_int": 9}, "kind": 1}"#
      $0.nodes = [Program.node("torch.ops.aten.softmax.int", Program.tensor("self", "x") + ", " + dim, "y")]
    }
    #expect(axis.contains("no axis 9"))
  }

  /// Each byte of a program is changed or the file cut: an error, or a graph.
  @Test func changedBytesEndInErrors() throws {
    var program = Program()
    program.nodes = [add]
    let path = folder.path("fuzz.pt2")
    try program.write(to: path)
    let file = try FileBytes.open(path: path)
    let bytes = file.withBytes { (span: Span<UInt8>) in span.indices.map { span[$0] } }
    var random = TestRandom(seed: 7)
    var graphs = 0
    for round in 0..<3000 {
      var changed = bytes
      if round % 5 == 0 {
        changed = Array(changed.prefix(random.below(bytes.count)))
      } else {
        for _ in 0...(round % 3) {
          changed[random.below(bytes.count)] = UInt8(random.below(256))
        }
      }
      let file = try FileBytes(copying: changed)
      guard let importer = ModelImporters.importer(of: file) else { continue }
      if (try? importer.load(file, registry: .standard, options: ImportOptions())) != nil { graphs += 1 }
    }
    #expect(graphs < 3000)
  }

  /// The same for the text of the program, behind the checksum of the archive.
  @Test func changedProgramsEndInErrors() throws {
    var program = Program()
    program.nodes = [add]
    let text = Array(program.json.utf8)
    var random = TestRandom(seed: 11)
    let words = ["-1", "9223372036854775807", "null", "[]", "{}", "\"\"", "1e400", "true"].map { Array($0.utf8) }
    for _ in 0..<2000 {
      var changed = text
      let place = random.below(text.count)
      if random.below(2) == 0 {
        changed[place] = UInt8(32 + random.below(95))
      } else {
        let end = min(place + random.below(6), text.count)
        changed.replaceSubrange(place..<end, with: words[random.below(words.count)])
      }
      _ = try? load(program, text: changed)
    }
  }
}

@Suite struct WeightMatchingTests {
  private func description(_ shape: [Int], _ type: DataType = .float32) -> WeightMatching.Description {
    WeightMatching.Description(Tensor(zeros: type, shape: Shape(shape)))
  }

  @Test func namesShapesAndPrefixes() {
    let targets = [
      ("encoder.a.weight", description([2, 3])), ("encoder.b.weight", description([4])),
      ("encoder.c.weight", description([5])), ("head.bias", description([1])),
    ]
    let sources = [
      ("module.encoder.a.weight", description([2, 3])), ("module.encoder.b.weight", description([4])),
      ("module.encoder.c.weight", description([6])), ("extra", description([1])),
    ]
    let found = WeightMatching(targets.map { ($0.0, $0.1) }, sources.map { ($0.0, $0.1) })
    #expect(found.pairs.map(\.target).sorted() == ["encoder.a.weight", "encoder.b.weight"])
    #expect(found.pairs.allSatisfy { $0.source == "module." + $0.target })
    #expect(found.unmatched.map(\.name).sorted() == ["encoder.c.weight", "head.bias"])
    #expect(found.unmatched.first { $0.name == "encoder.c.weight" }?.reason.contains("[6]") ?? false)
    #expect(found.unused == ["extra", "module.encoder.c.weight"])
  }

  @Test func prefixesOfTheModelAndUniqueEnds() {
    let targets = [
      ("net.x.weight", description([2])), ("net.y.weight", description([2])), ("other.q.z", description([3])),
    ]
    let sources = [("x.weight", description([2])), ("y.weight", description([2])), ("deep.q.z", description([3]))]
    let found = WeightMatching(targets.map { ($0.0, $0.1) }, sources.map { ($0.0, $0.1) })
    #expect(found.unmatched.isEmpty)
    #expect(found.pairs.contains { $0.target == "other.q.z" && $0.source == "deep.q.z" })
  }

  @Test func aLastPartAloneSaysNothing() {
    let found = WeightMatching([("a.weight", description([2]))], [("b.weight", description([2]))])
    #expect(found.pairs.isEmpty)
  }

  @Test func keysOfDictionariesAreAPrefix() {
    let targets = [("bn.bias", description([2])), ("fc.weight", description([3, 2]))]
    let sources = [
      ("model/bn.bias", description([2])), ("model/fc.weight", description([3, 2])),
      ("model/g.weight_ih_l0", description([8, 2])), ("model/bn.num_batches_tracked", description([], .int64)),
      ("optimizer/state/0/exp_avg", description([2])),
    ]
    let found = WeightMatching(targets.map { ($0.0, $0.1) }, sources.map { ($0.0, $0.1) })
    #expect(found.unmatched.isEmpty && found.unused.count == 3)
    #expect(found.leftOut == ["model/g.weight_ih_l0"])
  }
}
