package final class CancellationFlag: Sendable { package var isCancelled: Bool { false } }
package final class WorkerPool: Sendable {
  package init(threads: Int) {}
  package var threadCount: Int { 1 }
  package func run(parts: Int, cancellation: CancellationFlag? = nil, _ body: (Int) -> Void) { for p in 0..<max(parts,0) { body(p) } }
}
package struct ArenaPlanner { package struct Block { package init(size: Int, firstUse: Int, lastUse: Int) { s = size }; let s: Int }
  package static func plan(_ b: [Block]) -> (offsets: [Int], size: Int)? { var o: [Int] = []; var t = 0; for x in b { o.append(t); t += (x.s + 63) & ~63 }; return (o, t) } }
