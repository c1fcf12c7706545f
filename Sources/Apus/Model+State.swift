// Runs that write over memory of the caller: outputs into given places, results over inputs that were given away.

import ApusGraph
import ApusRuntime
import ApusTensor
import Synchronization

extension Model {
  /// Runs the model on tensors of which it may write over some: the state of a model that a run updates, as a key/value
  /// cache of fixed size, then costs no copy.
  ///
  ///     var state = ["cache": Tensor(zeros: .float32, shape: [1, 8, 2048, 64])]
  ///     for token in tokens {
  ///       let outputs = try model.run(["token": token], donating: consume state)
  ///       state = ["cache": outputs["updated_cache"]!]
  ///     }
  ///
  /// Where a step of the model can write its result over a tensor of `state`, and no later one needs that, it does. A
  /// tensor that somebody else refers to as well (another variable, another dictionary, memory that the library does
  /// not own) is left as it is: giving it away never changes what anybody sees, only what a run costs. So give what you
  /// have with `consume`. What was given away is gone, if the run fails too.
  ///
  /// - Throws: `RunError`, as `run(_:options:)`.
  public func run(
    _ inputs: [String: Tensor], donating state: consuming [String: Tensor], options: RunOptions = RunOptions()
  ) throws(RunError) -> [String: Tensor] {
    try run(inputs, &state, settings: settings(for: options), wanted: options.outputs)
  }

  /// The same when it is its turn, as the asynchronous form of `run(_:options:)`.
  public func run(
    _ inputs: [String: Tensor], donating state: consuming [String: Tensor], options: RunOptions = RunOptions()
  ) async throws(RunError) -> [String: Tensor] {
    let gift = Gift(state)
    return try await inTurn(options: options) { (settings) throws(RunError) in
      var state = gift.take()
      return try self.run(inputs, &state, settings: settings, wanted: options.outputs)
    }
  }

  private func run(
    _ inputs: [String: Tensor], _ state: inout [String: Tensor], settings: RunSettings, wanted: [String]?
  ) throws(RunError) -> [String: Tensor] {
    try run(values: inputs.mapValues { .tensor($0) }, donating: &state, settings: settings, wanted: wanted)
      .compactMapValues(\.tensor)
  }

  /// Runs the model by name on values and on tensors that it may write over, which are taken out of the dictionary.
  package func run(
    values inputs: [String: Value], donating state: inout [String: Tensor], settings: RunSettings, wanted: [String]?
  ) throws(RunError) -> [String: Value] {
    var values = inputs
    for (name, tensor) in state {
      let stand = Tensor(placeholder: tensor.dataType, shape: tensor.shape)
      guard values.updateValue(.tensor(stand), forKey: name) == nil else {
        throw RunError(.invalidInput, "input '\(name)' is given twice")
      }
    }
    var ordered = try checks.ordered(values)
    var donated: [Int] = []
    for (position, input) in self.inputs.enumerated() {
      guard let tensor = state.removeValue(forKey: input.name) else { continue }
      ordered[position] = .tensor(tensor)
      donated.append(position)
    }
    return try run(&ordered, donating: donated, settings: settings, wanted: wanted)
  }

  /// Runs the model and writes outputs into memory of the caller.
  ///
  /// Each buffer must hold exactly the bytes that the output has for these inputs, and must not be touched before the
  /// call returns. Buffers may overlap inputs, but not one another. A buffer that is the very memory of an input is
  /// state to be updated: where the model allows it only what changes is written, and nothing is copied; if the run
  /// fails, what it holds is undefined. Outputs without a buffer are returned as from `run(_:)`; those with one too,
  /// over that memory, for as long as the caller keeps it.
  public func run(
    _ inputs: [String: Tensor], into buffers: [String: UnsafeMutableRawBufferPointer],
    options: RunOptions = RunOptions()
  ) throws(RunError) -> [String: Tensor] {
    try run(
      values: inputs.mapValues { .tensor($0) }, into: buffers, settings: settings(for: options), wanted: options.outputs
    ).compactMapValues(\.tensor)
  }

