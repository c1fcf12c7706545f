// From a place in a data set to the inputs of a model.

import Apus
import ApusFormats
import ApusGraph
import ApusTensor

/// Reads single samples. Files of many stay open while they are read in turn.
struct SampleReader {
  let constants: [String: Value]
  private(set) var classNames: [String]

  private let option: String
  private let arguments: SampleArguments
  private let targets: InputTargets
  private let files: SampleFiles
  private let scaling: ImageScaling
  private let rate: Int?
  /// The inputs that samples give.
  private let open: [ValueDescription]
  private var labels = Labels.none
  /// What is open, by the number of its source.
  private var contents: [Int: Content] = [:]
  /// Archives whose checksums were held against them.
  private var checked: Set<Int> = []
  /// The labels of the samples before each source, in the order of the files.
  private var firstSamples: [Int] = []

  private static let mostOpen = 8

  private enum Labels {
    case none
    case series(ArraySeries)
    case boxes(COCOAnnotations)
  }

  private enum Content {
    case arrays([Named], label: ArraySeries?)
    case table(SampleTable)
    case sound([Float])
  }

  /// An array for an input.
  private struct Named {
    var input: ValueDescription
    var series: ArraySeries
    var role: ArrayRole
  }

  init(_ paths: [String], option: String, _ arguments: SampleArguments, _ targets: InputTargets) throws {
    (self.option, self.arguments, self.targets) = (option, arguments, targets)
    var fixed = arguments.inputs
    fixed.random = false
    let given = try fixed.values(for: targets)
    let fed = Set(arguments.feed.compactMap { $0.split(separator: "=").last.map(String.init) })
    open = targets.inputs.filter { given[$0.name] == nil && !fed.contains($0.name) }
    constants = arguments.inputs.random ? try arguments.inputs.values(for: targets) : given
    scaling = try arguments.inputs.scaling(option: option)
    rate = arguments.inputs.sampleRate ?? AudioInput.declaredRate(in: targets.metadata)
    var names = try ApusCLI.Labels.read(nil, or: targets.metadata)
    var isGiven = false
    switch arguments.labels.map({ ($0, FileFormat.ending(of: $0)) }) {
    case (let path, "npy")?: labels = .series(try Npy.series(path: path))
    case (let path, "json")?:
      let boxes = try COCOAnnotations(path: path)
      (labels, names) = (.boxes(boxes), boxes.classNames)
    case (let path, _)?: (names, isGiven) = (try ApusCLI.Labels.read(path, or: []), true)
    case nil: break
    }
    files = try SampleFiles(
      paths.map { Self.split($0, targets.inputs) }, option: option, classNames: names, isGiven: isGiven)
    classNames = files.classNames
  }

  /// NAME=PATH, or a path.
  private static func split(_ text: String, _ inputs: [ValueDescription]) -> (input: String?, path: String) {
    let name = inputs.map(\.name).filter { text.hasPrefix($0 + "=") }.max { $0.count < $1.count }
    return name.map { ($0, String(text.dropFirst($0.count + 1))) } ?? (nil, text)
  }

  /// The sources with the number of their values.
  mutating func countedSources() throws -> [SampleSource] {
    var sources = files.sources
    var before = 0
    for index in sources.indices {
      switch sources[index].kind {
      case .picture, .value: break
      case .sound:
        if let window = arguments.window {
          let samples = try AudioInput.sampleCount(file: sources[index].path, rate: rate, option: option)
          let rest = arguments.lead + samples - window
          sources[index].count = rest <= 0 ? 1 : (rest + hop - 1) / hop + 1
        }
      case .table: sources[index].count = try SampleTable(path: sources[index].path).count
      case .arrays:
        let (arrays, _) = try self.arrays(sources[index], checks: false)
        for array in arrays {
          if case .entries(let count, let rows, _) = array.role {
            (sources[index].count, sources[index].rows) = (count, rows)
          }
        }
      }
      firstSamples.append(before)
      before += sources[index].count * sources[index].rows
    }
    return sources
  }

  private var hop: Int { arguments.hop ?? arguments.window ?? 1 }

  /// Throws if there are labels for another number of samples.
  func checkLabels(count: Int) throws {
    guard case .series(let series) = labels, series.shape.first != count else { return }
    throw InputError(
      "\(arguments.labels ?? ""): labels of the shape \(series.shape) for \(count) samples; expected one entry for each"
    )
  }

  // MARK: - One sample

