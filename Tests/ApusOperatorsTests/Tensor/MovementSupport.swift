// What the tests of operators that move elements share: tensors of any type, and their elements as comparable text.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

/// Every type that operators which move elements take.
let movedTypes: [DataType] = DataType.allCases.filter { ![.float6e2m3, .float6e3m2].contains($0) }

/// The types up to IR 4 and bfloat16, which the older operators take.
let basicTypes: [DataType] = movedTypes.filter { !$0.isPacked && !$0.description.hasPrefix("float8") }

/// A tensor of any type whose elements differ where they can.
func anyTensor(_ type: DataType, _ shape: Shape, seed: Int = 1) -> Tensor {
  let count = shape.elementCount
  if type == .string { return Tensor(strings: (0..<count).map { "\(seed):\($0)" }, shape: shape) }
  let tensor = Tensor(zeros: type, shape: shape)
  let bytes = tensor.storage.base.assumingMemoryBound(to: UInt8.self)
  for index in 0..<tensor.byteCount {
    let mixed = UInt32(truncatingIfNeeded: index &+ seed &* 7919) &* 2_654_435_761
    bytes[index] = type == .bool ? UInt8(mixed >> 31) : UInt8(truncatingIfNeeded: mixed >> 13)
  }
  // The unused bits of a last byte are 0.
  let used = count * type.bits % 8
  if type.isPacked, used > 0 { bytes[tensor.byteCount - 1] &= UInt8(1 << used) - 1 }
  return tensor
}

/// Each element as text: its bits, or the string.
func atoms(_ tensor: Tensor) -> [String] {
  if let strings = tensor.strings { return strings }
  return tensor.withUnsafeBytes { bytes in
    (0..<tensor.count).map { index in
      if tensor.dataType.isPacked {
        let base = bytes.baseAddress!
        return String(PackedElements.load(base, bits: tensor.dataType.bits, at: index), radix: 16)
      }
      let width = tensor.dataType.byteWidth
      return bytes[index * width..<(index + 1) * width].map { String($0, radix: 16) }.joined(separator: ".")
    }
  }
}

/// The text of a zero of a type.
func zeroAtom(_ type: DataType) -> String {
  type == .string ? "" : type.isPacked ? "0" : [String](repeating: "0", count: type.byteWidth).joined(separator: ".")
}

/// The coordinates of the element `index` of a shape.
func coordinates(_ index: Int, _ shape: Shape) -> [Int] {
  zip(shape.strides, shape).map { index / $0 % max($1, 1) }
}

/// The position of coordinates in a shape.
func position(_ coordinates: [Int], _ shape: Shape) -> Int {
  zip(coordinates, shape.strides).reduce(0) { $0 + $1.0 * $1.1 }
}

/// Checks that `result` has the shape, and that each of its elements is the one of `source` that `from` names; nil:
/// zero.
func expectMoved(
  _ result: Tensor, _ source: Tensor, shape: Shape, sourceLocation: SourceLocation = #_sourceLocation,
  from: ([Int]) -> [Int]?
) {
  #expect(result.shape == shape, sourceLocation: sourceLocation)
  #expect(result.dataType == source.dataType, sourceLocation: sourceLocation)
  guard result.shape == shape else { return }
  let given = atoms(source)
  let expected = (0..<shape.elementCount).map { index in
    from(coordinates(index, shape)).map { given[position($0, source.shape)] } ?? zeroAtom(source.dataType)
  }
  #expect(atoms(result) == expected, sourceLocation: sourceLocation)
}

/// Runs an operator by its fast and by its general path, and on several threads, and checks that the bytes are the
/// same.
func runEveryWay(_ run: OperatorRun, _ inputs: Tensor?..., outputs: Int = 1) throws -> [Tensor] {
  func results(threads: Int) throws -> [Tensor] {
    var run = run
    run.threads = threads
    return try run(inputs.map { $0.map { .tensor($0) } }, outputs: outputs).compactMap(\.tensor)
  }
  let fast = try results(threads: 1)
  let parallel = try results(threads: 3)
  let general = try KernelSelection.$current.withValue(.plain) { try results(threads: 1) }
  for index in fast.indices {
    #expect(atoms(fast[index]) == atoms(general[index]), "output \(index): fast and general path")
    #expect(atoms(fast[index]) == atoms(parallel[index]), "output \(index): one thread and three")
  }
  return fast
}
