// LabelEncoder, ArrayFeatureExtractor, maps and OneHotEncoder beyond what the ONNX suite has.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct TableTests {
  private func run(_ name: String, _ attributes: [(String, AttributeValue)]) -> OperatorRun {
    OperatorRun(name, domain: "ai.onnx.ml", attributes: attributes)
  }

  @Test func labelsOfNumbers() throws {
    let encoder = run(
      "LabelEncoder",
      [
        ("keys_tensor", .tensor(Tensor([1.5, .nan, 0.0, 1.5]))), ("values_tensor", .tensor(Tensor([Int16(1), 2, 3, 4]))),
        ("default_tensor", .tensor(Tensor([Int16(9)]))),
      ])
    // The last of equal keys counts; every NaN is one key, and so are both zeros.
    let result = try encoder(Tensor([1.5, Double.nan, -0.0, 8], shape: [2, 2]))[0]
    #expect(result.elements(as: Int16.self) == [4, 2, 3, 9])
    #expect(result.shape == [2, 2])
  }

  @Test func labelsOfVersionOne() throws {
    var encoder = run("LabelEncoder", [("classes_strings", .strings(["a", "b"])), ("default_int64", .int(-7))])
    encoder.version = 1
    #expect(try encoder(Tensor(strings: ["b", "c"], shape: [2]))[0].elements(as: Int.self) == [1, -7])
    #expect(try encoder(Tensor([0, 5]))[0].strings == ["a", "_Unused"])
  }

  @Test func features() throws {
    let extract = run("ArrayFeatureExtractor", [])
    #expect(try extract(Tensor([Int32(1), 2, 3]), Tensor([2, 0]))[0].shape == [1, 2])
    let strings = Tensor(strings: ["a", "b", "c", "d"], shape: [2, 2])
    #expect(try extract(strings, Tensor([1]))[0].strings == ["b", "d"])
    #expect(throws: OperatorError.self) { try extract(strings, Tensor([2])) }
  }

  @Test func maps() throws {
    let floats = ValueType.tensor(.float32, nil)
    let map = Value.map(
      MapValue(keys: Tensor([3, 1]), values: [.tensor(Tensor(scalar: Float(30))), .tensor(Tensor(scalar: Float(10)))], valueType: floats))
    #expect(try run("CastMap", [])([map])[0].tensor?.elements(as: Float.self) == [10, 30])
    let sparse = run("CastMap", [("map_form", .string("SPARSE")), ("max_map", .int(5)), ("cast_to", .string("TO_INT64"))])
    #expect(try sparse([map])[0].tensor?.elements(as: Int.self) == [0, 10, 0, 30, 0])
    let decimals = run("CastMap", [("map_form", .string("SPARSE")), ("max_map", .int(3)), ("cast_to", .string("TO_STRING"))])
    let fractions = Value.map(
      MapValue(
        keys: Tensor([2, 0]), values: [.tensor(Tensor(scalar: Float(-1.7450947))), .tensor(Tensor(scalar: Float(1e10)))],
        valueType: floats))
    #expect(try decimals([fractions])[0].tensor?.strings == ["10000000000.000000", "0.f", "-1.745095"])
    let vectorizer = run("DictVectorizer", [("int64_vocabulary", .ints([1, 2, 3]))])
    #expect(try vectorizer([map])[0].tensor?.elements(as: Float.self) == [10, 0, 30])
    #expect(throws: OperatorError.self) { try run("DictVectorizer", [("int64_vocabulary", .ints([1]))])([map]) }
  }

  @Test func categories() throws {
    let encoder = run("OneHotEncoder", [("cats_int64s", .ints([4, 2]))])
    #expect(try encoder(Tensor([Float(2.9), 7]))[0].elements(as: Float.self) == [0, 1, 0, 0])
    let strict = run("OneHotEncoder", [("cats_strings", .strings(["x"])), ("zeros", .int(0))])
    #expect(throws: OperatorError.self) { try strict(Tensor(strings: ["y"], shape: [1])) }
  }
}
