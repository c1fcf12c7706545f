// Reads and runs mutated models in this process, thousands a second. tools/fuzz_models.py builds it, makes the seeds,
// starts it and looks after it when it dies. Usage: see `usage`.

import Apus
import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import Glibc

#if canImport(FoundationEssentials)
  import FoundationEssentials
#endif

let usage = """
  ApusFuzz load FILE…                              read each model, print what became of it
  ApusFuzz run FILE…                               read, prepare and run each model on zeros, print what became of it
  ApusFuzz values FILE…                            read each .pb as a tensor, sequence, optional and map
  ApusFuzz roundtrip IN.onnx OUT.onnx              read the messages and write them again
  ApusFuzz rewrite IN.onnx OUT.onnx                read the graph and write it again, in the operator set it needs
  ApusFuzz mutate CASE SEED COUNT FILE…            read COUNT mutations of the files; CASE is where each is kept before
                                                   it is read, so that the last one remains after a crash;
                                                   CASE.slow is the slowest if that took more than 2 seconds
  ApusFuzz containers CASE SEED COUNT FILE…        the same with files that are containers of files or tensors
  ApusFuzz importers CASE SEED COUNT FILE…         the same with models of every format
  ApusFuzz importer FILE…                          read each model as those are read, print what became of it
  ApusFuzz repack IN OUT                           read a container and write all of it again
  ApusFuzz cases LIST JOURNAL SEED FIRST COUNT STRIDE KEEP MEGABYTES
                                                   run COUNT mutants FIRST, FIRST + STRIDE, … of the test cases whose
                                                   folders stand in LIST; JOURNAL always holds the number of the one at
                                                   work; those that break a rule are kept below KEEP; the process may
                                                   map MEGABYTES, 0 for no bound
  ApusFuzz mutant LIST SEED NUMBER FOLDER          write one of those mutants as a test case and say what it is
  """

@main
struct FuzzDriver {
  static func main() {
    let arguments = Array(CommandLine.arguments.dropFirst())
    guard let command = arguments.first else { return fail(usage) }
    let rest = Array(arguments.dropFirst())
    switch command {
    case "load": rest.forEach(load)
    case "run": rest.forEach { print("\($0): \(Outcome.ofRunning(bytes(of: $0)).text)") }
    case "values": rest.forEach { print("\($0): \(Outcome.ofValue(bytes(of: $0)).text)") }
    case "roundtrip" where rest.count == 2: roundTrip(rest[0], rest[1])
    case "rewrite" where rest.count == 2: rewrite(rest[0], rest[1])
    case "mutate" where rest.count >= 4:
      guard let seed = UInt64(rest[1]), let count = Int(rest[2]) else { return fail(usage) }
      mutate(casePath: rest[0], seed: seed, count: count, seeds: rest.dropFirst(3).map { bytes(of: $0) })
    case "containers" where rest.count >= 4, "importers" where rest.count >= 4:
      guard let seed = UInt64(rest[1]), let count = Int(rest[2]) else { return fail(usage) }
      ContainerFuzzer.run(
        command == "containers" ? ContainerFuzzer.kinds : ImporterFuzzer.kinds, casePath: rest[0], seed: seed,
        count: count, seeds: rest.dropFirst(3).map { bytes(of: $0) })
    case "importer": rest.forEach { print("\($0): \(ImporterFuzzer.outcome(bytes(of: $0)))") }
    case "repack" where rest.count == 2: ContainerFuzzer.repack(rest[0], rest[1])
    case "cases" where rest.count == 8: runCases(rest)
    case "mutant" where rest.count == 4:
      guard let series = Int(rest[1]), let number = Int(rest[2]) else { return fail(usage) }
      CaseFuzzer.write(list: rest[0], series: UInt64(bitPattern: Int64(series)), number: number, to: rest[3])
    default: fail(usage)
    }
  }

