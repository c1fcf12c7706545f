// Random convolutional networks with everything that ties channels together.

import ApusGraph
import ApusTensor
import ApusTestSupport

/// Draws small networks over images [n, 3, 8, 8] that end in ten numbers.
struct RandomNetwork {
  private var random: TestRandom
  private let builder = GraphBuilder()

  init(seed: Int) { random = TestRandom(seed: UInt64(seed + 1)) }

  static let imageShape: Shape = [2, 3, 8, 8]

  mutating func graph() throws -> Graph {
    var x = builder.input("image", [.symbol("n"), 3, 8, 8])
    x = try conv(x, pick(8, 12, 16), kernel: 3)
    for _ in 0..<(3 + random.below(5)) { x = try block(x) }
    builder.output(try head(x))
    return builder.graph
  }

  private mutating func pick<Element>(_ choices: Element...) -> Element { choices[random.below(choices.count)] }

  private func channels(_ value: ValueID) -> Int { builder.shape(value)?[1].known ?? 0 }

  private mutating func conv(_ x: ValueID, _ outputs: Int, kernel: Int = 1, groups: Int = 1) throws -> ValueID {
    let weights = builder.weights([outputs, channels(x) / groups, kernel, kernel])
    let bias: ValueID? = random.below(3) > 0 ? builder.weights([outputs]) : nil
    var y = try builder.node(
      "Conv", [x, weights, bias],
      [("group", .int(groups)), ("pads", .ints([Int](repeating: kernel / 2, count: 4)))])
    if random.below(2) == 0 { y = try normalization(y) }
    return random.below(4) > 0 ? try activation(y) : y
  }

  private mutating func normalization(_ x: ValueID) throws -> ValueID {
    let count = channels(x)
    let variance = builder.constant((0..<count).map { 0.5 + Float($0 % 5) * 0.2 }, [count])
    return try builder.node(
      "BatchNormalization",
      [x, builder.weights([count]), builder.weights([count]), builder.weights([count]), variance])
  }

  private mutating func activation(_ x: ValueID) throws -> ValueID {
    switch random.below(5) {
    case 0: try builder.node("PRelu", [x, builder.weights([channels(x), 1, 1])])
    case 1: try builder.node("Clip", [x, builder.constant([-0.5 as Float], []), builder.constant([2 as Float], [])])
    case 2: try builder.node("HardSwish", [x])
    case 3: try builder.node("Sigmoid", [x])
    default: try builder.node("Relu", [x])
    }
  }

  private mutating func block(_ x: ValueID) throws -> ValueID {
    let count = channels(x)
    switch random.below(10) {
    case 0:
      let y = try conv(try conv(x, pick(6, 8, 10), kernel: 3), count)
      return try builder.node("Add", [x, y])
    case 1: return try builder.node("Concat", [x, conv(x, pick(1, 4, 6)), conv(x, 5, kernel: 3)], [("axis", .int(1))])
    case 2: return try conv(try conv(x, count, kernel: 3, groups: count), pick(8, 12))
    case 3: return try conv(try conv(x, 2 * count, kernel: 3, groups: count), pick(8, 12))
    case 4:
      let wide = try conv(x, 12)
      return try conv(wide, 12, kernel: 3, groups: pick(2, 3, 4))
    case 5: return try squeeze(x)
    case 6: return try split(x)
    case 7: return try shuffle(x)
    case 8:
      let last = try builder.node("Transpose", [x], [("perm", .ints([0, 2, 3, 1]))])
      let product = try builder.node("MatMul", [last, builder.weights([count, 9])])
      let shifted = try builder.node("Add", [product, builder.weights([9])])
      return try builder.node("Transpose", [shifted], [("perm", .ints([0, 3, 1, 2]))])
    default:
      let padded = try builder.node(
        "Pad", [x, builder.constant([0, 0, 1, 1, 0, 0, 1, 1] as [Int64], [8])])
      return try builder.node(
        pick("MaxPool", "AveragePool"), [padded], [("kernel_shape", .ints([3, 3])), ("strides", .ints([1, 1]))])
    }
  }

  private mutating func squeeze(_ x: ValueID) throws -> ValueID {
    let mean = try builder.node("GlobalAveragePool", [x])
    let inner = try conv(mean, 4)
    let gate = try builder.node(
      "Sigmoid", [builder.node("Conv", [inner, builder.weights([channels(x), 4, 1, 1])])])
    return try builder.node("Mul", [x, gate])
  }

  private mutating func split(_ x: ValueID) throws -> ValueID {
    let wide = try conv(x, 12)
    let sizes = builder.constant([3, 5, 4] as [Int64], [3])
    let parts = try builder.apply(
      OperatorID("Split"), name: "split\(builder.graph.nodes.count)", [wide, sizes], [("axis", .int(1))], outputCount: 3
    )
    let begin = builder.constant([2] as [Int64], [1])
    let end = builder.constant([-1] as [Int64], [1])
    let cut = try builder.node("Slice", [wide, begin, end, builder.constant([1] as [Int64], [1])])
    return try builder.node("Concat", [parts[2], cut, parts[0]], [("axis", .int(1))])
  }

  /// The channels of groups in turn, as ShuffleNet has them.
  private mutating func shuffle(_ x: ValueID) throws -> ValueID {
    let wide = try conv(x, 12)
    let apart = try builder.node("Reshape", [wide, builder.constant([0, 3, 4, 8, 8] as [Int64], [5])])
    let turned = try builder.node("Transpose", [apart], [("perm", .ints([0, 2, 1, 3, 4]))])
    let joined = try builder.node("Reshape", [turned, builder.constant([0, -1, 8, 8] as [Int64], [4])])
    return try conv(joined, 12, kernel: 3, groups: 3)
  }

  private mutating func head(_ x: ValueID) throws -> ValueID {
    let flat: ValueID
    switch random.below(3) {
    case 0: flat = try builder.node("Flatten", [builder.node("GlobalAveragePool", [x])])
    case 1: flat = try builder.node("Flatten", [x])
    default: flat = try builder.node("Reshape", [x, builder.constant([0, -1] as [Int64], [2])])
    }
    let width = builder.shape(flat)?[1].known ?? 0
    let hidden = try builder.node(
      "Gemm", [flat, builder.weights([14, width]), builder.weights([14])], [("transB", .int(1))])
    let seen = try builder.node("Relu", [hidden])
    let scores = try builder.node("MatMul", [seen, builder.weights([14, 10])])
    return try builder.node("Add", [scores, builder.weights([10])])
  }
}
