// What work takes: the number that choices and divisions of work are made by.

/// Work in operations, a multiply-add as two, and in bytes that are read and written.
package struct Cost: Sendable, Hashable {
  package var operations: Int
  package var bytes: Int

  package init(operations: Int, bytes: Int) { (self.operations, self.bytes) = (operations, bytes) }
}