  /// The value with the number `index` of a source.
  mutating func sample(_ source: SampleSource, number: Int, index: Int) throws -> Sample {
    var sample = Sample(names: [source.path], inputs: constants, labels: [], startsFile: index == 0)
    var label: SampleLabel? = source.classIndex.map { .classIndex($0) }
    switch source.kind {
    case .picture:
      let input = try target(source)
      sample.inputs[input.name] = .tensor(try ImageInput.tensor(file: source.path, for: input, scaling: scaling))
    case .value:
      let input = try target(source)
      let value = try ValueInput.value(file: source.path, name: input.name, for: input)
      sample.inputs[input.name] = try input.fitted(value, sample: source.path)
    case .sound:
      let input = try target(source)
      if arguments.window != nil { sample.names = ["\(source.path)[\(index)]"] }
      sample.inputs[input.name] = .tensor(try sound(source, number, index, input))
    case .table:
      sample.names = ["\(source.path)[\(index)]"]
      label = try readRow(source, number, index, into: &sample) ?? label
    case .arrays:
      if source.count * source.rows > 1 {
        sample.names = (0..<source.rows).map { "\(source.path)[\(index * source.rows + $0)]" }
      }
      let own = try readArrays(source, number, index, into: &sample)
      if let own { sample.labels = own }
    }
    if sample.labels.isEmpty { sample.labels = [SampleLabel?](repeating: label, count: sample.count) }
    try addLabels(source, number, index, to: &sample)
    return sample
  }

  /// The input that a file is for.
  private func target(_ source: SampleSource) throws -> ValueDescription {
    if let name = source.input, let input = targets.inputs.first(where: { $0.name == name }) { return input }
    if open.count == 1 { return open[0] }
    let names = open.map { "\($0.name.printable()) (\($0.type.printable()))" }
    throw InputError(
      open.isEmpty
        ? "\(option) \(source.path): every input has a value already; expected one that samples give"
        : "\(option) \(source.path): the model has several inputs without a value: \(names.joined(separator: ", ")). "
          + "Say which one the samples are for, as \(option) \(open[0].name)=PATH, and give the others by --input")
  }

  private mutating func content(_ number: Int, _ make: (inout SampleReader) throws -> Content) throws -> Content {
    if let content = contents[number] { return content }
    if contents.count >= Self.mostOpen { contents.removeAll() }
    let made = try make(&self)
    contents[number] = made
    return made
  }

  // MARK: - Sound

  private mutating func sound(
    _ source: SampleSource, _ number: Int, _ index: Int, _ input: ValueDescription
  ) throws -> Tensor {
    guard let window = arguments.window else {
      return try AudioInput.tensor(file: source.path, rate: rate, for: input, option: option)
    }
    guard input.dataType == .float32, let dims = input.dimensions.map({ $0.map { Int($0) } }), !dims.isEmpty else {
      throw InputError("\(option): input '\(input.name)' is \(input.type); expected a float32 tensor of known rank")
    }
    // Only one sound at a time.
    if contents[number] == nil { contents.removeAll() }
    let content = try content(number) { reader in
      .sound(try AudioInput.samples(file: source.path, rate: reader.rate, option: reader.option))
    }
    guard case .sound(let samples) = content else { return Tensor(scalar: Float(0)) }
    var shape = Shape(dims.map { $0 ?? 1 })
    if let place = dims.lastIndex(of: nil) { shape[place] = window }
    guard shape.checkedElementCount == window else {
      throw InputError(
        "--window is \(window); input '\(input.name)' is \(input.type), which takes \(shape.checkedElementCount ?? 0)")
    }
    let first = index * hop - arguments.lead
    return Tensor(
      (first..<first + window).map { samples.indices.contains($0) ? samples[$0] : 0 }, shape: shape)
  }

  // MARK: - Arrays

