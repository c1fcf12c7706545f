// Random convolutions and pools for tests, and the two ways to run them.

import ApusGraph
import ApusOperators
import ApusTensor
import ApusTestSupport
import Testing

/// Numbers that look random and are the same every time.
struct Dice {
  private var state: UInt64

  init(_ seed: Int) { state = UInt64(truncatingIfNeeded: seed) &* 0x9E37_79B9_7F4A_7C15 &+ 0x1234_5678 }

  mutating func roll(_ range: ClosedRange<Int>) -> Int {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return range.lowerBound + Int(state >> 33) % range.count
  }

  mutating func rolls(_ count: Int, _ range: ClosedRange<Int>) -> [Int] { (0..<count).map { _ in roll(range) } }
}

/// The attributes of a window, and the extents of an input that it fits into.
struct RandomWindow {
  let kernel: [Int]
  let extents: [Int]
  private(set) var attributes: [(String, AttributeValue)]

  init(_ dice: inout Dice, rank: Int, isPool: Bool = false) {
    let kernel = dice.rolls(rank, 1...4)
    let dilations = dice.rolls(rank, 1...2)
    self.kernel = kernel
    extents = (0..<rank).map { (kernel[$0] - 1) * dilations[$0] + dice.roll(1...(rank < 3 ? 12 : 4)) }
    attributes = [("strides", .ints(dice.rolls(rank, 1...3))), ("dilations", .ints(dilations))]
    switch dice.roll(0...3) {
    case 0: attributes.append(("auto_pad", .string(["SAME_UPPER", "SAME_LOWER", "VALID"][dice.roll(0...2)])))
    case 1: break
    default:
      let pads = (0..<2 * rank).map { axis in dice.roll(0...(isPool ? kernel[axis % rank] - 1 : 2)) }
      attributes.append(("pads", .ints(pads)))
    }
  }
}

/// Runs an operator with the micro-kernels on one and on three threads, which must give the same bits, and without
/// them.
func fastAndGeneral(_ run: OperatorRun, _ inputs: [Tensor?], outputs: Int = 1) throws -> (
  fast: [Tensor], general: [Tensor]
) {
  let values = inputs.map { $0.map { Value.tensor($0) } }
  let fast = try run(values, outputs: outputs).compactMap(\.tensor)
  var threaded = run
  threaded.threads = 3
  for (one, three) in zip(fast, try threaded(values, outputs: outputs).compactMap(\.tensor)) {
    #expect(bytes(one) == bytes(three), "\(run.op): the bits depend on the number of threads")
  }
  let general = try KernelSelection.$current.withValue(.plain) {
    try run(values, outputs: outputs).compactMap(\.tensor)
  }
  return (fast, general)
}

func bytes(_ tensor: Tensor) -> [UInt8] { tensor.withUnsafeBytes { Array($0) } }

/// A float32 tensor in another type.
func cast(_ tensor: Tensor, to type: DataType) throws -> Tensor {
  try OperatorRun("Cast", attributes: [("to", .int(Int(type.rawValue)))])(tensor)[0]
}

/// The same images with channels last, or first again.
func channelsLast(_ tensor: Tensor) throws -> Tensor {
  try OperatorRun("Transpose", attributes: [("perm", .ints([0] + Array(2..<tensor.rank) + [1]))])(tensor)[0]
}
func channelsFirst(_ tensor: Tensor) throws -> Tensor {
  try OperatorRun("Transpose", attributes: [("perm", .ints([0, tensor.rank - 1] + Array(1..<tensor.rank - 1)))])(
    tensor)[0]
}

func expectClose(_ a: Tensor, _ b: Tensor, tolerance: Float = 1e-4, _ what: String) {
  #expect(largestDifference(a, b) <= tolerance, "\(what): \(a.shape) and \(b.shape)")
}
