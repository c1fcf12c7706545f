// Random inputs that a model can digest: floats around 0, small whole numbers, ones for masks.

import Apus
import ApusGraph
import ApusOperators
import ApusTensor
import ArgumentParser

/// A seeded source of inputs.
struct RandomInputs {
  private var numbers: SplitMix64

  /// More are no trial of a model, but a slip of an extent. A gigabyte of float32.
  private static let maximumElements = 1 << 28

  init(seed: UInt64) { numbers = SplitMix64(seed: seed) }

  /// Uniform in [0, 1).
  private mutating func unit() -> Double { numbers.unit() }

  private static let gather = OperatorID("Gather")
  private static let cast = OperatorID("Cast")

  /// By input: the number of rows of the smallest table that its elements are positions in.
  static func indexBounds(in graph: Graph) -> [String: Int] {
    var bounds: [String: Int] = [:]
    var sources = Dictionary(graph.inputs.map { ($0, graph[$0].name) }) { first, _ in first }
    for node in graph.nodes {
      guard node.inputs.count > 0, let first = node.inputs[0] else { continue }
      // What is about Gather is so on purpose: it is how models look up rows by the positions that they are given.
      if node.op == gather, node.inputs.count > 1, let indices = node.inputs[1], let name = sources[indices],
        let shape = graph.fact(first).tensor?.shape,
        let axis = try? resolveAxis(node.attributes.int("axis") ?? 0, rank: shape.count),
        let rows = shape[axis].known
      {
        bounds[name] = min(bounds[name] ?? Int.max, rows)
      }
      // Positions stay positions where they are moved, and in another type.
      let traits = OperatorRegistry.standard.definition(of: node.op)?.schema.traits ?? []
      if traits.contains(.movesData) || node.op == cast, let output = node.outputs.first ?? nil {
        sources[output] = sources[first]
      }
    }
    return bounds
  }

  /// The symbolic extents of the inputs that have a value.
  static func extents(_ inputs: [ValueDescription], in values: [String: Value]) -> [String: Int] {
    var extents: [String: Int] = [:]
    for input in inputs {
      guard let shape = values[input.name]?.tensor?.shape, let dims = input.dimensions, dims.count == shape.rank else {
        continue
      }
      for (dim, size) in zip(dims, shape) where dim != "?" { extents[dim] = size }
    }
    return extents
  }

  /// A value of the declared type; symbolic extents are those of `extents`, else 1. Integers are below `bound` where
  /// there is one, else below 10. `isDropped` says that only the state of the source counts; then what has no random
  /// values is no error.
  mutating func value(
    for input: ValueDescription, extents: [String: Int], bound: Int?, isDropped: Bool
  ) throws -> Value? {
    guard let type = input.dataType, let dims = input.dimensions else {
      if isDropped { return nil }
      throw InputError(
        "input '\(input.name)' is \(input.type): random values need a tensor of known rank; give --input")
    }
    let shape = Shape(dims.map { Int($0) ?? extents[$0] ?? 1 })
    guard let count = shape.checkedElementCount else {
      throw InputError("input '\(input.name)' is \(input.type), which is no size of a tensor")
    }
    guard count <= RandomInputs.maximumElements else {
      throw InputError(
        "input '\(input.name)' is \(input.type); random values are for at most \(RandomInputs.maximumElements) "
          + "elements; give --input, or other extents by --dim or --shape")
    }
    // The elements twice, while they are made a tensor; a short string takes 16 bytes.
    let (bytes, overflow) = count.multipliedReportingOverflow(by: type == .string ? 32 : max(2, type.bits / 4))
    try MemoryRoom.require(overflow ? nil : bytes, for: "--random: input '\(input.name)' (\(input.type))")
    if isDropped, !RandomInputs.hasValues(type) { return nil }
    return .tensor(try tensor(type, shape, count: count, name: input.name.lowercased(), bound: bound ?? 10))
  }

  private static func hasValues(_ type: DataType) -> Bool {
    switch type {
    case .float32, .float64, .float16, .bfloat16, .int64, .int32, .int16, .int8, .uint8, .uint16, .uint32, .uint64,
      .bool,
      .string:
      true
    default: false
    }
  }

  private mutating func tensor(_ type: DataType, _ shape: Shape, count: Int, name: String, bound: Int) throws -> Tensor
  {
    // Masks and lengths of ones keep attention and sequences in their usual range; other integers stay small indices.
    let isMask = name.contains("mask")
    let isLength = name == "sr" || name.contains("len")
    func small(_ random: Double) -> Int { isMask || isLength ? 1 : Int(random * Double(bound)) }
    switch type {
    case .float32: return Tensor((0..<count).map { _ in Float(unit() * 2 - 1) }, shape: shape)
    case .float64: return Tensor((0..<count).map { _ in unit() * 2 - 1 }, shape: shape)
    case .float16: return Tensor((0..<count).map { _ in Float16(unit() * 2 - 1) }, shape: shape)
    case .bfloat16: return Tensor((0..<count).map { _ in BFloat16(Float(unit() * 2 - 1)) }, shape: shape)
    case .int64: return Tensor((0..<count).map { _ in Int64(small(unit())) }, shape: shape)
    case .int32: return Tensor((0..<count).map { _ in Int32(clamping: small(unit())) }, shape: shape)
    case .int16: return Tensor((0..<count).map { _ in Int16(clamping: small(unit())) }, shape: shape)
    case .int8: return Tensor((0..<count).map { _ in Int8(Int(unit() * 256) - 128) }, shape: shape)
    case .uint8: return Tensor((0..<count).map { _ in UInt8(unit() * 256) }, shape: shape)
    case .uint16: return Tensor((0..<count).map { _ in UInt16(clamping: small(unit())) }, shape: shape)
    case .uint32: return Tensor((0..<count).map { _ in UInt32(clamping: small(unit())) }, shape: shape)
    case .uint64: return Tensor((0..<count).map { _ in UInt64(small(unit())) }, shape: shape)
    case .bool: return Tensor((0..<count).map { _ in isMask || unit() < 0.5 }, shape: shape)
    case .string: return Tensor(strings: (0..<count).map { _ in "s\(small(unit()))" }, shape: shape)
    default: throw InputError("input '\(name)' is of type \(type), for which there are no random values; give --input")
    }
  }
}
