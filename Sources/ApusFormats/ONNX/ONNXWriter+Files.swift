// Models on disk: in one file, or with the weights in a side file where one would pass the 2 GB that protobuf can hold.

import ApusTensor

extension ModelProto {
  /// Above so many bytes of tensors they go to a side file.
  package static let maximumInlineBytes = 1_500_000_000

  /// Writes the model to the file at `path`; if its initializers take more than `maximumInlineBytes`, or if `layout` is
  /// given, those that are large enough go to a file beside it. Both files get their names when both are whole, so the
  /// tensors of the model may lie in the files that are replaced.
  @discardableResult
  package func write(
    to path: String, maximumInlineBytes: Int = ModelProto.maximumInlineBytes, layout: SideFileLayout? = nil
  ) throws(LoadError) -> WrittenModel {
    var model = self
    var written = WrittenModel()
    guard layout != nil || tensorBytes > maximumInlineBytes else {
      let bytes = model.encoded
      try OutputFile.write(bytes, to: path)
      written.bytes = bytes.count
      return written
    }
    let layout = layout ?? SideFileLayout()
    let sidePath = try layout.path(beside: path)
    try OutputFile.check(sidePath, isNoneOf: [path], "the model itself lies in it")
    var weights = try OutputFile(path: sidePath)
    written.sideTensors = try model.moveInitializers(to: &weights, sidePath, layout)
    var output = try OutputFile(path: path)
    try output.write(model.encoded)
    (written.bytes, written.sideBytes) = (output.count, weights.count)
    if written.sideTensors > 0 {
      try weights.commit()
      written.sideFile = sidePath
    }
    try output.commit()
    return written
  }

  private var tensorBytes: Int {
    graph?.initializers.reduce(0) { total, proto in
      if case .tensor(let tensor) = proto.content { total + tensor.byteCount } else { total }
    } ?? 0
  }

  /// Whether `write` puts weights into a side file.
  package var hasLargeWeights: Bool { tensorBytes > ModelProto.maximumInlineBytes }

  /// Moves the large initializers, and returns how many there are.
  private mutating func moveInitializers(
    to output: inout OutputFile, _ path: String, _ layout: SideFileLayout
  ) throws(LoadError) -> Int {
    guard var graph else { return 0 }
    let location = path.split(separator: "/").last.map(String.init) ?? path
    let alignment = max(1, layout.alignment)
    var count = 0
    for index in graph.initializers.indices {
      guard case .tensor(let tensor) = graph.initializers[index].content, tensor.dataType != .string,
        tensor.byteCount >= layout.smallest, !layout.staysReadable(tensor.dataType, tensor.shape.dims)
      else { continue }
      try output.write([UInt8](repeating: 0, count: (alignment - output.count % alignment) % alignment))
      graph.initializers[index].content = .external(StringEntry.place(location, output.count, tensor.byteCount))
      try output.write(tensor)
      count += 1
    }
    self.graph = graph
    return count
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
