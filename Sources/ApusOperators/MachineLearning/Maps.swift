// ZipMap, CastMap, DictVectorizer: tensors to maps and back. https://onnx.ai/onnx/operators/onnx_aionnxml_ZipMap.html
// Versions: 1.

import ApusGraph
import ApusTensor

struct ZipMap: OperatorDefinition {
  let schema = OperatorSchema(
    "ZipMap", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "tensor(float)")],
    outputs: [.required("Z", "T")],
    attributes: [.optional("classlabels_int64s", .ints), .optional("classlabels_strings", .strings)],
    types: ["tensor(float)": [.float32], "T": TypeSet(maps: true)])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let labels = try ClassLabels(context, integers: "classlabels_int64s")
    context.set(0, .sequence(.map(key: labels.dataType, value: .tensor(.float32, []))))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let labels = try ClassLabels(context, integers: "classlabels_int64s")
    let keys =
      switch labels {
      case .integers(let numbers): Tensor(numbers)
      case .strings(let names): Tensor(strings: names, shape: [names.count])
      }
    let type = ValueType.tensor(.float32, nil)
    return .eager { (inputs, _) throws(OperatorError) in
      let input = try inputs.tensor(0)
      let (rows, columns) = try RowModelKernel.extents(input.shape)
      guard columns == keys.count, let values = input.elements(as: Float.self) else {
        throw .mismatch("the input has \(columns) columns; expected \(keys.count), as there are keys")
      }
      let maps = (0..<rows).map { row in
        let numbers = (0..<columns).map { Value.tensor(Tensor(scalar: values[row * columns + $0])) }
        return Value.map(MapValue(keys: keys, values: numbers, valueType: type))
      }
      return [.sequence(maps, elementType: .map(key: keys.dataType, value: type))]
    }
  }
}

extension [Value?] {
  fileprivate func map(_ index: Int) throws(OperatorError) -> MapValue {
    guard index < count, case .map(let map)? = self[index] else {
      throw .mismatch(
        "input \(index) is \(index < count ? self[index]?.type.description ?? "absent" : "absent"); expected a map")
    }
    return map
  }
}

struct CastMap: OperatorDefinition {
  let schema = OperatorSchema(
    "CastMap", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2")],
    attributes: [
      .string("cast_to", default: "TO_FLOAT"), .string("map_form", default: "DENSE"), .int("max_map", default: 1),
    ],
    types: ["T1": TypeSet(maps: true), "T2": [.string, .float32, .int64]])

  private static func type(_ context: some OperatorContext) throws(OperatorError) -> DataType {
    switch try context.string("cast_to", oneOf: ["TO_FLOAT", "TO_STRING", "TO_INT64"]) {
    case "TO_STRING": .string
    case "TO_INT64": .int64
    default: .float32
    }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let isSparse = try context.string("map_form", oneOf: ["DENSE", "SPARSE"]) == "SPARSE"
    context.set(0, try CastMap.type(context), [1, isSparse ? Dim(try context.int("max_map")) : .unknown])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try CastMap.type(context)
    let isSparse = try context.string("map_form", oneOf: ["DENSE", "SPARSE"]) == "SPARSE"
    let length = try context.int("max_map")
    guard !isSparse || length >= 0 else { throw .invalid("max_map is \(length)") }
    return .eager { (inputs, context) throws(OperatorError) in
      let map = try inputs.map(0)
      guard let keys = map.keys.integers else { throw .mismatch("the keys are \(map.keys.dataType); expected int64") }
      let order = keys.indices.sorted { keys[$0] < keys[$1] }
      let text = type == .string ? CastMap.decimal : CastMap.text
      var texts: [String?] = []
      if isSparse {
        try context.check(allocating: length, of: MemoryLayout<String?>.stride)
        texts = [String?](repeating: nil, count: length)
        for index in order {
          guard texts.indices.contains(keys[index]) else {
            throw .mismatch("the map has the key \(keys[index]); expected 0 to \(length - 1), as max_map is \(length)")
          }
          texts[keys[index]] = try text(map.values[index])
        }
      } else {
        for index in order { texts.append(try text(map.values[index])) }
      }
      let shape: Shape = [1, texts.count]
      switch type {
      case .string: return [.tensor(try context.tensor(strings: texts.map { $0 ?? "0.f" }, shape: shape))]
      case .int64:
        var numbers: [Int] = []
        for text in texts { numbers.append(try CastMap.integer(text)) }
        return [.tensor(Tensor(numbers, shape: shape))]
      default:
        var numbers: [Float] = []
        for text in texts {
          guard let text else {
            numbers.append(0)
            continue
          }
          guard let number = Float(wholeText: text) else { throw .mismatch("'\(text)' is no number") }
          numbers.append(number)
        }
        return [.tensor(Tensor(numbers, shape: shape))]
      }
    }
  }

