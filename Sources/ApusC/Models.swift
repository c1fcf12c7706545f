// Loading, describing and running models.

import Apus
import ApusGraph
import ApusRuntime
import CApus

// MARK: - Loading

@c @implementation
public func apus_model_load_file(
  _ path: UnsafePointer<CChar>?, _ options: OpaquePointer?, _ model: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(model) {
    let options = OptionsHandle.at(options)?.options ?? ModelOptions()
    return ModelHandle(try Model(path: text(path, "path"), options: options), options: options)
  }
}

@c @implementation
public func apus_model_load_bytes(
  _ bytes: UnsafeRawPointer?, _ byteCount: Int, _ folder: UnsafePointer<CChar>?, _ options: OpaquePointer?,
  _ model: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(model) {
    guard byteCount >= 0, let bytes else { throw ArgumentError("bytes is NULL") }
    let options = OptionsHandle.at(options)?.options ?? ModelOptions()
    let folder = try folder.map { try text($0, "folder") }
    let copy = Array(UnsafeRawBufferPointer(start: bytes, count: byteCount))
    let source = try ModelReader.read(bytes: copy, folder: folder, options: options)
    return ModelHandle(try Model(source, options: options), options: options)
  }
}

@c @implementation
public func apus_model_release(_ model: OpaquePointer?) { ModelHandle.release(model) }

// MARK: - Inputs and outputs

@c @implementation
public func apus_model_input_count(_ model: OpaquePointer?) -> Int { ModelHandle.at(model)?.inputs.count ?? 0 }

@c @implementation
public func apus_model_input(_ model: OpaquePointer?, _ index: Int) -> OpaquePointer? {
  ModelHandle.at(model)?.inputs.element(index)?.unowned
}

@c @implementation
public func apus_model_output_count(_ model: OpaquePointer?) -> Int { ModelHandle.at(model)?.outputs.count ?? 0 }

@c @implementation
public func apus_model_output(_ model: OpaquePointer?, _ index: Int) -> OpaquePointer? {
  ModelHandle.at(model)?.outputs.element(index)?.unowned
}

@c @implementation
public func apus_value_info_name(_ info: OpaquePointer?) -> UnsafePointer<CChar>? { InfoHandle.at(info)?.name.pointer }

@c @implementation
public func apus_value_info_kind(_ info: OpaquePointer?) -> Int32 {
  let kind =
    switch InfoHandle.at(info)?.description.valueType {
    case nil: APUS_UNKNOWN
    case .tensor: APUS_TENSOR
    case .sequence: APUS_SEQUENCE
    case .map: APUS_MAP
    case .optional: APUS_OPTIONAL
    }
  return Int32(kind)
}

@c @implementation
public func apus_value_info_type(_ info: OpaquePointer?) -> UnsafePointer<CChar>? { InfoHandle.at(info)?.type.pointer }

@c @implementation
public func apus_value_info_element_type(_ info: OpaquePointer?) -> Int32 {
  InfoHandle.at(info)?.description.dataType?.rawValue ?? 0
}

@c @implementation
public func apus_value_info_rank(_ info: OpaquePointer?) -> Int32 {
  InfoHandle.at(info)?.axes.map { Int32($0.count) } ?? -1
}

@c @implementation
public func apus_value_info_dimension(_ info: OpaquePointer?, _ axis: Int32) -> Int64 {
  InfoHandle.at(info)?.axes?.element(Int(axis))?.size ?? -1
}

@c @implementation
public func apus_value_info_symbol(_ info: OpaquePointer?, _ axis: Int32) -> UnsafePointer<CChar>? {
  InfoHandle.at(info)?.axes?.element(Int(axis))?.symbol?.pointer
}

extension Array {
  /// The element at `index`; nil where there is none.
  fileprivate func element(_ index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}

// MARK: - What the file says

@c @implementation
public func apus_model_graph_name(_ model: OpaquePointer?) -> UnsafePointer<CChar>? { ModelHandle.at(model)?.graphName.pointer }

@c @implementation
public func apus_model_producer_name(_ model: OpaquePointer?) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.producer.pointer
}

@c @implementation
public func apus_model_producer_version(_ model: OpaquePointer?) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.producerVersion.pointer
}

