// The extents and memory layouts of scaled dot-product attention, and which keys a query sees.

import ApusGraph
import ApusTensor

/// One attention: `batch` × `queryHeads` matrices of queries against `keyHeads` matrices of keys and values.
struct AttentionGeometry: Sendable {
  /// Element (b, h, i, d) lies at `b * batch + h * head + i * row + d`.
  struct Layout: Sendable {
    var batch: Int
    var head: Int
    var row: Int

    /// [batch, heads, length, size].
    static func byHead(heads: Int, length: Int, size: Int) -> Layout {
      Layout(batch: heads * length * size, head: length * size, row: size)
    }
    /// [batch, length, heads * size].
    static func byPosition(heads: Int, length: Int, size: Int) -> Layout {
      Layout(batch: length * heads * size, head: size, row: heads * size)
    }
  }

  var batch: Int
  var queryHeads: Int
  var keyHeads: Int
  var queries: Int
  /// Keys of the past and of this call together.
  var keys: Int
  var size: Int
  var valueSize: Int
  var query: Layout
  var key: Layout
  var value: Layout
  var result: Layout

  /// Query heads that share a head of keys.
  var group: Int { max(1, queryHeads / max(keyHeads, 1)) }
}

/// Which keys a query may see by its position, apart from any mask.
struct KeyRange: Sendable {
  var isCausal = false
  /// nil: no limit on that side.
  var left: Int?
  var right: Int?
  /// Keys before the first query; nil: by batch, the number of valid keys less that of queries.
  var offset: Int? = 0
  var hasValidCounts = false

  /// The keys that query `index` sees, of `keys`; `valid` is the number of keys of this batch that are no padding.
  @inline(__always) func callAsFunction(query index: Int, queries: Int, keys: Int, valid: Int) -> Range<Int> {
    let position = index &+ (offset ?? valid &- queries)
    var (low, high) = (0, hasValidCounts ? min(keys, valid) : keys)
    if isCausal { high = min(high, position &+ 1) }
    if let right { high = min(high, position.addingReportingOverflow(right).overflow ? high : position &+ right &+ 1) }
    if let left { low = max(low, position.subtractingReportingOverflow(left).overflow ? low : position &- left) }
    low = min(max(low, 0), keys)
    return low..<max(low, min(high, keys))
  }
}

/// An additive mask that broadcasts to [batch, heads, queries, keys], its last axis perhaps shorter than the keys.
struct AttentionMask: Sendable {
  let batchStride: Int
  let headStride: Int
  let rowStride: Int
  /// Keys from here on are masked, also where the mask has one column only.
  let length: Int

  init(_ shape: Shape, _ geometry: AttentionGeometry) throws(OperatorError) {
    guard shape.rank >= 1, shape.rank <= 4 else {
      throw .mismatch("attn_mask has the shape \(shape); expected 1 to 4 axes")
    }
    let extents = [Int](repeating: 1, count: 4 - shape.rank) + shape.dims
    let targets = [geometry.batch, geometry.queryHeads, geometry.queries]
    for (extent, target) in zip(extents, targets) where extent != 1 && extent != target {
      throw .mismatch(
        "attn_mask has the shape \(shape), which does not broadcast to \(Shape(targets + [geometry.keys]))")
    }
    guard extents[3] <= geometry.keys else {
      throw .mismatch("attn_mask has \(extents[3]) columns for \(geometry.keys) keys")
    }
    let strides = Shape(extents).strides
    batchStride = extents[0] == 1 ? 0 : strides[0]
    headStride = extents[1] == 1 ? 0 : strides[1]
    rowStride = extents[2] == 1 ? 0 : strides[2]
    length = extents[3]
  }

  /// The elements for the keys of one query.
  @inline(__always) func row(batch: Int, head: Int, query: Int) -> Int {
    batch &* batchStride &+ head &* headStride &+ query &* rowStride
  }
}