  /// A value as text from which the number can be read again.
  private static func text(_ value: Value) throws(OperatorError) -> String {
    if let text = value.tensor?.strings?.first { return text }
    guard let number = value.tensor?.elements(as: Float.self)?.first else {
      throw .mismatch("a value of the map is \(value.type); expected a float or a string")
    }
    return "\(number)"
  }

  /// A value as text: a string itself, a number with six places after the point, as other runtimes write it.
  private static func decimal(_ value: Value) throws(OperatorError) -> String {
    guard let number = value.tensor?.elements(as: Float.self)?.first else { return try text(value) }
    guard number.isFinite else { return number.isNaN ? "nan" : number < 0 ? "-inf" : "inf" }
    let sign = number.sign == .minus ? "-" : ""
    let magnitude = abs(Double(number))
    guard magnitude < 0x1p24 else { return "\(sign)\(UInt128(magnitude)).000000" }
    // 24 bits times a million are exact in double precision.
    let millionths = UInt64((magnitude * 1e6).rounded(.toNearestOrEven))
    let places = String(millionths % 1_000_000)
    return "\(sign)\(millionths / 1_000_000).\(String(repeating: "0", count: 6 - places.count))\(places)"
  }

  /// Numbers are truncated towards zero, and bounded by the range of int64.
  private static func integer(_ text: String?) throws(OperatorError) -> Int {
    guard let text else { return 0 }
    if let number = Int(text) { return number }
    guard let number = Double(wholeText: text), !number.isNaN else { throw .mismatch("'\(text)' is no integer") }
    return number >= 0x1p63 ? .max : number <= -0x1p63 ? .min : Int(number)
  }
}

struct DictVectorizer: OperatorDefinition {
  let schema = OperatorSchema(
    "DictVectorizer", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2")],
    attributes: [.optional("int64_vocabulary", .ints), .optional("string_vocabulary", .strings)],
    types: ["T1": TypeSet(maps: true), "T2": [.int64, .float32, .float64, .string]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let keys = try ClassLabels(context, integers: "int64_vocabulary", strings: "string_vocabulary")
    guard case .map(let key, let value)? = context.inputs[0] else { return }
    guard key == keys.dataType else {
      throw .mismatch("the keys of the map are \(key); the vocabulary has \(keys.dataType)")
    }
    context.set(0, value.tensor?.dataType, [Dim(keys.count)])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let vocabulary = try ClassLabels(context, integers: "int64_vocabulary", strings: "string_vocabulary")
    var numbers: [Int: Int] = [:]
    var names: [ExactString: Int] = [:]
    switch vocabulary {
    case .integers(let keys): for (index, key) in keys.enumerated() { numbers[key] = index }
    case .strings(let keys): for (index, key) in keys.enumerated() { names[ExactString(key)] = index }
    }
    let type = context.outputType(0)
    return .eager { [numbers, names] (inputs, context) throws(OperatorError) in
      let map = try inputs.map(0)
      let type = map.values.first?.tensor?.dataType ?? type ?? .float32
      let shape: Shape = [vocabulary.count]
      let integers = map.keys.integers
      let strings = map.keys.strings
      var found: [(position: Int, value: Tensor)] = []
      for (index, value) in map.values.enumerated() {
        guard
          let position = integers.flatMap({ numbers[$0[index]] }) ?? strings.flatMap({ names[ExactString($0[index])] })
        else {
          throw .mismatch("the vocabulary lacks the key \(strings.map { $0[index] } ?? "\(integers?[index] ?? 0)")")
        }
        guard let tensor = value.tensor, tensor.dataType == type, tensor.count == 1 else {
          throw .mismatch("a value of the map is \(value.type); expected one \(type)")
        }
        found.append((position, tensor))
      }
      if type == .string {
        var texts = [String](repeating: "", count: vocabulary.count)
        for entry in found { texts[entry.position] = entry.value.storage.strings[0] }
        return [.tensor(try context.tensor(strings: texts, shape: shape))]
      }
      let result = try context.allocate(type, shape)
      result.storage.base.initializeMemory(as: UInt8.self, repeating: 0, count: result.byteCount)
      for entry in found {
        (result.storage.base + entry.position * type.byteWidth).copyMemory(
          from: entry.value.base, byteCount: type.byteWidth)
        withExtendedLifetime(entry.value) {}
      }
      return [.tensor(result)]
    }
  }
}
