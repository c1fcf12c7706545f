// Options as a JSON object: members by name, of which none may be unknown or of no use.

import ApusCompression
import FoundationEssentials

/// Options that a JSON object spells.
protocol RequestOptions {
  /// Takes the members that it has a use for.
  init(_ members: inout RequestMembers) throws
}

/// The members of a JSON object of options.
struct RequestMembers {
  private let container: KeyedDecodingContainer<MemberKey>
  private var taken: Set<String> = []
  /// Whether there are samples beside the options.
  let hasSamples: Bool

  private static let hasSamplesKey = CodingUserInfoKey(rawValue: "hasSamples")

  /// The options that `text` spells.
  ///
  /// - Throws: `CompressionError` for what is no JSON object, and for members that nobody takes.
  static func options<Options: RequestOptions>(
    _ type: Options.Type, in text: String, hasSamples: Bool = false
  ) throws -> Options {
    do {
      let decoder = JSONDecoder()
      if let key = hasSamplesKey { decoder.userInfo[key] = hasSamples }
      return try decoder.decode(RequestDocument<Options>.self, from: Data(text.utf8)).options
    } catch let error as DecodingError {
      throw CompressionError(error, in: "the options", .invalidOption)
    }
  }

  fileprivate init(_ decoder: any Decoder) throws {
    container = try decoder.container(keyedBy: MemberKey.self)
    hasSamples = RequestMembers.hasSamplesKey.flatMap { decoder.userInfo[$0] as? Bool } ?? false
  }

  /// Whether a member is there and not null.
  func has(_ name: String) throws -> Bool {
    let key = MemberKey(stringValue: name)
    return try container.contains(key) && !container.decodeNil(forKey: key)
  }

  /// The value of a member; nil without it.
  mutating func take<Content: Decodable>(_ name: String, as type: Content.Type = Content.self) throws -> Content? {
    taken.insert(name)
    return try container.decodeIfPresent(type, forKey: MemberKey(stringValue: name))
  }

  /// The value of a member in the place of what `value` is.
  mutating func take<Content: Decodable>(_ name: String, into value: inout Content) throws {
    if let content = try take(name, as: Content.self) { value = content }
  }

  /// The case that a member names.
  mutating func take<Choice: RawRepresentable<String> & CaseIterable>(
    _ name: String, into value: inout Choice
  ) throws {
    guard let text = try take(name, as: String.self) else { return }
    guard let choice = Choice(rawValue: text) else {
      let choices = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw CompressionError(.invalidOption, "\(name) is '\(text)'; expected one of \(choices)")
    }
    value = choice
  }

  fileprivate func checkAllTaken() throws(CompressionError) {
    let others = container.allKeys.map(\.stringValue).filter { !taken.contains($0) }.sorted()
    guard let name = others.first(where: { (try? has($0)) ?? true }) else { return }
    let near = nearName(name, among: Array(taken)).map { "did you mean '\($0)'?" }
    throw CompressionError(
      .invalidOption, "the option '\(name)' is unknown, or of no use with the others", remedy: near ?? "Leave it out")
  }
}

/// A JSON object of which all members were taken.
private struct RequestDocument<Options: RequestOptions>: Decodable {
  let options: Options

  init(from decoder: any Decoder) throws {
    var members = try RequestMembers(decoder)
    options = try Options(&members)
    try members.checkAllTaken()
  }
}
