// Compiled models: reading the file. What is read here is checked at every step; the blocks are taken as they are,
// since kernels work on any bytes of the right number.

import ApusGraph
import ApusTensor

/// A compiled model that was read: a graph, and blocks of weights that stay in its file.
package final class CompiledModel: Sendable {
  package let content: CompiledContent
  package let environment: CompiledEnvironment
  /// The packed forms of its constants.
  package let forms: PackedForms
  /// Bytes of the blocks.
  package let blockBytes: Int
  private let file: FileBytes
  private let blocks: [Block]
  /// Constants that are there in packed forms only.
  private let absent: [TensorStorage]

  /// Weights in the file.
  struct Block: Sendable {
    var range: Range<Int>
    var digest: [UInt8]
  }

  /// True if the bytes are those of a compiled model.
  package static func isCompiled(_ file: FileBytes) -> Bool {
    file.withBytes { (bytes: Span<UInt8>) in
      bytes.count >= CompiledFormat.magic.count
        && CompiledFormat.magic.indices.allSatisfy { bytes[$0] == CompiledFormat.magic[$0] }
    }
  }

  /// Reads a model that was compiled for `environment`. Types and shapes of its graph must be inferred before it runs.
  package static func read(
    _ file: FileBytes, registry: OperatorRegistry, environment: CompiledEnvironment, options: ImportOptions
  ) throws(LoadError) -> CompiledModel {
    do throws(LoadError) {
      return try CompiledModel(file, registry, environment, options)
    } catch {
      throw error.inFile(file.name)
    }
  }

  private init(
    _ file: FileBytes, _ registry: OperatorRegistry, _ expected: CompiledEnvironment, _ options: ImportOptions
  ) throws(LoadError) {
    let (checked, sections) = try CompiledModel.open(file, options.limits)
    func section(_ kind: CompiledFormat.Section) throws(LoadError) -> Range<Int> {
      guard let range = sections[kind] else { throw .malformedCompiledModel("a part is missing") }
      return range
    }
    var decoder = try CompiledDecoder(checked.bytes(in: section(.environment)), options: options)
    environment = try decoder.environment()
    try decoder.end()
    if let reason = environment.refusal(under: expected) {
      throw LoadError(
        .wrongFormat, reason, remedy: "Compile the model for this machine and version, or load the original")
    }
    decoder = try CompiledDecoder(checked.bytes(in: section(.constants)), options: options)
    let firstBlock = checked.count.alignedUp(to: CompiledFormat.pageBytes)
    let directory = try decoder.directory(
      blocks: firstBlock..<max(firstBlock, file.count), small: section(.small))
    try decoder.end()
    var storages: [TensorStorage] = []
    for block in directory.blocks { storages.append(try file.slice(block.range)) }
    let nothing = try AbsentConstants(largest: directory.largestAbsent)
    var (constants, absent) = ([TensorStorage](), [TensorStorage]())
    for constant in directory.constants {
      switch constant.place {
      case .small(let range): constants.append(try checked.slice(range))
      case .block(let number): constants.append(storages[number])
      case .none:
        constants.append(nothing.storage(constant.byteCount))
        absent.append(constants[constants.count - 1])
      }
    }
    decoder = try CompiledDecoder(checked.bytes(in: section(.model)), options: options, constants: constants)
    content = try decoder.content()
    try decoder.end()
    do throws(OperatorError) {
      try GraphVerifier.verify(content.model.graph, registry: registry)
    } catch {
      throw .malformedCompiledModel("\(error)")
    }
    forms = PackedForms(
      constants: constants,
      blocks: Dictionary(directory.forms.map { ($0.form, storages[$0.block]) }) { first, _ in first })
    blockBytes = directory.blocks.reduce(0) { $0 + $1.range.count }
    (self.file, blocks, self.absent) = (file, directory.blocks, absent)
  }

  /// The part of the file that is checked, in memory of this process, and the sections in it.
  private static func open(
    _ file: FileBytes, _ limits: LoadLimits
  ) throws(LoadError) -> (checked: FileBytes, sections: [CompiledFormat.Section: Range<Int>]) {
    guard file.count >= CompiledFormat.headerBytes else { throw .malformedCompiledModel("the file is cut off") }
    let header = file.bytes(in: 0..<CompiledFormat.headerBytes)
    let version = UInt32(truncatingIfNeeded: header.littleEndian(at: 8, count: 4))
    guard version == CompiledFormat.version else {
      throw LoadError(
        .wrongFormat, "the compiled model has version \(version) of the format; this is \(CompiledFormat.version)",
        remedy: "Compile the model with this version of Apus")
    }
    guard header.littleEndian(at: 16, count: 8) == UInt64(file.count) else {
      throw .malformedCompiledModel("it was \(header.littleEndian(at: 16, count: 8)) bytes, and is \(file.count)")
    }
    let checkedBytes = header.littleEndian(at: 24, count: 8)
    guard checkedBytes >= UInt64(CompiledFormat.headerBytes), checkedBytes <= UInt64(file.count) else {
      throw .malformedCompiledModel("its structure has \(checkedBytes) bytes of \(file.count)")
    }
    if checkedBytes > UInt64(limits.maximumStructureBytes) {
      throw .limit(
        "maximumStructureBytes", limits.maximumStructureBytes, found: "the structure has \(checkedBytes) bytes")
    }
    // From here on nothing that happens to the file matters but for the blocks.
    let checked = try file.copy(of: 0..<Int(checkedBytes))
    let digest = CompiledModel.digest(checked)
    guard checked.bytes(in: CompiledFormat.digestRange) == digest else {
      throw .malformedCompiledModel("its digest is another")
    }
    let count = checked.bytes(in: 0..<CompiledFormat.headerBytes).littleEndian(at: 12, count: 4)
    return (checked, try sections(checked, count: count))
  }

  private static func sections(
    _ checked: FileBytes, count: UInt64
  ) throws(LoadError) -> [CompiledFormat.Section: Range<Int>] {
    let end = CompiledFormat.headerBytes + Int(count) * CompiledFormat.sectionBytes
    guard count <= UInt64(CompiledFormat.Section.allCases.count), end <= checked.count else {
      throw .malformedCompiledModel("it has \(count) parts")
    }
    let table = checked.bytes(in: CompiledFormat.headerBytes..<end)
    var sections: [CompiledFormat.Section: Range<Int>] = [:]
    for start in stride(from: 0, to: table.count, by: CompiledFormat.sectionBytes) {
      let kind = UInt32(truncatingIfNeeded: table.littleEndian(at: start, count: 4))
      let (first, bytes) = (table.littleEndian(at: start + 8, count: 8), table.littleEndian(at: start + 16, count: 8))
      guard let section = CompiledFormat.Section(rawValue: kind), first <= UInt64(checked.count),
        bytes <= UInt64(checked.count) - first
      else { throw .malformedCompiledModel("a part lies outside of it") }
      sections[section] = Int(first)..<Int(first + bytes)
    }
    return sections
  }

  /// The digest of the checked part, with zeros in the place of the digest.
  private static func digest(_ checked: FileBytes) -> [UInt8] {
    checked.withBytes { (bytes: Span<UInt8>) in
      var hash = SHA256()
      hash.update(bytes.extracting(0..<CompiledFormat.digestRange.lowerBound))
      hash.update([UInt8](repeating: 0, count: CompiledFormat.digestRange.count).span)
      hash.update(bytes.extracting(CompiledFormat.digestRange.upperBound..<bytes.count))
      return hash.finish()
    }
  }

  // MARK: - Afterwards

  /// The file, unless its bytes are in memory of the process.
  package var mapping: MappedFile? { file.mapping }

  /// Throws if somebody asked for a constant that is not in the file, once all nodes are prepared.
  package func checkAbsent() throws(LoadError) {
    if absent.contains(where: { !($0.deferred?.isPending ?? true) }) {
      throw LoadError.malformedCompiledModel("it lacks weights that a node reads").inFile(file.name)
    }
  }

  /// Compares the blocks with their digests, which reads all of them.
  package func checkBlocks(within allowance: Allowance) throws(LoadError) {
    for (number, block) in blocks.enumerated() {
      do throws(OperatorError) {
        try allowance.checkTime()
      } catch {
        throw LoadError(.limitExceeded, error.message, remedy: error.remedy).inFile(file.name)
      }
      let digest = file.withBytes { (bytes: Span<UInt8>) in SHA256.digest(bytes.extracting(block.range)) }
      if digest != block.digest {
        throw LoadError.malformedCompiledModel("block \(number) of its weights has another digest").inFile(file.name)
      }
    }
  }
}

