// The reductions: every operator and type against plain sums, fast against general paths, empty sets, threads.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#else
  import Musl
#endif

private let names = [
  "ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
  "ReduceLogSum", "ReduceLogSumExp",
]

/// A reduction of numbers as its definition says.
private func plain(_ name: String, _ x: [Double]) -> Double {
  let sum = x.reduce(0, +)
  let squares = x.reduce(0) { $0 + $1 * $1 }
  return switch name {
  case "ReduceSum": sum
  case "ReduceMean": sum / Double(x.count)
  case "ReduceMax": x.reduce(-.infinity) { max($0, $1) }
  case "ReduceMin": x.reduce(.infinity) { min($0, $1) }
  case "ReduceProd": x.reduce(1, *)
  case "ReduceL1": x.reduce(0) { $0 + abs($1) }
  case "ReduceL2": squares.squareRoot()
  case "ReduceSumSquare": squares
  case "ReduceLogSum": log(sum)
  default: log(x.reduce(0) { $0 + exp($1) })
  }
}

private func cast(_ tensor: Tensor, _ type: DataType) throws -> Tensor {
  try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(tensor)[0]
}

private func run(_ name: String, _ input: Tensor, _ axes: [Int]?, keepDims: Bool = true, noop: Bool = false) throws
  -> Tensor
{
  let attributes: [(String, AttributeValue)] = [
    ("keepdims", .int(keepDims ? 1 : 0)), ("noop_with_empty_axes", .int(noop ? 1 : 0)),
  ]
  let inputs: [Value?] = [.tensor(input)] + (axes.map { [.tensor(Tensor($0))] } ?? [])
  return try OperatorRun(name, attributes: attributes)(inputs)[0].tensor!
}

