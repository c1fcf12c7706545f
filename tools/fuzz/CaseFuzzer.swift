// Mutants of test cases, models and inputs: each is read, prepared and run with and without passes, within limits.

import Apus
import ApusConformance
import ApusFormats
import ApusGraph
import ApusOperators
import ApusTensor
import Glibc

#if canImport(FoundationEssentials)
  import FoundationEssentials
#endif

/// A model file with the values for its inputs.
struct FuzzSeed {
  let name: String
  let bytes: [UInt8]
  let model: ModelProto
  let inputs: [String: Value]

  /// Reads `folder/model.onnx` and `folder/test_data_set_0/input_K.pb`, or a model without values; nil if it is none.
  init?(path: String) {
    let isFile = path.hasSuffix(".onnx")
    let file = isFile ? path : path + "/model.onnx"
    name = String(path.split(separator: "/").last ?? "")
    do {
      let mapped = try FileBytes.open(path: file)
      let scanned = try mapped.withBytes { (span) throws(LoadError) in
        try WireScanner.scan(span, as: .model, limits: LoadLimits())
      }
      let folder = ExternalDataFolder(ExternalDataFolder.folder(of: file), limits: LoadLimits())
      var model = try ProtobufUnpack.model(scanned)
      try model.decodeTensors(TensorDecoder(file: mapped, external: folder, limits: LoadLimits()))
      self.model = model
      bytes = mapped.withBytes { span in span.indices.map { span[$0] } }
      let graph = try ONNXReader.load(path: file, registry: .standard).model.graph
      var inputs: [String: Value] = [:]
      for (index, id) in graph.inputs.enumerated() {
        let value = path + "/test_data_set_0/input_\(index).pb"
        guard !isFile, access(value, R_OK) == 0 else { continue }
        inputs[graph[id].name] = try ValueFile.decode(FileBytes.open(path: value), as: graph.fact(id).type)
      }
      self.inputs = inputs
    } catch {
      return nil
    }
  }
}

/// One mutant: bytes of a model, values for its inputs.
struct FuzzMutant {
  let seed: String
  var bytes: [UInt8]
  var inputs: [String: Value]
  var notes: [String]
  /// Draws what else is left to chance.
  var random: SplitMix64

  /// The `index`-th mutant of a series: the same on every machine, whatever was made before.
  init(of seed: FuzzSeed, series: UInt64, index: Int) {
    var random = SplitMix64(seed: series &* 0x1000_0000_01B3 ^ UInt64(index) &* 0x9E37_79B9_7F4A_7C15)
    _ = random.next()
    self.seed = seed.name
    inputs = seed.inputs
    if random.isOnce(in: 4) {
      // Shapes that no longer fit one another, and nothing else that could be refused.
      var model = seed.model
      var mutator = ModelMutator(random)
      mutator.reshape(&model, &inputs)
      (random, notes) = (mutator.random, mutator.notes)
      bytes = model.encoded
    } else if random.isOnce(in: 12) {
      (bytes, notes) = (Mutator.mutated(seed.bytes, all: [seed.bytes], &random), ["bytes of the file"])
    } else {
      var model = seed.model
      var mutator = ModelMutator(random)
      mutator.mutate(&model, &inputs)
      (random, notes) = (mutator.random, mutator.notes)
      bytes = model.encoded
      if random.isOnce(in: 16) {
        bytes = Mutator.mutated(bytes, all: [seed.bytes], &random)
        notes.append("bytes of the mutant")
      }
    }
    self.random = random
  }

  /// Writes the mutant as a test case.
  func write(to folder: String) {
    mkdir(folder, 0o755)
    mkdir(folder + "/test_data_set_0", 0o755)
    FuzzDriver.write(bytes, to: folder + "/model.onnx")
    for (index, entry) in inputs.sorted(by: { $0.key < $1.key }).enumerated() {
      let file = "\(folder)/test_data_set_0/input_\(index).pb"
      FuzzDriver.write(ValueFile.encode(entry.value, name: entry.key), to: file)
    }
  }
}

/// Runs mutants and tells what they broke: one line of JSON for each, and one for the whole batch.
struct CaseFuzzer {
  let paths: [String]
  let series: UInt64
  /// Where the number of the mutant at work stands, for whoever finds this process dead.
  let journal: UnsafeMutablePointer<Int>

  private static let secondsPerMutant: UInt32 = 30
  private static let slowSeconds = 8.0
  /// What a mutant may take beside what its limits allow.
  private static let slackMegabytes = 300