  /// The arrays of a file that are inputs, and that with the labels.
  private func arrays(_ source: SampleSource, checks: Bool) throws -> ([Named], label: ArraySeries?) {
    if FileFormat.ending(of: source.path) == "npy" {
      let input = try target(source)
      let series = try Npy.series(path: source.path, as: input.dataType)
      return ([Named(input: input, series: series, role: try role(series, input, source))], nil)
    }
    let types = targets.inputs.compactMap { input in input.dataType.map { (input.name, $0) } }
    let found = try Npz.series(path: source.path, as: Dictionary(types) { first, _ in first }, checks: checks)
    let labelNames = arguments.labelArray.map { [$0] } ?? ["label", "labels", "y"]
    let label = labelNames.lazy.compactMap { name in
      found.first { $0.name == name && !open.map(\.name).contains(name) }
    }.first
    if label == nil, let name = arguments.labelArray {
      throw InputError(
        "--label-array: \(source.path) has no array '\(name)'; it has \(found.map(\.name).joined(separator: ", "))")
    }
    var arrays: [Named] = []
    for input in targets.inputs {
      guard let series = found.first(where: { $0.name == input.name }) else { continue }
      arrays.append(Named(input: input, series: series, role: try role(series, input, source)))
    }
    let rest = found.filter { $0.name != label?.name }
    if arrays.isEmpty, open.count == 1 || source.input != nil, rest.count == 1 {
      let input = try target(source)
      arrays = [Named(input: input, series: rest[0], role: try role(rest[0], input, source))]
    }
    let counts = Set(
      arrays.compactMap { array in
        if case .entries(let count, _, _) = array.role { count } else { nil }
      })
    if arrays.isEmpty || counts.count > 1 {
      let names = found.map { "\($0.name.printable()) \($0.dataType)\($0.shape)" }.joined(separator: ", ")
      throw InputError(
        arrays.isEmpty
          ? "\(source.path): no array is called like an input; it has \(names); expected \(inputNames)"
          : "\(source.path): the arrays have other numbers of samples: \(names)")
    }
    return (arrays, label)
  }

  private var inputNames: String {
    targets.inputs.map { "\($0.name.printable()) (\($0.type.printable()))" }.joined(separator: ", ")
  }

  private func role(_ series: ArraySeries, _ input: ValueDescription, _ source: SampleSource) throws -> ArrayRole {
    if let role = ArrayRole(series.shape, input) { return role }
    throw input.unfit(
      "\(series.dataType)\(series.shape), which is neither that nor several of it along a first axis",
      sample: source.path)
  }

  /// Reads the inputs; returns the labels that stand beside them.
  private mutating func readArrays(
    _ source: SampleSource, _ number: Int, _ index: Int, into sample: inout Sample
  ) throws -> [SampleLabel?]? {
    let content = try content(number) { reader in
      // The checksums of a file are compared when it is first read.
      let (arrays, label) = try reader.arrays(source, checks: reader.checked.insert(number).inserted)
      return .arrays(arrays, label: label)
    }
    guard case .arrays(let arrays, let label) = content else { return nil }
    for array in arrays {
      let value = try array.role.value(array.series, index)
      sample.inputs[array.input.name] = try array.input.fitted(.tensor(value), sample: sample.name)
    }
    guard let label else { return nil }
    let samples = source.count * source.rows
    if samples == 1, label.shape.first != 1 { return [.tensor(try label.all())] }
    guard label.shape.first == samples else {
      throw InputError(
        "\(source.path): the labels '\(label.name)' have the shape \(label.shape) for \(samples) samples; expected one "
          + "entry for each")
    }
    return try (0..<source.rows).map { .tensor(try Self.entry(label, index * source.rows + $0)) }
  }

  private static func entry(_ series: ArraySeries, _ index: Int) throws -> Tensor {
    let slice = try series.slice(index..<index + 1)
    return slice.reshaped(to: Shape(Array(slice.shape.dims.dropFirst())))
  }

  // MARK: - Tables

  private mutating func readRow(
    _ source: SampleSource, _ number: Int, _ index: Int, into sample: inout Sample
  ) throws -> SampleLabel? {
    let content = try content(number) { _ in .table(try SampleTable(path: source.path)) }
    guard case .table(let table) = content else { return nil }
    let cells = Dictionary(zip(table.header, try table.row(index))) { first, _ in first }
    var isEmpty = true
    for input in targets.inputs {
      let parts = (0..<table.header.count).prefix { cells["\(input.name)[\($0)]"] != nil }
      let cell =
        cells[input.name]
        ?? (parts.isEmpty ? nil : parts.map { cells["\(input.name)[\($0)]"] ?? "" }.joined(separator: " "))
        ?? (open.count == 1 && open[0].name == input.name ? cells["file"] : nil)
      guard let cell else { continue }
      isEmpty = false
      sample.inputs[input.name] = try value(of: cell, for: input, table, sample.name)
    }
    if isEmpty {
      throw InputError(
        "\(source.path): no column is called like an input; there are \(table.header.joined(separator: ", ")); "
          + "expected \(inputNames)")
    }
    if let file = cells["file"] ?? table.header.lazy.compactMap({ name in cells[name] }).first(where: Self.isFile) {
      sample.names = [file]
    }
    guard let name = arguments.labelArray ?? ["label", "labels", "y"].first(where: { cells[$0] != nil }) else {
      return nil
    }
    guard let text = cells[name] else {
      throw InputError(
        "--label-array: \(source.path) has no column '\(name)'; there are \(table.header.joined(separator: ", "))")
    }
    return try label(text, table)
  }

