// Making models smaller: sources, what is made of them, and what the library asks of its caller meanwhile.

import Apus
import ApusCompression
import ApusGraph
import CApus
import CApusProcess
import Synchronization

// MARK: - Handles

/// A model that was read to be compressed.
final class SourceHandle: Handle, Sendable {
  let source: CompressionSession
  let inputs: [InfoHandle]
  /// Made when it is first asked for.
  let sparsity = Mutex<CText?>(nil)

  init(_ source: CompressionSession) {
    self.source = source
    inputs = source.inputs.map { InfoHandle($0) }
  }
}

/// What was made of a source.
///
/// `@unchecked Sendable`: the bytes that C holds a pointer to are never written after they were made.
final class CompressedHandle: Handle, @unchecked Sendable {
  let result: CompressionSession.Result
  let report: CText
  let page: CText?
  private let bytes = Mutex<UnsafeMutableRawBufferPointer?>(nil)

  init(_ result: CompressionSession.Result) {
    self.result = result
    report = CText(result.report)
    page = result.page.map { CText($0) }
  }

  deinit { bytes.withLock { $0?.deallocate() } }

  /// The model as a file, made at the first call.
  func file() throws -> UnsafeRawBufferPointer {
    try bytes.withLock { bytes in
      if let bytes { return UnsafeRawBufferPointer(bytes) }
      let encoded = try result.model.encoded()
      let made = UnsafeMutableRawBufferPointer.allocate(byteCount: encoded.count, alignment: 1)
      made.copyBytes(from: encoded)
      bytes = made
      return UnsafeRawBufferPointer(made)
    }
  }
}

/// A sample that the caller is filling.
final class SampleHandle: Handle {
  var values: [String: Tensor] = [:]
}

// MARK: - Calls of the caller

/// A function of the caller returned false.
struct StoppedByCaller: Error, CustomStringConvertible {
  let function: String
  var description: String { "the function \(function) of the caller ended the work" }
}

/// What a quantization asks of its caller.
private final class CallerFunctions {
  private let calls: apus_quantization_calls
  let cancellation = CancellationFlag(timeout: nil)
  /// The function that ended the work, if one did.
  private(set) var stopped: StoppedByCaller?

  init(_ calls: apus_quantization_calls) { self.calls = calls }

  /// Calls a function of the caller, which may fork: this call holds no lock meanwhile, so that a fork need not wait.
  private func call(_ function: String, _ body: () -> Bool) throws(StoppedByCaller) {
    apus_fork_end(apus_fork_generation())
    let goesOn = body()
    _ = apus_fork_begin()
    if goesOn { return }
    let end = StoppedByCaller(function: function)
    stopped = stopped ?? end
    cancellation.cancel()
    throw end
  }

  func progress(_ stage: String, _ done: Int, _ all: Int?) {
    guard let progress = calls.progress else { return }
    let stage = CText(stage)
    // What goes on will find the cancellation.
    try? call("progress") { progress(calls.context, stage.pointer, Int64(done), Int64(all ?? -1)) }
  }

  var measure: ((Model) throws -> Double)? {
    guard let measure = calls.measure else { return nil }
    return { [self] model in
      var quality = Double.nan
      let handle = ModelHandle(model, isProfiling: false).owned
      try call("measure") { measure(calls.context, handle, &quality) }
      if quality.isNaN {
        throw CompressionError(.invalidOption, "the measured quality is no number; expected one, more being better")
      }
      return quality
    }
  }

  /// nil: there are none.
  var samples: CallerSamples? { calls.next_sample == nil ? nil : CallerSamples(functions: self) }

  /// Samples that functions of the caller give.
  struct CallerSamples: CalibrationData {
    let functions: CallerFunctions

    var sampleCount: Int? {
      functions.calls.sample_count < 0 ? nil : Int(functions.calls.sample_count)
    }

    func forEachSample(_ body: ([String: Tensor]) throws -> Void) throws {
      let calls = functions.calls
      if let restart = calls.restart_samples {
        try functions.call("restart_samples") { restart(calls.context) }
      }
      for number in 0... {
        let sample = SampleHandle()
        try functions.call("next_sample") { calls.next_sample?(calls.context, sample.unowned) ?? true }
        if sample.values.isEmpty { return }
        do { try body(sample.values) } catch let error as RunError {
          throw CompressionError(.invalidSample, "sample \(number + 1): \(error.message)", remedy: error.remedy)
        }
      }
    }
  }
}

@c @implementation
public func apus_sample_set(
  _ sample: OpaquePointer?, _ input: UnsafePointer<CChar>?, _ value: OpaquePointer?
) -> OpaquePointer? {
  attempt {
    let sample = try SampleHandle.at(sample, "sample")
    let name = try text(input, "input")
    let tensor = try ValueHandle.at(value, "value").tensor("the value of input '\(name)'")
    let kept = tensor.storage.isOwned || tensor.dataType == .string ? tensor : try tensor.copied()
    guard sample.values.updateValue(kept, forKey: name) == nil else {
      throw ArgumentError("input '\(name)' is given twice")
    }
  }
}

// MARK: - Sources

