// A TensorFlow Lite model while it is written: tensors, operators, buffers and names, as numbers into lists.

import ApusContainers
import ApusGraph
import ApusTensor

/// The options of an operator by their places in the schema, in the forms that the schema has.
struct TFLiteOptions {
  enum Value {
    case int(Int)
    case byte(Int)
    case flag(Bool)
    case real(Float)
    case ints([Int])
  }
  var fields: [(place: Int, value: Value)]

  init(_ fields: [(Int, Value)]) { self.fields = fields.map { (place: $0.0, value: $0.1) } }

  static let none = TFLiteOptions([])
}

/// A file with one subgraph.
struct TFLiteDraft {
  struct Tensor {
    var name: String
    var type: DataType
    var shape: [Int]
    /// The shape with -1 where an extent is not fixed; nil if all are.
    var signature: [Int]?
    /// 0: none.
    var buffer = 0
    var quantization: TFLiteQuantization?
    var isVariable = false
  }

  struct Operator {
    var code: Int
    /// -1: left out.
    var inputs: [Int]
    var outputs: [Int]
    var options: TFLiteOptions
  }

  /// An operator of the schema in one version.
  struct Code: Hashable {
    var kind: String
    var version: Int
  }

  private(set) var tensors: [Tensor] = []
  private(set) var operators: [Operator] = []
  private(set) var codes: [Code] = []
  /// The elements of each buffer but the first, which is empty.
  private(set) var buffers: [ApusTensor.Tensor] = []
  private var buffersByDigest: [Digest: [Int]] = [:]
  private var names: Set<String> = []

  private struct Digest: Hashable {
    var byteCount: Int
    var digest: UInt64
  }

  // MARK: - Tensors

  /// A tensor of extents that are numbers or symbols.
  mutating func addTensor(
    _ name: String, _ type: DataType, _ dims: [Dim], quantization: TFLiteQuantization? = nil
  ) -> Int {
    let shape = dims.map { Self.extent($0) }
    let isFixed = dims.allSatisfy { $0.known != nil }
    tensors.append(
      Tensor(
        name: unique(name), type: type, shape: shape, signature: isFixed ? nil : dims.map { $0.known ?? -1 },
        quantization: quantization))
    return tensors.count - 1
  }

  /// A tensor that the interpreter keeps from run to run.
  mutating func addVariable(_ name: String, _ type: DataType, _ dims: [Dim]) -> Int {
    let place = addTensor(name, type, dims)
    tensors[place].isVariable = true
    return place
  }

  /// A tensor of elements that never change. The same elements lie in the file once.
  mutating func addConstant(
    _ name: String, _ elements: ApusTensor.Tensor, quantization: TFLiteQuantization? = nil
  ) -> Int {
    tensors.append(
      Tensor(
        name: unique(name), type: elements.dataType, shape: elements.shape.dims, buffer: buffer(elements),
        quantization: quantization))
    return tensors.count - 1
  }

  mutating func quantize(_ tensor: Int, _ quantization: TFLiteQuantization) {
    tensors[tensor].quantization = quantization
  }

  /// An extent with one for every symbol, as files have it before somebody asks for another.
  private static func extent(_ dim: Dim) -> Int {
    if let known = dim.known { return known }
    let ones = Dictionary(dim.symbols.map { ($0, Dim(1)) }, uniquingKeysWith: { first, _ in first })
    return max(dim.substituting(ones).known ?? 1, 1)
  }

  private mutating func unique(_ name: String) -> String {
    let base = name.isEmpty ? "value" : name
    var unique = base
    var number = 2
    while !names.insert(unique).inserted {
      unique = "\(base)_\(number)"
      number += 1
    }
    return unique
  }

  private mutating func buffer(_ elements: ApusTensor.Tensor) -> Int {
    if elements.byteCount == 0 { return 0 }
    let digest = Digest(byteCount: elements.byteCount, digest: Self.digest(elements))
    for known in buffersByDigest[digest] ?? [] where Self.isSame(buffers[known - 1], elements) { return known }
    buffers.append(elements)
    buffersByDigest[digest, default: []].append(buffers.count)
    return buffers.count
  }

  /// FNV-1a over the bytes. Equal digests prove nothing.
  private static func digest(_ elements: ApusTensor.Tensor) -> UInt64 {
    elements.withByteSpan { bytes in
      var digest: UInt64 = 0xcbf2_9ce4_8422_2325
      // Wraps, as the sum is defined.
      for index in bytes.indices { digest = (digest ^ UInt64(bytes[index])) &* 0x100_0000_01b3 }
      return digest
    }
  }

  private static func isSame(_ a: ApusTensor.Tensor, _ b: ApusTensor.Tensor) -> Bool {
    a.withByteSpan { first in
      b.withByteSpan { second in
        first.count == second.count && first.indices.allSatisfy { first[$0] == second[$0] }
      }
    }
  }

  // MARK: - Operators

  mutating func addOperator(
    _ kind: String, version: Int, _ inputs: [Int?], _ outputs: [Int], _ options: TFLiteOptions
  ) {
    let code = Code(kind: kind, version: version)
    let place = codes.firstIndex(of: code) ?? codes.count
    if place == codes.count { codes.append(code) }
    operators.append(Operator(code: place, inputs: inputs.map { $0 ?? -1 }, outputs: outputs, options: options))
  }

  /// How often each operator occurs.
  var census: [String: Int] {
    operators.reduce(into: [:]) { $0[codes[$1.code].kind, default: 0] += 1 }
  }
}
