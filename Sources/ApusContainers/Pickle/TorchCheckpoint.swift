// PyTorch's .pt and .pth files, in the form of a zip archive and in the older one: which tensors there are, and where
// their elements lie. https://docs.pytorch.org/docs/stable/notes/serialization.html

import ApusTensor

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

    init(
      name: String, dataType: DataType, shape: [Int], strides: [Int], offset: Int, storage: Storage,
      requiresGradient: Bool
    ) {
      (self.name, self.dataType, self.shape, self.strides) = (name, dataType, shape, strides)
      (self.offset, self.storage, self.requiresGradient) = (offset, storage, requiresGradient)
    }

    /// A tensor whose elements lie in `bytes`. Throws if one of them does not.
    package init(
      checking name: String, _ dataType: DataType, shape: [Int], strides: [Int], offset: Int, storage bytes: ByteView
    ) throws(LoadError) {
      let storage = Storage(key: name, dataType: dataType, bytes: bytes, device: "cpu")
      try TorchCollector.check(shape, strides, offset, dataType, storage, name)
      self.init(
        name: name, dataType: dataType, shape: shape, strides: strides, offset: offset, storage: storage,
        requiresGradient: false)
    }

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

  /// Reads a file in either form. Storages of a file that is neither in memory nor mapped are read into memory.
  package init(_ file: FileBytes, limits: LoadLimits = LoadLimits()) throws(LoadError) {
    do throws(LoadError) {
      let head = try file.view(0..<min(file.count, 4))
      if head.withBytes({ ZipArchive.isZip($0) }) {
        self = try TorchCheckpoint(archive: ZipArchive(file, limits: limits))
      } else {
        self = try TorchCheckpoint(legacy: file.view())
      }
    } catch {
      throw error.inFile(file.name)
    }
  }

  // MARK: - The zip form

  /// The pickles of an archive that say what its tensors are; one in archives of PyTorch.
  package static func pickles(of archive: ZipArchive) -> [ZipArchive.Entry] {
    archive.entries.filter { $0.name == "data.pkl" || $0.name.hasSuffix("/data.pkl") }
  }

  /// Reads the `data.pkl` of an archive; the storages are its entries `data/KEY`. `checks`: whether the checksums of
  /// storages are compared, which reads them all.
  package init(
    archive: ZipArchive, limits: Pickle.Limits = Pickle.Limits(), checks: Bool = true
  ) throws(LoadError) {
    let pickles = Self.pickles(of: archive)
    guard pickles.count == 1, let name = pickles.first?.name else {
      throw LoadError(
        .wrongFormat, "an archive of PyTorch should have one data.pkl; this one has \(pickles.count)")
    }
    func content(_ name: String, checks: Bool) throws(LoadError) -> ByteView? {
      guard let entry = archive[name] else { return nil }
      let (bytes, range) = try archive.contents(of: entry, checks: checks)
      return try bytes.view(range)
    }
    let prefix = String(name.dropLast("data.pkl".count))
    if let order = try content(prefix + "byteorder", checks: true), order.text != "little" {
      throw .unsupported(
        "the elements should be stored with the lowest byte first; the file says \(order.text ?? "?")",
        remedy: "Save the file again on a little-endian machine")
    }
    guard let bytes = try content(name, checks: true) else { throw .malformed("the archive has no \(name)") }
    pickle = try Pickle(bytes, limits: limits)
    isLegacy = false
    var collector = TorchCollector(pickle) { (key) throws(LoadError) in
      try content(prefix + "data/" + key, checks: checks)
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
  package init(legacy bytes: ByteView, limits: Pickle.Limits = Pickle.Limits()) throws(LoadError) {
    guard Self.isLegacy(bytes) else {
      throw LoadError(.wrongFormat, "the file does not begin like one of PyTorch", byteOffset: 0)
    }
    var position = 0
    func next() throws(LoadError) -> Pickle {
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
    var collector = TorchCollector(pickle) { (key) throws(LoadError) in known[key] }
    try collector.collect(pickle.root)
    (tensors, skipped) = (collector.tensors, collector.skipped)
  }
}

extension TorchCheckpoint.Tensor {
  /// So many bytes may come of few, and so many times more than the storage has: a file of some hundred bytes says
  /// gigabytes with strides of 0.
  private static let (repeatedBytes, repetitions) = (64 << 20, 16)

  /// The elements in order, row by row: a part of the file where they lie so, a copy otherwise. `maximumBytes` bounds
  /// the copy (a stride of 0 makes many elements of one).
  package func elements(maximumBytes: Int = 1 << 34) throws(LoadError) -> ByteView {
    let width = dataType.byteWidth
    let (byteCount, overflow) = count.multipliedReportingOverflow(by: width)
    if overflow || byteCount > maximumBytes {
      throw LoadError(.limitExceeded, "the tensor takes more than \(maximumBytes) bytes", path: name)
    }
    if isContiguous { return try storage.bytes.slice(offset * width, byteCount, "tensor \(name)") }
    if byteCount > max(Self.repeatedBytes, storage.bytes.count * Self.repetitions) {
      throw LoadError(
        .limitExceeded, "the tensor takes \(byteCount) bytes of the \(storage.bytes.count) of its storage",
        remedy: "Save it without strides of 0 (clone() before torch.save)", path: name)
    }
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
