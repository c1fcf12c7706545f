// What stands behind the pointers that C holds: one class for each opaque type of include/apus.h, and how they cross.

import Apus
import ApusGraph
import ApusRuntime
import Synchronization

/// A class whose objects C holds by pointer.
protocol Handle: AnyObject {}

extension Handle {
  /// A pointer that owns a reference, for C to give back by `release`.
  var owned: OpaquePointer { OpaquePointer(Unmanaged.passRetained(self).toOpaque()) }

  /// A pointer that is good as long as somebody else holds the object.
  var unowned: OpaquePointer { OpaquePointer(Unmanaged.passUnretained(self).toOpaque()) }

  /// The object behind a pointer that `owned` or `unowned` of the same class made; nil for NULL.
  static func at(_ pointer: OpaquePointer?) -> Self? {
    pointer.map { Unmanaged<Self>.fromOpaque(UnsafeRawPointer($0)).takeUnretainedValue() }
  }

  /// The object behind a pointer that must not be NULL; `what` names the argument.
  static func at(_ pointer: OpaquePointer?, _ what: String) throws(ArgumentError) -> Self {
    guard let object = at(pointer) else { throw ArgumentError("\(what) is NULL") }
    return object
  }

  /// Gives up the reference of a pointer that `owned` made.
  static func release(_ pointer: OpaquePointer?) {
    if let pointer { Unmanaged<Self>.fromOpaque(UnsafeRawPointer(pointer)).release() }
  }
}

/// A text for C that lives as long as the object.
///
/// `@unchecked Sendable`: nobody writes to the bytes after the initializer.
final class CText: @unchecked Sendable {
  let pointer: UnsafePointer<CChar>

  /// Text after a zero byte in `text` is out of reach for C.
  init(_ text: String) {
    let bytes = UnsafeMutableBufferPointer<CChar>.allocate(capacity: text.utf8.count + 1)
    for (index, byte) in text.utf8.enumerated() { bytes[index] = CChar(bitPattern: byte) }
    bytes[text.utf8.count] = 0
    pointer = UnsafePointer(bytes.baseAddress!)
  }

  deinit { pointer.deallocate() }
}

final class OptionsHandle: Handle {
  var options = ModelOptions()
  var isProfiling = false
}

final class EngineHandle: Handle, Sendable {
  let engine: Engine
  init(_ engine: Engine) { self.engine = engine }
}

final class CancellationHandle: Handle, Sendable {
  let flag: CancellationFlag
  init(_ flag: CancellationFlag) { self.flag = flag }
}

/// A model with everything that C may ask it for by pointer.
final class ModelHandle: Handle, Sendable {
  let model: Model
  /// What runs report to, if they are profiled.
  let profiler: Profiler?
  let inputs, outputs, overridable: [InfoHandle]
  let graphName, producer, producerVersion, domain, documentation: CText
  let metadata: [(key: CText, value: CText)]
  let opsets: [(domain: CText, version: Int)]
  /// An empty array with room for the inputs of a run, which no run uses at the moment.
  private let spareInputs = Mutex<[Value]>([])

  init(_ model: Model, isProfiling: Bool) {
    self.model = model
    profiler = isProfiling ? Profiler(capacity: Profiler.usualCapacity) : nil
    inputs = model.inputs.map { InfoHandle($0) }
    outputs = model.outputs.map { InfoHandle($0) }
    overridable = model.overridableInitializers.map { InfoHandle($0) }
    let information = model.information
    graphName = CText(information.graphName)
    producer = CText(information.producer)
    producerVersion = CText(information.producerVersion)
    domain = CText(information.domain)
    documentation = CText(information.documentation)
    metadata = information.metadata.map { (CText($0.key), CText($0.value)) }
    opsets = information.opsets.sorted { $0.key < $1.key }.map { (CText($0.key), $0.value) }
  }
}

extension ModelHandle {
  /// An empty array for the inputs of a run, to be given back after it.
  func takeInputs() -> [Value] {
    var inputs: [Value] = []
    spareInputs.withLock { swap(&$0, &inputs) }
    return inputs
  }

  func give(_ inputs: inout [Value]) {
    inputs.removeAll(keepingCapacity: true)
    spareInputs.withLock { swap(&$0, &inputs) }
  }

  /// What every run of the model is allowed.
  func settings(_ cancellation: OpaquePointer?) -> RunSettings {
    model.settings(CancellationHandle.at(cancellation)?.flag, profiler: profiler)
  }
}

/// What a model says of one input or output.
final class InfoHandle: Handle, Sendable {
  let description: ValueDescription
  let name, type: CText
  /// One an axis: the extent if it is a number, else the symbol if it has one.
  let axes: [(size: Int64, symbol: CText?)]?

  init(_ description: ValueDescription) {
    self.description = description
    name = CText(description.name)
    type = CText(description.valueType.map { TypeText.text(of: $0) } ?? "")
    axes = description.dimensions?.map { extent in
      if let size = Int64(extent) { return (size, nil) }
      return (-1, extent == "?" ? nil : CText(extent))
    }
  }
}
