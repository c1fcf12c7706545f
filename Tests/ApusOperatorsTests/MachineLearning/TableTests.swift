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
        ("keys_tensor", .tensor(Tensor([1.5, .nan, 0.0, 1.5]))),
        ("values_tensor", .tensor(Tensor([Int16(1), 2, 3, 4]))),
        ("default_tensor", .tensor(Tensor([Int16(9)]))),
      ])
    // The first of equal keys counts; every NaN is one key, and so are both zeros.
    let result = try encoder(Tensor([1.5, Double.nan, -0.0, 8], shape: [2, 2]))[0]
    #expect(result.elements(as: Int16.self) == [1, 2, 3, 9])
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

  @Test func featuresOfManyRows() throws {
    for (rows, columns, count) in [(100, 7, 3), (3, 300, 200), (2, 5, 128), (1, 4, 1)] {
      let x = Tensor((0..<rows * columns).map { Float($0) }, shape: [rows, columns])
      let positions: [Int] = (0..<count).map { $0 * 31 % columns }
      let result = try run("ArrayFeatureExtractor", [])(x, Tensor(positions))[0]
      var expected: [Float] = []
      for row in 0..<rows { expected += positions.map { Float(row * columns + $0) } }
      #expect(result.elements(as: Float.self) == expected)
    }
  }

  /// Tables of many keys, far apart and close together.
  @Test func labelsOfManyIntegers() throws {
    var keys = Array(0..<1000)
    for index in keys.indices where index % 2 == 1 { keys[index] = index &* 0x1E37_79B9_7F4A_7C15 }
    let encoder = run("LabelEncoder", [("keys_int64s", .ints(keys)), ("values_int64s", .ints(Array(0..<1000)))])
    let asked: [Int] = keys + [-1, 1, 1002, Int.min, Int.max]
    let expected: [Int] = Array(0..<1000) + [Int](repeating: -1, count: 5)
    #expect(try encoder(Tensor(asked))[0].elements(as: Int.self) == expected)
    let hot = run("OneHotEncoder", [("cats_int64s", .ints(keys))])
    let rows = try hot(Tensor([keys[777], 1, keys[4]]))[0].elements(as: Float.self)!
    #expect(rows.indices.filter { rows[$0] != 0 } == [777, 2004])
  }

  @Test func imputedValues() throws {
    func impute(_ attributes: [(String, AttributeValue)], _ x: Tensor) throws -> Tensor {
      try run("Imputer", attributes)(x)[0]
    }
    let columns: [(String, AttributeValue)] = [("imputed_value_floats", .floats([7, 8, 9]))]
    let gaps = Tensor([Float](arrayLiteral: .nan, 1, .nan, 2, .nan, 3), shape: [2, 3])
    let filled = try impute(columns + [("replaced_value_float", .float(.nan))], gaps)
    #expect(filled.elements(as: Float.self) == [7, 1, 9, 2, 8, 3])
    let zeros = try impute([("imputed_value_floats", .floats([5]))], Tensor([0.0, -0.0, 1, .nan], shape: [4]))
    #expect(zeros.elements(as: Double.self)?.prefix(3) == [5, 5, 1])
    let integers: [(String, AttributeValue)] = [
      ("imputed_value_int64s", .ints([1 << 40])), ("replaced_value_int64", .int(3)),
    ]
    #expect(try impute(integers, Tensor([3, 4])).elements(as: Int.self) == [1 << 40, 4])
    #expect(try impute(integers, Tensor([Int32(3), 4])).elements(as: Int32.self) == [0, 4])
    #expect(throws: OperatorError.self) { try impute(columns, Tensor([Float(1), 2])) }
  }

  @Test func maps() throws {
    let floats = ValueType.tensor(.float32, nil)
    let map = Value.map(
      MapValue(
        keys: Tensor([3, 1]), values: [.tensor(Tensor(scalar: Float(30))), .tensor(Tensor(scalar: Float(10)))],
        valueType: floats))
    #expect(try run("CastMap", [])([map])[0].tensor?.elements(as: Float.self) == [10, 30])
    let odd = MapValue(
      keys: Tensor([3]), values: [.tensor(Tensor(strings: ["30\u{0}1"], shape: []))], valueType: .tensor(.string, nil))
    #expect(throws: OperatorError.self) { try run("CastMap", [])([.map(odd)]) }
    let sparse = run(
      "CastMap", [("map_form", .string("SPARSE")), ("max_map", .int(5)), ("cast_to", .string("TO_INT64"))])
    #expect(try sparse([map])[0].tensor?.elements(as: Int.self) == [0, 10, 0, 30, 0])
    let decimals = run(
      "CastMap", [("map_form", .string("SPARSE")), ("max_map", .int(3)), ("cast_to", .string("TO_STRING"))])
    let fractions = Value.map(
      MapValue(
        keys: Tensor([2, 0]),
        values: [.tensor(Tensor(scalar: Float(-1.7450947))), .tensor(Tensor(scalar: Float(1e10)))],
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

  /// Axes behind the first are one row; what an input has too few of is zero.
  @Test func featuresOfAnyRank() throws {
    func vectorize(_ shape: Shape, _ widths: [Int]) throws -> Tensor {
      let x = Tensor((0..<shape.elementCount).map { Float($0) }, shape: shape)
      let y = Tensor((0..<shape.elementCount).map { Float($0 + 10) }, shape: shape)
      return try run("FeatureVectorizer", [("inputdimensions", .ints(widths))])(x, y)[0]
    }
    for shape in [Shape([3]), [1, 3], [1, 1, 3], [1, 1, 1, 3], [1, 3, 1]] {
      #expect(try vectorize(shape, [3, 3]).elements(as: Float.self) == [0, 1, 2, 10, 11, 12])
      #expect(try vectorize(shape, [4, 2]).elements(as: Float.self) == [0, 1, 2, 0, 10, 11])
    }
    let rows = try vectorize([2, 2, 3], [3, 6])
    #expect(rows.shape == [2, 9])
    #expect(rows.elements(as: Float.self) == [0, 1, 2, 10, 11, 12, 13, 14, 15, 6, 7, 8, 16, 17, 18, 19, 20, 21])
    #expect(throws: (any Error).self) { try vectorize([], [1, 1]) }
  }

  /// Coefficients beyond those of the targets are left alone where the attributes say how many targets there are.
  @Test func extraCoefficients() throws {
    let x = Tensor([Float(1), 2, 3, -4], shape: [2, 2])
    func classify(_ coefficients: [Float], _ intercepts: [Float]?) throws -> [Tensor] {
      let given: [(String, AttributeValue)] = intercepts.map { [("intercepts", .floats($0))] } ?? []
      return try run(
        "LinearClassifier", given + [("coefficients", .floats(coefficients)), ("classlabels_ints", .ints([5, 6]))])(
          x, outputs: 2)
    }
    let plain = try classify([1, 2, 3, 4], [0.1, 0.2])
    let extra = try classify([1, 2, 3, 4, 5, 6], [0.1, 0.2])
    #expect(extra[0].elements(as: Int.self) == plain[0].elements(as: Int.self))
    #expect(extra[1].elements(as: Float.self) == plain[1].elements(as: Float.self))
    #expect(throws: (any Error).self) { try classify([1, 2, 3], [0.1, 0.2]) }
    #expect(throws: (any Error).self) { try classify([1, 2, 3, 4, 5], nil) }
    let regress = run("LinearRegressor", [("coefficients", .floats([1, 2, 3, 4, 5])), ("targets", .int(2))])
    #expect(try regress(x)[0].elements(as: Float.self) == [5, 11, -5, -7])
  }

  @Test func infiniteProbits() throws {
    func probit(_ score: Float) throws -> Float? {
      try run(
        "LinearRegressor", [("coefficients", .floats([1])), ("post_transform", .string("PROBIT"))])(Tensor([score]))[0]
        .elements(as: Float.self)?.first
    }
    #expect(try probit(0) == -.infinity && probit(1) == .infinity && probit(0.5) == 0)
    #expect(try probit(-0.1)?.isNaN == true && probit(1.1)?.isNaN == true)
    let quantile = try #require(try probit(0.975))
    #expect(abs(quantile - 1.96) < 0.01)
  }
}
