// Writing safetensors files.

import ApusTensor

extension SafeTensors {
  /// Writes `tensors`, and what is said of them, to the file at `path`. The widest elements come first, then by name,
  /// so that each tensor is aligned to its elements. Names differ.
  ///
  /// Throws `unsupported` for element types that the format has no name for.
  package static func write(
    _ tensors: [(name: String, tensor: Tensor)], metadata: [(key: String, value: String)] = [], to path: String
  ) throws(LoadError) {
    do throws(LoadError) {
      let ordered = tensors.sorted { first, second in
        let (one, two) = (first.tensor.dataType.bits, second.tensor.dataType.bits)
        return one == two ? first.name < second.name : one > two
      }
      let header = try header(ordered, metadata)
      var file = try OutputFile(path: path)
      try file.write(header)
      for (_, tensor) in ordered { try write(tensor, to: &file) }
      try file.commit()
    } catch {
      throw error.inFile(path)
    }
  }

  /// Bytes of a tensor that are written at a time.
  private static let pieceBytes = 1 << 20

  /// Writes the elements; what still lies in a file is read piece by piece.
  private static func write(_ tensor: Tensor, to file: inout OutputFile) throws(LoadError) {
    var failure: LoadError?
    do throws(TensorError) {
      _ = try tensor.allPieces(of: pieceBytes) { _, piece in
        do throws(LoadError) {
          // Bytes may be read as UInt8 whatever they are bound to; they live during the call.
          try file.write(piece.assumingMemoryBound(to: UInt8.self).span)
          return true
        } catch {
          failure = error
          return false
        }
      }
    } catch {
      throw LoadError(error)
    }
    if let failure { throw failure }
  }

  private static func header(
    _ tensors: [(name: String, tensor: Tensor)], _ metadata: [(key: String, value: String)]
  ) throws(LoadError) -> [UInt8] {
    var text: [UInt8] = Array("{".utf8)
    if !metadata.isEmpty {
      try checkNames(metadata.map(\.key), "keys of metadata")
      text += "\"\(metadataKey)\":{".utf8
      for (index, (key, value)) in metadata.enumerated() {
        if index > 0 { text.append(UInt8(ascii: ",")) }
        key.appendJSON(to: &text)
        text.append(UInt8(ascii: ":"))
        value.appendJSON(to: &text)
      }
      text.append(UInt8(ascii: "}"))
    }
    try checkNames(tensors.map(\.name) + [metadataKey], "tensors")
    var offset = 0
    for (name, tensor) in tensors {
      guard let type = SafeTensorsType.name(tensor.dataType), tensor.count * tensor.dataType.bits % 8 == 0 else {
        throw LoadError(
          .unsupported, "safetensors has no \(tensor.dataType) of the shape \(tensor.shape)", remedy: "Use .npz",
          path: "tensor '\(name)'")
      }
      if text.count > 1 { text.append(UInt8(ascii: ",")) }
      name.appendJSON(to: &text)
      let extents = tensor.shape.map(String.init).joined(separator: ",")
      let end = offset + tensor.byteCount
      text += ":{\"dtype\":\"\(type)\",\"shape\":[\(extents)],\"data_offsets\":[\(offset),\(end)]}".utf8
      offset = end
    }
    text.append(UInt8(ascii: "}"))
    while text.count % lengthBytes != 0 { text.append(UInt8(ascii: " ")) }
    guard text.count <= maximumHeaderBytes else {
      throw LoadError(
        .unsupported, "the header would have \(text.count) bytes; at most \(maximumHeaderBytes) are allowed")
    }
    return Zip.little(text.count, lengthBytes) + text
  }

  private static func checkNames(_ names: [String], _ what: String) throws(LoadError) {
    var seen: Set<String> = []
    for name in names where !seen.insert(name).inserted {
      throw LoadError(.cannotWrite, "two \(what) have the name '\(name)'", remedy: "Give them names that differ")
    }
  }
}
