// Running models, and what runs have taken.

import Apus
import ApusGraph
import ApusRuntime
import CApus
import FoundationEssentials

// MARK: - Running

@c @implementation
public func apus_cancellation_create(_ seconds: Double) -> OpaquePointer? {
  // Beyond thirty years no deadline is needed; a NaN is none.
  let timeout: Duration? = seconds > 0 && seconds < 1e9 ? .seconds(seconds) : nil
  return CancellationHandle(CancellationFlag(timeout: timeout)).owned
}

@c @implementation
public func apus_cancellation_cancel(_ cancellation: OpaquePointer?) {
  CancellationHandle.at(cancellation)?.flag.cancel()
}

@c @implementation
public func apus_cancellation_release(_ cancellation: OpaquePointer?) { CancellationHandle.release(cancellation) }

/// Checks the counts of a run, and leaves NULL in the places for its outputs.
private func clear(
  _ outputs: UnsafeMutablePointer<OpaquePointer?>?, _ outputCount: Int, _ inputCount: Int
) throws(ArgumentError) {
  guard inputCount >= 0, outputCount >= 0 else { throw ArgumentError("a count is more than memory can hold") }
  guard outputCount == 0 || outputs != nil else { throw ArgumentError("the place for the outputs is NULL") }
  for index in 0..<outputCount { outputs?[index] = nil }
}

@c @implementation
public func apus_model_run(
  _ model: OpaquePointer?, _ inputNames: UnsafePointer<UnsafePointer<CChar>?>?,
  _ inputs: UnsafePointer<OpaquePointer?>?, _ inputCount: Int,
  _ outputNames: UnsafePointer<UnsafePointer<CChar>?>?, _ outputCount: Int, _ cancellation: OpaquePointer?,
  _ outputs: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  runByName(model, inputNames, inputs, inputCount, outputNames, outputCount, outputs) { handle, values, wanted in
    try handle.model.run(values: values, settings: handle.settings(cancellation), wanted: wanted)
  }
}

@c @implementation
public func apus_model_run_into(
  _ model: OpaquePointer?, _ inputNames: UnsafePointer<UnsafePointer<CChar>?>?,
  _ inputs: UnsafePointer<OpaquePointer?>?, _ inputCount: Int,
  _ outputNames: UnsafePointer<UnsafePointer<CChar>?>?, _ outputCount: Int, _ buffers: UnsafePointer<apus_buffer>?,
  _ cancellation: OpaquePointer?, _ outputs: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  runByName(model, inputNames, inputs, inputCount, outputNames, outputCount, outputs) { handle, values, wanted in
    let targets = try targets(buffers, wanted)
    var results = try handle.model.run(
      values: values, into: targets, settings: handle.settings(cancellation), wanted: wanted)
    for (name, target) in targets {
      guard let base = target.baseAddress, let tensor = results[name]?.tensor else { continue }
      let storage = TensorStorage(base: base, byteCount: target.count, release: nil)
      results[name] = .tensor(Tensor(dataType: tensor.dataType, shape: tensor.shape, storage: storage))
    }
    return results
  }
}

@c @implementation
public func apus_model_run_donating(
  _ model: OpaquePointer?, _ inputNames: UnsafePointer<UnsafePointer<CChar>?>?,
  _ inputs: UnsafeMutablePointer<OpaquePointer?>?, _ donated: UnsafePointer<Bool>?, _ inputCount: Int,
  _ outputNames: UnsafePointer<UnsafePointer<CChar>?>?, _ outputCount: Int, _ cancellation: OpaquePointer?,
  _ outputs: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  /// Gives up the handles that were given away, once each.
  func releaseDonated() {
    guard let inputs, let donated, inputCount > 0 else { return }
    for index in 0..<inputCount where donated[index] {
      let handle = inputs[index]
      for other in index..<inputCount where donated[other] && inputs[other] == handle { inputs[other] = nil }
      ValueHandle.release(handle)
    }
  }
  defer { releaseDonated() }
  return runByName(
    model, inputNames, UnsafePointer(inputs), inputCount, outputNames, outputCount, outputs
  ) { handle, values, wanted in
    var state: [String: Tensor] = [:]
    for index in 0..<inputCount where donated?[index] ?? false {
      let name = try text(inputNames?[index], "the name of input \(index)")
      if let tensor = values[name]?.tensor { state[name] = tensor }
    }
    for name in state.keys { values[name] = nil }
    // From here on the run holds the only references that came from here.
    releaseDonated()
    return try handle.model.run(
      values: values, donating: &state, settings: handle.settings(cancellation), wanted: wanted)
  }
}

