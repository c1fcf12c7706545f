// Model files written again: in another format, for another operator set, with another header.

import ApusFormats
import ApusGraph
public import FoundationEssentials

/// How a model file is written again. What is not said stays as it is.
public struct ConversionOptions: Sendable {
  /// The format of the target by its name, as `apus formats` prints it; nil: as the name of the file ends.
  public var format: String?
  /// The operator set of the default domain.
  public var opset: Int?
  /// The IR version.
  public var irVersion: Int?
  /// Entries of the metadata: set, or taken out where the value is nil.
  public var metadata: [String: String?] = [:]
  /// What the model says of itself, for people.
  public var documentation: String?
  public var modelVersion: Int?
  /// New names of inputs and outputs, by the old ones.
  public var names: [String: String] = [:]
  /// Whether all inputs, or outputs, of 4 or 5 axes have the channels last (true) or behind the batch (false).
  public var inputChannelsLast, outputChannelsLast: Bool?
  /// Floats of 16 bits, and which.
  public var halves: HalfConversionOptions?
  /// The name of the file beside the target that weights go to; nil: they stay where they are.
  public var externalData: String?
  /// Puts weights that lie in other files into the target.
  public var embedsExternalData = false

  public init() {}
}

/// What was written.
public struct ConvertedModel: Sendable, Hashable {
  /// The formats by their names.
  public let source, target: String
  /// Bytes of the file, and of that with the weights beside it.
  public let bytes, externalBytes: Int
  /// The operator set of the default domain; nil if it is that of the file.
  public let opset: Int?
  /// What the format of the target has no place for.
  public let leftOut: [String]
  /// What was rounded or assumed while the format of another framework was read.
  public let notes: [String]
}

extension ModelFile {
  /// Writes the model to `target`: in another format, for another operator set, with another header. The dimensions and
  /// shapes that the file was read with are bound in it. The target may be the file itself; it gets its name when it is
  /// whole and the checker has passed it.
  ///
  /// - Throws: `LoadError` if the file cannot be read or written, is not one that runs, or cannot be said in the format
  ///   or operator set.
  @discardableResult
  public func convert(to target: URL, options: ConversionOptions = ConversionOptions()) throws -> ConvertedModel {
    var settings = ModelConversion.Options()
    if let format = options.format {
      guard let target = ConversionTarget(name: format) else {
        let names = ConversionTarget.names.joined(separator: ", ")
        throw LoadError(.wrongFormat, "no model is written as '\(format)'; expected one of \(names)")
      }
      settings.target = target
    }
    settings.opset = options.opset
    settings.header.metadata = options.metadata.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    (settings.header.documentation, settings.header.modelVersion) = (options.documentation, options.modelVersion)
    settings.header.irVersion = options.irVersion
    settings.interface.names = options.names.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    settings.interface.inputLayout = options.inputChannelsLast.map { $0 ? .channelsLast : .channelsFirst }
    settings.interface.outputLayout = options.outputChannelsLast.map { $0 ? .channelsLast : .channelsFirst }
    settings.halves = options.halves
    if let name = options.externalData {
      var layout = SideFileLayout()
      layout.name = name
      settings.placement = .external(layout)
    } else if options.embedsExternalData {
      settings.placement = .embedded
    }
    settings.model = self.options
    let summary = try ModelConversion.convert(
      path: path, to: target.path(percentEncoded: false), options: settings)
    return ConvertedModel(
      source: summary.source.name, target: summary.target.name, bytes: summary.written.bytes,
      externalBytes: summary.written.sideBytes, opset: summary.opset, leftOut: summary.lost,
      notes: (summary.report?.notes ?? []) + summary.notes)
  }
}
