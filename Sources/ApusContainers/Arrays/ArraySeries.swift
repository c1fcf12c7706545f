// Arrays that are read slice by slice: memory holds what was asked for, not the file.

import ApusTensor

/// An array in a .npy file or an archive, of which slices along the first axis are read one at a time. What an archive
/// has compressed is decompressed once and held as NumPy wrote it; so is an array in Fortran order, whose slices lie
/// scattered.
package struct ArraySeries: Sendable {
  /// The name in the archive; empty for a .npy file.
  package let name: String
  package let dataType: DataType
  package let shape: Shape
  private let content: Content
  private let limits: LoadLimits

  private enum Content: Sendable {
    case elements(FileBytes, NpyLayout)
    case tensor(Tensor)
  }

  /// The array in `range` of `file`, of which only the header is read now.
  init(
    _ file: FileBytes, in range: Range<Int>, name: String, as declared: DataType?, limits: LoadLimits
  ) throws(LoadError) {
    let head = try file.part(range.lowerBound..<min(range.upperBound, range.lowerBound + NpyLayout.headerLimit))
    var layout = try head.withBytes { (bytes: Span<UInt8>) throws(LoadError) in
      try NpyLayout(bytes, 0..<range.count, declared: declared, limits: limits)
    }
    layout.data = (range.lowerBound + layout.data.lowerBound)..<(range.lowerBound + layout.data.upperBound)
    (self.name, self.limits) = (name, limits)
    (dataType, shape) = (layout.element.dataType, layout.shape)
    guard layout.isFortranOrder else {
      content = .elements(file, layout)
      return
    }
    let all = try file.part(layout.data)
    layout.data = 0..<layout.data.count
    content = .tensor(try Npy.tensor(all, layout, limits: limits))
  }

  /// The whole array.
  package func all() throws(LoadError) -> Tensor {
    switch content {
    case .tensor(let tensor): return tensor
    case .elements(let file, let layout): return try read(file, layout, layout.data, shape)
    }
  }

  /// Some entries of the first axis, which stays. The array must have one.
  package func slice(_ entries: Range<Int>) throws(LoadError) -> Tensor {
    precondition(shape.rank > 0 && entries.lowerBound >= 0 && entries.upperBound <= shape[0])
    var part = shape
    part[0] = entries.count
    let width = shape.count(of: 1..<shape.rank)
    switch content {
    case .elements(let file, let layout):
      let bytes = width * layout.element.width
      let start = layout.data.lowerBound + entries.lowerBound * bytes
      return try read(file, layout, start..<(start + entries.count * bytes), part)
    case .tensor(let tensor):
      let elements = (entries.lowerBound * width)..<(entries.upperBound * width)
      if let strings = tensor.strings { return Tensor(strings: Array(strings[elements]), shape: part) }
      guard !dataType.isPacked, let offset = dataType.byteCount(elements: elements.lowerBound) else {
        throw LoadError(
          .unsupported, "slices of \(dataType) in Fortran order are not read", remedy: "Save it in C order")
      }
      return Tensor(
        dataType: dataType, shape: part, storage: tensor.storage, byteOffset: tensor.byteOffset + offset)
    }
  }

  private func read(
    _ file: FileBytes, _ layout: NpyLayout, _ bytes: Range<Int>, _ shape: Shape
  ) throws(LoadError) -> Tensor {
    var layout = layout
    layout.shape = shape
    layout.data = 0..<bytes.count
    return try Npy.tensor(file.part(bytes), layout, limits: limits)
  }
}

extension Npy {
  /// The array in the file at `path`, to be read slice by slice.
  package static func series(
    path: String, as declared: DataType? = nil, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> ArraySeries {
    let file = try FileBytes.open(path: path, limits: limits, reading: .ranges)
    do throws(LoadError) {
      return try ArraySeries(file, in: 0..<file.count, name: "", as: declared, limits: limits)
    } catch {
      throw error.inFile(path)
    }
  }
}

extension Npz {
  /// The arrays in the archive at `path`, in its order, to be read slice by slice. `declared` gives types for what
  /// NumPy stores as bytes. `checks`: whether the checksums of what is not compressed are compared, which reads it all.
  package static func series(
    path: String, as declared: [String: DataType] = [:], checks: Bool, limits: LoadLimits = LoadLimits()
  ) throws(LoadError) -> [ArraySeries] {
    let file = try FileBytes.open(path: path, limits: limits, reading: .ranges)
    let archive = try ZipArchive(file, rules: .arrays, limits: limits)
    var arrays: [ArraySeries] = []
    for entry in archive.entries {
      let name = arrayName(entry.name)
      let (bytes, range) = try archive.contents(of: entry, checks: checks)
      do throws(LoadError) {
        arrays.append(try ArraySeries(bytes, in: range, name: name, as: declared[name], limits: limits))
      } catch {
        throw error.under("array '\(name)'").inFile(path)
      }
    }
    return arrays
  }
}
