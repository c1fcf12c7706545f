// What the registry of operators says, as rows: domain, versions, types, kernels; docs/operators.md is made of it.

import ApusGraph
import ApusOperators
import ApusTensor

/// Every registered operator and import rule, by domain and name.
package struct OperatorTable: Sendable {
  /// One operator.
  package struct Row: Encodable, Sendable {
    package struct Operand: Encodable, Sendable {
      package var name, type, presence: String
      /// The version that it came with, if that was not the first.
      package var since: Int?
    }
    package struct Attribute: Encodable, Sendable {
      package var name, kind: String
      /// The version that it came with, if that was not the first.
      package var since: Int?
    }
    /// `ai.onnx` for the default domain.
    package var domain, name: String
    /// The versions of the operator's schema, oldest first.
    package var versions: [Int]
    package var inputs, outputs: [Operand]
    package var attributes: [Attribute]
    /// By type variable: the types that some version allows, in the spelling of the specification (`tensor(float)`).
    package var types: [String: [String]]
    /// `planned`, `eager`, both, or what the operator is read as.
    package var kernel: String
    /// The types in few words, for people.
    package var typesInShort: String

    private enum CodingKeys: String, CodingKey {
      case domain, name, versions, inputs, outputs, attributes, types, kernel
    }
  }

  package private(set) var rows: [Row]

  /// - Parameters:
  ///   - domain: only that domain; nil for all.
  ///   - names: only operators whose name contains one of these, in any case; empty for all.
  package init(registry: OperatorRegistry = .standard, domain: String? = nil, names: [String] = []) {
    let wanted = names.map { $0.lowercased() }
    func isWanted(_ id: OperatorID) -> Bool {
      let isDomain = domain.map { OperatorID("", domain: $0).domain == id.domain } ?? true
      return isDomain && (wanted.isEmpty || wanted.contains { id.name.lowercased().contains($0) })
    }
    let operators = registry.all.filter { isWanted($0.schema.id) }.map { definition in
      let kinds = KernelProbe(definition, registry: registry).kinds
      return OperatorTable.row(definition.schema, kernel: kinds.joined(separator: ", "))
    }
    let rules = registry.allImportRules.filter { isWanted($0.schema.id) }.map { rule in
      OperatorTable.row(rule.schema, kernel: "read as \(rule.readAs)")
    }
    // The default domain comes first, whatever it is called.
    func order(_ row: Row) -> (String, String) { (row.domain == "ai.onnx" ? "" : row.domain, row.name) }
    rows = (operators + rules).sorted { order($0) < order($1) }
  }

  private static func row(_ schema: OperatorSchema, kernel: String) -> Row {
    func operands(_ parameters: [Parameter]) -> [Row.Operand] {
      parameters.map {
        Row.Operand(
          name: $0.name, type: $0.type, presence: "\($0.presence)", since: $0.since > 1 ? $0.since : nil)
      }
    }
    return Row(
      domain: schema.id.domain.isEmpty ? "ai.onnx" : schema.id.domain, name: schema.id.name, versions: schema.versions,
      inputs: operands(schema.inputs), outputs: operands(schema.outputs),
      attributes: schema.attributes.map {
        Row.Attribute(name: $0.name, kind: $0.kind.rawValue, since: $0.since > 1 ? $0.since : nil)
      },
      types: schema.types.mapValues(\.specificationNames), kernel: kernel, typesInShort: schema.typesInShort)
  }

  // MARK: - For people

  /// One line an operator: name, versions, types, kernel.
  package var text: String {
    let width = rows.map { $0.name.count + $0.domain.count + 1 }.max() ?? 0
    return rows.map { row in
      let name = row.domain + "." + row.name
      let versions = row.versions.map(String.init).joined(separator: ",")
      return name + String(repeating: " ", count: width - name.count) + "  \(versions)"
        + "  \(row.typesInShort.isEmpty ? "–" : row.typesInShort)  [\(row.kernel)]"
    }.joined(separator: "\n")
  }

  /// The page docs/operators.md: a table for each domain.
  package var markdown: String {
    var lines = [
      "# Operators", "",
      "Made by `apus operators --markdown > docs/operators.md`; a test fails when it is stale. One line an operator:",
      "the versions of its schema, all of which are read; the element types that some version allows, by variable;",
      "and how it runs. *planned*: shapes first, then parts in one arena. *eager*: values in, values out (shapes that",
      "depend on data, strings, containers, subgraphs). *read as*: written as other operators while the file is read.",
      "", "Groups of types:", "",
    ]
    lines +=
      OperatorSchema.typeGroups.map { group in
        "- **\(group.name)**: \(group.types.map(\.description).joined(separator: ", "))"
      } + [""]
    for domain in Set(rows.map(\.domain)).sorted(by: { (order($0), $0) < (order($1), $1) }) {
      let group = rows.filter { $0.domain == domain }
      let remark = domain == "apus" ? " Made by passes, never written to a file." : ""
      lines += ["## \(domain)", "", "\(group.count) operators." + remark, ""]
      lines += ["| Operator | Versions | Types | Kernel |", "|---|---|---|---|"]
      lines += group.map {
        "| \($0.name) | \($0.versions.map(String.init).joined(separator: ", ")) | \($0.typesInShort) | \($0.kernel) |"
      }
      lines.append("")
    }
    return lines.joined(separator: "\n")
  }

  private func order(_ domain: String) -> Int {
    domain == "apus" ? 2 : domain.hasPrefix("ai.onnx") ? 0 : 1
  }
}

