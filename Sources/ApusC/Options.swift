// Versions, and the options of a model.

import Apus
import CApus

private let version = CText(ApusVersion.text)

@c @implementation
public func apus_api_version() -> Int32 { APUS_API_VERSION }

@c @implementation
public func apus_version() -> UnsafePointer<CChar>? { version.pointer }

@c @implementation
public func apus_set_seed(_ seed: Int64) { _ = attempt { Model.setSeed(Int(seed)) } }

@c @implementation
public func apus_options_create() -> OpaquePointer? { OptionsHandle().owned }

@c @implementation
public func apus_options_release(_ options: OpaquePointer?) { OptionsHandle.release(options) }

/// Changes options, or says why not.
private func change(_ options: OpaquePointer?, _ body: (inout ModelOptions) throws -> Void) -> OpaquePointer? {
  attempt { try body(&OptionsHandle.at(options, "options").options) }
}

@c @implementation
public func apus_options_set_threads(_ options: OpaquePointer?, _ threads: Int32) -> OpaquePointer? {
  change(options) { options in
    guard (0...1024).contains(threads) else { throw ArgumentError("threads is \(threads); expected 0 to 1024") }
    options.threads = threads == 0 ? nil : Int(threads)
  }
}

@c @implementation
public func apus_options_set_engine(_ options: OpaquePointer?, _ engine: OpaquePointer?) -> OpaquePointer? {
  change(options) { $0.engine = EngineHandle.at(engine)?.engine }
}

@c @implementation
public func apus_options_set_priority(_ options: OpaquePointer?, _ priority: Int32) -> OpaquePointer? {
  change(options) { options in
    guard let priority = RunPriority(rawValue: Int(priority)) else {
      throw ArgumentError("priority is \(priority); expected -1 (background), 0 (normal) or 1 (high)")
    }
    options.priority = priority
  }
}

@c @implementation
public func apus_options_set_optimize(_ options: OpaquePointer?, _ optimize: Bool) -> OpaquePointer? {
  change(options) { $0.optimization.isEnabled = optimize }
}

@c @implementation
public func apus_options_disable_pass(_ options: OpaquePointer?, _ name: UnsafePointer<CChar>?) -> OpaquePointer? {
  change(options) { $0.optimization.disabledPasses.insert(try text(name, "name")) }
}

@c @implementation
public func apus_options_set_dimension(
  _ options: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ size: Int64
) -> OpaquePointer? {
  change(options) { options in
    guard size >= 0 else { throw ArgumentError("size is \(size); expected 0 or more") }
    options.dimensions[try text(name, "name")] = Int(size)
  }
}

@c @implementation
public func apus_options_set_shape(
  _ options: OpaquePointer?, _ name: UnsafePointer<CChar>?, _ shape: UnsafePointer<Int64>?, _ rank: Int
) -> OpaquePointer? {
  change(options) { $0.shapes[try text(name, "name")] = try checkedShape(shape, rank) }
}

@c @implementation
public func apus_options_add_output(_ options: OpaquePointer?, _ name: UnsafePointer<CChar>?) -> OpaquePointer? {
  change(options) { $0.extraOutputs.append(try text(name, "name")) }
}

@c @implementation
public func apus_options_override_initializer(_ options: OpaquePointer?, _ name: UnsafePointer<CChar>?)
  -> OpaquePointer?
{
  change(options) { $0.overridableInitializers.insert(try text(name, "name")) }
}

@c @implementation
public func apus_options_set_maximum_run_memory(_ options: OpaquePointer?, _ byteCount: UInt64) -> OpaquePointer? {
  change(options) { $0.limits.maximumRunMemory = Int(clamping: byteCount) }
}

@c @implementation
public func apus_options_set_map_files(_ options: OpaquePointer?, _ mapFiles: Bool) -> OpaquePointer? {
  change(options) { $0.mapsFiles = mapFiles }
}

@c @implementation
public func apus_options_set_precision(_ options: OpaquePointer?, _ name: UnsafePointer<CChar>?) -> OpaquePointer? {
  change(options) { options in
    let name = try text(name, "name")
    guard let precision = ModelOptions.Precision(rawValue: name) else {
      throw ArgumentError("precision is '\(name)'; expected f32 or bf16")
    }
    options.precision = precision
  }
}

@c @implementation
public func apus_options_set_profiling(_ options: OpaquePointer?, _ profiling: Bool) -> OpaquePointer? {
  attempt { try OptionsHandle.at(options, "options").isProfiling = profiling }
}
