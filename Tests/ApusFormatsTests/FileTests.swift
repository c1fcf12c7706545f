// Files in memory, files that change, streams, and side files of weights.

import ApusFormats
import ApusGraph
import ApusTensor
import ApusTestSupport
import Glibc
import Testing

@Suite struct FileTests {
  private let folder = TemporaryFolder.shared

  private func message(_ body: () throws -> Void) -> String {
    do {
      try body()
      return "no error"
    } catch {
      return "\(error)"
    }
  }

  @Test func readsFiles() throws {
    let path = folder.write([1, 2, 3, 4, 5], "read")
    for reading in [.everything, .mapped, .structure(.model)] as [FileBytes.Reading] {
      let file = try FileBytes.open(path: path, reading: reading)
      #expect(file.count == 5)
      #expect(try file.tensor(.uint8, [2, 2], in: 1..<5).elements(as: UInt8.self) == [2, 3, 4, 5])
      #expect(file.withBytes { span in span.indices.map { span[$0] } } == [1, 2, 3, 4, 5])
    }
    let ranges = try FileBytes.open(path: path, reading: .ranges)
    #expect(try ranges.tensor(.uint8, [2], in: 3..<5).elements(as: UInt8.self) == [4, 5])
    #expect(try FileBytes.open(path: folder.write([], "nothing")).count == 0)
  }

  // MARK: Files that change

  /// The bytes of a model with an initializer that is large enough to stay in the file.
  private func largeModel() -> [UInt8] {
    var tensor = TensorProto(name: "w", Tensor((0..<40_000).map { Float($0) }, shape: [40_000]))
    tensor.name = "w"
    return ModelProto(GraphProto(outputs: ["w"], nodes: [], initializers: [tensor])).encoded
  }

  private func weights(_ graph: Graph) -> Tensor? { graph.constant(graph.outputs[0]) }

  @Test func largeElementsStayInTheFileUntilTheyAreAskedFor() throws {
    let path = folder.write(largeModel(), "large-model")
    let model = try ONNXReader.load(path: path, registry: StandIn.registry)
    let tensor = try #require(weights(model.model.graph))
    #expect(tensor.storage.deferred?.isPending == true && model.files.count == 1)
    #expect(tensor.elements(as: Float.self)?.last == 39_999)
    try model.files[0].check()
    for byte in stride(from: 0, to: 40, by: 7) {
      // The bytes before and behind the elements are those of the file.
      #expect(try FileBytes.open(path: path, reading: .structure(.model)).withBytes { $0[byte] } == largeModel()[byte])
    }
  }

