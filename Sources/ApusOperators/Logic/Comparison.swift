// The operators that compare two tensors: Equal, Less, Greater, LessOrEqual, GreaterOrEqual.
// https://onnx.ai/onnx/operators/. Versions before 7 broadcast one way (`broadcast`, `axis`); later ones added types.

import ApusGraph
import ApusTensor
import CApusKernels

/// An operator that compares two inputs of one type, element by element.
struct Comparison: OperatorDefinition {
  let schema: OperatorSchema
  private let function: ComparisonFunction
  private let isCommutative: Bool

  private init(_ name: String, _ versions: [Int], _ types: TypeSet, _ function: ComparisonFunction) {
    isCommutative = function == .equal
    schema = OperatorSchema(
      name, versions: versions, inputs: [.required("A", "T"), .required("B", "T")], outputs: [.required("C", "T1")],
      types: ["T": types, "T1": .bool], traits: isCommutative ? .commutative : [], layout: .broadcasting)
    self.function = function
  }

  static let all: [any OperatorDefinition] = [
    Comparison("Equal", [1, 7, 11, 13, 19], .numeric + .bool + .string, .equal),
    Comparison("Less", [1, 7, 9, 13], .numeric, .less),
    Comparison("LessOrEqual", [12, 16], .numeric, .lessOrEqual),
    Comparison("Greater", [1, 7, 9, 13], .numeric, .greater),
    Comparison("GreaterOrEqual", [12, 16], .numeric, .greaterOrEqual),
  ]

  func upgrade(_ node: inout Node, from version: Int, in builder: GraphBuilder) throws(OperatorError) {
    if version < 7 { try node.upgradeLegacyBroadcast(in: builder) }
  }

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    try inferBroadcast(&context, [0, 1], type: .bool) { function.compare($0[0], $0[1]) }
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let type = try context.type(0)
    if type == .string { return Comparison.strings }
    guard let loops = try function.loops(type) else { throw context.unsupportedType(type) }
    return Elementwise.binary(loops, cost: .light, name: schema.id.name)
  }

  /// Equality of strings, byte by byte.
  private static let strings = PreparedKernel.eager { inputs, context throws(OperatorError) in
    let (a, b) = (try inputs.tensor(0), try inputs.tensor(1))
    let output = try broadcast([[Dim](a.shape), [Dim](b.shape)])
    guard let shape = output.concrete else { throw .mismatch("\(a.shape) and \(b.shape) do not broadcast") }
    let result = try context.allocate(.bool, shape)
    let target = result.storage.base.assumingMemoryBound(to: UInt8.self)
    let (x, y) = (a.strings ?? [], b.strings ?? [])
    let rows = Broadcast(output: shape, inputs: [a.shape, b.shape])
    rows.forEachRow(in: 0..<rows.count) { offsets, first, count in
      for i in 0..<count {
        let (left, right) = (x[offsets[0] + i * rows.rowStrides[0]], y[offsets[1] + i * rows.rowStrides[1]])
        target[first + i] = left.utf8.elementsEqual(right.utf8) ? 1 : 0
      }
    }
    return [.tensor(result)]
  }
}

