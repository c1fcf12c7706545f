// Engines: threads and memory that models share.

import Apus
import CApus

@c @implementation
public func apus_engine_create(
  _ threads: Int32, _ memoryBudget: UInt64, _ engine: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(engine) {
    guard (0...1024).contains(threads) else { throw ArgumentError("threads is \(threads); expected 0 to 1024") }
    return EngineHandle(
      Engine(
        threads: threads == 0 ? nil : Int(threads), memoryBudget: memoryBudget == 0 ? nil : Int(clamping: memoryBudget),
        named: "memory_budget")
    )
  }
}

@c @implementation
public func apus_engine_release(_ engine: OpaquePointer?) { EngineHandle.release(engine) }

@c @implementation
public func apus_engine_thread_count(_ engine: OpaquePointer?) -> Int32 {
  Int32(clamping: EngineHandle.at(engine)?.engine.threads ?? 0)
}

@c @implementation
public func apus_engine_memory_budget(_ engine: OpaquePointer?) -> UInt64 {
  UInt64(EngineHandle.at(engine)?.engine.memoryBudget ?? 0)
}

@c @implementation
public func apus_engine_memory_in_use(_ engine: OpaquePointer?) -> UInt64 {
  UInt64(clamping: EngineHandle.at(engine)?.engine.memoryBytes ?? 0)
}
