// The operators of PyTorch that are read: which rule each has, by its name without `aten.` and without the overload.

import ApusGraph
import ApusTensor

/// Makes the nodes of one call and gives its results, nil for those that are not computed.
typealias TorchRule = @Sendable (TorchCall) throws(OperatorError) -> [ValueID?]
/// How the result of an operator shares the elements of its first argument.
typealias TorchViewRule = @Sendable (TorchCall) throws(OperatorError) -> TorchView
/// The same for the first results of an operator that gives several.
typealias TorchPartsRule = @Sendable (TorchCall, _ count: Int) throws(OperatorError) -> [TorchView]

/// The tables of all families.
enum TorchRules {
  /// Operators whose result shares the elements of their first argument.
  static let views: [String: TorchViewRule] = viewTable
  /// What those share that give lists of views; they have a rule of their own as well.
  static let parts: [String: TorchPartsRule] = partTable

  /// A rule by name and overload goes before one by name.
  private static let table: [String: TorchRule] = {
    var table: [String: TorchRule] = [:]
    for family in [
      unaryTable, binaryTable, activationTable, comparisonTable, reductionTable, sortTable, movementTable,
      creationTable,
      indexTable, matrixTable, attentionTable, convolutionTable, poolingTable, resizingTable, normalizationTable,
      recurrentTable, symbolTable, quantizationTable, controlTable, searchTable, vectorTable, fourierTable,
    ] {
      table.merge(family) { _, _ in preconditionFailure("two rules have one name") }
    }
    return table
  }()

  /// Operators that only check what holds for inputs as they were exported.
  static let checks: Set<String> = [
    "aten._assert_tensor_metadata", "aten._assert_scalar", "aten._assert_async", "aten.sym_constrain_range",
    "aten.sym_constrain_range_for_size", "aten._make_dep_token", "aten._functional_assert_async",
    "aten._functional_sym_constrain_range", "aten._functional_sym_constrain_range_for_size",
    "aten._functional_assert_scalar", "_operator.__assert__", "aten._print",
  ]

  /// Operators whose result is their operand itself where there is nothing to do.
  static let givingBack: Set<String> = [
    "to", "type_as", "dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout",
  ]

  static func isView(_ name: String) -> Bool { viewTable[name] != nil || partTable[name] != nil || name == "expand" }

  static func rule(of op: TorchOperator) -> TorchRule? {
    table[op.rule + "." + op.overload] ?? table[op.rule]
  }

  static func isKnown(_ op: TorchOperator) -> Bool {
    views[op.rule] != nil || rule(of: op) != nil || complexTable[op.rule] != nil || checks.contains(op.name)
  }

  /// The names of all operators that are read, those of ATen without their namespace.
  static var names: [String] { Set(views.keys).union(table.keys).union(complexTable.keys).union(checks).sorted() }

  // MARK: - Rules that several families need

  /// An ONNX operator of one operand, in the type of the result.
  static func unary(_ name: String, _ attributes: [(String, AttributeValue)] = []) -> TorchRule {
    { (call) throws(OperatorError) in
      let value = try call.layers.cast(try call.tensor(at: 0), to: try call.resultType())
      return [try call.layers.emit(name, [value], attributes)]
    }
  }

  /// The operand itself.
  static func identity(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.layers.cast(try call.tensor(at: 0), to: try call.resultType())]
  }
}