/// Where the constants and the packed forms of a compiled model are.
struct CompiledDirectory {
  enum Place {
    /// In the file, checked.
    case small(Range<Int>)
    /// In the block of that number.
    case block(Int)
    case none
  }

  var blocks: [CompiledModel.Block]
  var constants: [(byteCount: Int, place: Place)]
  var forms: [(form: PackedForms.Form, block: Int)]

  /// The bytes of the largest constant that is in no place.
  var largestAbsent: Int {
    constants.reduce(0) { largest, constant in
      if case .none = constant.place { max(largest, constant.byteCount) } else { largest }
    }
  }
}

extension CompiledDecoder {
  mutating func environment() throws(LoadError) -> CompiledEnvironment {
    CompiledEnvironment(version: try text(), level: try text(), features: try text(), tiles: try text())
  }

  /// Blocks lie in `outer`, each with readable bytes after its end, and small constants in `small`.
  mutating func directory(blocks outer: Range<Int>, small: Range<Int>) throws(LoadError) -> CompiledDirectory {
    let blocks = try list { (decoder) throws(LoadError) in
      let range = try decoder.range(in: outer)
      return CompiledModel.Block(range: range, digest: try decoder.raw(CompiledFormat.digestRange.count))
    }
    let constants = try list { (decoder) throws(LoadError) -> (byteCount: Int, place: CompiledDirectory.Place) in
      switch try decoder.number(below: 3) {
      case 0:
        let range = try decoder.range(in: small)
        return (range.count, .small(range))
      case 1:
        let number = try decoder.number(below: blocks.count)
        return (blocks[number].range.count, .block(number))
      default: return (try decoder.number(), .none)
      }
    }
    let forms = try list { (decoder) throws(LoadError) -> (form: PackedForms.Form, block: Int) in
      let constant = try decoder.number(below: constants.count)
      let form = PackedForms.Form(constant: constant, format: try decoder.text())
      return (form, try decoder.number(below: blocks.count))
    }
    return CompiledDirectory(blocks: blocks, constants: constants, forms: forms)
  }

  /// A place and a number of bytes, with the padding in `outer`.
  private mutating func range(in outer: Range<Int>) throws(LoadError) -> Range<Int> {
    let (start, count) = (try number(), try number())
    guard start >= 0, start % CompiledFormat.alignment == 0, start <= outer.count - CompiledFormat.padding,
      count <= outer.count - CompiledFormat.padding - start, outer.lowerBound % CompiledFormat.alignment == 0
    else { throw malformed("weights lie outside of it") }
    return outer.lowerBound + start..<outer.lowerBound + start + count
  }
}

extension [UInt8] {
  /// An unsigned number of `count` bytes, the lowest first. The bytes must be there.
  func littleEndian(at start: Int, count: Int) -> UInt64 {
    self[start..<start + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
  }

  mutating func appendLittleEndian(_ value: UInt64, count: Int) {
    for index in 0..<count { append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
  }
}

extension Int {
  /// The next multiple; `self` must be far from the largest number.
  func alignedUp(to alignment: Int) -> Int { (self + alignment - 1) / alignment * alignment }
}
