// The constants of a TensorFlow Lite file: ranges of the file where their bytes are those of a tensor.

import ApusContainers
import ApusTensor

extension TFLiteModel {
  /// The elements of a tensor; nil if the file has none.
  func constant(_ tensor: TFLiteTensor, _ options: ImportOptions) throws(LoadError) -> Tensor? {
    guard let type = tensor.type, !tensor.isVariable else { return nil }
    let bytes = buffer(tensor.buffer)
    let shape = Shape(tensor.shape)
    if bytes.count == 0 {
      // Nothing needs no bytes.
      return shape.elementCount == 0 && type != .string && tensor.signature == nil
        ? Tensor(zeros: type, shape: shape) : nil
    }
    do throws(LoadError) {
      if let obstacle = tensor.obstacle { throw .unsupported("its elements cannot be read: \(obstacle)") }
      let limit = options.limits.maximumTensorElements
      if shape.elementCount > limit {
        throw .limit("maximumTensorElements", limit, found: "a tensor of the shape \(shape)")
      }
      if type == .string { return try Self.strings(bytes, shape) }
      guard bytes.count == type.byteCount(elements: shape.elementCount) else {
        throw .malformed(
          "\(type)\(shape) takes \(type.byteCount(elements: shape.elementCount) ?? 0) bytes; buffer \(tensor.buffer) "
            + "has \(bytes.count)", at: bytes.fileOffset)
      }
      let range = bytes.fileOffset..<(bytes.fileOffset + bytes.count)
      let constant = try file.tensor(type, shape, in: range)
      return type == .bool ? try Self.clean(constant, options) : constant
    } catch {
      throw error.under("tensor '\(tensor.name)'")
    }
  }

  /// For bool with every byte 0 or 1, which kernels rely on.
  private static func clean(_ tensor: Tensor, _ options: ImportOptions) throws(LoadError) -> Tensor {
    try tensor.withByteSpan { (bytes) throws(LoadError) in
      guard bytes.indices.contains(where: { bytes[$0] > 1 }) else { return tensor }
      return try Tensor.building(
        .bool, tensor.shape, account: options.allowance.memory
      ) { (output: inout OutputSpan<UInt8>) throws(LoadError) in
        for index in bytes.indices { output.append(bytes[index] == 0 ? 0 : 1) }
      }
    }
  }

  /// A count, the places where the texts begin and where the last one ends, then the texts.
  private static func strings(_ bytes: ByteView, _ shape: Shape) throws(LoadError) -> Tensor {
    let count = Int(try bytes.u32(0, "the count of texts"))
    guard count == shape.elementCount, count <= bytes.count / 4 else {
      throw .malformed(
        "string\(shape) takes \(shape.elementCount) texts; the buffer has \(count)", at: bytes.fileOffset)
    }
    var texts: [String] = []
    for index in 0..<count {
      let start = Int(try bytes.u32(4 + 4 * index, "the place of a text"))
      let end = Int(try bytes.u32(8 + 4 * index, "the end of a text"))
      guard let text = try bytes.slice(start, end - start, "text \(index)").text else {
        throw .malformed("text \(index) should be valid UTF-8", at: bytes.offset(start))
      }
      texts.append(text)
    }
    return Tensor(strings: texts, shape: shape)
  }
}