/// A run by names: what C passes comes to `body`, and what that returns goes to the places for the outputs.
private func runByName(
  _ model: OpaquePointer?, _ inputNames: UnsafePointer<UnsafePointer<CChar>?>?,
  _ inputs: UnsafePointer<OpaquePointer?>?, _ inputCount: Int,
  _ outputNames: UnsafePointer<UnsafePointer<CChar>?>?, _ outputCount: Int,
  _ outputs: UnsafeMutablePointer<OpaquePointer?>?,
  _ body: (_ handle: ModelHandle, _ values: inout [String: Value], _ wanted: [String]) throws -> [String: Value]
) -> OpaquePointer? {
  attempt {
    try clear(outputs, outputCount, inputCount)
    let handle = try ModelHandle.at(model, "model")
    var values = try inputsByName(inputNames, inputs, inputCount)
    let wanted = try wantedNames(outputNames, outputCount, of: handle)
    let results = try body(handle, &values, wanted)
    for (index, name) in wanted.enumerated() { outputs?[index] = results[name].map { ValueHandle($0).owned } }
  }
}

/// The buffers of a run by the names of their outputs.
private func targets(
  _ buffers: UnsafePointer<apus_buffer>?, _ names: [String]
) throws(ArgumentError) -> [String: UnsafeMutableRawBufferPointer] {
  var targets: [String: UnsafeMutableRawBufferPointer] = [:]
  for (index, name) in names.enumerated() {
    guard let buffers, let data = buffers[index].data else { continue }
    let count = buffers[index].byte_count
    guard count >= 0 else { throw ArgumentError("the buffer for output '\(name)' is larger than memory") }
    let target = UnsafeMutableRawBufferPointer(start: data, count: count)
    guard targets.updateValue(target, forKey: name) == nil else {
      throw ArgumentError("there are two buffers for output '\(name)'")
    }
  }
  return targets
}

/// The values of a run by the names of its inputs.
private func inputsByName(
  _ names: UnsafePointer<UnsafePointer<CChar>?>?, _ inputs: UnsafePointer<OpaquePointer?>?, _ count: Int
) throws(ArgumentError) -> [String: Value] {
  var values: [String: Value] = [:]
  for index in 0..<count {
    let name = try text(names?[index], "the name of input \(index)")
    let value = try ValueHandle.at(inputs?[index], "input '\(name)'").value
    guard values.updateValue(value, forKey: name) == nil else { throw ArgumentError("input '\(name)' is given twice") }
  }
  return values
}

/// The names of the outputs that a run is asked for: all of the model without `names`.
private func wantedNames(
  _ names: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int, of handle: ModelHandle
) throws(ArgumentError) -> [String] {
  var wanted = handle.model.outputs.map(\.name)
  if let names {
    wanted = []
    for index in 0..<count { wanted.append(try text(names[index], "the name of output \(index)")) }
  }
  guard wanted.count == count else {
    throw ArgumentError("there are \(count) places for the \(wanted.count) outputs of the model")
  }
  return wanted
}

@c @implementation
public func apus_model_run_in_order(
  _ model: OpaquePointer?, _ inputs: UnsafePointer<OpaquePointer?>?, _ inputCount: Int,
  _ outputIndices: UnsafePointer<Int>?, _ outputCount: Int, _ cancellation: OpaquePointer?,
  _ outputs: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt {
    try clear(outputs, outputCount, inputCount)
    let handle = try ModelHandle.at(model, "model")
    guard inputCount == handle.inputs.count else {
      throw ArgumentError("\(inputCount) values for the \(handle.inputs.count) inputs of the model")
    }
    guard outputIndices != nil || outputCount == handle.outputs.count else {
      throw ArgumentError("there are \(outputCount) places for the \(handle.outputs.count) outputs of the model")
    }
    let wanted = try outputIndices.map { indices in
      try (0..<outputCount).map { position in
        guard handle.outputs.indices.contains(indices[position]) else {
          throw ArgumentError("output \(indices[position]) was asked for; there are \(handle.outputs.count)")
        }
        return indices[position]
      }
    }
    var values = handle.takeInputs()
    defer { handle.give(&values) }
    values.reserveCapacity(inputCount)
    for index in 0..<inputCount {
      guard let value = ValueHandle.at(inputs?[index]) else { throw ArgumentError("input \(index) is NULL") }
      values.append(value.value)
    }
    let results = try handle.model.run(inOrder: values, wanted: wanted, settings: handle.settings(cancellation))
    for position in results.indices { outputs?[position] = ValueHandle(results[position]).owned }
  }
}

// MARK: - Profiling

@c @implementation
public func apus_model_write_profile(_ model: OpaquePointer?, _ path: UnsafePointer<CChar>?) -> OpaquePointer? {
  attempt {
    guard let profiler = try ModelHandle.at(model, "model").profiler else {
      throw ArgumentError("the model was loaded without profiling; see apus_options_set_profiling")
    }
    let path = try text(path, "path")
    do {
      try ChromeTrace.write(profiler.events, to: path)
    } catch {
      throw ArgumentError("the profile cannot be written to '\(path)': \(error)")
    }
    _ = profiler.take()
  }
}