extension DataType {
  /// The name in a type string of the specification, as in `tensor(float)`.
  fileprivate var specificationName: String {
    switch self {
    case .float32: "float"
    case .float64: "double"
    default: description
    }
  }
}

extension TypeSet {
  fileprivate var specificationNames: [String] {
    tensors.map { "tensor(\($0.specificationName))" } + sequences.map { "seq(tensor(\($0.specificationName)))" }
      + optionals.map { "optional(tensor(\($0.specificationName)))" }
      + optionalSequences.map { "optional(seq(tensor(\($0.specificationName))))" } + (maps ? ["map", "seq(map)"] : [])
  }

  /// The types in few words.
  fileprivate var short: String {
    var parts = [OperatorSchema.short(tensors)]
    parts += [("sequences of ", sequences), ("optional ", optionals), ("optional sequences of ", optionalSequences)]
      .map { $0.1.isEmpty ? "" : $0.0 + OperatorSchema.short($0.1) }
    if maps { parts.append("maps") }
    return parts.filter { !$0.isEmpty }.joined(separator: "; ")
  }
}

extension OperatorSchema {
  /// Names for sets of element types that occur often, the largest first.
  fileprivate static let typeGroups: [(name: String, types: [DataType])] = [
    ("all", TypeSet.all.tensors), ("integers", TypeSet.integers.tensors), ("floats", TypeSet.floats.tensors),
    ("float8", TypeSet.float8.tensors), ("packed integers", TypeSet.packedIntegers.tensors),
    ("signed", TypeSet.signed.tensors), ("unsigned", TypeSet.unsigned.tensors),
    ("IEEE floats", TypeSet.ieeeFloats.tensors), ("float6", TypeSet.float6.tensors),
    ("complex", TypeSet.complex.tensors),
  ]

  /// A list of element types with groups in place of their members, in the order of the groups.
  fileprivate static func short(_ types: [DataType]) -> String {
    var rest = types
    var parts: [String] = []
    for group in typeGroups where group.types.allSatisfy(rest.contains) {
      parts.append(group.name)
      rest.removeAll(where: group.types.contains)
    }
    return (parts + rest.sorted { $0.rawValue < $1.rawValue }.map(\.description)).joined(separator: ", ")
  }

  /// `T: integers, floats`, the variables in the order of the inputs and outputs.
  fileprivate var typesInShort: String {
    var names: [String] = []
    for name in (inputs + outputs).map(\.type) + types.keys.sorted() where types[name] != nil && !names.contains(name) {
      names.append(name)
    }
    // A variable that stands for one type only and is named like it needs no name.
    return names.map { name in
      let short = types[name]?.short ?? ""
      return name.contains("(") || name == short ? short : "\(name): \(short)"
    }.joined(separator: " · ")
  }
}
