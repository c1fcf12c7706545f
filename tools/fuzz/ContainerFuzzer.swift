// Reads mutated containers, all that is in them: each must end in contents or in a typed error, in bounded time.

import ApusFormats
import ApusOperators
import ApusTensor
import Glibc

enum ContainerFuzzer {
  /// A kind of container: how to tell it, to break it, and to read everything of it.
  struct Kind: Sendable {
    let name: String
    let isKind: @Sendable ([UInt8]) -> Bool
    let mutate: @Sendable (inout [UInt8], inout SplitMix64) -> Void
    let read: @Sendable (FileBytes, LoadLimits) throws(LoadError) -> Void
  }

  /// The kinds that are known. The first that tells a seed as its own breaks and reads it.
  static let kinds: [Kind] = [
    Kind(name: "torch", isKind: isTorch, mutate: TorchMutator.mutate, read: readCheckpoint),
    Kind(name: "npz", isKind: { isZip($0) && contains($0, ".npy") }, mutate: ZipMutator.mutate, read: readArrays),
    Kind(name: "zip", isKind: isZip, mutate: ZipMutator.mutate, read: readArchive),
    Kind(name: "gz", isKind: { Gzip.isGzip($0.span) }, mutate: GzipMutator.mutate) { (file, limits) throws(LoadError) in
      _ = try Gzip.decode(file, limits: limits)
    },
    Kind(
      name: "safetensors", isKind: { SafeTensors.isSafeTensors($0.span, count: $0.count) },
      mutate: SafeTensorsMutator.mutate
    ) { (file, limits) throws(LoadError) in _ = try SafeTensors(file, limits: limits).tensors() },
    Kind(name: "hdf5", isKind: { HDF5File.isHDF5(ByteView($0)) }, mutate: HDF5Mutator.mutate, read: readHDF5),
    Kind(name: "flatbuffer", isKind: isFlatBuffer, mutate: FlatBufferMutator.mutate, read: readFlatBuffer),
    text(.textproto), text(.json), text(.onnxtxt),
    // Protocols 0 and 1 have no mark.
    Kind(name: "pickle", isKind: { (try? Pickle(ByteView($0))) != nil }, mutate: PickleMutator.mutate) {
      (file, limits) throws(LoadError) in
      let pickle = try Pickle(file.view())
      _ = (pickle.symbols, pickle.unknownCalls, pickle.entries(pickle.root))
    },
  ]

  private static func isTorch(_ bytes: [UInt8]) -> Bool {
    TorchCheckpoint.isLegacy(ByteView(bytes)) || isZip(bytes) && contains(bytes, "data.pkl")
  }

  /// The identifiers of TensorFlow Lite, of ONNX Runtime, and of the sample.
  private static func isFlatBuffer(_ bytes: [UInt8]) -> Bool {
    bytes.count > 8 && ["TFL3", "ORTM", "APTS"].contains { Array($0.utf8) == Array(bytes[4..<8]) }
  }

  private static func readCheckpoint(_ file: FileBytes, _ limits: LoadLimits) throws(LoadError) {
    let checkpoint = try TorchCheckpoint(file, limits: limits)
    for tensor in checkpoint.tensors { _ = try tensor.elements(maximumBytes: 1 << 24) }
  }

  private static func readHDF5(_ file: FileBytes, _ limits: LoadLimits) throws(LoadError) {
    let content = try HDF5File(file, limits: limits)
    for object in try content.datasets() {
      for attribute in try object.attributes() { _ = try? attribute.values.strings() }
      do throws(LoadError) {
        let values = try object.values()
        if try values.type.dataType == .string { _ = try values.strings() } else { _ = try values.littleEndian() }
      } catch {
        // What is not read hides nothing else.
        if error.code != .unsupported { throw error }
      }
    }
  }

  private static func readFlatBuffer(_ file: FileBytes, _ limits: LoadLimits) throws(LoadError) {
    var own = FlatBuffer.Limits()
    own.maximumTables = 20_000
    try walk(FlatBuffer(file.view(), limits: own).root())
  }

  /// Reads every field as everything that it may be.
  private static func walk(_ table: FlatTable) throws(LoadError) {
    for field in 0..<min(table.fieldCount, 32) {
      _ = try? table.int64(field)
      _ = try? table.string(field)
      _ = try? table.int64s(field)
      _ = try? table.strings(field)
      if let tables = try? table.tables(field) { for table in tables.prefix(8) { try walk(table) } }
      if let child = try? table.table(field) { try walk(child) }
    }
  }

  /// A model as text: what is read is printed, and read again as the same.
  private static func text(_ form: ModelForm) -> Kind {
    Kind(name: form.name, isKind: { ModelForm.text($0.span) == form }, mutate: TextMutator.mutate) {
      (file, limits) throws(LoadError) in
      let binary = try form.read(FileBytes(copying: file.view().array), limits: limits, account: nil)
      do throws(LoadError) {
        try form.check(FileBytes(copying: form.text(of: binary)), limits: limits, account: nil)
      } catch {
        if error.code != .limitExceeded && error.code != .unsupported { fault("printed and read again: \(error)") }
        throw error
      }
    }
  }

