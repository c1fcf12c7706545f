// Tensors of sizes that come from a request, a file or a user: what does not fit is an error.

extension Tensor {
  /// A tensor of zero bytes (0, false); of empty strings for the string type.
  public init(zeros dataType: DataType, validating shape: Shape) throws(TensorError) {
    guard dataType != .string else {
      let count = try Tensor.count(of: shape)
      // Headers of strings cannot be asked for in a way that fails, so the block is tried first.
      _ = try TensorStorage(byteCount: try Tensor.byteCount(count, width: MemoryLayout<String>.stride, shape))
      self.init(strings: [String](repeating: "", count: count), shape: shape)
      return
    }
    try self.init(uninitialized: dataType, shape: shape)
    storage.base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
  }

  /// A tensor of `elements` in row-major order, which must be as many as `shape` has.
  public init<Element: TensorElement>(_ elements: [Element], validating shape: Shape) throws(TensorError) {
    try Tensor.check(elements.count, "elements", shape)
    try self.init(uninitialized: Element.dataType, shape: shape)
    let target = storage.base
    elements.withUnsafeBytes { bytes in
      if let source = bytes.baseAddress { target.copyMemory(from: source, byteCount: bytes.count) }
    }
  }

  /// A string tensor. `strings` must be as many as `shape` has.
  public init(strings: [String], validating shape: Shape) throws(TensorError) {
    try Tensor.check(strings.count, "strings", shape)
    self.init(strings: strings, shape: shape)
  }

  /// The same elements under another shape, which must have as many.
  public func reshaped(validating shape: Shape) throws(TensorError) -> Tensor {
    try Tensor.check(count, "elements", shape)
    return reshaped(to: shape)
  }

  private static func count(of shape: Shape) throws(TensorError) -> Int {
    guard let count = shape.checkedElementCount else { throw TensorError(.mismatch, "\(shape) is no possible shape") }
    return count
  }

  private static func byteCount(_ count: Int, width: Int, _ shape: Shape) throws(TensorError) -> Int {
    let (bytes, overflow) = count.multipliedReportingOverflow(by: width)
    if overflow { throw TensorError(.mismatch, "\(shape) is no possible shape") }
    return bytes
  }

  private static func check(_ found: Int, _ what: String, _ shape: Shape) throws(TensorError) {
    let count = try count(of: shape)
    guard found == count else {
      throw TensorError(.mismatch, "\(found) \(what) were given; the shape \(shape) has \(count)")
    }
  }

  /// The tensor that `make` makes; traps with the reason if it throws.
  static func unwrap(_ make: () throws(TensorError) -> Tensor) -> Tensor {
    do throws(TensorError) {
      return try make()
    } catch {
      preconditionFailure("\(error)")
    }
  }
}
