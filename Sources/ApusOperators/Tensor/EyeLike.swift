// EyeLike: ones on a diagonal. https://onnx.ai/onnx/operators/onnx__EyeLike.html
// Versions: 9, 22 (bfloat16).

import ApusGraph
import ApusTensor

struct EyeLike: OperatorDefinition {
  let schema = OperatorSchema(
    "EyeLike", versions: [9, 22],
    inputs: [.required("input", "T1")], outputs: [.required("output", "T2")],
    attributes: [.optional("dtype", .int), .int("k", default: 0)],
    types: ["T1": .numeric + .bool, "T2": .numeric + .bool], traits: .readsShapeOnly, portable: .moreTypes)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    var type = context.type(0)
    if let given = context.optionalInt("dtype") {
      guard let known = Int32(exactly: given).flatMap({ DataType(rawValue: $0) }),
        schema.types["T2"]?.tensors.contains(known) ?? false
      else { throw .invalid("dtype is \(given), which is no type that EyeLike gives") }
      type = known
    }
    if let rank = context.rank(0), rank != 2 { throw .mismatch("the input has rank \(rank); expected 2") }
    context.set(0, type, context.shape(0) ?? [.unknown, .unknown])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let k = try context.int("k")
    return .planned { plan throws(OperatorError) in
      guard let type = plan.outputs[0] else { return .views([]) }
      guard let one = Tensor(one: type.dataType) else {
        throw .unsupported("EyeLike has no kernel for \(type.dataType)")
      }
      let (rows, columns) = (type.shape[0], type.shape[1])
      let width = type.dataType.byteWidth
      let partition = Partition(rows, of: .copying(bytes: columns * width))
      return Step.parallel(parts: rows * columns == 0 ? 0 : partition.parts) { run, part in
        let range = partition.range(part)
        let target = run.outputBytes()
        (target + range.lowerBound &* columns &* width)
          .initializeMemory(as: UInt8.self, repeating: 0, count: range.count &* columns &* width)
        one.withUnsafeBytes { bytes in
          guard let element = bytes.baseAddress else { return }
          for row in range {
            let (column, overflow) = row.addingReportingOverflow(k)
            if overflow || column < 0 || column >= columns { continue }
            (target + (row &* columns &+ column) &* width).copyMemory(from: element, byteCount: width)
          }
        }
      }.notReading(0).named("eye")
    }
  }
}

extension Tensor {
  /// A scalar 1 of a number type of at least a byte, or true.
  init?(one type: DataType) {
    switch type {
    case .float32: self.init(scalar: Float(1))
    case .float64: self.init(scalar: Double(1))
    case .float16: self.init(scalar: Float16(1))
    case .bfloat16: self.init(scalar: BFloat16(1))
    case .int8, .uint8, .bool: self.init(scalar: UInt8(1))
    case .int16, .uint16: self.init(scalar: UInt16(1))
    case .int32, .uint32: self.init(scalar: UInt32(1))
    case .int64, .uint64: self.init(scalar: UInt64(1))
    default: return nil
    }
  }
}
