// Memory that eager kernels take beside their outputs, within the limits of the run.

import ApusGraph

extension EagerContext {
  /// Throws if `count` items of `bytes` each are beyond the limits. Extents of tensors without elements may be of any size, so
  /// what is made an item an extent is checked even where there is nothing in the tensor.
  func check(_ count: Int, itemsOf bytes: Int) throws(OperatorError) {
    let (total, overflow) = count.multipliedReportingOverflow(by: bytes)
    if overflow { throw OperatorError(.limit, "\(count) items of \(bytes) bytes are more than there is memory") }
    try check(allocating: total)
  }
}
