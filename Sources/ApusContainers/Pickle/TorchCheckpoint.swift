// PyTorch's .pt and .pth files, in the form of a zip archive and in the older one: which tensors there are, and where
// their elements lie. https://docs.pytorch.org/docs/stable/notes/serialization.html

import ApusTensor

/// The entries of a zip archive, as far as a checkpoint asks for them.
package struct ArchiveEntries: Sendable {
  package let names: [String]
  /// The content of an entry; nil if there is none of that name.
  package let entry: @Sendable (String) throws(ContainerError) -> ByteView?

  package init(names: [String], entry: @escaping @Sendable (String) throws(ContainerError) -> ByteView?) {
    (self.names, self.entry) = (names, entry)
  }
}

/// The tensors of a checkpoint, and the rest of it as an inert pickle.
package struct TorchCheckpoint: Sendable {
  /// A block of elements that several tensors may share.
  package struct Storage: Sendable {
    package let key: String
    /// nil for bytes without a type, whose tensors say what they are.
    package let dataType: DataType?
    package let bytes: ByteView
    /// Where the tensors were, as `cpu` or `cuda:0`.
    package let device: String
  }

  package struct Tensor: Sendable {
    /// The keys of the dictionaries that lead to the tensor, joined by `/`; the names of modules by `.`.
    package let name: String
    package let dataType: DataType
    package let shape: [Int]
    /// Elements from one index of each dimension to the next.
    package let strides: [Int]
    /// The first element, counted in the storage.
    package let offset: Int
    package let storage: Storage
    package let requiresGradient: Bool

    package var count: Int { shape.reduce(1, *) }

    /// True if the elements lie in order, without gaps.
    package var isContiguous: Bool {
      var expected = 1
      for (size, stride) in zip(shape, strides).reversed() where size != 1 {
        if stride != expected { return shape.contains(0) }
        expected *= size
      }
      return true
    }
  }

  package internal(set) var tensors: [Tensor] = []
  /// What the file says beside the tensors.
  package let pickle: Pickle
  /// True for files of PyTorch before 1.6, or with `_use_new_zipfile_serialization=False`.
  package let isLegacy: Bool
  /// Names of tensors that were not read, with the reason: quantized, sparse or on no device.
  package internal(set) var skipped: [(name: String, reason: String)] = []

  // MARK: - The zip form

  /// Reads the `data.pkl` of an archive; the storages are its entries `data/KEY`.
  package init(archive: ArchiveEntries, limits: Pickle.Limits = Pickle.Limits()) throws(ContainerError) {
    let pickles = archive.names.filter { $0 == "data.pkl" || $0.hasSuffix("/data.pkl") }
    guard pickles.count == 1, let name = pickles.first else {
      throw ContainerError(
        .wrongFormat, "an archive of PyTorch should have one data.pkl; this one has \(pickles.count)")
    }
    let prefix = String(name.dropLast("data.pkl".count))
    if let order = try archive.entry(prefix + "byteorder"), order.text != "little" {
      throw .unsupported(
        "the elements should be stored with the lowest byte first; the file says \(order.text ?? "?")",
        remedy: "Save the file again on a little-endian machine")
    }
    guard let bytes = try archive.entry(name) else { throw .malformed("the archive has no \(name)") }
    pickle = try Pickle(bytes, limits: limits)
    isLegacy = false
    var collector = TorchCollector(pickle) { (key) throws(ContainerError) in
      try archive.entry(prefix + "data/" + key)
    }
    try collector.collect(pickle.root)
    (tensors, skipped) = (collector.tensors, collector.skipped)
  }

  // MARK: - The legacy form

  /// The number that a legacy file begins with, as a pickle of protocol 2.
  static let legacyMagic: [UInt8] = [0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]

  package static func isLegacy(_ bytes: ByteView) -> Bool {
    bytes.starts(with: [0x80, 2, 0x8A, 10] + legacyMagic)
  }

  /// Reads five pickles one after the other (magic number, version, machine, objects, keys of storages), then for each
  /// key a count and as many elements.
  package init(legacy bytes: ByteView, limits: Pickle.Limits = Pickle.Limits()) throws(ContainerError) {
    guard Self.isLegacy(bytes) else {
      throw ContainerError(.wrongFormat, "the file does not begin like one of PyTorch", byteOffset: 0)
    }
    var position = 0
    func next() throws(ContainerError) -> Pickle {
      let pickle = try Pickle(bytes.suffix(from: position, "a pickle"), limits: limits)
      position += pickle.byteCount
      return pickle
    }
    _ = try next()
    let version = try next()
    guard version.root == .int(1001) else {
      throw .unsupported("a legacy file of version 1001 was expected", at: bytes.offset(position))
    }
    let machine = try next()
    if machine.value("little_endian", in: machine.root) == .bool(false) {
      throw .unsupported("the elements should be stored with the lowest byte first", at: bytes.offset(position))
    }
    let pickle = try next()
    let keys = try next()
    guard let names = keys.items(keys.root) else {
      throw .malformed("a list of the keys of storages was expected", at: bytes.offset(position))
    }
    let widths = try TorchCollector.storageWidths(pickle)
    var storages: [String: ByteView] = [:]
    for name in names {
      guard let key = keys.string(name), let width = widths[key] else {
        throw .malformed("the key of a storage should be one that a tensor names", at: bytes.offset(position))
      }
      let count = try bytes.length(position, bytes: 8, "the elements of storage \(key)")
      let (size, overflow) = count.multipliedReportingOverflow(by: width)
      storages[key] = try bytes.slice(position + 8, overflow ? Int.max : size, "storage \(key)")
      position += 8 + size
    }
    self.pickle = pickle
    isLegacy = true
    let known = storages
    var collector = TorchCollector(pickle) { (key) throws(ContainerError) in known[key] }
    try collector.collect(pickle.root)
    (tensors, skipped) = (collector.tensors, collector.skipped)
  }
}

extension TorchCheckpoint.Tensor {
  /// The elements in order, row by row: a part of the file where they lie so, a copy otherwise. `maximumBytes` bounds
  /// the copy (a stride of 0 makes many elements of one).
  package func elements(maximumBytes: Int = 1 << 34) throws(ContainerError) -> ByteView {
    let width = dataType.byteWidth
    let (byteCount, overflow) = count.multipliedReportingOverflow(by: width)
    if overflow || byteCount > maximumBytes {
      throw ContainerError(.limitExceeded, "the tensor takes more than \(maximumBytes) bytes", path: name)
    }
    if isContiguous { return try storage.bytes.slice(offset * width, byteCount, "tensor \(name)") }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(byteCount)
    var place = [Int](repeating: 0, count: shape.count)
    storage.bytes.withUnsafeBytes { source in
      while bytes.count < byteCount {
        var element = offset
        for axis in place.indices { element += place[axis] * strides[axis] }
        // In bounds: strides and offset were checked when the tensor was read; the slice is checked all the same.
        bytes.append(contentsOf: source[(element * width)..<((element + 1) * width)])
        var axis = shape.count - 1
        while axis >= 0, place[axis] == shape[axis] - 1 {
          place[axis] = 0
          axis -= 1
        }
        if axis < 0 { return }
        place[axis] += 1
      }
    }
    return ByteView(bytes)
  }
}
