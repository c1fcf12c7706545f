// HDF5 files of h5py and Keras, those that are refused, those that this module writes, and broken ones.

import ApusContainers
import ApusTensor
import Glibc
import Testing

@Suite struct HDF5Tests {
  /// Every attribute and dataset, as make_objects.py describes them.
  private func description(_ file: HDF5File) throws(LoadError) -> [String] {
    var lines: [String] = []
    func add(_ name: String, _ values: HDF5Values) throws(LoadError) {
      guard let type = try values.type.dataType else { return }
      if type == .string {
        let joined = try values.strings().joined(separator: "\n")
        lines.append(Samples.line(name, "string", values.shape, Array(joined.utf8)))
      } else {
        let bytes = try values.littleEndian().array
        lines.append(Samples.line(name, "\(type)", values.shape, bytes))
      }
    }
    for attribute in try file.root.attributes() { try add("/@" + attribute.name, attribute.values) }
    var groups: [HDF5Object] = [file.root]
    var seen: Set<Int> = [file.root.address]
    while let group = groups.popLast() {
      for link in try group.links() {
        guard case .hard = link.target else { continue }
        let child = try group.open(link)
        guard seen.insert(child.address).inserted else { continue }
        let separator = child.isGroup ? "/@" : "@"
        for attribute in try child.attributes() { try add(child.path + separator + attribute.name, attribute.values) }
        if child.isGroup { groups.append(child) }
        if child.isDataset, child.name != "never" { try add(child.path, child.values()) }
      }
    }
    return lines.sorted()
  }

  @Test(arguments: Samples.described(".h5")) func agreesWithH5py(_ path: String) throws {
    let file = try HDF5File(ByteView(Samples.bytes(path)))
    let expected = try Samples.text(path + ".txt").split(separator: "\n").map(String.init).sorted()
    let found = try description(file)
    #expect(Set(found).symmetricDifference(expected).isEmpty, "\(path)")
    #expect(found.count == expected.count && !found.isEmpty)
    // `never` is a dataset without elements, which is not described.
    let withoutElements = path.contains("types") ? 1 : 0
    #expect(try file.datasets().count == found.count { !$0.contains("@") } + withoutElements)
  }

  @Test func findsObjectsByPath() throws {
    let file = try HDF5File(ByteView(Samples.bytes("types.h5")))
    #expect(try file["/kinds/scalar"]?.values().doubles() == [2.5])
    #expect(try file["link"]?.values().doubles() == [2.5])
    #expect(try file["/kinds/nothing"] == nil)
    #expect(try file["/kinds/bool"]?.contents().type.dataType == .bool)
    #expect(try file["/types/big-i4"]?.values().integers() == Array(-3..<9))
    #expect(try file["/kinds/unset"]?.values().integers() == [7, 7, 7, 7, 7])
    #expect(try file["/kinds/unset"]?.attribute("note")?.values.string() == "never written")
    #expect(try file.root.attribute("layer_names")?.values.strings() == ["dense", "dense_1"])
    #expect(try file["/kinds/never"]?.contents().shape == [])
  }