@c @implementation
public func apus_model_domain(_ model: OpaquePointer?) -> UnsafePointer<CChar>? { ModelHandle.at(model)?.domain.pointer }

@c @implementation
public func apus_model_description(_ model: OpaquePointer?) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.documentation.pointer
}

@c @implementation
public func apus_model_version(_ model: OpaquePointer?) -> Int64 {
  Int64(ModelHandle.at(model)?.model.information.modelVersion ?? 0)
}

@c @implementation
public func apus_model_ir_version(_ model: OpaquePointer?) -> Int64 {
  Int64(ModelHandle.at(model)?.model.information.irVersion ?? 0)
}

@c @implementation
public func apus_model_metadata_count(_ model: OpaquePointer?) -> Int { ModelHandle.at(model)?.metadata.count ?? 0 }

@c @implementation
public func apus_model_metadata_key(_ model: OpaquePointer?, _ index: Int) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.metadata.element(index)?.key.pointer
}

@c @implementation
public func apus_model_metadata_value(_ model: OpaquePointer?, _ index: Int) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.metadata.element(index)?.value.pointer
}

@c @implementation
public func apus_model_opset_count(_ model: OpaquePointer?) -> Int { ModelHandle.at(model)?.opsets.count ?? 0 }

@c @implementation
public func apus_model_opset_domain(_ model: OpaquePointer?, _ index: Int) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.opsets.element(index)?.domain.pointer
}

@c @implementation
public func apus_model_opset_version(_ model: OpaquePointer?, _ index: Int) -> Int64 {
  Int64(ModelHandle.at(model)?.opsets.element(index)?.version ?? 0)
}

@c @implementation
public func apus_model_thread_count(_ model: OpaquePointer?) -> Int32 {
  Int32(clamping: ModelHandle.at(model)?.model.threadCount ?? 0)
}

@c @implementation
public func apus_model_release_memory(_ model: OpaquePointer?) { ModelHandle.at(model)?.model.releaseMemory() }

// MARK: - Running

@c @implementation
public func apus_cancellation_create(_ seconds: Double) -> OpaquePointer? {
  // Beyond thirty years no deadline is needed; a NaN is none.
  let timeout: Duration? = seconds > 0 && seconds < 1e9 ? .seconds(seconds) : nil
  return CancellationHandle(CancellationFlag(timeout: timeout)).owned
}

@c @implementation
public func apus_cancellation_cancel(_ cancellation: OpaquePointer?) { CancellationHandle.at(cancellation)?.flag.cancel() }

@c @implementation
public func apus_cancellation_release(_ cancellation: OpaquePointer?) { CancellationHandle.release(cancellation) }

@c @implementation
public func apus_model_run(
  _ model: OpaquePointer?, _ inputNames: UnsafePointer<UnsafePointer<CChar>?>?, _ inputs: UnsafePointer<OpaquePointer?>?,
  _ inputCount: Int, _ outputNames: UnsafePointer<UnsafePointer<CChar>?>?, _ outputCount: Int,
  _ cancellation: OpaquePointer?, _ outputs: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt {
    guard inputCount >= 0, outputCount >= 0, outputCount == 0 || outputs != nil else {
      throw ArgumentError("the place for the outputs is NULL")
    }
    for index in 0..<outputCount { outputs?[index] = nil }
    let handle = try ModelHandle.at(model, "model")
    var values: [String: Value] = [:]
    for index in 0..<inputCount {
      let name = try text(inputNames?[index], "the name of input \(index)")
      let value = try ValueHandle.at(inputs?[index], "input '\(name)'").value
      guard values.updateValue(value, forKey: name) == nil else { throw ArgumentError("input '\(name)' is given twice") }
    }
    var wanted = handle.model.outputs.map(\.name)
    if let outputNames {
      wanted = try (0..<outputCount).map { try text(outputNames[$0], "the name of output \($0)") }
    }
    guard wanted.count == outputCount else {
      throw ArgumentError("there are \(outputCount) places for the \(wanted.count) outputs of the model")
    }
    let settings = RunSettings(
      cancellation: CancellationHandle.at(cancellation)?.flag, maximumBytes: handle.maximumRunMemory)
    let results = try handle.model.run(values: values, settings: settings, wanted: wanted)
    for (index, name) in wanted.enumerated() { outputs?[index] = results[name].map { ValueHandle($0).owned } }
  }
}
