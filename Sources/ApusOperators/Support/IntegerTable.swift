// A table of integers for the inner loops of encoders: a look-up is a product and, mostly, one comparison.

/// What stands for each of some integers. Immutable once made.
///
/// Open addressing with linear probing; at most half of the places are taken. The hash is drawn anew for each table, so
/// that no model can choose keys that collide.
///
/// `@unchecked Sendable`: the memory is written by the initialiser only.
final class IntegerTable: @unchecked Sendable {
  private struct Entry {
    var key: UInt64
    /// Negative: the place is free.
    var value: Int
  }

  private let entries: UnsafeMutableBufferPointer<Entry>
  private let mask: Int
  private let multiplier = UInt64.random(in: .min ... .max) | 1
  private let seed = UInt64.random(in: .min ... .max)

  /// Of a key that is there twice the later value stands. Values are not negative.
  init(_ pairs: some Collection<(key: UInt64, value: Int)>) {
    var capacity = 16
    while capacity < 2 * pairs.count { capacity *= 2 }
    mask = capacity - 1
    entries = .allocate(capacity: capacity)
    entries.initialize(repeating: Entry(key: 0, value: -1))
    for (key, value) in pairs { entries[place(of: key)] = Entry(key: key, value: value) }
  }

  deinit { entries.deallocate() }

  /// The place of a key, or the free one where it would stand.
  @inline(__always)
  private func place(of key: UInt64) -> Int {
    let product = (key ^ seed).multipliedFullWidth(by: multiplier)
    var place = Int(truncatingIfNeeded: product.high ^ product.low) & mask
    while entries[place].value >= 0, entries[place].key != key { place = (place &+ 1) & mask }
    return place
  }

  /// The value of a key; -1 if there is none.
  @inline(__always) subscript(key: UInt64) -> Int { entries[place(of: key)].value }

  @inline(__always) subscript(key: Int) -> Int { self[UInt64(bitPattern: Int64(key))] }
}