  static func runCases(_ arguments: [String]) {
    let numbers = (arguments[2...5] + [arguments[7]]).compactMap { Int($0) }
    guard numbers.count == 5,
      let fuzzer = CaseFuzzer(list: arguments[0], journal: arguments[1], series: UInt64(bitPattern: Int64(numbers[0])))
    else { return fail(usage) }
    if numbers[4] > 0 {
      var space = rlimit(rlim_cur: rlim_t(numbers[4] << 20), rlim_max: rlim_t(numbers[4] << 20))
      setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &space)
    }
    fuzzer.run(first: numbers[1], count: numbers[2], stride: numbers[3], keep: arguments[6])
  }

  static func fail(_ text: String) {
    let line = Array((text + "\n").utf8)
    _ = Glibc.write(2, line, line.count)
    exit(2)
  }

  static func bytes(of path: String) -> [UInt8] {
    do {
      return try FileBytes.open(path: path).withBytes { span in span.indices.map { span[$0] } }
    } catch {
      fail("\(error)")
      return []
    }
  }

  static func write(_ bytes: [UInt8], to path: String) {
    guard let file = fopen(path, "wb") else { return fail("cannot write \(path)") }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
  }

  static func load(_ path: String) {
    let start = now()
    do {
      let loaded = try ONNXReader.load(path: path, registry: .standard)
      let milliseconds = (now() - start) * 1000
      print("\(path): \(loaded.model.graph.nodes.count) nodes in \(milliseconds) ms, peak memory \(peakMemory()) MB")
    } catch {
      print("\(path): \(error)")
    }
  }

  static func roundTrip(_ input: String, _ output: String) {
    do {
      let file = try FileBytes.open(path: input)
      let scanned = try file.withBytes { (span) throws(LoadError) in
        try WireScanner.scan(span, as: .model, limits: LoadLimits())
      }
      let folder = ExternalDataFolder(ExternalDataFolder.folder(of: input), limits: LoadLimits())
      let decoder = TensorDecoder(file: file, external: folder, limits: LoadLimits())
      var model = try ProtobufUnpack.model(scanned)
      try model.decodeTensors(decoder)
      write(model.encoded, to: output)
    } catch {
      fail("\(input): \(error)")
    }
  }

  static func rewrite(_ input: String, _ output: String) {
    do {
      let model = try ONNXReader.load(path: input, registry: .standard).model
      try ONNXWriter.message(model, registry: .standard).write(to: output)
    } catch {
      fail("\(input): \(error)")
    }
  }

  /// Reads `count` mutations. Prints one line of JSON with what became of them.
  static func mutate(casePath: String, seed: UInt64, count: Int, seeds: [[UInt8]]) {
    var random = SplitMix64(seed: seed)
    var outcomes: [String: Int] = [:]
    var slowest = 0.0
    for index in 0..<count {
      let seed = seeds[index % seeds.count]
      let model = Mutator.mutated(seed, all: seeds, &random)
      write(model, to: casePath)
      let start = now()
      let outcome = Outcome.isArray(seed) ? Outcome.ofArray(model) : Outcome.ofRunning(model)
      _ = index % 8 == 0 ? Outcome.ofValue(model) : outcome
      if now() - start > slowest {
        slowest = now() - start
        if slowest > 2 { write(model, to: casePath + ".slow") }
      }
      outcomes[outcome.kind, default: 0] += 1
    }
    let kinds = outcomes.sorted { $0.key < $1.key }.map { "\"\($0.key)\": \($0.value)" }.joined(separator: ", ")
    let figures = "\"count\": \(count), \"slowest_ms\": \(Int(slowest * 1000)), \"peak_rss_mb\": \(peakMemory())"
    print("{\(figures), \"outcomes\": {\(kinds)}}")
  }

  static func now() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// The most memory that the process has held, in MB.
  static func peakMemory() -> Int {
    var usage = rusage()
    getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage)
    return usage.ru_maxrss / 1024
  }
}

/// What became of one input.
struct Outcome {
  let kind: String
  let text: String

  /// Limits small enough that no mutation can take long or much memory.
  static var limits: LoadLimits {
    var limits = LoadLimits()
    limits.maximumNodes = 20_000
    limits.maximumStructureBytes = 64 << 20
    limits.maximumDecodedBytes = 64 << 20
    limits.maximumRunMemory = 256 << 20
    limits.maximumLoadSeconds = 5
    limits.maximumRunSeconds = 1
    return limits
  }

  /// True for .npy and .npz files.
  static func isArray(_ bytes: [UInt8]) -> Bool { bytes.starts(with: [0x93]) || bytes.starts(with: Array("PK".utf8)) }

  /// Reads the bytes as every kind of array file.
  static func ofArray(_ bytes: [UInt8]) -> Outcome {
    var outcome = Outcome(kind: "array.none", text: "")
    for reader in 0..<4 {
      do {
        let file = try FileBytes(copying: bytes)
        switch reader {
        case 0: _ = try Npy.decode(file, as: .bfloat16, limits: limits)
        case 1: _ = try Npz.decode(file, limits: limits)
        case 2: _ = try TextTensors.json(file, limits: limits)
        default: _ = try TextTensors.text(file, limits: limits)
        }
        return Outcome(kind: "array.loaded", text: "")
      } catch {
        if error.code != .wrongFormat { outcome = Outcome(kind: "array." + error.code.rawValue, text: "\(error)") }
      }
    }
    return outcome
  }

