// Costs that no integer holds, and parts that cover their items once.

import ApusGraph
import Testing

@Suite struct CostTests {
  @Test func amountsAreNeverNegative() {
    #expect(Cost(operations: -1, bytes: .min) == Cost())
    #expect(Cost(operations: 3, bytes: 5) * -2 == Cost())
  }

  @Test func arithmetic() {
    #expect(Cost(operations: 3, bytes: 5) * 4 + Cost(operations: 1) == Cost(operations: 13, bytes: 20))
    #expect(Cost.copying(bytes: 7) == Cost(bytes: 14))
    let most = Cost(operations: .max, bytes: .max)
    #expect(Cost.light * .max + Cost.copying(bytes: .max) == most)
    #expect(Cost(operations: 1 << 40, bytes: 1 << 50) * (1 << 40) * 0 == Cost())
    #expect(most + most == most)
  }

  @Test func operationsAndBytesOverlap() {
    let (work, traffic) = (Cost(operations: 1 << 20), Cost(bytes: 1 << 20))
    #expect((work + traffic).nanoseconds == max(work.nanoseconds, traffic.nanoseconds))
    #expect((work * 64 + traffic).itemsPerPart == (work * 64).itemsPerPart)
    #expect((work * 64).worthwhileParts == 64 * work.worthwhileParts)
  }

  /// As many items as a part is worth have the time of one, at any cost of an item.
  @Test(arguments: [Cost.light, .medium, .heavy, .copying(bytes: 4), Cost(operations: 700, bytes: 90)])
  func itemsOfAPartAreWorthIt(_ cost: Cost) {
    let items = cost.itemsPerPart
    #expect(items > 1)
    #expect((cost * (items + 1)).worthwhileParts == 1)
    #expect((cost * (items / 2)).worthwhileParts == 0)
  }

  @Test func itemsAreWorthAPartWhateverTheyCost() {
    #expect(Cost(operations: .max).itemsPerPart == 1)
    #expect(Cost(bytes: .max).itemsPerPart == 1)
    #expect(Cost().itemsPerPart > 1 << 16)
  }
}

@Suite struct PartitionTests {
  private static let costs = [Cost(), .light, .medium, .heavy * 100, Cost(operations: .max, bytes: .max)]

  /// Every item is in one part, parts are in order, and none is empty unless all are.
  @Test(arguments: costs) func partsCoverTheirItemsOnce(_ cost: Cost) {
    for count in [0, 1, 2, 63, 64, 65, 1000, 65_537, 1 << 20, 1 << 40, Int.max - 1, Int.max] {
      for (tile, most) in [(1, Partition.maximumParts), (100, 7), (.max, 64), (1, 1), (0, 0)] {
        let partition = Partition(count, of: cost, tile: tile, maximumParts: most)
        #expect(partition.parts >= 1 && partition.parts <= max(most, 1))
        var end = 0
        for part in 0..<partition.parts {
          let range = partition.range(part)
          #expect(range.lowerBound == end && (!range.isEmpty || count == 0))
          end = range.upperBound
        }
        #expect(end == count)
      }
    }
  }

  @Test func cheapItemsShareAPart() {
    #expect(Partition(20_000, of: .light).parts == 1)
    #expect(Partition(20_000, of: .heavy).parts == 4)
    #expect(Partition(20_000, of: .heavy * 1_000_000).parts > 32)
    #expect(Partition(3, of: Cost(operations: .max)).parts == 3)
  }

  @Test func aTileIsNotDivided() {
    let partition = Partition(100, of: Cost(operations: .max), tile: 32)
    #expect(partition.parts == 3)
    #expect(partition.itemsPerPart == 34)
  }

  /// These numbers are part of what losses and quantized tensors are.
  @Test func sumsBeginWhereTheirLengthSays() {
    #expect(Partition(32_767, sumLength: 16_384).parts == 1)
    #expect(Partition(32_768, sumLength: 16_384).range(1) == 16_384..<32_768)
    #expect(Partition(100_000, sumLength: 16_384).itemsPerPart == 16_667)
    #expect(Partition(1 << 30, sumLength: 16_384).parts == 64)
  }
}
