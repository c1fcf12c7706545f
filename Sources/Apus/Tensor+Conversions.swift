// Tensors from and to nested arrays, spans, memory of the caller, and .npy files.

import ApusFormats
public import FoundationEssentials

// MARK: - Nested arrays

extension Tensor {
  /// A tensor of rank 2 from rows of equal length; nil if the lengths differ.
  public init?<Element: TensorElement>(_ rows: [[Element]]) {
    let width = rows.first?.count ?? 0
    guard rows.allSatisfy({ $0.count == width }) else { return nil }
    self.init(rows.flatMap { $0 }, shape: [rows.count, width])
  }

  /// A tensor of rank 3 from planes of equal shape; nil if the shapes differ.
  public init?<Element: TensorElement>(_ planes: [[[Element]]]) {
    let height = planes.first?.count ?? 0
    let width = planes.first?.first?.count ?? 0
    guard planes.allSatisfy({ $0.count == height && $0.allSatisfy { $0.count == width } }) else { return nil }
    self.init(planes.flatMap { $0.flatMap { $0 } }, shape: [planes.count, height, width])
  }

  /// The rows of a tensor of rank 2; nil if the rank or the element type is another.
  public func rows<Element: TensorElement>(as type: Element.Type = Element.self) -> [[Element]]? {
    guard rank == 2, let flat = elements(as: Element.self) else { return nil }
    let width = shape[1]
    return (0..<shape[0]).map { Array(flat[$0 * width..<($0 + 1) * width]) }
  }
}

// MARK: - Spans and memory of the caller

extension Tensor {
  /// A tensor with a copy of the elements of `span`, which must be as many as `shape` has.
  public init<Element: TensorElement>(copying span: Span<Element>, shape: Shape) {
    self = span.withUnsafeBufferPointer { Tensor(Array($0), shape: shape) }
  }

  /// Calls `body` with the elements; nil if the element type is another. Copies only what is not aligned.
  public func withSpan<Element: TensorElement, Result, Failure: Error>(
    as type: Element.Type = Element.self, _ body: (Span<Element>) throws(Failure) -> Result
  ) throws(Failure) -> Result? {
    guard dataType == Element.dataType else { return nil }
    let tensor = isAligned(to: MemoryLayout<Element>.alignment) ? self : copied()
    return try tensor.withUnsafeBytes { (bytes: UnsafeRawBufferPointer) throws(Failure) -> Result in
      // Aligned by the line above, and initialised as every published tensor is.
      let elements = UnsafeBufferPointer(
        start: bytes.baseAddress?.assumingMemoryBound(to: Element.self), count: tensor.count)
      return try body(elements.span)
    }
  }

  /// Calls `body` with a tensor over the caller's elements, without a copy. Neither the tensor nor an output of a run that
  /// may be a view of it (the result of a model that only reshapes) may be used after `body` has returned.
  public static func withBorrowed<Element: TensorElement, Result, Failure: Error>(
    _ span: Span<Element>, shape: Shape, _ body: (Tensor) throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(span.count == shape.elementCount, "\(span.count) elements for a shape of \(shape)")
    return try span.withUnsafeBufferPointer { (buffer: UnsafeBufferPointer<Element>) throws(Failure) -> Result in
      guard let base = buffer.baseAddress else { return try body(Tensor(zeros: Element.dataType, shape: shape)) }
      // Tensors are never written through, so the missing `const` does no harm.
      let storage = TensorStorage(
        base: UnsafeMutableRawPointer(mutating: base), byteCount: buffer.count * MemoryLayout<Element>.stride, release: nil)
      return try body(Tensor(dataType: Element.dataType, shape: shape, storage: storage))
    }
  }

  /// A tensor over memory of the caller, without a copy. The memory must hold the elements, unchanged, until `release` is
  /// called, once, when no tensor refers to it any more.
  public init(
    noCopy buffer: UnsafeMutableRawBufferPointer, dataType: DataType, shape: Shape,
    release: @escaping @Sendable (UnsafeMutableRawPointer, Int) -> Void
  ) {
    let needed = dataType.byteCount(elements: shape.checkedElementCount ?? Int.max)
    precondition(dataType != .string && needed.map { $0 <= buffer.count } ?? false, "\(buffer.count) bytes for \(dataType)\(shape)")
    guard let base = buffer.baseAddress else {
      self.init(zeros: dataType, shape: shape)
      return
    }
    self.init(
      dataType: dataType, shape: shape, storage: TensorStorage(base: base, byteCount: buffer.count, release: release))
  }
}

// MARK: - Files

extension Tensor {
  /// Reads a .npy file. Throws `LoadError`.
  public init(npy url: URL, limits: LoadLimits = LoadLimits()) throws(LoadError) {
    self = try Npy.decode(MappedFile.open(path: url.path(percentEncoded: false), limits: limits), limits: limits)
  }

  /// Writes a .npy file. Types that NumPy lacks are written as types that hold the same numbers.
  public func write(npy url: URL) throws {
    try Data(Npy.encode(self)).write(to: url)
  }
}
