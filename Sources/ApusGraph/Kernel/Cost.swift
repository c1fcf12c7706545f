// What work costs and how it divides into parts: estimates from shapes alone, never measurements.

/// What one item of work costs, an element or a row or a tile: operations and bytes.
///
/// Two fixed rates make a time of it, those of one usual core. They are never measured: parts must be the same on every
/// machine, at any number of threads and under any load.
package struct Cost: Sendable, Hashable {
  /// Simple operations, of which a core does some side by side: a multiply-add of a matrix product counts as two.
  package let operations: Int
  /// Bytes that are moved: what is copied, counted where it is read and where it is written, and weights and tables,
  /// which come from memory. What the step before has just written lies in a cache, and reading it is an operation.
  package let bytes: Int

  /// Negative numbers count as 0.
  package init(operations: Int = 0, bytes: Int = 0) {
    (self.operations, self.bytes) = (Swift.max(operations, 0), Swift.max(bytes, 0))
  }

  /// A float32 product of matrices does about 50 on one core with vectors of 256 bits, short loops much fewer.
  private static let operationsPerNanosecond = 32
  /// Between the outer cache of a core and its registers.
  private static let bytesPerNanosecond = 16
  /// What a part must take to be worth handing to a thread: that costs some microseconds if the thread has slept.
  private static let worthwhileNanoseconds = 16_384

  /// The time of one core. Operations and bytes overlap.
  package var nanoseconds: Int {
    Swift.max(operations / Cost.operationsPerNanosecond, bytes / Cost.bytesPerNanosecond)
  }

  /// The same in full, to compare.
  package var time: Double {
    Swift.max(
      Double(operations) / Double(Cost.operationsPerNanosecond), Double(bytes) / Double(Cost.bytesPerNanosecond))
  }

  /// How many parts of a worthwhile time this is; 0 for less than one.
  package var worthwhileParts: Int { nanoseconds / Cost.worthwhileNanoseconds }

  /// The fewest items of this cost that are worth a part.
  package var itemsPerPart: Int {
    let operationsPerPart = Cost.worthwhileNanoseconds * Cost.operationsPerNanosecond
    let bytesPerPart = Cost.worthwhileNanoseconds * Cost.bytesPerNanosecond
    return Swift.max(
      1, Swift.min(operationsPerPart / Swift.max(operations, 1), bytesPerPart / Swift.max(bytes, 1)))
  }
}

// MARK: - Usual costs

extension Cost {
  /// An element that is loaded, worked on in a few instructions and stored.
  package static let light = Cost(operations: 8)
  /// An element of a polynomial or a division, or one that is visited more than once.
  package static let medium = Cost(operations: 32)
  /// An element of a call into the C library, or of a search in a table.
  package static let heavy = Cost(operations: 128)

  /// Bytes that are read in one place and written in another.
  package static func copying(bytes: Int) -> Cost { Cost(bytes: bytes) * 2 }
}

// MARK: - Arithmetic

extension Cost {
  /// The cost of `count` such items. What no integer holds is the largest one.
  package static func * (cost: Cost, count: Int) -> Cost {
    Cost(operations: product(cost.operations, count), bytes: product(cost.bytes, count))
  }

  /// Both, one after the other. What no integer holds is the largest one.
  package static func + (a: Cost, b: Cost) -> Cost {
    Cost(operations: sum(a.operations, b.operations), bytes: sum(a.bytes, b.bytes))
  }

  private static func product(_ amount: Int, _ count: Int) -> Int {
    let (result, overflow) = amount.multipliedReportingOverflow(by: Swift.max(count, 0))
    return overflow ? .max : result
  }

  private static func sum(_ a: Int, _ b: Int) -> Int {
    let (result, overflow) = a.addingReportingOverflow(b)
    return overflow ? .max : result
  }
}

/// Splits `count` equal items into parts; depends on the count and the cost of an item, so on shapes, and on nothing
/// else.
package struct Partition: Sendable {
  /// Enough for the cores of one processor, few enough to be counted down quickly by one.
  package static let maximumParts = 64

  package let count: Int
  package let parts: Int
  package let itemsPerPart: Int

  /// Parts that are worth a thread each.
  ///
  /// - Parameters:
  ///   - cost: of one item.
  ///   - tile: the fewest items of a part, where items of one part share what they read.
  ///   - maximumParts: where something else than the cost of the items bounds the parts, as other axes that are divided
  ///     too or the memory that each part needs.
  package init(_ count: Int, of cost: Cost, tile: Int = 1, maximumParts: Int = Partition.maximumParts) {
    self.init(count, fewest: Swift.max(tile, cost.itemsPerPart), maximumParts: maximumParts)
  }

  /// Parts of at least `sumLength` items, each of which gives a sum or another partial result that a later phase puts
  /// together. Where such sums begin decides the bits of the result, so the length is part of the operator: no cost,
  /// and the same number from one version to the next.
  package init(_ count: Int, sumLength: Int) {
    self.init(count, fewest: sumLength, maximumParts: Partition.maximumParts)
  }

  private init(_ count: Int, fewest: Int, maximumParts: Int) {
    self.count = count
    let wanted = Swift.max(1, Swift.min(maximumParts, count / Swift.max(fewest, 1)))
    itemsPerPart = Swift.max(1, Partition.quotientRoundedUp(count, wanted))
    parts = Swift.max(1, Partition.quotientRoundedUp(count, itemsPerPart))
  }

  /// Without a sum that could overflow.
  private static func quotientRoundedUp(_ count: Int, _ divisor: Int) -> Int {
    count / divisor + (count % divisor > 0 ? 1 : 0)
  }

  /// The items of one part; empty if there are none.
  package func range(_ part: Int) -> Range<Int> {
    let start = Swift.min(part &* itemsPerPart, count)
    return start..<start &+ Swift.min(itemsPerPart, count &- start)
  }
}
