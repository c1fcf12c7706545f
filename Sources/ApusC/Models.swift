// Loading and describing models.

import Apus
import CApus

// MARK: - Loading

func settings(_ options: OpaquePointer?) -> (options: ModelOptions, isProfiling: Bool) {
  let handle = OptionsHandle.at(options)
  return (handle?.options ?? ModelOptions(), handle?.isProfiling ?? false)
}

/// A copy of the bytes of a file that C hands in.
func fileBytes(_ bytes: UnsafeRawPointer?, _ byteCount: Int) throws(ArgumentError) -> [UInt8] {
  guard let bytes else { throw ArgumentError("bytes is NULL") }
  guard byteCount >= 0 else {
    throw ArgumentError("byte_count is \(UInt(bitPattern: byteCount)), more than memory can hold")
  }
  return Array(UnsafeRawBufferPointer(start: bytes, count: byteCount))
}

@c @implementation
public func apus_model_load_file(
  _ path: UnsafePointer<CChar>?, _ options: OpaquePointer?, _ model: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(model) {
    let (options, isProfiling) = settings(options)
    let loaded = try Model(path: text(path, "path"), options: options)
    return ModelHandle(loaded, isProfiling: isProfiling)
  }
}

@c @implementation
public func apus_model_load_bytes(
  _ bytes: UnsafeRawPointer?, _ byteCount: Int, _ folder: UnsafePointer<CChar>?, _ options: OpaquePointer?,
  _ model: UnsafeMutablePointer<OpaquePointer?>?
) -> OpaquePointer? {
  attempt(model) {
    let copy = try fileBytes(bytes, byteCount)
    let (options, isProfiling) = settings(options)
    let folder = try folder.map { try text($0, "folder") }
    let source = try ModelReader.read(bytes: copy, folder: folder, options: options)
    return ModelHandle(try Model(source, options: options), isProfiling: isProfiling)
  }
}

@c @implementation
public func apus_model_compile_file(
  _ path: UnsafePointer<CChar>?, _ options: OpaquePointer?, _ target: UnsafePointer<CChar>?
) -> OpaquePointer? {
  attempt {
    try ModelReader.compile(path: text(path, "path"), options: settings(options).options, to: text(target, "target"))
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
public func apus_model_overridable_count(_ model: OpaquePointer?) -> Int {
  ModelHandle.at(model)?.overridable.count ?? 0
}

@c @implementation
public func apus_model_overridable(_ model: OpaquePointer?, _ index: Int) -> OpaquePointer? {
  ModelHandle.at(model)?.overridable.element(index)?.unowned
}

@c @implementation
public func apus_value_info_name(_ info: OpaquePointer?) -> UnsafePointer<CChar>? { InfoHandle.at(info)?.name.pointer }

@c @implementation
public func apus_value_info_kind(_ info: OpaquePointer?) -> Int32 {
  kind(of: InfoHandle.at(info)?.description.valueType)
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
  func element(_ index: Int) -> Element? { indices.contains(index) ? self[index] : nil }
}

// MARK: - What the file says

@c @implementation
public func apus_model_graph_name(_ model: OpaquePointer?) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.graphName.pointer
}

@c @implementation
public func apus_model_producer_name(_ model: OpaquePointer?) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.producer.pointer
}

@c @implementation
public func apus_model_producer_version(_ model: OpaquePointer?) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.producerVersion.pointer
}

@c @implementation
public func apus_model_domain(_ model: OpaquePointer?) -> UnsafePointer<CChar>? {
  ModelHandle.at(model)?.domain.pointer
}

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