/// A comparison of two elements. Anything compared with NaN is false.
package enum ComparisonFunction: Sendable, CaseIterable {
  case equal, less, lessOrEqual, greater, greaterOrEqual

  /// Known values: 1 or 0, or unknown.
  func compare(_ a: Dim, _ b: Dim) -> Dim {
    // An extent, even if not known, is no negative number.
    if let x = a.known, x < 0, b.isSurelyNonNegative { return self == .less || self == .lessOrEqual ? 1 : 0 }
    if let y = b.known, y < 0, a.isSurelyNonNegative { return self == .greater || self == .greaterOrEqual ? 1 : 0 }
    guard let x = a.known, let y = b.known else {
      switch self {
      case .equal, .lessOrEqual, .greaterOrEqual: return a.isSame(as: b) ? 1 : .unknown
      case .less, .greater: return a.isSame(as: b) ? 0 : .unknown
      }
    }
    return switch self {
    case .equal: x == y ? 1 : 0
    case .less: x < y ? 1 : 0
    case .lessOrEqual: x <= y ? 1 : 0
    case .greater: x > y ? 1 : 0
    case .greaterOrEqual: x >= y ? 1 : 0
    }
  }

  /// The loops for an element type, which write one byte of 0 or 1 an element; nil if there are none.
  package func loops(_ type: DataType) throws(OperatorError) -> BinaryLoops? {
    switch self {
    case .greater: return try ComparisonFunction.less.loops(type).map(ComparisonFunction.swapped)
    case .greaterOrEqual: return try ComparisonFunction.lessOrEqual.loops(type).map(ComparisonFunction.swapped)
    default: break
    }
    guard let plain = definition(type) else { return nil }
    let kernel = kernel(type)
    return try KernelCandidate<ElementFacts, BinaryLoops>.choose(
      .elementwise, type: type,
      [.plain { plain }, .vectors("vectors", types: []) { kernel.map { Elementwise.comparing($0) } }])
  }

  /// The loops of the definition, without C kernels.
  package func definition(_ type: DataType) -> BinaryLoops? {
    switch self {
    case .greater: return ComparisonFunction.less.definition(type).map(ComparisonFunction.swapped)
    case .greaterOrEqual: return ComparisonFunction.lessOrEqual.definition(type).map(ComparisonFunction.swapped)
    default: break
    }
    switch type {
    case .float16, .bfloat16:
      return FloatCodec(type).flatMap { codec in
        definition(.float32).map { Elementwise.narrow(codec, outputWidth: 1, $0) }
      }
    case .float32: return all(Float.self, 4)
    case .float64: return all(Double.self, 8)
    case .bool where self == .equal:
      return Elementwise.spreadingScalars(
        Elementwise.test { (a: UInt8, b: UInt8) in (a == 0) == (b == 0) }, widths: (1, 1, 1))
    case .int8: return all(Int8.self, 1)
    case .int16: return all(Int16.self, 2)
    case .int32: return all(Int32.self, 4)
    case .int64: return all(Int64.self, 8)
    case .uint8: return all(UInt8.self, 1)
    case .uint16: return all(UInt16.self, 2)
    case .uint32: return all(UInt32.self, 4)
    case .uint64: return all(UInt64.self, 8)
    default: return nil
    }
  }

  private func all<T: Comparable & BitwiseCopyable & Sendable>(_ type: T.Type, _ width: Int) -> BinaryLoops {
    let loop: BinaryLoop =
      switch self {
      case .equal: Elementwise.test { (a: T, b: T) in a == b }
      case .less: Elementwise.test { (a: T, b: T) in a < b }
      default: Elementwise.test { (a: T, b: T) in a <= b }
      }
    return Elementwise.spreadingScalars(loop, widths: (width, width, 1))
  }

  /// The C kernel of equal, less or lessOrEqual.
  private func kernel(_ type: DataType) -> CompareKernel? {
    let k = apus_kernels().pointee
    func of(_ less: CompareKernel, _ lessOrEqual: CompareKernel, _ equal: CompareKernel) -> CompareKernel {
      self == .less ? less : self == .lessOrEqual ? lessOrEqual : equal
    }
    return switch type {
    case .float32: of(k.lt_f32, k.le_f32, k.eq_f32)
    case .float64: of(k.lt_f64, k.le_f64, k.eq_f64)
    case .float16: of(k.lt_f16, k.le_f16, k.eq_f16)
    case .bfloat16: of(k.lt_bf16, k.le_bf16, k.eq_bf16)
    case .int8: of(k.lt_i8, k.le_i8, k.eq_i8)
    case .int16: of(k.lt_i16, k.le_i16, k.eq_i16)
    case .int32: of(k.lt_i32, k.le_i32, k.eq_i32)
    case .int64: of(k.lt_i64, k.le_i64, k.eq_i64)
    case .uint8: of(k.lt_u8, k.le_u8, k.eq_i8)
    case .uint16: of(k.lt_u16, k.le_u16, k.eq_i16)
    case .uint32: of(k.lt_u32, k.le_u32, k.eq_i32)
    case .uint64: of(k.lt_u64, k.le_u64, k.eq_i64)
    case .bool: k.eq_bool
    default: nil
    }
  }

  /// The same comparison with its operands in each other's place.
  private static func swapped(_ loops: BinaryLoops) -> BinaryLoops {
    BinaryLoops(
      both: { a, b, y, count in loops.both(b, a, y, count) },
      scalarB: { a, b, y, count in loops.scalarA(b, a, y, count) },
      scalarA: { a, b, y, count in loops.scalarB(b, a, y, count) })
  }
}

/// A kernel that compares two operands, as `kernels.inc` lists them.
typealias CompareKernel =
  @convention(c) (Int, UnsafeRawPointer, UnsafeRawPointer, UnsafeMutablePointer<UInt8>, apus_operands) -> Void

extension Elementwise {
  /// The loops of a kernel that compares.
  static func comparing(_ kernel: @escaping CompareKernel) -> BinaryLoops {
    func loop(_ operands: apus_operands) -> BinaryLoop {
      { a, b, y, count in kernel(count, a, b, y.assumingMemoryBound(to: UInt8.self), operands) }
    }
    return BinaryLoops(both: loop(APUS_BOTH_MOVE), scalarB: loop(APUS_ONE_B), scalarA: loop(APUS_ONE_A))
  }
}