  /// Reads, prepares and runs a model on zeros. Extents that the model leaves open are 2.
  static func ofRunning(_ bytes: [UInt8]) -> Outcome {
    var options = ModelOptions(threads: 1)
    options.limits = limits
    let model: Model
    do {
      model = try Model(bytes: bytes, options: options)
    } catch let error as LoadError {
      return Outcome(kind: error.code.rawValue, text: "\(error)")
    } catch let error as PrepareError {
      return Outcome(kind: "unprepared", text: "\(error)")
    } catch {
      return Outcome(kind: "unknown", text: "\(error)")
    }
    var inputs: [String: Value] = [:]
    for input in model.graph.inputs {
      guard case .tensor(let fact) = model.graph.fact(input) else { continue }
      let shape = Shape((fact.shape ?? []).map { $0.known ?? 2 })
      guard let count = shape.checkedElementCount, count <= 1 << 20 else {
        return Outcome(kind: "notRun", text: "an input of the shape \(shape)")
      }
      inputs[model.graph[input].name] = .tensor(Tensor(zeros: fact.dataType, shape: shape))
    }
    do {
      let outputs = try model.run(values: inputs)
      return Outcome(kind: "ran", text: outputs.map { "\($0.key): \($0.value.type)" }.sorted().joined(separator: ", "))
    } catch {
      return Outcome(kind: "run." + error.code.rawValue, text: "\(error)")
    }
  }

  static func ofValue(_ bytes: [UInt8]) -> Outcome {
    let types: [ValueType?] = [
      nil, .sequence(.tensor(.float32, nil)), .optional(.tensor(.float32, nil)),
      .map(key: .int64, value: .tensor(.float32, nil)),
    ]
    var outcomes: [Outcome] = []
    for type in types {
      do {
        let value = try ValueFile.decode(FileBytes(copying: bytes), as: type, limits: limits)
        outcomes.append(Outcome(kind: "loaded", text: "\(value.type)"))
      } catch {
        outcomes.append(Outcome(kind: error.code.rawValue, text: "\(error)"))
      }
    }
    return outcomes.first { $0.kind == "loaded" } ?? outcomes[0]
  }
}

extension ModelProto {
  /// Puts the tensors themselves in the place of where they lie.
  mutating func decodeTensors(_ decoder: TensorDecoder) throws(LoadError) {
    try graph?.decodeTensors(decoder)
    for index in functions.indices {
      for node in functions[index].nodes.indices { try functions[index].nodes[node].decodeTensors(decoder) }
      for attribute in functions[index].attributeDefaults.indices {
        try functions[index].attributeDefaults[attribute].decodeTensors(decoder)
      }
    }
  }
}

extension GraphProto {
  mutating func decodeTensors(_ decoder: TensorDecoder) throws(LoadError) {
    for index in initializers.indices { try initializers[index].decode(decoder) }
    for index in sparseInitializers.indices { try sparseInitializers[index].decode(decoder) }
    for index in nodes.indices { try nodes[index].decodeTensors(decoder) }
  }
}

extension NodeProto {
  mutating func decodeTensors(_ decoder: TensorDecoder) throws(LoadError) {
    for index in attributes.indices { try attributes[index].decodeTensors(decoder) }
  }
}

extension AttributeProto {
  mutating func decodeTensors(_ decoder: TensorDecoder) throws(LoadError) {
    switch content {
    case .tensor(var tensor):
      try tensor.decode(decoder)
      content = .tensor(tensor)
    case .sparseTensor(var tensor):
      try tensor.decode(decoder)
      content = .sparseTensor(tensor)
    case .tensors(var tensors):
      for index in tensors.indices { try tensors[index].decode(decoder) }
      content = .tensors(tensors)
    case .sparseTensors(var tensors):
      for index in tensors.indices { try tensors[index].decode(decoder) }
      content = .sparseTensors(tensors)
    case .graph(var graph):
      try graph.decodeTensors(decoder)
      content = .graph(graph)
    case .graphs(var graphs):
      for index in graphs.indices { try graphs[index].decodeTensors(decoder) }
      content = .graphs(graphs)
    default: break
    }
  }
}

extension TensorProto {
  mutating func decode(_ decoder: TensorDecoder) throws(LoadError) { content = .tensor(try decoder.tensor(self)) }
}

extension SparseTensorProto {
  mutating func decode(_ decoder: TensorDecoder) throws(LoadError) {
    try values?.decode(decoder)
    try indices?.decode(decoder)
  }
}