  @Test(arguments: [
    ("compound", "compound"), ("external", "another file"), ("virtual", "virtual"), ("outside", "another file"),
    ("lzf", "lzf"), ("dense", "fractal heap"), ("tree", "tree of version 2"),
  ])
  func refusesWithWords(_ name: String, _ words: String) throws {
    let file = try HDF5File(ByteView(Samples.bytes("refused.hdf5")))
    let error = #expect(throws: LoadError.self) {
      let object = try #require(try file.root.child(name))
      _ = object.isGroup ? try object.links().count : try object.values().count
    }
    #expect(error?.code == .unsupported, "\(String(describing: error))")
    #expect(error?.description.contains(words) == true && error?.description.contains(name) == true)
    #expect(error?.remedy.isEmpty == false)
  }

  @Test func saysWhatIsMissing() throws {
    let file = try HDF5File(Samples.file("chunks.h5", reading: .ranges).mapped())
    #expect(try file["/gzip"]?.values().doubles().count == 385)
    #expect(try file["/plain"]?.values().doubles().count == 385)
    #expect(#expect(throws: LoadError.self) { _ = try HDF5File(ByteView([])) }?.code == .wrongFormat)
    var limits = HDF5File.Limits()
    limits.maximumObjects = 20
    let limited = #expect(throws: LoadError.self) {
      _ = try HDF5File(ByteView(Samples.bytes("many.h5")), limits: limits).datasets()
    }
    #expect(limited?.code == .limitExceeded)
  }

  /// A file with everything that is written.
  private func tree() -> HDF5Tree {
    var root = HDF5Tree()
    root.attributes = [
      ("model_config", .text(String(repeating: "{\"雨燕\"}", count: 9000))),
      ("layer_names", .texts(["a", "bcd", ""])),
      ("epoch", .integer(-3)), ("sizes", .integers([1, 2, 3])), ("rates", .doubles([0.5, -1])),
    ]
    var layers = HDF5Tree()
    for index in 0..<300 {
      var dataset = HDF5Tree.Dataset(.int32, [2], ByteView([UInt8(index % 256), 1, 0, 0, 5, 0, 0, 0]))
      dataset.attributes = [("name", .text("layer \(index)"))]
      layers.datasets.append(("layer\(index * 7919 % 1009)", dataset))
    }
    root.groups = [("layers", layers), ("empty", HDF5Tree())]
    let types: [(DataType, [UInt8])] = [
      (.float32, [0, 0, 128, 63]), (.float16, [0, 60]), (.float64, [0, 0, 0, 0, 0, 0, 240, 63]), (.int8, [255]),
      (.uint8, [200]), (.int64, [1, 0, 0, 0, 0, 0, 0, 128]), (.uint16, [1, 255]), (.bool, [1]), (.bfloat16, [128, 63]),
    ]
    root.datasets = types.map { ("\($0.0)", HDF5Tree.Dataset($0.0, [1, 1], ByteView($0.1))) }
    root.datasets.append(("none", HDF5Tree.Dataset(.float32, [0, 4], ByteView([]))))
    root.datasets.append(("scalar", HDF5Tree.Dataset(.int8, [], ByteView([7]))))
    return root
  }

  @Test func readsWhatItWrites() throws {
    let bytes = try HDF5Writer.encode(tree())
    if let folder = getenv("APUS_CONTAINER_OUT") { Samples.write(bytes, to: String(cString: folder) + "/written.h5") }
    let file = try HDF5File(ByteView(bytes))
    #expect(try file.datasets().count == 311)
    for index in [0, 17, 299] {
      let object = try #require(try file["/layers/layer\(index * 7919 % 1009)"])
      #expect(try object.values().integers() == [index % 256 + 256, 5])
      #expect(try object.attribute("name")?.values.string() == "layer \(index)")
    }
    #expect(try file.root.attribute("model_config")?.values.string().utf8.count == 9000 * 10)
    #expect(try file.root.attribute("layer_names")?.values.strings() == ["a", "bcd", ""])
    #expect(try file.root.attribute("sizes")?.values.integers() == [1, 2, 3])
    #expect(try file.root.attribute("rates")?.values.doubles() == [0.5, -1])
    for (name, dataset) in tree().datasets {
      let object = try #require(try file[name])
      #expect(try object.contents().type.dataType == dataset.dataType)
      #expect(try object.contents().shape == dataset.shape)
      #expect(try object.values().littleEndian() == dataset.bytes)
    }
    #expect(try file["empty"]?.links() == [])
  }

  @Test func refusesToWriteWhatNoReaderTakes() {
    var root = HDF5Tree()
    root.attributes = [("names", .texts(Array(repeating: "0123456789", count: 7000)))]
    #expect(#expect(throws: LoadError.self) { try HDF5Writer.encode(root) }?.code == .limitExceeded)
    root.attributes = []
    for name in ["", "a/b", "twice"] {
      root.datasets = [("twice", .init(.int8, [1], ByteView([1]))), (name, .init(.int8, [1], ByteView([1])))]
      #expect(#expect(throws: LoadError.self) { try HDF5Writer.encode(root) }?.code == .malformed, "\(name)")
    }
    root.datasets = [("short", .init(.float32, [2], ByteView([1])))]
    #expect(#expect(throws: LoadError.self) { try HDF5Writer.encode(root) }?.path == "/short")
  }

  @Test(arguments: ["types.h5", "types-latest.h5", "chunks.h5", "chunks-latest.h5", "keras.h5", "arrays.h5"])
  func survivesMutations(_ name: String) throws {
    let seed = try Samples.bytes(name)
    let structures = Mutation.places(
      of: ["TREE", "SNOD", "HEAP", "GCOL", "OHDR", "OCHK", "FAHD", "FADB", "EAHD", "EAIB", "EASB", "EADB"], in: seed)
    var chance = Chance(state: 5)
    var refused = 0
    let count = name == "arrays.h5" ? Mutation.count / 20 : Mutation.count
    for _ in 0..<count {
      let mutant = Mutation.mutated(seed, structures: structures, &chance)
      do throws(LoadError) {
        let file = try HDF5File(ByteView(mutant))
        for object in try file.datasets() {
          do throws(LoadError) { _ = try object.values().integers() } catch { refused += 1 }
        }
        _ = try description(file)
      } catch {
        refused += 1
        #expect(!error.message.isEmpty)
      }
    }
    #expect(refused > count / 10)
  }

  @Test func survivesTruncation() throws {
    let seed = try Samples.bytes("types.h5")
    for length in stride(from: 0, to: seed.count, by: 3) {
      _ = try? HDF5File(ByteView(Array(seed[..<length]))).datasets()
    }
  }
}
