// The arena planner: no overlap, alignment, bounds, and how close it comes to the least possible arena.

import ApusRuntime
import Testing

/// A small generator with a fixed sequence, so that failures repeat.
private struct Random: RandomNumberGenerator {
  var state: UInt64
  init(_ seed: UInt64) { state = seed &* 0x9E37_79B9_7F4A_7C15 | 1 }
  mutating func next() -> UInt64 {
    // xorshift64*; wrapping is the algorithm.
    state ^= state >> 12
    state ^= state << 25
    state ^= state >> 27
    return state &* 0x2545_F491_4F6C_DD1D
  }
}

private typealias Block = ArenaPlanner.Block

/// Checks every promise of a plan by comparing all pairs.
private func expectValid(
  _ plan: ArenaPlanner.Plan, _ blocks: [Block], alignment: Int = 64, _ location: SourceLocation = #_sourceLocation
) {
  #expect(plan.offsets.count == blocks.count, sourceLocation: location)
  #expect(plan.size >= plan.lowerBound && plan.size % alignment == 0, sourceLocation: location)
  var violations = 0
  for (i, a) in blocks.enumerated() {
    if plan.offsets[i] % alignment != 0 || plan.offsets[i] < 0 || plan.offsets[i] + a.size > plan.size {
      violations += 1
    }
    if a.size == 0 { continue }
    for (j, b) in blocks.enumerated().dropFirst(i + 1) where b.size > 0 {
      let together = a.firstUse <= b.lastUse && b.firstUse <= a.lastUse
      let apart = plan.offsets[i] + a.size <= plan.offsets[j] || plan.offsets[j] + b.size <= plan.offsets[i]
      if together && !apart { violations += 1 }
    }
  }
  #expect(violations == 0, sourceLocation: location)
}

/// Blocks as a transformer makes them: a residual stream, attention and feed-forward intermediates, scratch, a few
/// values that live to the end.
private func transformer(layers: Int, random: inout Random) -> [Block] {
  let tokens = Int.random(in: 1...512, using: &random)
  let width = 64 * Int.random(in: 1...16, using: &random)
  let heads = Int.random(in: 1...16, using: &random)
  let stream = tokens * width * 4
  var blocks: [Block] = [Block(size: tokens * 4, firstUse: 0, lastUse: layers * 12)]
  for layer in 0..<layers {
    let t = layer * 12
    blocks += [
      Block(size: stream, firstUse: t, lastUse: t + 6),
      Block(size: stream, firstUse: t + 1, lastUse: t + 4),
      Block(size: stream, firstUse: t + 2, lastUse: t + 4),
      Block(size: stream, firstUse: t + 3, lastUse: t + 5),
      Block(size: heads * tokens * tokens * 4, firstUse: t + 4, lastUse: t + 5),
      Block(size: stream, firstUse: t + 5, lastUse: t + 6),
      Block(size: stream, firstUse: t + 6, lastUse: t + 10),
      Block(size: stream, firstUse: t + 7, lastUse: t + 8),
      Block(size: 4 * stream, firstUse: t + 8, lastUse: t + 9),
      Block(size: stream, firstUse: t + 9, lastUse: t + 10),
      Block(size: Int.random(in: 0...100_000, using: &random), firstUse: t + 8, lastUse: t + 8),
    ]
    if Int.random(in: 0..<8, using: &random) == 0 {
      blocks.append(Block(size: stream / heads, firstUse: t + 3, lastUse: layers * 12))
    }
  }
  return blocks
}

