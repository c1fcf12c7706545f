// Stands in until the worker pool lands.
package enum Topology { package static func availableProcessorCount() -> Int { 1 } }
package final class CancellationFlag: Sendable { package init(timeout: Duration? = nil) {}; package func cancel() {}; package var isCancelled: Bool { false } }
package final class WorkerPool: Sendable {
  package init(threads: Int) {}
  package var threadCount: Int { 1 }
  @discardableResult package func run(parts: Int, cancellation: CancellationFlag? = nil, _ body: (Int) -> Void) -> Bool { for p in 0..<max(parts,0) { body(p) }; return true }
}
package struct ArenaPlanner { package struct Block { package init(size: Int, firstUse: Int, lastUse: Int) { s = size }; let s: Int }
  package static func plan(_ b: [Block]) -> (offsets: [Int], size: Int)? { var o: [Int] = []; var t = 0; for x in b { o.append(t); t += (x.s + 63) & ~63 }; return (o, t) } }
