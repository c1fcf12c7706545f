// Models on disk: in one file, or with the weights in a side file where one would pass the 2 GB that protobuf can hold.

import ApusTensor

extension ModelProto {
  /// Above so many bytes of tensors they go to a side file.
  package static let maximumInlineBytes = 1_500_000_000

  /// Writes the model to the file at `path`; if its initializers take more than `maximumInlineBytes`, those of more
  /// than 1 KiB go to `path` + ".data". Both files get their names when both are whole, so the tensors of the model may
  /// lie in the files that are replaced.
  package func write(to path: String, maximumInlineBytes: Int = ModelProto.maximumInlineBytes) throws(LoadError) {
    var model = self
    guard tensorBytes > maximumInlineBytes else { return try OutputFile.write(model.encoded, to: path) }
    var weights = try OutputFile(path: path + ".data")
    try model.moveInitializers(to: &weights, path + ".data")
    var output = try OutputFile(path: path)
    try output.write(model.encoded)
    try weights.commit()
    try output.commit()
  }

  private var tensorBytes: Int {
    graph?.initializers.reduce(0) { total, proto in
      if case .tensor(let tensor) = proto.content { total + tensor.byteCount } else { total }
    } ?? 0
  }

  /// Whether `write` puts weights into a side file.
  package var hasLargeWeights: Bool { tensorBytes > ModelProto.maximumInlineBytes }

  private mutating func moveInitializers(to output: inout OutputFile, _ path: String) throws(LoadError) {
    guard var graph else { return }
    let location = path.split(separator: "/").last.map(String.init) ?? path
    for index in graph.initializers.indices {
      guard case .tensor(let tensor) = graph.initializers[index].content, tensor.byteCount > 1024 else { continue }
      // Tensors begin at pages, as the specification advises.
      try output.write([UInt8](repeating: 0, count: (4096 - output.count % 4096) % 4096))
      let offset = output.count
      try output.write(tensor)
      graph.initializers[index].content = .external([
        StringEntry(key: "location", value: location), StringEntry(key: "offset", value: "\(offset)"),
        StringEntry(key: "length", value: "\(tensor.byteCount)"),
      ])
    }
    self.graph = graph
  }
}

extension OutputFile {
  private static let pieceBytes = 1 << 20

  /// Writes the elements of `tensor`, which is no tensor of strings. What does not exist yet is made piece by piece.
  mutating func write(_ tensor: Tensor) throws(LoadError) {
    if let pending = tensor.storage.deferred, pending.isPending {
      var piece = [UInt8](repeating: 0, count: min(Self.pieceBytes, tensor.byteCount))
      for start in stride(from: 0, to: tensor.byteCount, by: Self.pieceBytes) {
        piece.removeLast(max(0, piece.count - (tensor.byteCount - start)))
        let made: Result<Void, TensorError> = piece.withUnsafeMutableBytes { bytes in
          Result { () throws(TensorError) in try pending.copy(from: tensor.byteOffset + start, into: bytes) }
        }
        if case .failure(let error) = made { throw LoadError(error) }
        try write(piece)
      }
      return
    }
    try tensor.withByteSpan { (bytes: Span<UInt8>) throws(LoadError) in try write(bytes) }
  }
}