/// Blocks as a convolutional network makes them: sizes that fall with depth, skip connections, and long skips of a
/// U-Net.
private func convolutional(layers: Int, random: inout Random) -> [Block] {
  var blocks: [Block] = []
  var side = 224
  var channels = 32
  for layer in 0..<layers {
    if layer % max(layers / 5, 1) == 0 && side > 7 { (side, channels) = (side / 2, channels * 2) }
    let size = side * side * channels * 4
    let skip = Int.random(in: 0..<3, using: &random)
    blocks.append(Block(size: size, firstUse: layer, lastUse: layer + 1 + skip))
    if Int.random(in: 0..<4, using: &random) == 0 {
      blocks.append(Block(size: size * 4, firstUse: layer, lastUse: layer + 1))
    }
    if Int.random(in: 0..<3, using: &random) == 0 {
      blocks.append(Block(size: Int.random(in: 64...size, using: &random), firstUse: layer, lastUse: layer))
    }
    if Int.random(in: 0..<16, using: &random) == 0 {
      blocks.append(Block(size: size, firstUse: layer, lastUse: max(layer, layers - layer)))
    }
  }
  return blocks
}

@Suite struct ArenaPlannerTests {
  @Test func randomBlocksNeverOverlap() throws {
    for seed in 0..<300 {
      var random = Random(UInt64(seed))
      let steps = Int.random(in: 1...60, using: &random)
      let longest = Int.random(in: 0...steps, using: &random)
      let largest = [1, 100, 10_000, 1 << 30].randomElement(using: &random)!
      let blocks = (0..<Int.random(in: 0...120, using: &random)).map { _ in
        let first = Int.random(in: -steps...steps, using: &random)
        return Block(
          size: Int.random(in: 0...largest, using: &random), firstUse: first,
          lastUse: first + Int.random(in: 0...longest, using: &random))
      }
      let alignment = [1, 64, 4096].randomElement(using: &random)!
      expectValid(try #require(ArenaPlanner.plan(blocks, alignment: alignment)), blocks, alignment: alignment)
    }
  }

  @Test func manyBlocksWithFewOverlaps() throws {
    var random = Random(7)
    let blocks = (0..<1500).map { _ in
      let first = Int.random(in: 0...1500, using: &random)
      return Block(
        size: Int.random(in: 1...100_000, using: &random), firstUse: first,
        lastUse: first + Int.random(in: 0...20, using: &random))
    }
    let plan = try #require(ArenaPlanner.plan(blocks))
    expectValid(plan, blocks)
    #expect(ArenaPlanner.plan(blocks) == plan)
  }

  @Test func networksComeCloseToTheBound() throws {
    for seed in 0..<40 {
      var random = Random(UInt64(seed) + 1000)
      let layers = Int.random(in: 2...60, using: &random)
      for blocks in [transformer(layers: layers, random: &random), convolutional(layers: layers * 3, random: &random)] {
        let plan = try #require(ArenaPlanner.plan(blocks))
        expectValid(plan, blocks)
        #expect(Double(plan.size) <= 1.15 * Double(plan.lowerBound), "seed \(seed), \(blocks.count) blocks")
      }
    }
  }

  @Test func nothingAndBlocksWithoutSize() throws {
    let nothing = try #require(ArenaPlanner.plan([]))
    #expect(nothing.offsets.isEmpty && nothing.size == 0 && nothing.lowerBound == 0)
    let empty = [Block](repeating: Block(size: 0, firstUse: 3, lastUse: 9), count: 4)
    let plan = try #require(ArenaPlanner.plan(empty))
    #expect(plan.size == 0 && plan.offsets == [0, 0, 0, 0])
    let mixed = try #require(ArenaPlanner.plan(empty + [Block(size: 100, firstUse: 4, lastUse: 4)]))
    #expect(mixed.size == 128 && mixed.lowerBound == 128)
  }

  @Test func identicalLifetimesAreStacked() throws {
    let blocks = (1...200).map { Block(size: $0, firstUse: 5, lastUse: 5) }
    let plan = try #require(ArenaPlanner.plan(blocks))
    expectValid(plan, blocks)
    #expect(plan.size == plan.lowerBound)
    #expect(plan.lowerBound == blocks.reduce(0) { $0 + ($1.size + 63) / 64 * 64 })
  }

  @Test func chainsReuseMemory() throws {
    let chain = (0..<100).map { Block(size: 1000, firstUse: $0, lastUse: $0 + 1) }
    let plan = try #require(ArenaPlanner.plan(chain))
    expectValid(plan, chain)
    #expect(plan.size == 2048)
    let apart = (0..<100).map { Block(size: 1000, firstUse: 2 * $0, lastUse: 2 * $0 + 1) }
    #expect(ArenaPlanner.plan(apart)?.size == 1024)
  }

  @Test func extremeStepsAreOnlyCompared() throws {
    let blocks = [
      Block(size: 64, firstUse: .min, lastUse: .max), Block(size: 64, firstUse: .min, lastUse: .min),
      Block(size: 64, firstUse: .max, lastUse: .max),
    ]
    let plan = try #require(ArenaPlanner.plan(blocks))
    expectValid(plan, blocks)
    #expect(plan.size == 128)
  }

  @Test func absurdBlocksAreRefused() {
    #expect(ArenaPlanner.plan([Block(size: .max, firstUse: 0, lastUse: 0)]) == nil)
    let half = Block(size: 1 << 62, firstUse: 0, lastUse: 0)
    #expect(ArenaPlanner.plan([half])?.size == 1 << 62)
    #expect(ArenaPlanner.plan([half, half]) == nil)
    let fine = Block(size: 1, firstUse: 0, lastUse: 0)
    #expect(ArenaPlanner.plan([fine, Block(size: -1, firstUse: 0, lastUse: 0)]) == nil)
    #expect(ArenaPlanner.plan([fine, Block(size: 1, firstUse: 1, lastUse: 0)]) == nil)
    #expect(ArenaPlanner.plan([fine, fine], limit: 127) == nil)
    #expect(ArenaPlanner.plan([fine, fine], limit: 128)?.size == 128)
  }

  /// The order that was good for some sizes serves others, and is looked for anew where it does not.
  @Test func schedulesServeOtherSizes() throws {
    var random = Random(11)
    var (followed, count) = (0, 0)
    for _ in 0..<40 {
      var blocks = transformer(layers: Int.random(in: 1...6, using: &random), random: &random)
      var schedule: ArenaPlanner.Schedule?
      for _ in 0..<8 {
        let former = schedule
        let plan = try #require(ArenaPlanner.plan(blocks, slack: 1 / 16, following: &schedule))
        expectValid(plan, blocks)
        let searched = try #require(ArenaPlanner.plan(blocks, slack: 1 / 16))
        #expect(plan.lowerBound == searched.lowerBound)
        // Never worse than a search by more than the slack.
        #expect(plan.size <= max(searched.size, plan.lowerBound + plan.lowerBound / 16))
        if former != nil {
          count += 1
          if schedule === former { followed += 1 }
        }
        let (numerator, denominator) = (Int.random(in: 1...5, using: &random), Int.random(in: 1...5, using: &random))
        for index in blocks.indices where index % 3 > 0 {
          blocks[index].size = max(1, blocks[index].size * numerator / denominator)
        }
      }
    }
    #expect(followed * 2 > count)
  }

  @Test func schedulesAreForTheirLifetimesOnly() throws {
    let blocks = (0..<20).map { Block(size: 100 + $0, firstUse: $0, lastUse: $0 + 3) }
    var schedule: ArenaPlanner.Schedule?
    _ = ArenaPlanner.plan(blocks, following: &schedule)
    var others = blocks
    others[4].lastUse = 19
    others[7].size = 0
    for changed in [
      others, Array(blocks.dropLast()), blocks.map { Block(size: 0, firstUse: $0.firstUse, lastUse: 30) },
    ] {
      var former = schedule
      let plan = try #require(ArenaPlanner.plan(changed, following: &former))
      expectValid(plan, changed)
      #expect(plan == ArenaPlanner.plan(changed))
    }
    let huge = blocks.map { Block(size: .max - 1, firstUse: $0.firstUse, lastUse: $0.lastUse) }
    #expect(ArenaPlanner.plan(huge, following: &schedule) == nil)
  }
}
