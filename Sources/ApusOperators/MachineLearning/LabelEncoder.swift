// LabelEncoder: each element replaced by what a table says.
// https://onnx.ai/onnx/operators/onnx_aionnxml_LabelEncoder.html Versions: 1 (a list of strings and their positions), 2
// (keys and values), 4 (tables as tensors, more types).

import ApusGraph
import ApusTensor

struct LabelEncoder: OperatorDefinition {
  let schema = OperatorSchema(
    "LabelEncoder", domain: "ai.onnx.ml", versions: [1, 2, 4],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2")],
    attributes: [
      .float("default_float", default: -0.0), .int("default_int64", default: -1),
      .string("default_string", default: "_Unused"), .optional("default_tensor", .tensor),
      .optional("keys_floats", .floats), .optional("keys_int64s", .ints), .optional("keys_strings", .strings),
      .optional("keys_tensor", .tensor), .optional("values_floats", .floats), .optional("values_int64s", .ints),
      .optional("values_strings", .strings), .optional("values_tensor", .tensor),
    ],
    types: [
      "T1": [.string, .int64, .float32, .int32, .int16, .float64],
      "T2": [.string, .int64, .float32, .int32, .int16, .float64],
    ])

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    guard version == 1 else { return }
    guard case .strings(let classes)? = node.attributes.remove("classes_strings") else {
      throw .invalid("attribute classes_strings (strings) is missing")
    }
    guard let input = node.inputs.first ?? nil, let type = builder.type(input) else {
      throw .unsupported("the element type of the input must be known")
    }
    let positions = AttributeValue.ints(Array(0..<classes.count))
    node.attributes[type == .string ? "keys_strings" : "keys_int64s"] = type == .string ? .strings(classes) : positions
    node.attributes[type == .string ? "values_int64s" : "values_strings"] =
      type == .string ? positions : .strings(classes)
  }

  /// The one of the attributes `prefix`_tensor, _floats, _int64s and _strings that is there, as a tensor of rank 1.
  private static func table(_ context: some OperatorContext, _ prefix: String) throws(OperatorError) -> Tensor {
    var found: [Tensor] = []
    if let tensor = context.optionalTensor("\(prefix)_tensor") { found.append(tensor.reshaped(to: [tensor.count])) }
    if let values = context.optionalFloats("\(prefix)_floats") { found.append(Tensor(values)) }
    if let values = context.optionalInts("\(prefix)_int64s") { found.append(Tensor(values)) }
    if let values = context.optionalStrings("\(prefix)_strings") {
      found.append(Tensor(strings: values, shape: [values.count]))
    }
    guard found.count == 1 else {
      throw .invalid("expected exactly one of the attributes \(prefix)_*; found \(found.count)")
    }
    return found[0]
  }

  /// What an element that is not in the table becomes.
  private static func fallback(_ context: some OperatorContext, _ type: DataType) throws(OperatorError) -> Tensor {
    if let tensor = context.optionalTensor("default_tensor") {
      guard tensor.dataType == type, tensor.count == 1 else {
        throw .invalid("default_tensor is \(tensor.dataType)\(tensor.shape); expected one element of \(type)")
      }
      return tensor.reshaped(to: [1])
    }
    let isTensor = context.has("values_tensor")
    switch type {
    case .string: return Tensor(strings: [try context.string("default_string")], shape: [1])
    case .float32: return Tensor([isTensor ? -0.0 : try context.float("default_float")])
    case .float64: return Tensor([-0.0])
    case .int32: return Tensor([Int32(-1)])
    case .int16: return Tensor([Int16(-1)])
    default: return Tensor([isTensor ? -1 : try context.int("default_int64")])
    }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, try LabelEncoder.table(context, "values").dataType, context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let (keys, values) = (try LabelEncoder.table(context, "keys"), try LabelEncoder.table(context, "values"))
    guard keys.count == values.count else { throw .invalid("there are \(keys.count) keys and \(values.count) values") }
    let type = try context.type(0)
    guard keys.dataType == type else { throw .mismatch("the input is \(type); the keys are \(keys.dataType)") }
    let fallback = try LabelEncoder.fallback(context, values.dataType)
    if type == .string || values.dataType == .string { return try LabelEncoder.strings(keys, values, fallback) }

    let table = IntegerTable(try LabelEncoder.positions(keys).map { (key: $0.key, value: $0.value) })
    guard let load = LabelEncoder.bits(type) else { throw context.unsupportedType(type) }
    let width = values.dataType.byteWidth
    // The values, and what all other elements become behind them.
    let results = try context.allowance.allocate(values.dataType, [values.count + 1])
    results.storage.base.copyMemory(from: values.base, byteCount: values.byteCount)
    (results.storage.base + values.byteCount).copyMemory(from: fallback.base, byteCount: width)
    withExtendedLifetime((values, fallback)) {}
    let (last, gather) = (values.count, GatherRun(width: width))
    return .planned { plan in
      let partition = Partition(plan.shape(0).elementCount, of: .heavy)
      return .parallel(parts: partition.parts) { run, part in
        withUnsafeTemporaryAllocation(of: UInt64.self, capacity: 64) { keys in
          withUnsafeTemporaryAllocation(of: Int.self, capacity: 64) { places in
            guard let keys = keys.baseAddress, let offsets = places.baseAddress else { return }
            let range = partition.range(part)
            var start = range.lowerBound
            while start < range.upperBound {
              let count = min(64, range.upperBound &- start)
              load(run.inputBytes(0), start, count, keys)
              for index in 0..<count {
                let position = table[keys[index]]
                offsets[index] = (position < 0 ? last : position) &* width
              }
              gather(results.base, offsets, count, run.outputBytes(0) + start &* width)
              start &+= count
            }
          }
        }
      }
    }
  }

  /// Reads `count` elements from `start` on as bits that are equal for equal elements.
  private typealias BitsLoader =
    @Sendable (_ elements: UnsafeRawPointer, _ start: Int, _ count: Int, _ bits: UnsafeMutablePointer<UInt64>) -> Void

  /// All NaNs are one, and both zeros.
  private static func bits(_ type: DataType) -> BitsLoader? {
    @Sendable @inline(__always) func canonical(_ value: Double) -> UInt64 {
      value.isNaN ? Double.nan.bitPattern : (value + 0).bitPattern
    }
    switch type {
    case .int16: return loader(Int16.self) { UInt64(bitPattern: Int64($0)) }
    case .int32: return loader(Int32.self) { UInt64(bitPattern: Int64($0)) }
    case .int64: return loader(UInt64.self) { $0 }
    case .float32: return loader(Float.self) { canonical(Double($0)) }
    case .float64: return loader(Double.self) { canonical($0) }
    default: return nil
    }
  }

  @inline(__always)
  private static func loader<Element: BitwiseCopyable & SendableMetatype>(
    _ type: Element.Type, _ bits: @escaping @Sendable (Element) -> UInt64
  ) -> BitsLoader {
    { elements, start, count, target in
      let width = MemoryLayout<Element>.size
      for index in 0..<count {
        target[index] = bits(elements.loadUnaligned(fromByteOffset: (start &+ index) &* width, as: Element.self))
      }
    }
  }

  /// The bits of all elements.
  private static func allBits(_ tensor: Tensor) -> [UInt64]? {
    guard let load = bits(tensor.dataType) else { return nil }
    return tensor.withUnsafeBytes { bytes in
      [UInt64](unsafeUninitializedCapacity: tensor.count) { buffer, initialized in
        initialized = tensor.count
        if let source = bytes.baseAddress, let target = buffer.baseAddress { load(source, 0, tensor.count, target) }
      }
    }
  }

  /// The position of each key; of a key that is there twice the first, as in onnxruntime.
  private static func positions(_ keys: Tensor) throws(OperatorError) -> [UInt64: Int] {
    guard let bits = allBits(keys) else { throw .invalid("keys of \(keys.dataType) are not known") }
    return Dictionary(bits.enumerated().map { ($0.element, $0.offset) }, uniquingKeysWith: { first, _ in first })
  }

  /// With strings on one side or both.
  private static func strings(_ keys: Tensor, _ values: Tensor, _ fallback: Tensor) throws(OperatorError)
    -> PreparedKernel
  {
    let numbers = keys.dataType == .string ? [:] : try positions(keys)
    let names = Dictionary(
      (keys.strings ?? []).enumerated().map { (ExactString($0.element), $0.offset) },
      uniquingKeysWith: { first, _ in first })
    return .eager { (inputs, context) throws(OperatorError) in
      let input = try inputs.tensor(0)
      let found: [Int?]
      if let strings = input.strings {
        found = strings.map { names[ExactString($0)] }
      } else if let bits = allBits(input) {
        found = bits.map { numbers[$0] }
      } else {
        throw .mismatch("the input is \(input.dataType)")
      }
      if let texts = values.strings, let other = fallback.strings?.first {
        return [.tensor(try context.tensor(strings: found.map { $0.map { texts[$0] } ?? other }, shape: input.shape))]
      }
      let result = try context.allocate(values.dataType, input.shape)
      let width = values.dataType.byteWidth
      for (index, position) in found.enumerated() {
        let source = position.map { values.base + $0 * width } ?? fallback.base
        (result.storage.base + index * width).copyMemory(from: source, byteCount: width)
      }
      withExtendedLifetime((values, fallback)) {}
      return [.tensor(result)]
    }
  }
}
