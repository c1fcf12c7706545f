// The options of `apus convert` as C and Python spell them: in JSON, by the names of the command line with underscores.

import ApusCompression
import ApusFormats
import ApusGraph
import ApusTensor

/// What a conversion makes of a model.
struct ConversionRequest: RequestOptions {
  private(set) var options = ModelConversion.Options()

  init(_ members: inout RequestMembers) throws {
    options.source = try members.take("from")
    if let name = try members.take("to", as: String.self) {
      guard let target = ConversionTarget(name: name) else {
        let names = ConversionTarget.names.joined(separator: ", ")
        throw CompressionError(.invalidOption, "to is '\(name)'; expected one of \(names)")
      }
      options.target = target
    }
    options.opset = try members.take("opset")
    if let opset = options.opset, !OptimizedModel.writableOpsets.contains(opset) {
      let range = OptimizedModel.writableOpsets
      throw CompressionError(.invalidOption, "opset is \(opset); expected \(range.lowerBound) to \(range.upperBound)")
    }
    options.checks = try !(members.take("unchecked", as: Bool.self) ?? false)
    try takeSizes(&members)
    try takeInterface(&members)
    let halves = [
      try members.take("float16", as: Bool.self) ?? false, try members.take("bfloat16", as: Bool.self) ?? false,
    ]
    if halves == [true, true] { throw CompressionError(.invalidOption, "float16 and bfloat16 exclude each other") }
    if halves.contains(true) { options.halves = try HalfConversionOptions(isBfloat16: halves[1], &members) }
    try takeStorage(&members)
  }

  /// A number, or the name of an extent.
  private enum Extent: Decodable {
    case number(Int)
    case name(String)

    init(from decoder: any Decoder) throws {
      let container = try decoder.singleValueContainer()
      if let number = try? container.decode(Int.self) {
        self = .number(number)
      } else {
        self = .name(try container.decode(String.self))
      }
    }

    var dim: Dim {
      switch self {
      case .number(let number): Dim(number)
      case .name(let name): .symbol(name)
      }
    }
  }

  private mutating func takeSizes(_ members: inout RequestMembers) throws {
    for (name, extent) in try members.take("dim", as: [String: Extent].self) ?? [:] {
      switch extent {
      case .number(let number): options.model.dimensions[name] = number
      case .name(let new): options.interface.symbols.append((name, new))
      }
    }
    for (name, extents) in try members.take("shape", as: [String: [Extent]].self) ?? [:] {
      let shape = extents.map(\.dim)
      let known = shape.compactMap(\.known)
      if known.contains(where: { $0 < 0 }) {
        throw CompressionError(.invalidOption, "the shape of '\(name)' has an extent below 0")
      }
      if known.count == shape.count {
        options.model.shapes[name] = Shape(known)
      } else {
        options.interface.shapes.append((name, shape))
      }
    }
  }

  private mutating func takeInterface(_ members: inout RequestMembers) throws {
    var changes = options.interface
    changes.names = try members.take("rename", as: [String: String].self)?.map { ($0.key, $0.value) } ?? []
    for (name, order) in try members.take("layout", as: [String: String].self) ?? [:] {
      guard let layout = InterfaceChanges.Layout(rawValue: order) else {
        throw CompressionError(.invalidOption, "the layout of '\(name)' is '\(order)'; expected nhwc or nchw")
      }
      changes.layouts.append((name, layout))
    }
    func layout(_ what: String) throws -> InterfaceChanges.Layout? {
      let last = try members.take("nhwc_\(what)", as: Bool.self) ?? false
      let first = try members.take("nchw_\(what)", as: Bool.self) ?? false
      if last, first { throw CompressionError(.invalidOption, "nhwc_\(what) and nchw_\(what) exclude each other") }
      return last ? .channelsLast : first ? .channelsFirst : nil
    }
    (changes.inputLayout, changes.outputLayout) = (try layout("inputs"), try layout("outputs"))
    try members.take("uint8_inputs", into: &changes.pictures.takesBytes)
    try members.take("resize_inputs", into: &changes.pictures.takesAnySize)
    try members.take("mean", into: &changes.pictures.mean)
    try members.take("std", into: &changes.pictures.deviation)
    changes.pictures.scale = try members.take("scale")
    try members.take("picture", into: &changes.pictures.inputs)
    try members.take("softmax", into: &changes.scores.softmax)
    changes.scores.top = try members.take("top_k")
    if let top = changes.scores.top, top < 1 {
      throw CompressionError(.invalidOption, "top_k is \(top); expected 1 or more")
    }
    changes.scores.output = try members.take("scores")
    options.interface = changes
  }

  private mutating func takeStorage(_ members: inout RequestMembers) throws {
    let isEmbedded = try members.take("embed_data", as: Bool.self) ?? false
    if let name = try members.take("external_data", as: String.self) {
      if isEmbedded { throw CompressionError(.invalidOption, "external_data and embed_data exclude each other") }
      var layout = SideFileLayout()
      layout.name = name
      try members.take("external_threshold", into: &layout.threshold)
      try members.take("external_align", into: &layout.alignment)
      guard layout.threshold >= 0, SideFileLayout.alignments.contains(layout.alignment) else {
        throw CompressionError(
          .invalidOption,
          "external_threshold is \(layout.threshold), external_align \(layout.alignment); expected 0 or more, and "
            + "\(SideFileLayout.alignments.lowerBound) to \(SideFileLayout.alignments.upperBound)")
      }
      options.placement = .external(layout)
    } else if isEmbedded {
      options.placement = .embedded
    }
    let entries = try members.take("metadata", as: [String: String].self) ?? [:]
    options.header.metadata = entries.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    options.header.metadata += (try members.take("drop_metadata", as: [String].self) ?? []).map { ($0, nil) }
    options.header.documentation = try members.take("doc")
    options.header.modelVersion = try members.take("model_version")
    options.header.irVersion = try members.take("ir_version")
    if let version = options.header.irVersion, !HeaderChanges.irVersions.contains(version) {
      let range = HeaderChanges.irVersions
      throw CompressionError(
        .invalidOption, "ir_version is \(version); expected \(range.lowerBound) to \(range.upperBound)")
    }
  }
}

extension ModelConversion {
  /// Converts with options in JSON; returns the report in JSON.
  package static func convert(path: String, to output: String, json options: String) throws -> String {
    let request = try RequestMembers.options(ConversionRequest.self, in: options)
    if request.options.target == nil, ConversionTarget(path: output) == nil {
      let endings = ConversionTarget.endings.joined(separator: ", ")
      throw CompressionError(
        .invalidOption, "output is '\(output)'; a name that ends in one of \(endings) was expected, or a format")
    }
    let summary = try convert(path: path, to: output, options: request.options)
    return try JSONReport.text(ConversionReport(summary, model: path, file: output))
  }
}
