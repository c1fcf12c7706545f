// Tensors and the bytes of their elements, as spans.

import ApusTensor

extension Tensor {
  /// A tensor whose bytes `body` appends, all of them, in row-major order and the byte order of the file formats
  /// (little endian, as on every machine that Apus runs on). The size must have been checked against the limits. Not
  /// for strings.
  package static func building(
    _ dataType: DataType, _ shape: Shape, account: MemoryAccount? = nil,
    _ body: (inout OutputSpan<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) -> Tensor {
    let tensor: Tensor
    do throws(TensorError) {
      tensor = try Tensor(uninitialized: dataType, shape: shape, account: account)
    } catch {
      throw LoadError(error)
    }
    // The tensor owns `byteCount` bytes there, and nobody else has seen it yet.
    let buffer = UnsafeMutableBufferPointer(
      start: tensor.storage.base.assumingMemoryBound(to: UInt8.self), count: tensor.byteCount)
    var output = OutputSpan(buffer: buffer, initializedCount: 0)
    try body(&output)
    let written = output.finalize(for: buffer)
    precondition(written == tensor.byteCount, "\(written) bytes for a tensor of \(tensor.byteCount)")
    return tensor
  }

  /// Calls `body` with the bytes of the elements. Empty for strings.
  package func withByteSpan<Result, Failure: Error>(
    _ body: (Span<UInt8>) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    try withUnsafeBytes { (bytes: UnsafeRawBufferPointer) throws(Failure) -> Result in
      // Bytes may be read as UInt8 whatever they are bound to; the tensor keeps them alive during the call.
      try body(bytes.assumingMemoryBound(to: UInt8.self).span)
    }
  }
}