@Suite struct ReductionTests {
  @Test(arguments: names, [DataType.float32, .float64, .float16, .bfloat16, .int32, .int64, .uint32, .uint64])
  func againstThePlainForm(_ name: String, _ type: DataType) throws {
    // Small whole numbers and halves, which every type sums without rounding; positive for logarithms.
    let isInteger = type.isInteger
    let shape: Shape = [2, 3, 5, 4]
    let numbers = (0..<120).map { index -> Double in
      let value = name == "ReduceProd" ? Double(index * 7 % 2 + 1) : Double(index * 37 % 11)
      return isInteger || name == "ReduceProd" ? value : value / 2
    }
    let input = try cast(Tensor(numbers, shape: shape), type)
    for axes in [[3], [0], [1, 2], [0, 2], [1, 3], [0, 1, 2, 3], [2]] {
      if name == "ReduceProd", axes.count > 1 { continue }
      let result = try run(name, input, axes, keepDims: false)
      let kept = shape.indices.filter { !axes.contains($0) }
      #expect(result.shape == Shape(kept.map { shape[$0] }))
      #expect(result.dataType == type)
      let found = try cast(result, .float64).elements(as: Double.self)!
      for (index, value) in found.enumerated() {
        let at = coordinates(index, result.shape)
        let folded = numbers.indices.filter { item in
          let source = coordinates(item, shape)
          return zip(kept, at).allSatisfy { source[$0] == $1 }
        }
        var expected = plain(name, folded.map { numbers[$0] })
        if isInteger { expected.round(.towardZero) }
        let tolerance = type == .bfloat16 ? 8e-3 : type == .float16 ? 1e-3 : 1e-6
        #expect(
          abs(value - expected) <= tolerance * max(1, abs(expected)), "\(axes) at \(at): \(value), not \(expected)")
      }
    }
  }

  @Test(arguments: names, [DataType.float32, .float16, .float64])
  func fastAndGeneral(_ name: String, _ type: DataType) throws {
    for (shape, axes) in [
      ([70_001], [0]), ([3, 40_003], [1]), ([20_001, 7], [0]), ([5, 1031, 33], [1]), ([17, 3, 29], [0, 2]),
    ]
      as [(Shape, [Int])]
    {
      var numbers = sampleTensor(shape, seed: 3).elements(as: Float.self)!
      if name == "ReduceLogSum" { numbers = numbers.map { abs($0) } }
      if name == "ReduceProd" { numbers = numbers.map { 1 + $0 * 0x1p-10 } }
      let input = try cast(Tensor(numbers, shape: shape), type)
      let fast = try cast(run(name, input, axes), .float64).elements(as: Double.self)!
      let general = try KernelSelection.$current.withValue(.plain) {
        try cast(run(name, input, axes), .float64).elements(as: Double.self)!
      }
      for (a, b) in zip(fast, general) {
        #expect(abs(a - b) <= (type == .float16 ? 2e-3 : 1e-4) * max(1, abs(b)), "\(shape) \(axes)")
      }
    }
  }

  @Test(arguments: names) func threadsDoNotMatter(_ name: String) throws {
    for (shape, axes) in [([300_001], [0]), ([100_003, 3], [0]), ([4, 999, 65], [1])] as [(Shape, [Int])] {
      var one = OperatorRun(name)
      one.threads = 1
      var three = one
      three.threads = 3
      let input = sampleTensor(shape, seed: 5)
      #expect(atoms(try one(input, Tensor(axes))[0]) == atoms(try three(input, Tensor(axes))[0]))
    }
  }

  @Test func emptySets() throws {
    let empty = Tensor([Float](), shape: [2, 0, 3])
    let expected: [Float] = [0, .nan, -.infinity, .infinity, 1, 0, 0, 0, -.infinity, -.infinity]
    for (name, value) in zip(names, expected) {
      let result = try run(name, empty, [1])
      #expect(result.shape == [2, 1, 3])
      #expect(result.elements(as: Float.self)!.allSatisfy { $0 == value || ($0.isNaN && value.isNaN) }, "\(name)")
      #expect(try run(name, empty, [0]).shape == [1, 0, 3])
    }
    let none = Tensor([Int32](), shape: [0])
    #expect(try run("ReduceMax", none, nil).elements(as: Int32.self) == [Int32.min])
    #expect(try run("ReduceMin", Tensor([Bool](), shape: [0]), nil).elements(as: Bool.self) == [true])
  }

  @Test func noAxes() throws {
    let input = Tensor([Float(4), 9], shape: [2])
    for (name, expected) in [("ReduceSum", [4, 9]), ("ReduceSumSquare", [16, 81]), ("ReduceL2", [4, 9])]
      as [(String, [Float])]
    {
      for axes in [nil, [Int]()] {
        #expect(try run(name, input, axes, noop: true).elements(as: Float.self) == expected)
        #expect(try run(name, input, axes).shape == [1])
      }
    }
    #expect(try run("ReduceSum", Tensor(scalar: Float(3)), nil).elements(as: Float.self) == [3])
    #expect(throws: (any Error).self) { try run("ReduceSum", input, [1]) }
    #expect(throws: (any Error).self) { try run("ReduceSum", input, [0, -1]) }
  }

  @Test func specialValues() throws {
    let nan = Tensor([Float(1), .nan, 2], shape: [3])
    for name in ["ReduceMax", "ReduceMin"] {
      for selection in [KernelSelection.cheapest, .plain] {
        let result = try KernelSelection.$current.withValue(selection) { try run(name, nan, [0]) }
        #expect(result.elements(as: Float.self)![0].isNaN)
      }
    }
    let infinite = Tensor([Float.infinity, 1, -.infinity, -.infinity], shape: [2, 2])
    #expect(try run("ReduceLogSumExp", infinite, [1]).elements(as: Float.self) == [.infinity, -.infinity])
    #expect(try run("ReduceSum", Tensor([Int32.max, 1]), [0]).elements(as: Int32.self) == [Int32.min])
    #expect(try run("ReduceMax", Tensor([UInt64.max, 1]), [0]).elements(as: UInt64.self) == [UInt64.max])
    #expect(try run("ReduceMean", Tensor([Int32(-3), -4]), [0]).elements(as: Int32.self) == [-3])
    #expect(try run("ReduceMin", Tensor([Int8(-3), 4, -128]), [0]).elements(as: Int8.self) == [-128])
  }

  @Test func sumsAreAccurate() throws {
    let count = 3_000_000
    let tenths = Tensor([Float](repeating: 0.1, count: count), shape: [count])
    let expected = Float(0.1) * Float(count)
    for shape in [[count, 1], [count / 8, 8]] as [Shape] {
      for selection in [KernelSelection.cheapest, .plain] {
        let result = try KernelSelection.$current.withValue(selection) {
          try run("ReduceMean", tenths.reshaped(to: shape), [0])
        }
        for value in result.elements(as: Float.self)! {
          #expect(abs(value * Float(count) - expected) <= expected * 1e-5)
        }
      }
    }
  }
}
