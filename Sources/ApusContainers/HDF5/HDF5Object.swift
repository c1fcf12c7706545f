// Groups and datasets: an object header, what hangs on it, and the path that led there.

import ApusTensor

/// A link of a group.
package struct HDF5Link: Sendable, Hashable {
  package enum Target: Sendable, Hashable {
    /// The address of an object header.
    case hard(Int)
    /// A path, from the root if it begins with `/`.
    case soft(String)
    /// An object of another file, which is never opened.
    case external
  }
  package let name: String
  package let target: Target
}

/// A group, a dataset, or a committed type.
package struct HDF5Object: Sendable {
  let source: HDF5File.Source
  /// Where the header lies; no two objects share it.
  package let address: Int
  package let path: String
  let header: HDF5ObjectHeader
  /// How many soft links led here.
  private let softLinks: Int

  init(_ source: HDF5File.Source, _ address: Int, path: String, softLinks: Int = 0) throws(LoadError) {
    (self.source, self.address, self.path, self.softLinks) = (source, address, path, softLinks)
    do {
      header = try HDF5ObjectHeader(source, at: address)
    } catch {
      throw error.at(path: path)
    }
  }

  package var isDataset: Bool { header.contains(.layout) }
  package var isGroup: Bool { header.contains(.symbolTable) || header.contains(.linkInfo) || header.contains(.link) }

  /// The last part of the path.
  package var name: String { path.split(separator: "/").last.map(String.init) ?? "/" }

  // MARK: - Groups

  /// The links of a group; those of a symbol table come by name, others in the order of the header.
  package func links() throws(LoadError) -> [HDF5Link] {
    do {
      return try source.links(of: header, at: address)
    } catch {
      throw error.at(path: path)
    }
  }

  /// The object that a link of this group leads to.
  package func open(_ link: HDF5Link) throws(LoadError) -> HDF5Object {
    let path = (path == "/" ? "/" : path + "/") + link.name
    switch link.target {
    case .hard(let address): return try HDF5Object(source, address, path: path, softLinks: softLinks)
    case .soft(let target): return try follow(target, path: path)
    case .external:
      throw LoadError(
        .unsupported, "the link leads to another file, which is not opened",
        remedy: "Copy the object into the file", path: path)
    }
  }

  /// Soft links may lead to soft links; a circle ends after `maximumDepth` of them.
  private func follow(_ target: String, path: String) throws(LoadError) -> HDF5Object {
    if softLinks >= source.limits.maximumDepth {
      throw LoadError(
        .limitExceeded, "more than \(source.limits.maximumDepth) soft links lead to one another", path: path)
    }
    var object = self
    if target.hasPrefix("/") { object = try HDF5Object(source, source.rootAddress, path: "/", softLinks: softLinks) }
    for name in target.split(separator: "/") {
      guard let link = try object.links().first(where: { $0.name == name }) else {
        throw LoadError(.malformed, "the soft link leads to \(target), which is not there", path: path)
      }
      object = try HDF5Object(source, object.address, path: object.path, softLinks: softLinks + 1).open(link)
    }
    return object
  }

  /// The object behind a link of this group; nil if there is none of that name.
  package func child(_ name: String) throws(LoadError) -> HDF5Object? {
    guard let link = try links().first(where: { $0.name == name }) else { return nil }
    return try open(link)
  }

  // MARK: - Attributes

  /// All attributes, in the order of the header.
  package func attributes() throws(LoadError) -> [HDF5Attribute] {
    do {
      if let info = header.first(.attributeInfo) { try HDF5Attribute.checkIsCompact(info.content, source) }
      var attributes: [HDF5Attribute] = []
      for message in header.messages where message.kind == .attribute {
        attributes.append(try HDF5Attribute(header.content(of: message), source))
      }
      return attributes
    } catch {
      throw error.at(path: path)
    }
  }

  package func attribute(_ name: String) throws(LoadError) -> HDF5Attribute? {
    try attributes().first { $0.name == name }
  }

  // MARK: - Datasets

  /// The type and shape of a dataset.
  package func contents() throws(LoadError) -> (type: HDF5Datatype, shape: [Int]) {
    let (type, space) = try described()
    return (type, space.dimensions)
  }

  private func described() throws(LoadError) -> (HDF5Datatype, HDF5Dataspace) {
    do throws(LoadError) {
      guard let type = header.first(.datatype), let space = header.first(.dataspace) else {
        throw .malformed("a dataset should have a type and a shape", at: source.bytes.offset(address))
      }
      return (
        try HDF5Datatype(header.content(of: type), source), try HDF5Dataspace(header.content(of: space), source)
      )
    } catch {
      throw error.at(path: path)
    }
  }

  /// The elements of a dataset. Contiguous ones are a part of the file; others are put together.
  package func values() throws(LoadError) -> HDF5Values {
    let (type, space) = try described()
    do {
      let bytes = try HDF5Layout.elements(of: header, type, space, source)
      return HDF5Values(type: type, shape: space.dimensions, count: space.count, bytes: bytes, source: source)
    } catch {
      throw error.at(path: path)
    }
  }
}