  private static func isZip(_ bytes: [UInt8]) -> Bool { ZipArchive.isZip(bytes.span) }

  private static func contains(_ bytes: [UInt8], _ text: String) -> Bool {
    let wanted = Array(text.utf8)
    return bytes.indices.contains { bytes[$0...].starts(with: wanted) }
  }

  private static func readArrays(_ file: FileBytes, _ limits: LoadLimits) throws(LoadError) {
    for (_, tensor) in try Npz.decode(file, as: [:], limits: limits) { _ = tensor.withUnsafeBytes { $0.last } }
  }

  /// Reads an archive by parts and as a whole, which must say the same.
  private static func readArchive(_ file: FileBytes, _ limits: LoadLimits) throws(LoadError) {
    let archive = try ZipArchive(file, limits: limits)
    for entry in archive.entries {
      var count = 0
      var inParts: LoadError?
      do throws(LoadError) {
        try archive.forEachPart(of: entry) { count += $0.count }
      } catch {
        inParts = error
      }
      do throws(LoadError) {
        let (_, range) = try archive.contents(of: entry)
        if inParts != nil || range.count != count { fault("the entry '\(entry.name)' is read in one way only") }
      } catch {
        guard inParts != nil else { return fault("the entry '\(entry.name)' is read in one way only: \(error)") }
        throw error
      }
    }
  }

  static func fault(_ text: String) { FuzzDriver.fail("ApusFuzz: \(text)") }

  /// Seconds after which a mutant ends the process.
  private static let deadline: UInt32 = 30

  /// Reads `count` mutations of files, which are of `kinds`. Prints one line of JSON with what became of them.
  static func run(_ kinds: [Kind], casePath: String, seed: UInt64, count: Int, seeds: [[UInt8]]) {
    var random = SplitMix64(seed: seed)
    var outcomes: [String: Int] = [:]
    var slowest = 0.0
    for index in 0..<count {
      var bytes = seeds[index % seeds.count]
      guard let kind = kinds.first(where: { $0.isKind(bytes) }) else {
        return FuzzDriver.fail("ApusFuzz: seed \(index % seeds.count) is no container that is known")
      }
      for _ in 0...random.below(4) {
        if random.below(4) == 0 { Mutator.breakBlindly(&bytes, seeds, &random) } else { kind.mutate(&bytes, &random) }
      }
      FuzzDriver.write(bytes, to: casePath)
      alarm(deadline)
      let start = FuzzDriver.now()
      outcomes["\(kind.name).\(outcome(kind, bytes, casePath, index))", default: 0] += 1
      if FuzzDriver.now() - start > slowest {
        slowest = FuzzDriver.now() - start
        if slowest > 2 { FuzzDriver.write(bytes, to: casePath + ".slow") }
      }
    }
    alarm(0)
    let counts = outcomes.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ")
    let figures =
      "\"count\": \(count), \"slowest_ms\": \(Int(slowest * 1000)), \"peak_rss_mb\": \(FuzzDriver.peakMemory())"
    print("{\(figures), \"outcomes\": {\(counts)}}")
  }

  /// Reads bytes in memory, or every other time the file that holds them, range by range.
  private static func outcome(_ kind: Kind, _ bytes: [UInt8], _ path: String, _ index: Int) -> String {
    do throws(LoadError) {
      let file =
        index % 2 == 0
        ? try FileBytes(copying: bytes)
        : try FileBytes.open(path: path, limits: Outcome.limits, reading: .ranges)
      try kind.read(file, Outcome.limits)
      return "loaded"
    } catch {
      if error.message.isEmpty { fault("an error without a message") }
      return error.code.rawValue
    }
  }

  /// Reads a container and writes what is in it again: entries that were compressed compressed, others as they are.
  static func repack(_ input: String, _ output: String) {
    do throws(LoadError) {
      let file = try FileBytes.open(path: input, reading: .ranges)
      let head = try file.withBytes(in: 0..<min(file.count, 16)) { span in span.indices.map { span[$0] } }
      if Gzip.isGzip(head.span) {
        let content = try Gzip.decode(file)
        try OutputFile.write(content.bytes(in: 0..<content.count), to: output)
      } else if ZipArchive.isZip(head.span) {
        try repack(ZipArchive(file), output)
      } else {
        let content = try SafeTensors(file)
        try SafeTensors.write(content.tensors(), metadata: content.metadata, to: output)
      }
    } catch {
      FuzzDriver.fail("\(error)")
    }
  }

  private static func repack(_ archive: ZipArchive, _ output: String) throws(LoadError) {
    var writer = try ZipWriter(path: output)
    for entry in archive.entries {
      let content: ZipWriter.Content = { (sink) throws(LoadError) in
        try archive.forEachPart(of: entry) { (part) throws(LoadError) in try sink(part) }
      }
      if entry.isDeflated {
        try writer.addDeflated(entry.name, byteCount: entry.byteCount, content)
      } else {
        try writer.addStored(entry.name, byteCount: entry.byteCount, content)
      }
    }
    try writer.commit()
  }
}