@c @implementation
public func apus_source_read_file(
  _ path: UnsafePointer<CChar>?, _ options: OpaquePointer?, _ source: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(source) {
    SourceHandle(try CompressionSession(path: text(path, "path"), options: settings(options).options))
  }
}

@c @implementation
public func apus_source_read_bytes(
  _ bytes: UnsafeRawPointer?, _ byteCount: Int, _ folder: UnsafePointer<CChar>?, _ options: OpaquePointer?,
  _ source: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(source) {
    let folder = try folder.map { try text($0, "folder") }
    return SourceHandle(
      try CompressionSession(
        bytes: try fileBytes(bytes, byteCount), folder: folder, options: settings(options).options))
  }
}

@c @implementation
public func apus_source_input_count(_ source: OpaquePointer?) -> Int { SourceHandle.at(source)?.inputs.count ?? 0 }

@c @implementation
public func apus_source_input(_ source: OpaquePointer?, _ index: Int) -> OpaquePointer? {
  SourceHandle.at(source)?.inputs.element(index)?.unowned
}

@c @implementation
public func apus_source_release(_ source: OpaquePointer?) { SourceHandle.release(source) }

@c @implementation
public func apus_source_quantize(
  _ source: OpaquePointer?, _ options: UnsafePointer<CChar>?, _ calls: UnsafePointer<apus_quantization_calls>?,
  _ result: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(result) {
    let handle = try SourceHandle.at(source, "source")
    let functions = CallerFunctions(calls?.pointee ?? apus_quantization_calls())
    var given = CompressionSession.Calls()
    (given.measure, given.cancellation) = (functions.measure, functions.cancellation)
    given.progress = functions.progress
    do {
      let made = try handle.source.quantize(try text(options, "options"), on: functions.samples, given)
      // Where nothing looked at the cancellation any more.
      if let stopped = functions.stopped { throw stopped }
      return CompressedHandle(made)
    } catch {
      throw functions.stopped ?? error
    }
  }
}

@c @implementation
public func apus_source_prune(
  _ source: OpaquePointer?, _ options: UnsafePointer<CChar>?, _ result: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(result) {
    CompressedHandle(try SourceHandle.at(source, "source").source.prune(try text(options, "options")))
  }
}

@c @implementation
public func apus_source_cluster(
  _ source: OpaquePointer?, _ options: UnsafePointer<CChar>?, _ result: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(result) {
    CompressedHandle(try SourceHandle.at(source, "source").source.cluster(try text(options, "options")))
  }
}

@c @implementation
public func apus_source_sparsity(
  _ source: OpaquePointer?, _ report: UnsafeMutablePointer<UnsafePointer<CChar>?>?
) -> OpaquePointer? {
  attempt {
    guard let report else { throw ArgumentError("the place for the result is NULL") }
    report.pointee = nil
    let handle = try SourceHandle.at(source, "source")
    report.pointee = try handle.sparsity.withLock { text in
      if let text { return text.pointer }
      let made = CText(try handle.source.sparsity())
      text = made
      return made.pointer
    }
  }
}

// MARK: - What was made

@c @implementation
public func apus_compressed_report(_ compressed: OpaquePointer?) -> UnsafePointer<CChar>? {
  CompressedHandle.at(compressed)?.report.pointer
}

@c @implementation
public func apus_compressed_page(_ compressed: OpaquePointer?) -> UnsafePointer<CChar>? {
  CompressedHandle.at(compressed)?.page?.pointer
}

@c @implementation
public func apus_compressed_save(
  _ compressed: OpaquePointer?, _ path: UnsafePointer<CChar>?, _ opset: Int64
) -> OpaquePointer? {
  attempt {
    let model = try CompressedHandle.at(compressed, "compressed").result.model
    let range = OptimizedModel.writableOpsets
    guard opset == 0 || Int(exactly: opset).map(range.contains) ?? false else {
      throw ArgumentError("opset is \(opset); expected 0, or \(range.lowerBound) to \(range.upperBound)")
    }
    try model.optimized.save(to: text(path, "path"), opset: opset == 0 ? nil : Int(opset))
  }
}

@c @implementation
public func apus_compressed_bytes(
  _ compressed: OpaquePointer?, _ bytes: UnsafeMutablePointer<UnsafeRawPointer?>?,
  _ byteCount: UnsafeMutablePointer<Int>?
) -> OpaquePointer? {
  attempt {
    guard let bytes, let byteCount else { throw ArgumentError("the place for the result is NULL") }
    (bytes.pointee, byteCount.pointee) = (nil, 0)
    let file = try CompressedHandle.at(compressed, "compressed").file()
    (bytes.pointee, byteCount.pointee) = (file.baseAddress, file.count)
  }
}

@c @implementation
public func apus_compressed_load(
  _ compressed: OpaquePointer?, _ options: OpaquePointer?, _ model: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(model) {
    let result = try CompressedHandle.at(compressed, "compressed").result
    let (given, isProfiling) = settings(options)
    let loaded = try result.model.model(options: options == nil ? nil : given)
    return ModelHandle(loaded, isProfiling: isProfiling)
  }
}

@c @implementation
public func apus_compressed_release(_ compressed: OpaquePointer?) { CompressedHandle.release(compressed) }
