// The textual forms of ONNX: what they read, that nothing is lost on the way, and where they say a text is wrong.

import ApusFormats
import ApusTensor
import Testing

@Suite struct TextFormTests {
  private func binary(_ text: String, _ form: ModelForm, _ change: (inout LoadLimits) -> Void = { _ in }) throws
    -> [UInt8]
  {
    try binary(Array(text.utf8), form, change)
  }

  private func binary(_ text: [UInt8], _ form: ModelForm, _ change: (inout LoadLimits) -> Void = { _ in }) throws
    -> [UInt8]
  {
    var limits = LoadLimits()
    change(&limits)
    let file = try form.read(FileBytes(copying: text), limits: limits, account: nil)
    return file.withBytes { (bytes: Span<UInt8>) in bytes.indices.map { bytes[$0] } }
  }

  private func text(_ binary: [UInt8], _ form: ModelForm) throws -> String {
    String(decoding: try form.text(of: FileBytes(copying: binary)), as: UTF8.self)
  }

  private func error(
    _ text: String, _ form: ModelForm, _ change: (inout LoadLimits) -> Void = { _ in }
  ) -> String {
    do {
      _ = try binary(text, form, change)
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  // MARK: Models

  /// A model with something of every kind of field.
  private static var model: [UInt8] {
    let opset = Wire.text(1, "") + Wire.int(2, 21)
    let entry = Wire.text(1, "k\"\\\n") + Wire.text(2, "ü\u{1F600}\u{7F}")
    let floats: [UInt8] = [0, 0, 0xC0, 0x7F, 0, 0, 0x80, 0xFF, 1, 0, 0, 0, 0xCD, 0xCC, 0xCC, 0x3D]
    let tensor =
      Wire.int(1, 2) + Wire.int(1, 2) + Wire.int(2, 1) + Wire.data(4, floats) + Wire.text(8, "typed w")
    let raw = Wire.int(1, 5) + Wire.int(2, 22) + Wire.text(8, "raw") + Wire.data(9, [0x21, 0xF3, 0x0E])
    let strings = Wire.int(1, 2) + Wire.int(2, 8) + Wire.text(6, "a\\\"b") + Wire.text(6, "") + Wire.text(8, "s")
    let inner = Wire.data(1, Wire.text(2, "o") + Wire.text(4, "Neg")) + Wire.text(2, "body of 1")
    let attributes =
      Wire.data(5, Wire.text(1, "g") + Wire.data(6, inner) + Wire.int(20, 5))
      + Wire.data(5, Wire.text(1, "i") + Wire.int(3, .min) + Wire.int(20, 2))
      + Wire.data(5, Wire.text(1, "f") + [0x15, 0, 0, 0x80, 0x7F] + Wire.int(20, 1))
      + Wire.data(5, Wire.text(1, "ints") + Wire.int(20, 7))
      + Wire.data(5, Wire.text(1, "r") + Wire.int(20, 8) + Wire.text(21, "of_call"))
    let node = Wire.text(1, "") + Wire.text(1, "x.1") + Wire.text(2, "y") + Wire.text(4, "Op") + attributes
    let dims = Wire.data(1, Wire.int(1, 3)) + Wire.data(1, Wire.text(2, "batch + 1")) + Wire.data(1, [])
    let type = Wire.data(1, Wire.int(1, 10) + Wire.data(2, dims))
    let graph =
      Wire.data(1, node + Wire.text(7, "ai.onnx.ml")) + Wire.text(2, "main graph") + Wire.data(5, tensor)
      + Wire.data(5, raw) + Wire.data(5, strings) + Wire.data(11, Wire.text(1, "x.1") + Wire.data(2, type))
      + Wire.data(12, Wire.text(1, "float"))
    return Wire.int(1, 10) + Wire.text(2, "p") + Wire.data(7, graph) + Wire.data(8, opset) + Wire.data(14, entry)
  }

  @Test(arguments: [ModelForm.textproto, .json]) func keepsEveryByte(_ form: ModelForm) throws {
    let text = try text(Self.model, form)
    #expect(try binary(text, form) == normalized(Self.model))
    #expect(ModelForm.text(Array(text.utf8).span) == form)
  }

  /// The bytes as the parsers write them, by way of protobuf text, which another test compares in full.
  private func normalized(_ model: [UInt8]) throws -> [UInt8] { try binary(text(model, .textproto), .textproto) }

  @Test func ownTextIsAFixedPoint() throws {
    let first = try text(Self.model, .onnxtxt)
    let again = try text(binary(first, .onnxtxt), .onnxtxt)
    #expect(first == again)
    #expect(ModelForm.text(Array(first.utf8).span) == .onnxtxt)
    for part in [
      "\"float\"", "\"x.1\"", "float16[3,\"batch + 1\",?]", "int4[5] raw = {33,243,14}", "nan", "-inf", "1e-45",
      "i: int = -9223372036854775808", "f: float = inf", "ints: ints = []", "r: strings = @of_call", "ai.onnx.ml.Op",
      "\"body of 1\" () => () {",
    ] {
      #expect(first.contains(part), "\(part) in\n\(first)")
    }
  }

  @Test func textOfTheOwnSyntaxIsRead() throws {
    let model = """
      < ir_version: 8, opset_import: ["" : 18, "local" : 1] > # a comment
      agraph (float[N, 3] x, float[3] b = {1, -2.5, 3e0}) => (y) <float[2] c = {1,2}, float[N] t>
      {
        [first] t = Add <> (x, b)
      }
      """
    // Attributes in '<>' may be none.
    let read = try binary(model, .onnxtxt)
    #expect(try text(read, .onnxtxt).contains("[first] t = Add (x, b)"))
    #expect(try text(read, .textproto).contains("float_data: -2.5"))
  }

  // MARK: Protobuf text

  @Test func protobufTextIsReadInAllItsForms() throws {
    let text = """
      # comment
      ir_version: 0x0A, producer_name: 'a\\'b' "\\x41\\101\\u00e4\\U0001F600\\n";
      graph < node { input: ["a", "b"] attribute [ { name: "f" f: -InFinity type: 1 }, { name: "g" floats: [1, 2.5f,
        3e1] type: FLOATS } ] } initializer: { dims: 010 data_type: 1 raw_data: "\\000\\377" } >
      opset_import { version: - 7 }
      """
    let read = try self.text(binary(text, .textproto), .textproto)
    for part in [
      "ir_version: 10\n", "producer_name: \"a\\'bAAä\u{1F600}\\n\"", "  node {\n    input: \"a\"\n    input: \"b\"",
      "f: -inf\n", "floats: 1.0\n      floats: 2.5\n      floats: 30.0\n      type: FLOATS", "dims: 8\n",
      "raw_data: \"\\000\\377\"", "version: -7",
    ] {
      #expect(read.contains(part), "\(part) in\n\(read)")
    }
  }

  @Test func faultsOfProtobufTextHaveALine() {
    let cases = [
      ("graph {\n  nodes { }\n}", "line 2, column 3: a field of GraphProto was expected; found 'nodes'"),
      ("ir_version: 8 ir_version: 9", "line 1, column 15: the field 'ir_version' of ModelProto stands twice"),
      ("graph { input { type { tensor_type { } map_type { } } } }", "excludes 'tensor_type'"),
      ("ir_version: 9223372036854775808", "an integer of 64 bits was expected for 'ir_version'"),
      ("graph { initializer { data_type: 2147483648 } }", "an integer of 32 bits"),
      ("ir_version 8", "':' after 'ir_version' was expected; found '8'"),
      ("graph {", "the end of the message, was expected; found the end of the text"),
      ("producer_name: \"a", "the string has no end on its line"),
      ("producer_name: \"\\q\"", "'\\q' is no escape of protobuf text"),
      ("producer_name: \"\\400\"", "an octal escape up to"),
      ("graph { name: \"a\" ] }", "a field of GraphProto was expected; found ']'"),
      ("graph { node { attribute { type: NONE } } }", "one of UNDEFINED, FLOAT"),
      ("graph { node { attribute { f: 1x } } }", "a number was expected for 'f'; found '1x'"),
    ]
    for (text, message) in cases {
      let found = error(text, .textproto)
      #expect(found.contains(message), "\(text): \(found)")
    }
  }

  // MARK: JSON

  @Test func jsonIsReadInBothSpellings() throws {
    let text = """
      {"irVersion": "10", "opset_import": [{"domain": "\\u00fc\\ud83d\\ude00", "version": 1.8e1}], "docString": null,
       "graph": {"initializer": [{"dataType": 1, "floatData": ["NaN", "-Infinity", 1e-45, "0.1"], "rawData": "-_8"},
       {"rawData": "+/8="}], "node": [{"attribute": [{"type": "INTS", "ints": ["-1", 2]}, {"type": 3, "s": "YQ"}]}]}}
      """
    let read = try self.text(binary(text, .json), .textproto)
    for part in [
      "ir_version: 10\n", "domain: \"ü\u{1F600}\"", "version: 18", "float_data: nan\n", "float_data: -inf",
      "float_data: 1e-45", "float_data: 0.1\n", "raw_data: \"\\373\\377\"", "type: INTS", "ints: -1\n", "s: \"a\"",
    ] {
      #expect(read.contains(part), "\(part) in\n\(read)")
    }
    #expect(read.split(separator: "raw_data: \"\\373\\377\"").count == 3)
  }

  @Test func faultsOfJSONHaveALine() {
    let cases = [
      ("{\n \"irVersion\": 1,\n \"ir_version\": 2}", "line 3, column 2: the field 'irVersion' of ModelProto stands"),
      ("{\"graph\": {\"node\": [], \"node\": []}}", "stands twice"),
      ("{\"graph\": {\"foo\": 1}}", "a field of GraphProto was expected; found 'foo'"),
      ("{\"irVersion\": 1.5}", "an integer of 64 bits"),
      ("{\"irVersion\": 1} x", "the end of the text was expected; found 'x'"),
      ("{\"domain\": \"\\ud800\"}", "'\\u' and a character of Unicode"),
      ("{\"domain\": \"a\nb\"}", "a control character stands in a string"),
      ("{\"graph\": {\"initializer\": [{\"rawData\": \"a*\"}]}}", "no digit of it"),
      ("{\"graph\": {\"initializer\": [{\"rawData\": \"YWJjZ\"}]}}", "ends within a byte"),
      ("{\"graph\": [", "'{' of GraphProto was expected"),
      ("{\"irVersion\": 1,}", "the name of a field of ModelProto was expected"),
    ]
    for (text, message) in cases {
      let found = error(text, .json)
      #expect(found.contains(message), "\(text): \(found)")
    }
  }

  // MARK: ONNX's own text

  @Test func faultsOfOwnTextHaveALine() {
    let header = "<ir_version: 8, opset_import: [\"\" : 18]>\n"
    let cases = [
      ("<ir_version: 8, ir_version: 9>", "'ir_version' stands twice"),
      ("<ir_version 8>", "':' was expected; found '8'"),
      (header + "g (float[N] x) -> (y) {}", "line 2, column 16: '=>' was expected"),
      (header + "g () => () { y = }", "the operator of a node was expected; found '}'"),
      (header + "g () => () { y = Neg(x)", "a node or '}' was expected; found the end of the text"),
      (header + "g () => () <float[2] w = {1}> {}", "has 1 number, which do not fit it"),
      (header + "g () => () <float[N] w = {1}> {}", "a shape of numbers was expected"),
      (header + "g () => () { y = A <i: int = 1.5> (x) }", "an integer of 64 bits was expected; found '1"),
      (header + "g () => () { y = A <i = []> (x) }", "an empty list needs a type"),
      (header + "g () => () { y = A <i: int = [1]> (x) }", "is of the type int; found a list"),
      (header + "g () => () { y = A <i: real = 1> (x) }", "the type of an attribute was expected; found 'real'"),
      (header + "g () => () { y = A <t = int8[1] {3000000000}> (x) }", "an integer of 32 bits was expected"),
    ]
    for (text, message) in cases {
      let found = error(text, .onnxtxt)
      #expect(found.contains(message), "\(text): \(found)")
    }
  }

  // MARK: Limits

  @Test(arguments: [
    (ModelForm.textproto, "graph { node { attribute { g {", "node { attribute { g {"),
    (.json, "{\"graph\": {\"node\": [{\"attribute\": [{\"g\": {", "\"node\": [{\"attribute\": [{\"g\": {"),
    (.onnxtxt, "<ir_version: 8> g () => () { y = A (x) <b = ", "g () => () { y = A (x) <b = "),
    (.onnxtxt, "<ir_version: 8> g (seq(", "seq("),
  ]) func nestingEnds(_ form: ModelForm, _ start: String, _ level: String) {
    let text = start + String(repeating: level, count: 100_000)
    #expect(error(text, form).contains("deep in each other"), "\(error(text, form))")
    #expect(error(text, form) { $0.maximumNesting = 10_000 }.contains("deep in each other"))
  }

  /// What is cut off or changed is an error or another model, in time that grows with the text and not faster.
  @Test(arguments: [ModelForm.textproto, .json, .onnxtxt]) func damagedTexts(_ form: ModelForm) throws {
    let whole = Array(try text(Self.model, form).utf8)
    for beginning in Damage.beginnings(of: whole) { _ = try? binary(beginning, form) }
    for damaged in Damage.changes(of: whole, count: 4000) {
      guard let read = try? binary(damaged, form) else { continue }
      _ = try? ModelForm.textproto.text(of: FileBytes(copying: read))
    }
  }

  @Test func otherTextsAreNotTaken() {
    for text in [
      "{\"error\": 1}", "<html>", "<?xml?>", "node { op: \"x\" }", "Entry not found", "model: 3", "", "{}", "[1]",
      "f (x)",
    ] {
      #expect(ModelForm.text(Array(text.utf8).span) == nil, "\(text)")
    }
  }
}