  @Test func filesThatBecomeShorterAreAnError() throws {
    let path = folder.write(largeModel(), "shorter-model")
    let model = try ONNXReader.load(path: path, registry: StandIn.registry)
    truncate(path, 1000)
    #expect(throws: TensorError.self) { try weights(model.model.graph)?.storage.load() }
    #expect(message { try model.files[0].check() }.contains("changed while it was read"))
    #expect(
      message { _ = try FileBytes.open(path: path, reading: .structure(.model)).withBytes { $0.count } } == "no error")
  }

  @Test func filesThatAreWrittenToAreAnError() throws {
    let path = folder.write(largeModel(), "written-model")
    let model = try ONNXReader.load(path: path, registry: StandIn.registry)
    usleep(20_000)
    _ = folder.write(largeModel().map { ~$0 }, "written-model")
    #expect(message { try model.files[0].check() }.contains("somebody wrote to it"))
  }

  @Test func whatWasReadStays() throws {
    let path = folder.write(largeModel(), "kept-model")
    let model = try ONNXReader.load(path: path, registry: StandIn.registry)
    let tensor = try #require(weights(model.model.graph))
    try tensor.storage.load()
    try model.files[0].check()
    model.files[0].close()
    truncate(path, 10)
    #expect(tensor.elements(as: Float.self)?.last == 39_999)
  }

  @Test func readingHasALimit() throws {
    var limits = LoadLimits()
    limits.maximumLoadMemory = 100_000
    let path = folder.write(largeModel(), "limited-model")
    #expect(message { _ = try FileBytes.open(path: path, limits: limits) }.contains("maximumLoadMemory"))
    var options = ImportOptions()
    options.allowance = .loading(memory: MemoryAccount(limit: 100_000, name: "maximumLoadMemory"), cancellation: nil)
    let model = try ONNXReader.load(path: path, registry: StandIn.registry, options: options)
    #expect(throws: TensorError.self) { try weights(model.model.graph)?.storage.load() }
    // Addresses of 64 GB cost nothing; their bytes would.
    let sparse = folder.write([], "sparse")
    truncate(sparse, 64 << 30)
    let file = try FileBytes.open(path: sparse, limits: limits, reading: .ranges)
    #expect(try file.tensor(.uint8, [4], in: 9..<13).elements(as: UInt8.self) == [0, 0, 0, 0])
    #expect(throws: LoadError.self) { try FileBytes.open(path: sparse, limits: limits) }
  }

  @Test func findsTheLimitsOfControlGroups() {
    let root = folder.makeFolder("cgroup")
    for name in ["cgroup/a", "cgroup/a/b", "cgroup/memory", "cgroup/memory/c"] { _ = folder.makeFolder(name) }
    func write(_ text: String, _ name: String) { _ = folder.write(Array(text.utf8), name) }
    write("max\n", "cgroup/a/b/memory.max")
    write("5000\n", "cgroup/a/memory.max")
    write("9000\n", "cgroup/memory/c/memory.limit_in_bytes")
    #expect(SystemMemory.controlGroups(of: ["0::/a/b"], root: root) == 5000, "a group around counts")
    #expect(SystemMemory.controlGroups(of: ["7:cpu:/a", "4:memory,hugetlb:/c"], root: root) == 9000)
    #expect(SystemMemory.controlGroups(of: ["nonsense", "0::/x"], root: root) == .max)
    #expect(SystemMemory.share > 0)
  }

  @Test func saysWhatIsNoFile() {
    #expect(
      message { _ = try FileBytes.open(path: "/no/such/file") }.contains(
        "/no/such/file: cannot open the file: No such file"))
    #expect(message { _ = try FileBytes.open(path: "/tmp") }.contains("this is a folder"))
    #expect(message { _ = try FileBytes.open(path: "/dev/zero") }.contains("this is a device"))
    var limits = LoadLimits()
    limits.maximumFileBytes = 4
    let path = folder.write([1, 2, 3, 4, 5], "large")
    #expect(message { _ = try FileBytes.open(path: path, limits: limits) }.contains("maximumFileBytes is 4"))
  }

  @Test func readsStreams() throws {
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    let bytes = (0..<60_000).map { UInt8(truncatingIfNeeded: $0) }
    #expect(Glibc.write(ends[1], bytes, bytes.count) == bytes.count)
    close(ends[1])
    let file = try FileBytes.read(descriptor: ends[0], name: "pipe")
    close(ends[0])
    #expect(file.withBytes { span in span.indices.map { span[$0] } } == bytes)

    #expect(pipe(&ends) == 0)
    #expect(Glibc.write(ends[1], bytes, 1000) == 1000)
    close(ends[1])
    var limits = LoadLimits()
    limits.maximumStreamBytes = 999
    #expect(
      message { _ = try FileBytes.read(descriptor: ends[0], name: "pipe", limits: limits) }.contains(
        "maximumStreamBytes"))
    close(ends[0])
  }

  @Test func releasesBorrowedBytes() {
    final class Flag: @unchecked Sendable { var isReleased = false }
    let flag = Flag()
    let bytes = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 1)
    bytes.storeBytes(of: 0x0403_0201, as: UInt32.self)
    do {
      let file = FileBytes(borrowing: bytes, byteCount: 4) { flag.isReleased = true }
      let tensor = try? file.tensor(.uint8, [4], in: 0..<4)
      #expect(tensor?.elements(as: UInt8.self) == [1, 2, 3, 4])
      #expect(!flag.isReleased)
    }
    #expect(flag.isReleased)
    bytes.deallocate()
  }

  // MARK: Side files

  /// A model with one initializer of two floats in a side file.
  private func model(_ entries: [(String, String)], name: String) -> String {
    var tensor = TensorProto(content: .external(entries.map { StringEntry(key: $0.0, value: $0.1) }))
    tensor.name = "w"
    tensor.dims = [2]
    tensor.dataType = 1
    return folder.write(
      ModelProto(GraphProto(outputs: ["w"], nodes: [], initializers: [tensor])).encoded, name + ".onnx")
  }

  private func load(_ path: String, in folder: String? = nil) throws(LoadError) -> [Float]? {
    var options = ImportOptions()
    options.externalFolder = folder
    let model = try ONNXReader.load(path: path, registry: StandIn.registry, options: options).model
    return model.graph.constant(model.graph.outputs[0])?.elements(as: Float.self)
  }

  private func floats(_ values: [Float]) -> [UInt8] {
    values.flatMap { value in withUnsafeBytes(of: value.bitPattern) { Array($0) } }
  }

  @Test func readsSideFiles() throws {
    _ = folder.write([9] + floats([1, 2]), "w.bin")
    #expect(try load(model([("location", "w.bin"), ("offset", "1"), ("length", "8")], name: "side")) == [1, 2])
    #expect(try load(model([("location", "./w.bin"), ("offset", "1")], name: "side2")) == [1, 2])
    let inner = folder.makeFolder("weights")
    _ = folder.write(floats([3, 4]), "weights/w.bin")
    #expect(try load(model([("location", "weights/w.bin")], name: "side3")) == [3, 4])
    #expect(try load(model([("location", "w.bin")], name: "side4"), in: inner) == [3, 4])
    symlink("weights/w.bin", folder.path("inside-link"))
    #expect(try load(model([("location", "inside-link")], name: "side5")) == [3, 4])
  }

  @Test func followsLinksOfAModelThatIsALink() throws {
    // As caches of model hubs lay their files: everything in one folder, under links of other names.
    _ = folder.makeFolder("blobs")
    _ = folder.makeFolder("snapshot")
    _ = folder.write(floats([7, 8]), "blobs/c0ffee")
    let (plain, copy) = (model([("location", "m.data")], name: "blobs/beef"), "snapshot/copy")
    symlink("../blobs/beef.onnx", folder.path("snapshot/m.onnx"))
    symlink("../blobs/c0ffee", folder.path("snapshot/m.data"))
    #expect(try load(folder.path("snapshot/m.onnx")) == [7, 8])
    // No link of the model, no way out; and its own folder has no such file.
    #expect(message { _ = try load(model([("location", "m.data")], name: copy)) }.contains("leads out"))
    #expect(message { _ = try load(plain) }.contains("No such file"))
    // Another folder than that of the model stays out of reach.
    symlink("../../w.bin", folder.path("blobs/out"))
    symlink("../blobs/out", folder.path("snapshot/n.data"))
    _ = model([("location", "n.data")], name: "blobs/feed")
    symlink("../blobs/feed.onnx", folder.path("snapshot/n.onnx"))
    #expect(throws: LoadError.self) { try load(folder.path("snapshot/n.onnx")) }
  }

  @Test func staysInTheFolder() {
    let outside = "/tmp/apus-outside-\(getpid())"
    let file = fopen(outside, "wb")
    fwrite(floats([5, 6]), 1, 8, file)
    fclose(file)
    symlink(outside, folder.path("link-out"))
    symlink("/tmp", folder.path("folder-out"))
    defer { unlink(outside) }
    let cases: [(String, String)] = [
      (outside, "absolute path"), ("../apus-outside-\(getpid())", "outside the folder"),
      ("a/../../x", "outside the folder"),
      ("link-out", "leads out"), ("folder-out/apus-outside-\(getpid())", "leads out"), ("missing", "No such file"),
      ("", "outside the folder"), (".", "no regular file"),
    ]
    for (index, (location, expected)) in cases.enumerated() {
      let message = message { _ = try load(model([("location", location)], name: "out\(index)")) }
      #expect(message.contains(expected), "\(location): \(message)")
    }
  }

  @Test func checksOffsetsAndLengths() {
    _ = folder.write(floats([1, 2]), "short.bin")
    let cases: [([(String, String)], String)] = [
      ([("offset", "1")], "which has 8 bytes"), ([("length", "4")], "takes 8 bytes"),
      ([("offset", "-1")], "number of bytes"),
      ([("offset", "99999999999999999999")], "number of bytes"),
      ([("offset", "9223372036854775807")], "which has 8 bytes"),
    ]
    for (index, (entries, expected)) in cases.enumerated() {
      let message = message { _ = try load(model([("location", "short.bin")] + entries, name: "check\(index)")) }
      #expect(message.contains(expected), "\(entries): \(message)")
    }
    #expect(message { _ = try load(model([("offset", "0")], name: "check-none")) }.contains("without a location"))
  }
}