  /// Maps the journal. nil if it cannot be written.
  init?(list: String, journal: String, series: UInt64) {
    paths = Self.paths(in: list)
    self.series = series
    let file = open(journal, O_RDWR | O_CREAT, 0o644)
    guard file >= 0, ftruncate(file, 8) == 0, !paths.isEmpty else { return nil }
    let pages = mmap(nil, 8, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
    guard let pages, pages != MAP_FAILED else { return nil }
    self.journal = pages.bindMemory(to: Int.self, capacity: 1)
  }

  private static func paths(in list: String) -> [String] {
    String(decoding: FuzzDriver.bytes(of: list), as: UTF8.self).split(separator: "\n").map(String.init)
  }

  /// The seed of a mutant, as a position in the list.
  private static func place(of mutant: Int, among count: Int) -> Int {
    Int(truncatingIfNeeded: (UInt64(mutant) &* 0x9E37_79B9_7F4A_7C15) >> 33) % count
  }

  /// Writes one mutant as a test case and prints what it is.
  static func write(list: String, series: UInt64, number: Int, to folder: String) {
    let paths = paths(in: list)
    guard !paths.isEmpty, let seed = FuzzSeed(path: paths[place(of: number, among: paths.count)]) else {
      return print("not made: its seed cannot be read")
    }
    let mutant = FuzzMutant(of: seed, series: series, index: number)
    mutant.write(to: folder)
    print("\(seed.name): \(mutant.notes.joined(separator: ", "))")
  }

  /// The mutants `first`, `first + stride`, … `count` of them. Where one breaks a rule it is written below `keep`.
  func run(first: Int, count: Int, stride: Int, keep: String) {
    var outcomes: [String: Int] = [:]
    var seeds: [Int: FuzzSeed] = [:]
    for index in Swift.stride(from: first, to: first + count * stride, by: stride) {
      let place = Self.place(of: index, among: paths.count)
      journal.pointee = index
      if seeds.count > 500 { seeds = [:] }
      guard let seed = seeds[place] ?? FuzzSeed(path: paths[place]) else {
        outcomes["no seed", default: 0] += 1
        continue
      }
      seeds[place] = seed
      alarm(Self.secondsPerMutant)
      resetPeakMemory()
      let before = residentMegabytes("VmHWM:")
      let start = FuzzDriver.now()
      let mutant = FuzzMutant(of: seed, series: series, index: index)
      let trial = MutantTrial(mutant)
      outcomes[trial.outcome, default: 0] += 1
      var faults = trial.faults
      let seconds = FuzzDriver.now() - start
      if seconds > Self.slowSeconds { faults.append("took \(seconds) s") }
      let memory = residentMegabytes("VmHWM:") - before
      if memory > Outcome.limits.maximumRunMemory >> 20 + Self.slackMegabytes { faults.append("took \(memory) MB") }
      if !faults.isEmpty {
        mutant.write(to: "\(keep)/\(series)-\(index)")
        report([
          "mutant": "\(index)", "seed": seed.name, "notes": mutant.notes.joined(separator: ", "),
          "faults": faults.joined(separator: "; "),
        ])
      }
    }
    alarm(0)
    report(outcomes.mapValues { "\($0)" })
  }

  /// One line of JSON.
  private func report(_ entries: [String: String]) {
    let encoder = JSONEncoder()
    guard let data = try? encoder.encode(entries) else { return }
    print(String(decoding: data, as: UTF8.self))
  }

  private func resetPeakMemory() {
    let file = open("/proc/self/clear_refs", O_WRONLY)
    if file < 0 { return }
    _ = Glibc.write(file, "5", 1)
    close(file)
  }

  private func residentMegabytes(_ field: String) -> Int {
    guard let file = fopen("/proc/self/status", "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, 256, file) != nil {
      let text = String(decoding: line.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
      if text.hasPrefix(field) { return (Int(text.dropFirst(field.count).filter(\.isNumber)) ?? 0) >> 10 }
    }
    return 0
  }
}

/// What became of one mutant.
struct MutantTrial {
  /// `ran`, or the kind of the error.
  let outcome: String
  /// What may not be: results that differ between runs, with and without passes, or with what lies in memory.
  private(set) var faults: [String] = []

  private enum Ending {
    case outputs([String: Value])
    case error(kind: String, text: String)
  }

  init(_ mutant: FuzzMutant) {
    var random = mutant.random
    let start = FuzzDriver.now()
    let (session, ending) = MutantTrial.load(mutant, isOptimized: true, threads: 1 + random.below(2))
    guard let session, case .outputs(let outputs) = ending else {
      if case .error(let kind, _) = ending { outcome = kind } else { outcome = "ran" }
      if FuzzDriver.now() - start < 1 { compareErrors(mutant, ending) }
      return
    }
    outcome = "ran"
    let seconds = FuzzDriver.now() - start
    if session.graph.hasTrait(.random) || seconds > 1 { return }
    switch MutantTrial.run(session, mutant.inputs) {
    case .outputs(let again):
      for (name, value) in outputs where !(again[name]?.hasSameBits(as: value) ?? false) {
        faults.append("output '\(name)' has other bits in the second run")
      }
    case .error(let kind, let text):
      // What took long may take longer than is allowed.
      if kind == "run.cancelled", seconds > 0.2 { return }
      faults.append("the second run fails: \(text.prefix(300))")
    }
    checkMemory(session, mutant.inputs, outputs)
    let (plainSession, plain) = MutantTrial.load(mutant, isOptimized: false, threads: 1)
    guard let plainSession, case .outputs(let expected) = plain else { return }
    compare(outputs, expected)
    checkMemory(plainSession, mutant.inputs, expected)
  }

  /// Runs on inputs that end where memory ends, and into outputs that do too and begin with other contents. What reads
  /// or writes behind a tensor ends the process.
  private mutating func checkMemory(_ session: Model, _ inputs: [String: Value], _ expected: [String: Value]) {
    var given: [String: Tensor] = [:]
    var blocks: [BorrowedBlock] = []
    defer { withExtendedLifetime(blocks) {} }
    for id in session.graph.inputs {
      let name = session.graph[id].name
      guard let tensor = inputs[name]?.tensor else { return }
      if tensor.dataType == .string {
        given[name] = tensor
        continue
      }
      guard let block = BorrowedBlock(byteCount: tensor.byteCount) else { return }
      blocks.append(block)
      given[name] = block.tensor(like: tensor, at: .end)
    }
    for fill: UInt8 in [0xA5, 0x5A] {
      var buffers: [String: UnsafeMutableRawBufferPointer] = [:]
      for (name, value) in expected {
        guard let tensor = value.tensor, tensor.dataType != .string else { continue }
        guard let block = BorrowedBlock(byteCount: tensor.byteCount) else { return }
        blocks.append(block)
        buffers[name] = block.buffer(byteCount: tensor.byteCount, fill: fill)
      }
      guard let found = try? session.run(given, into: buffers) else {
        faults.append("fails on inputs in the memory of the caller")
        return
      }
      for (name, value) in expected {
        guard let tensor = found[name], !Value.tensor(tensor).hasSameBits(as: value) else { continue }
        faults.append("output '\(name)' has other bits in memory that held other bytes")
      }
    }
  }

  /// What fails with passes must fail without them.
  private mutating func compareErrors(_ mutant: FuzzMutant, _ ending: Ending) {
    guard case .error(let kind, let text) = ending, !kind.contains("limit") else { return }
    if case (_, .outputs) = MutantTrial.load(mutant, isOptimized: false, threads: 1) {
      faults.append("fails with passes only: \(text.prefix(300))")
    }
  }

  private mutating func compare(_ found: [String: Value], _ expected: [String: Value]) {
    for (name, value) in expected.sorted(by: { $0.key < $1.key }) {
      guard let other = found[name] else { continue }
      // Infinities and NaN come from values that rounding moves across the edge of a type.
      if !value.isFinite || !other.isFinite { continue }
      let isByte = [.uint8, .int8].contains(value.tensor?.dataType)
      let tolerance =
        value.tensor?.dataType.isFloat ?? false
        ? Tolerance(relative: 2e-2, absolute: 1e-2) : Tolerance(relative: 0, absolute: isByte ? 1 : 0)
      if let difference = Comparison.difference(found: other, expected: value, tolerance: tolerance) {
        faults.append("output '\(name)' differs without passes: \(difference)")
      }
    }
  }

  // MARK: - Loading and running

  private static func load(_ mutant: FuzzMutant, isOptimized: Bool, threads: Int) -> (Model?, Ending) {
    var options = ModelOptions(threads: threads)
    options.limits = Outcome.limits
    if !isOptimized { options.optimization = .none }
    do {
      let model = try Model(bytes: mutant.bytes, options: options)
      return (model, run(model, mutant.inputs))
    } catch let error as LoadError {
      return (nil, .error(kind: error.code.rawValue, text: "\(error)"))
    } catch {
      return (nil, .error(kind: "unprepared", text: "\(error)"))
    }
  }

  private static func run(_ model: Model, _ inputs: [String: Value]) -> Ending {
    var given: [String: Value] = [:]
    for id in model.graph.inputs {
      let name = model.graph[id].name
      if let value = inputs[name] {
        given[name] = value
      } else if case .tensor(let fact) = model.graph.fact(id) {
        let shape = Shape((fact.shape ?? []).map { $0.known ?? 2 })
        guard let count = shape.checkedElementCount, count <= 1 << 20 else {
          return .error(kind: "not run", text: "an input of the shape \(shape)")
        }
        given[name] = .tensor(Tensor(zeros: fact.dataType, shape: shape))
      }
    }
    do {
      return .outputs(try model.run(values: given))
    } catch {
      return .error(kind: "run." + error.code.rawValue, text: "\(error)")
    }
  }
}

extension Value {
  /// True if no float of the value is infinite or NaN.
  fileprivate var isFinite: Bool {
    switch self {
    case .tensor(let tensor):
      tensor.elements(as: Float.self)?.allSatisfy(\.isFinite)
        ?? tensor.elements(as: Double.self)?.allSatisfy(\.isFinite)
        ?? tensor.elements(as: Float16.self)?.allSatisfy(\.isFinite)
        ?? tensor.elements(as: BFloat16.self)?.allSatisfy(\.float.isFinite) ?? !tensor.dataType.isComplex
    case .sequence(let elements, _): elements.allSatisfy(\.isFinite)
    case .optional(let element, _): element?.isFinite ?? true
    case .map(let map): map.values.allSatisfy(\.isFinite)
    }
  }
}