  /// Runs the model by name and writes outputs into memory of the caller.
  package func run(
    values inputs: [String: Value], into buffers: [String: UnsafeMutableRawBufferPointer], settings: RunSettings,
    wanted: [String]?
  ) throws(RunError) -> [String: Value] {
    var settings = settings
    let lent = LentMemory(inputs: Array(inputs.values))
    var targets = LentMemory(inputs: [])
    var (others, state) = (inputs, [String: Tensor]())
    for (name, buffer) in buffers {
      guard let index = outputNames.firstIndex(of: name), let base = buffer.baseAddress else {
        throw RunError(
          .invalidInput, "there is no output '\(name)'", remedy: "Outputs are: \(outputNames.joined(separator: ", "))")
      }
      guard !targets.contains(base, byteCount: buffer.count) else {
        throw RunError(.invalidInput, "the buffer for output '\(name)' overlaps that of another output")
      }
      targets.add(base, byteCount: buffer.count)
      if wanted?.contains(name) ?? true, let input = others.first(where: { $0.value.lies(in: buffer) })?.key,
        let tensor = others[input]?.tensor
      {
        others[input] = nil
        if !LentMemory(inputs: Array(others.values)).contains(base, byteCount: buffer.count) {
          let storage = TensorStorage(base: base, byteCount: buffer.count, isWritable: true, release: nil)
          state[input] = Tensor(dataType: tensor.dataType, shape: tensor.shape, storage: storage)
          continue
        }
        others[input] = .tensor(tensor)
      }
      // What is still read must not be written: such an output is computed elsewhere and copied at the end.
      if lent.contains(base, byteCount: buffer.count) { continue }
      settings.outputBuffers[graph.outputs[index]] = OutputBuffer(base: base, byteCount: buffer.count)
    }
    var results = try run(values: others, donating: &state, settings: settings, wanted: wanted)
    try settle(&results, in: buffers, targets, settings.memory)
    withExtendedLifetime(inputs) {}
    return results
  }

  /// Copies results to where they are wanted, if they do not lie there.
  private func settle(
    _ results: inout [String: Value], in buffers: [String: UnsafeMutableRawBufferPointer], _ targets: LentMemory,
    _ account: MemoryAccount
  ) throws(RunError) {
    // A result may be a view of one that was computed in its buffer, or lie in the buffer of another one.
    do {
      for (name, value) in results {
        if let buffer = buffers[name], value.lies(in: buffer) { continue }
        results[name] = try targets.detached(value, account)
      }
    } catch {
      throw RunError(OperatorError(error))
    }
    for (name, buffer) in buffers {
      guard let tensor = results[name]?.tensor else { continue }
      guard tensor.byteCount == buffer.count else {
        throw RunError(
          .invalidInput,
          "the buffer for output '\(name)' has \(buffer.count) bytes; \(tensor.dataType)\(tensor.shape) has "
            + "\(tensor.byteCount)")
      }
      tensor.withUnsafeBytes { bytes in
        if let source = bytes.baseAddress, let target = buffer.baseAddress, source != UnsafeRawPointer(target) {
          target.copyMemory(from: source, byteCount: bytes.count)
        }
      }
    }
  }
}

extension Value {
  /// True for a tensor whose elements are all of the bytes of a buffer, without what is still to be read.
  fileprivate func lies(in buffer: UnsafeMutableRawBufferPointer) -> Bool {
    guard let tensor, tensor.dataType != .string, tensor.storage.deferred == nil else { return false }
    return tensor.byteCount == buffer.count && tensor.base == UnsafeRawPointer(buffer.baseAddress)
  }
}

/// What was given away with a run that waits for its turn.
private final class Gift: Sendable {
  private let state: Mutex<[String: Tensor]>

  init(_ state: [String: Tensor]) { self.state = Mutex(state) }

  func take() -> [String: Tensor] {
    state.withLock { state in
      var taken: [String: Tensor] = [:]
      swap(&taken, &state)
      return taken
    }
  }
}
