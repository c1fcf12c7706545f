// Compiled models: writing the file.

import ApusGraph
import ApusTensor

/// A model on its way to a file: encoded, to be prepared from what was encoded, then written with what was packed.
package struct CompiledDraft {
  private let sources: [ConstantSource]
  private let model: [UInt8]
  /// Stand-ins for the constants, by number, which note who reads them.
  private let constants: [TensorStorage]
  /// Notes the forms that are packed while the graph of `content` is prepared.
  package let forms: PackedForms

  /// What was written.
  package struct Summary: Sendable {
    package var fileBytes = 0
    /// Packed forms, and their bytes.
    package var forms = 0
    package var formBytes = 0
    /// Bytes of the constants that are there as they were.
    package var constantBytes = 0
  }

  /// Constants that are read while the model is prepared are charged to `account`.
  package init(_ content: CompiledContent, account: MemoryAccount?) throws(LoadError) {
    var encoder = CompiledEncoder()
    encoder.content(content)
    sources = encoder.sources
    model = encoder.finish()
    var constants: [TensorStorage] = []
    for source in sources { constants.append(try WatchedConstants.storage(source, account: account)) }
    self.constants = constants
    forms = PackedForms(constants: constants)
  }

  /// The content as whoever loads the file will find it. Types and shapes must be inferred before it is prepared.
  package func content(options: ImportOptions) throws(LoadError) -> CompiledContent {
    var decoder = try CompiledDecoder(model, options: options, constants: constants)
    let content = try decoder.content()
    try decoder.end()
    return content
  }

  // MARK: - Writing

  /// Bytes in the file that come from a tensor.
  private struct Block {
    var tensor: Tensor
    /// From the first block on.
    var start: Int
    var digest: [UInt8]
  }

  /// Writes the file, once the graph of `content` is prepared. `progress` is called with shares from 0 to 1.
  package func write(
    to path: String, environment: CompiledEnvironment, progress: (Double) -> Void
  ) throws(LoadError) -> Summary {
    var (blocks, summary) = ([Block](), Summary())
    var end = 0
    func add(_ tensor: Tensor) -> Int {
      blocks.append(Block(tensor: tensor, start: end, digest: []))
      end = (end + tensor.byteCount + CompiledFormat.padding).alignedUp(to: CompiledFormat.pageBytes)
      return blocks.count - 1
    }
    var small: [UInt8] = []
    let places = try sources.indices.map { (number) throws(LoadError) -> (kind: Int, value: Int) in
      let (source, constant) = (sources[number], constants[number])
      if constant.deferred?.isPending ?? false, !source.isAttribute { return (2, source.byteCount) }
      summary.constantBytes += source.byteCount
      let bytes = source.bytes
      if source.byteCount > CompiledFormat.largestSmall, !source.decides { return (1, add(bytes)) }
      let start = small.count
      try CompiledDraft.pieces(of: bytes) { (piece) throws(LoadError) in
        for index in piece.indices { small.append(piece[index]) }
      }
      small += [UInt8](repeating: 0, count: (small.count).alignedUp(to: CompiledFormat.alignment) - small.count)
      return (0, start)
    }
    small += [UInt8](repeating: 0, count: CompiledFormat.padding)
    let forms = forms.all.sorted { ($0.key.constant, $0.key.format) < ($1.key.constant, $1.key.format) }
    let numbers = forms.map { add(Tensor(dataType: .uint8, shape: [$0.value.byteCount], storage: $0.value)) }
    summary.forms = forms.count
    summary.formBytes = forms.reduce(0) { $0 + $1.value.byteCount }

    let all = max(1, 2 * blocks.reduce(0) { $0 + $1.tensor.byteCount })
    var done = 0
    for index in blocks.indices {
      var hash = SHA256()
      try CompiledDraft.pieces(of: blocks[index].tensor) { (piece) throws(LoadError) in
        hash.update(piece)
        done += piece.count
        progress(Double(done) / Double(all))
      }
      blocks[index].digest = hash.finish()
    }
    let checked = checkedPart(
      environment, blocks, places, zip(forms, numbers).map { (form: $0.key, block: $1) }, small, blockBytes: end)
    var file = try OutputFile(path: path)
    try file.write(checked)
    for block in blocks {
      try file.pad(to: checked.count.alignedUp(to: CompiledFormat.pageBytes) + block.start)
      try CompiledDraft.pieces(of: block.tensor) { (piece) throws(LoadError) in
        try file.write(piece)
        done += piece.count
        progress(Double(done) / Double(all))
      }
    }
    try file.pad(to: checked.count.alignedUp(to: CompiledFormat.pageBytes) + end)
    summary.fileBytes = file.count
    try file.commit()
    return summary
  }

  /// Everything before the blocks.
  private func checkedPart(
    _ environment: CompiledEnvironment, _ blocks: [Block], _ places: [(kind: Int, value: Int)],
    _ forms: [(form: PackedForms.Form, block: Int)], _ small: [UInt8], blockBytes: Int
  ) -> [UInt8] {
    var made = CompiledEncoder()
    for text in [environment.version, environment.level, environment.features, environment.tiles] { made.text(text) }
    var directory = CompiledEncoder()
    directory.list(blocks) {
      $0.count($1.start)
      $0.count($1.tensor.byteCount)
      $0.raw($1.digest)
    }
    directory.list(Array(zip(places, sources))) { encoder, element in
      let (place, source) = element
      encoder.count(place.kind)
      encoder.count(place.value)
      if place.kind == 0 { encoder.count(source.byteCount) }
    }
    directory.list(forms) {
      $0.count($1.form.constant)
      $0.text($1.form.format)
      $0.count($1.block)
    }
    let sections: [(kind: CompiledFormat.Section, bytes: [UInt8])] = [
      (.environment, made.finish()), (.model, model), (.constants, directory.finish()), (.small, small),
    ]
    var table: [UInt8] = []
    var body: [UInt8] = []
    let first = CompiledFormat.headerBytes + sections.count * CompiledFormat.sectionBytes
    for section in sections {
      let start = (first + body.count).alignedUp(to: CompiledFormat.alignment)
      body += [UInt8](repeating: 0, count: start - first - body.count)
      table.appendLittleEndian(UInt64(section.kind.rawValue), count: 8)
      table.appendLittleEndian(UInt64(start), count: 8)
      table.appendLittleEndian(UInt64(section.bytes.count), count: 8)
      body += section.bytes
    }
    let checkedBytes = first + body.count
    var bytes = CompiledFormat.magic
    bytes.appendLittleEndian(UInt64(CompiledFormat.version), count: 4)
    bytes.appendLittleEndian(UInt64(sections.count), count: 4)
    bytes.appendLittleEndian(UInt64(checkedBytes.alignedUp(to: CompiledFormat.pageBytes) + blockBytes), count: 8)
    bytes.appendLittleEndian(UInt64(checkedBytes), count: 8)
    bytes += [UInt8](repeating: 0, count: CompiledFormat.digestRange.count)
    bytes += table + body
    bytes.replaceSubrange(CompiledFormat.digestRange, with: SHA256.digest(bytes.span))
    return bytes
  }

  /// Bytes that are read at a time.
  private static let pieceBytes = 1 << 20

  /// Calls `body` with all bytes of a tensor, piece by piece.
  private static func pieces(
    of tensor: Tensor, _ body: (Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) {
    var failure: LoadError?
    do throws(TensorError) {
      _ = try tensor.allPieces(of: pieceBytes) { _, piece in
        do throws(LoadError) {
          // Bytes may be read as UInt8 whatever they are bound to; they are there during the call.
          try body(piece.assumingMemoryBound(to: UInt8.self).span)
        } catch {
          failure = error
        }
        return failure == nil
      }
    } catch {
      throw LoadError(error)
    }
    if let failure { throw failure }
  }
}

extension ConstantSource {
  /// All bytes that lie there.
  fileprivate var bytes: Tensor {
    Tensor(dataType: .uint8, shape: [byteCount], storage: tensor.storage, byteOffset: tensor.byteOffset)
  }
}

extension OutputFile {
  /// Writes zeros up to a place that is not behind.
  fileprivate mutating func pad(to place: Int) throws(LoadError) {
    try write([UInt8](repeating: 0, count: place - count))
  }
}