  private static func isFile(_ cell: String) -> Bool { SampleSource(path: cell, input: nil) != nil }

  /// Numbers between white space, commas or semicolons, or the name of a file beside the table.
  private func value(of cell: String, for input: ValueDescription, _ table: SampleTable, _ sample: String) throws
    -> Value
  {
    guard let source = SampleSource(path: cell, input: input.name), source.kind != .table else {
      guard let type = input.dataType, let dims = input.dimensions.map({ $0.map { Int($0) } }) else {
        throw input.unfit("the text '\(cell.printable())'", sample: sample)
      }
      if type == .string { return .tensor(Tensor(strings: [cell], shape: Shape(dims.map { _ in 1 }))) }
      do {
        let words = try FileBytes(copying: Array(cell.utf8), name: "row")
        // A batch that is open is one sample.
        let shape = dims.enumerated().map { $0 == 0 && dims.count > 1 ? $1 ?? 1 : $1 }
        return try input.fitted(.tensor(try TextTensors.text(words, as: type, shape: shape)), sample: sample)
      } catch let error as LoadError {
        throw InputError("sample '\(sample)': input '\(input.name)': \(error.message)")
      }
    }
    let path = cell.hasPrefix("/") ? cell : table.folder + cell
    switch source.kind {
    case .picture: return .tensor(try ImageInput.tensor(file: path, for: input, scaling: scaling))
    case .sound: return .tensor(try AudioInput.tensor(file: path, rate: rate, for: input, option: option))
    default: return try input.fitted(try ValueInput.value(file: path, name: input.name, for: input), sample: cell)
    }
  }

  /// A word, or what the file beside the table holds: an array, or a picture whose grey is the class of each pixel.
  private func label(_ cell: String, _ table: SampleTable) throws -> SampleLabel {
    let path = cell.hasPrefix("/") ? cell : table.folder + cell
    guard Self.isFile(cell), PathKind(path: path) == .file else { return .text(cell) }
    let ending = FileFormat.ending(of: cell)
    if ending == "npy" { return .tensor(try Npy.series(path: path).all()) }
    if ending == "txt" { return .tensor(try TextTensors.text(FileBytes.open(path: path))) }
    guard SampleSource.pictureEndings.contains(ending) else { return .text(cell) }
    let picture = try ImageInput.decoded(path, option).converted(toChannels: 1)
    return .tensor(Tensor(picture.pixels, shape: [picture.height, picture.width]))
  }

  // MARK: - Labels of their own

  private func addLabels(_ source: SampleSource, _ number: Int, _ index: Int, to sample: inout Sample) throws {
    switch labels {
    case .none: break
    case .series(let series):
      let first = firstSamples[number] + index * source.rows
      sample.labels = try (0..<source.rows).map { .tensor(try Self.entry(series, first + $0)) }
    case .boxes(let boxes):
      guard let objects = boxes[sample.name] else {
        throw InputError("\(arguments.labels ?? ""): there is no image '\(sample.name.printable())'")
      }
      sample.labels = [.objects(objects)]
    }
  }

  // MARK: - Batches

  /// Samples as one, along the first axis of each input that is not the same for all.
  func joined(_ samples: [Sample]) throws -> Sample {
    var joined = samples[0]
    for input in targets.inputs where constants[input.name] == nil {
      let parts = samples.compactMap { $0.inputs[input.name]?.tensor }
      guard input.dimensions?.first.map({ Int($0) == nil }) ?? false, parts.count == samples.count,
        parts.allSatisfy({ $0.shape.first == 1 }), let all = Tensor.joined(parts)
      else {
        let shapes = parts.prefix(4).map { "\($0.dataType)\($0.shape)" }.joined(separator: ", ")
        throw InputError(
          "--batch \(arguments.batch): input '\(input.name)' is \(input.type), the samples are \(shapes); expected a "
            + "symbolic first dimension and samples that differ in no other extent")
      }
      joined.inputs[input.name] = .tensor(all)
    }
    joined.names = samples.flatMap(\.names)
    joined.labels = samples.flatMap(\.labels)
    return joined
  }
}
